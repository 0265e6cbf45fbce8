package link

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// lingerTime is how long a closed socket still takes, and throws away, what the peer sends. Closing at once would
	// answer bytes on their way with a reset, and that destroys what the peer has not read yet: the stream error that
	// says why.
	lingerTime = time.Second
	// lingerBytes bounds what is thrown away in that time.
	lingerBytes = 256 << 10
	// closeTime bounds what Close may take, a write that is in progress included.
	closeTime = time.Second
)

// conn is every kind of connection: a source, over it TLS or not, over that WebSocket frames or not. There is one for
// every client, so it is kept small.
type conn struct {
	// Fixed before the handler is called.
	owner  *owner
	src    source
	ws     *wsLayer // nil: not framed
	remote netip.AddrPort
	// tells whoever admitted the connection that it has ended; may be nil; guarded by mu until the handler is called
	release func()
	served  bool // a handler of the owner's runs on it, which calls finish
	relayed bool // a trusted proxy has made the connection for somebody else

	// Owned by the goroutine in Receive.
	fresh   bool // nothing has been received yet, and nobody trusted stands between: a PROXY header would be a forgery
	working bool // use is being called
	called  bool // use has been called in this Receive
	hot     bool // there were bytes without waiting the last time: try to read before asking whether there are
	use     func(p []byte)
	early   *[]byte // came from the source before the first Receive: the rest of a read that began with a PROXY header
	rerr    error   // what the next Receive returns: nothing will be received any more, unless it is a deadline

	// tls is nil on a plain link; stored once, by the goroutine in Receive.
	tls atomic.Pointer[tlsLayer]

	wmu  sync.Mutex // guards werr and keeps writes whole; held while writing, at most for the write timeout
	werr error      // nothing can be sent any more

	mu       sync.Mutex // guards the fields below and the order of deadlines; never held while waiting
	closed   bool
	aborted  bool
	ended    bool
	deadline int64 // of Receive, as set by SetReadDeadline: Unix nanoseconds, 0 for none
	bound    int64 // a second one while a handshake is going on

	prev, next *conn // guarded by owner.mu
}

func newConn(o *owner, src source, remote netip.AddrPort) *conn {
	return &conn{owner: o, src: src, remote: remote}
}

func (c *conn) Remote() netip.AddrPort { return c.remote }
func (c *conn) Framed() bool           { return c.ws != nil }
func (c *conn) Relayed() bool          { return c.relayed }

// Receive keeps its frame, and those of what it calls while it parks, small: see owner.serve.
func (c *conn) Receive(use func(p []byte)) error {
	c.called = false
	for {
		if err := c.rerr; err != nil {
			if err == os.ErrDeadlineExceeded {
				c.rerr = nil // the one error that passes
			}
			return err
		}
		if !c.hot && !c.hasUnread() {
			parked, err := c.src.wait()
			if err != nil {
				return c.receiveError(err)
			}
			c.hot = !parked
		}
		c.use, c.working = use, true
		c.owner.pools.stacks.run(c)
		c.use, c.working = nil, false
		if c.called {
			return nil
		}
	}
}

// forged ends a connection that begins with a PROXY header which nobody is trusted to send. A peer that sends it in
// pieces gets past this, and then the tokenizer refuses it.
func (c *conn) forged(p []byte) bool {
	c.fresh = false
	if !beginsProxyHeader(p) {
		return false
	}
	c.owner.metrics.refused("proxy_header")
	c.rerr = errForged
	_ = c.Abort()
	return true
}

// read reads what is there into b, or gives what was read already; errWouldBlock if that is nothing.
func (c *conn) read(b *buffer) ([]byte, error) {
	if p := c.early; p != nil {
		c.early = nil
		return *p, nil
	}
	n, err := c.src.read(b)
	return b.data[:n], err
}

// fill waits for bytes and returns them, and the buffer they are in, which the caller puts back.
func (c *conn) fill() (*buffer, []byte, error) {
	for {
		if c.early == nil {
			if _, err := c.src.wait(); err != nil {
				return nil, nil, err
			}
		}
		b := c.owner.pools.get()
		p, err := c.read(b)
		if err == nil {
			return b, p, nil
		}
		c.owner.pools.put(b)
		if err != errWouldBlock {
			return nil, nil, err
		}
	}
}

// hasUnread reports whether a layer above the source may have bytes of its own.
func (c *conn) hasUnread() bool {
	if c.isClosed() {
		return false
	}
	if c.early != nil {
		return true
	}
	if c.ws != nil && c.ws.early != nil {
		return true
	}
	t := c.tls.Load()
	return t != nil && !t.primed
}

// receiveError is what Receive returns after err of the source.
func (c *conn) receiveError(err error) error {
	if c.isClosed() {
		return net.ErrClosed
	}
	return err
}

// process reads what is there and works on it; it runs on a borrowed stack.
func (c *conn) process() {
	if c.ws != nil && c.ws.early != nil {
		p := c.ws.early
		c.ws.early = nil
		c.deliver(p)
		return
	}
	t := c.tls.Load()
	if t != nil && !t.primed {
		c.pump(t, nil)
		return
	}
	b := c.owner.pools.get()
	defer c.owner.pools.put(b)
	p, err := c.read(b)
	switch {
	case err == errWouldBlock:
		c.hot = false
	case err != nil:
		c.rerr = c.receiveError(err)
	case c.fresh && c.forged(p):
	case t != nil:
		c.pump(t, p)
	default:
		c.deliver(p)
	}
}

// deliver hands plain bytes to use, or to the layer that makes messages of them.
func (c *conn) deliver(p []byte) {
	if c.ws != nil {
		c.unframe(p)
		return
	}
	c.called = true
	c.use(p)
}

// finished reports whether what is still at hand is to be dropped: the peer broke a rule, or use has closed the
// connection.
func (c *conn) finished() bool { return c.rerr != nil || c.isClosed() }

func (c *conn) Pending() (bool, error) {
	if c.early != nil {
		return true, nil
	}
	return c.src.pending()
}

func (c *conn) Send(bufs [][]byte) error { return c.sendOr(bufs, nil) }

// Waiter is told when a Send is about to wait for the peer.
type Waiter interface {
	// MustWait is called before Send waits for the peer to read, or for somebody who may, or where it cannot be known.
	// It may be called more than once, and by another goroutine, but never after Send has returned. It must not block.
	MustWait()
}

// SendOr is l.Send(bufs), and tells full when that has to wait.
func SendOr(l Conn, bufs [][]byte, full Waiter) error {
	c, ok := l.(*conn)
	if !ok {
		full.MustWait()
		return l.Send(bufs)
	}
	return c.sendOr(bufs, full)
}

// sendOr is SendOr; full may be nil.
func (c *conn) sendOr(bufs [][]byte, full Waiter) error {
	if !c.wmu.TryLock() {
		if full != nil {
			full.MustWait()
		}
		c.wmu.Lock()
	}
	defer c.wmu.Unlock()
	if c.werr != nil {
		return c.werr
	}
	if c.ws != nil && c.ws.sentEnd {
		return net.ErrClosed
	}
	if err := c.send(bufs, full); err != nil {
		c.werr = err
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.owner.metrics.writeTimeouts.Inc()
		}
		return err
	}
	return nil
}

// send frames, encrypts and writes. c.wmu is held.
func (c *conn) send(bufs [][]byte, full Waiter) error {
	t := c.tls.Load()
	if c.ws == nil && t == nil {
		return c.src.write(bufs, c.owner.writeTimeout, full)
	}
	o := c.owner.outgoing.Get().(*outgoing)
	defer o.done(c.owner)
	if c.ws != nil {
		bufs = o.frame(c.ws.protocol.op, bufs)
	}
	if t == nil {
		return c.src.write(bufs, c.owner.writeTimeout, full)
	}
	return c.sendTLS(t, bufs, o, full)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.deadline = nanoseconds(t)
	return c.applyDeadline()
}

// setBound sets a deadline beside that of SetReadDeadline; the zero time takes it away.
func (c *conn) setBound(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.bound = nanoseconds(t)
	return c.applyDeadline()
}

// beginHandshake sets the handshake timeout as the bound, unless one stands: what came before in the same handshake
// does not get its time again.
func (c *conn) beginHandshake() error {
	c.mu.Lock()
	standing := c.bound != 0 && !c.closed
	c.mu.Unlock()
	if standing {
		return nil
	}
	return c.setBound(time.Now().Add(c.owner.handshakeTimeout))
}

// applyDeadline sets the earlier of the two. c.mu is held.
func (c *conn) applyDeadline() error {
	n := c.deadline
	if c.bound != 0 && (n == 0 || c.bound < n) {
		n = c.bound
	}
	if n == 0 {
		return c.src.setReadDeadline(time.Time{})
	}
	return c.src.setReadDeadline(time.Unix(0, n))
}

// nanoseconds is t for conn.deadline.
func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(1, t.UnixNano())
}

func (c *conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// shut marks the connection closed and wakes Receive. It reports whether it was open.
func (c *conn) shut(abort bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	open := !c.closed
	c.closed = true
	c.aborted = c.aborted || abort
	if open {
		_ = c.src.setReadDeadline(past) // fails only when it is closed below us, and then Receive is awake
	}
	return open
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// Close may take up to a second when the socket is full.
func (c *conn) Close(code int) error {
	if !c.shut(false) {
		return nil
	}
	c.src.hurry(closeTime)
	err := c.sayGoodbye(code)
	if !c.served {
		c.end()
	}
	return err
}

// sayGoodbye writes what ends each layer, from the top, and then the end of the byte stream.
func (c *conn) sayGoodbye(code int) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.werr != nil {
		return nil // what is broken cannot be ended
	}
	c.werr = net.ErrClosed
	var err error
	if c.ws != nil {
		err = c.writeClose(code)
	}
	if t := c.tls.Load(); t != nil && err == nil {
		err = t.conn.CloseWrite()
	}
	if err == nil {
		err = c.src.closeWrite()
	}
	return plainError(err)
}

func (c *conn) Abort() error {
	c.shut(true)
	err := c.src.abort()
	if !c.served {
		c.end()
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// finish ends the connection when its handler has returned.
func (c *conn) finish() {
	_ = c.Close(0) // the handler has seen the error that matters
	c.linger()
	c.end()
}

// linger reads and drops until the peer has closed as well.
func (c *conn) linger() {
	c.mu.Lock()
	aborted := c.aborted
	if !aborted {
		_ = c.src.setReadDeadline(time.Now().Add(lingerTime)) // on failure the read below fails too
	}
	c.mu.Unlock()
	if aborted {
		return
	}
	for total := 0; total < lingerBytes; {
		b, p, err := c.fill()
		if err != nil {
			return
		}
		c.owner.pools.put(b)
		total += len(p)
	}
}

// end closes the socket and gives back what was taken for it, once.
func (c *conn) end() {
	c.mu.Lock()
	first := !c.ended
	c.ended, c.closed = true, true
	release := c.release
	c.mu.Unlock()
	if !first {
		return
	}
	_ = c.src.close() // nothing is left that could be lost
	if release != nil {
		release()
	}
}

func (c *conn) TLS() *tls.ConnectionState {
	t := c.tls.Load()
	if t == nil {
		if s, ok := c.src.(*anySource); ok {
			return s.tls()
		}
		return nil
	}
	s := t.conn.ConnectionState()
	return &s
}

func (c *conn) Protocol() string {
	if c.ws != nil {
		return c.ws.protocol.name
	}
	if t := c.tls.Load(); t != nil {
		if name := t.conn.ConnectionState().NegotiatedProtocol; name != "" {
			return name
		}
	}
	return c.owner.protocol
}

func (c *conn) LocalCertificate() []byte {
	if t := c.tls.Load(); t != nil {
		return t.local
	}
	return nil
}

func (c *conn) SetMaxMessage(n int) {
	if c.ws == nil {
		return
	}
	c.ws.setLimit(n)
}
