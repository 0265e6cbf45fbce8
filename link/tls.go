package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// maxRecord is the most plain bytes of one TLS record (RFC 8446 §5.1).
const maxRecord = 16 << 10

// The overhead of TLS a peer may cause: bytes that carry no content, as key updates, empty or tiny records do. A record
// of one byte costs 20; ordinary traffic costs nothing, since what it carries pays for more than its framing.
const (
	overheadBurst = 64 << 10 // bytes at once
	overheadRate  = 1 << 10  // bytes a second
)

var (
	errOverhead = errors.New("peer sends TLS records without content")
	errIsTLS    = errors.New("the link is TLS already")
	errIsFramed = errors.New("a WebSocket cannot start TLS")
)

// tlsLayer is the state of a link that is TLS. Owned by the goroutine in Receive, but for conn, whose methods lock
// themselves.
type tlsLayer struct {
	conn   *tls.Conn
	shim   *shim
	local  []byte // the certificate presented, DER
	primed bool   // conn holds no whole record that it has not given to us
	spent  int64  // overhead not yet forgiven, bytes
	since  int64  // when spent was last brought up to date, Unix seconds
}

// StartTLS may be called inside use, but costs less memory while the peer is silent when it is called between two calls
// of Receive.
func (c *conn) StartTLS(ctx context.Context, config *tls.Config) error {
	switch {
	case c.ws != nil:
		return errIsFramed
	case c.tls.Load() != nil:
		return errIsTLS
	case config == nil:
		return errors.New("start TLS: no configuration")
	}
	stop := func() bool { return true }
	var err error
	c.afterWait(func() {
		stop = context.AfterFunc(ctx, func() { _ = c.Abort() })
	}, func() {
		err = c.startTLS(ctx, config)
	})
	if !stop() {
		return fmt.Errorf("TLS handshake: %w", context.Cause(ctx)) // the connection is aborted
	}
	return err
}

// afterWait calls before, waits until the first bytes have come, or the handshake timeout is over, or the connection is
// closed, and calls after: a peer that sends nothing costs nothing but its parked goroutine. Both run on a borrowed
// stack.
func (c *conn) afterWait(before, after func()) {
	if c.working { // inside use, which is on a borrowed stack already
		before()
		after()
		return
	}
	run := c.owner.pools.stacks.run
	run(task(func() {
		_ = c.beginHandshake() // fails on a closed connection, as what follows does
		before()
	}))
	if c.early == nil {
		_, _ = c.src.wait() // after meets the error again
	}
	run(task(after))
}

func (c *conn) startTLS(ctx context.Context, config *tls.Config) error {
	if err := c.handshake(ctx, config); err != nil {
		c.owner.metrics.handshakeFailed(err)
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.owner.metrics.handshakes.Inc()
	return nil
}

// handshake does it, however long the peer takes within the timeout, which counts from when the first byte was waited
// for.
func (c *conn) handshake(ctx context.Context, config *tls.Config) error {
	if err := c.beginHandshake(); err != nil {
		return err
	}
	s := &shim{c: c, mode: shimHandshake, gated: true}
	defer s.leave()
	if err := s.refill(); err != nil {
		return err
	}
	conn := tls.Server(s, config)
	if err := conn.HandshakeContext(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	s.mode, s.gated = shimFed, false
	local := s.local
	if local == nil && len(config.Certificates) == 1 && len(config.Certificates[0].Certificate) > 0 {
		local = config.Certificates[0].Certificate[0]
	}
	c.fresh = false
	c.tls.Store(&tlsLayer{conn: conn, shim: s, local: local})
	return c.setBound(time.Time{})
}

// pump gives ciphertext to TLS and delivers what comes out, until nothing is left in it but a part of a record.
func (c *conn) pump(t *tlsLayer, p []byte) {
	t.primed = true
	cost := int64(len(p))
	t.shim.add(p)
	out := c.owner.pools.get()
	defer c.owner.pools.put(out)
	for !c.finished() {
		n, err := t.conn.Read(out.data[:])
		if n > 0 {
			cost -= 2 * int64(n)
			c.deliver(out.data[:n])
		}
		if err == nil {
			continue
		}
		if err != errWouldBlock && c.rerr == nil {
			c.rerr = plainError(err)
		}
		break
	}
	t.shim.drop()
	if c.rerr == nil && !t.pay(cost) {
		c.owner.metrics.refused("tls_overhead")
		c.rerr = errOverhead
	}
}

// pay charges for overhead and reports whether it is within bounds.
func (t *tlsLayer) pay(cost int64) bool {
	if t.spent += cost; t.spent <= 0 {
		t.spent = 0
		return true
	}
	if t.spent <= overheadBurst/2 {
		return true // no need to look at the clock
	}
	now := time.Now().Unix()
	t.spent = max(0, t.spent-(now-t.since)*overheadRate)
	t.since = now
	return t.spent <= overheadBurst
}

// sendTLS writes few, full records: what bufs hold is gathered first.
func (c *conn) sendTLS(t *tlsLayer, bufs [][]byte, o *outgoing, full Waiter) error {
	t.shim.tell(full)
	defer t.shim.tell(nil)
	total := 0
	for _, b := range bufs {
		total += len(b)
	}
	if total > maxRecord { // several writes, one deadline
		t.shim.sendBy.Store(time.Now().Add(c.owner.writeTimeout).UnixNano())
		defer t.shim.sendBy.Store(0)
	}
	flat := o.flat[:0]
	defer func() { o.flat = flat[:0] }()
	for len(bufs) > 0 {
		b := bufs[0]
		bufs = bufs[1:]
		if len(flat) == 0 && (len(bufs) == 0 || len(b) >= maxRecord) {
			if err := t.write(b); err != nil {
				return err
			}
			continue
		}
		for len(b) > 0 {
			n := min(len(b), maxRecord-len(flat))
			flat = append(flat, b[:n]...)
			b = b[n:]
			if len(flat) == maxRecord {
				if err := t.write(flat); err != nil {
					return err
				}
				flat = flat[:0]
			}
		}
	}
	return t.write(flat)
}

func (t *tlsLayer) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	_, err := t.conn.Write(p)
	return plainError(err)
}

// wouldBlock is the error of a shim that has been fed no more. crypto/tls takes a net.Error that is temporary for one
// that passes, and goes on where it was when it is called again; every other error of a read is final to it.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "no more bytes yet" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

var errWouldBlock error = wouldBlock{}

type shimMode uint8

const (
	shimHandshake shimMode = iota // Read waits for the peer
	shimFed                       // Read gives what add was given, and then errWouldBlock
	shimHTTP                      // Read waits; the connection belongs to net/http
)

// shim is what a connection looks like to crypto/tls and to net/http: a net.Conn.
type shim struct {
	c *conn

	// Owned by the reader.
	mode  shimMode
	gated bool // reading is computing a handshake: pass the gate after every wait
	in    []byte
	hold  *buffer // what in is a part of, if it is to be put back
	local []byte  // the certificate chosen, DER

	inside   atomic.Bool  // a slot of the gate is ours
	sendBy   atomic.Int64 // Unix nanoseconds by which the writes of one Send must be done; 0: each has its own timeout
	deadline atomic.Int64 // of all writes, as set by SetWriteDeadline: Unix nanoseconds, 0 for none
	omu      sync.Mutex   // guards one

	fmu sync.Mutex // guards the rest
	// of the Send that is at work, or waits for the lock of crypto/tls; nil: there is none, or it need not be told
	full  Waiter
	waits bool // a write waits for the peer: of that Send, or an answer that crypto/tls gives while it reads

	one  [1][]byte
	lazy *lazyHeader // in shimHTTP, when a PROXY header comes first
}

// add appends ciphertext. What is there already came with the last bytes of the handshake.
func (s *shim) add(p []byte) {
	switch {
	case len(p) == 0:
		return
	case len(s.in) == 0:
		s.in = p
		return
	}
	s.in = append(append([]byte(nil), s.in...), p...)
	s.freeHold()
}

// drop forgets what is left.
func (s *shim) drop() {
	s.in = nil
	s.freeHold()
}

func (s *shim) freeHold() {
	s.c.owner.pools.put(s.hold)
	s.hold = nil
}

func (s *shim) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(s.in) == 0 {
		if s.mode == shimFed {
			return 0, errWouldBlock
		}
		if err := s.refill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.in)
	if s.in = s.in[n:]; len(s.in) == 0 {
		s.drop()
	}
	return n, nil
}

// refill waits for bytes, outside of the gate.
func (s *shim) refill() error {
	s.leave()
	if err := s.lazy.do(); err != nil {
		return err
	}
	b, p, err := s.c.fill()
	if err != nil {
		if s.c.isClosed() && err != io.EOF {
			err = net.ErrClosed
		}
		return err
	}
	s.in, s.hold = p, b
	if !s.gated {
		return nil
	}
	if err := s.c.owner.enterGate(); err != nil {
		return err
	}
	s.inside.Store(true)
	return nil
}

// leave gives back the slot of the gate, if there is one.
func (s *shim) leave() {
	if s.inside.Swap(false) {
		s.c.owner.gate.Leave()
	}
}

func (s *shim) Write(p []byte) (int, error) {
	if s.mode == shimHTTP && s.gated {
		// net/http does not tell when the handshake is over, but the costly part of it ends with the first answer.
		s.gated = false
		s.leave()
	}
	timeout := s.c.owner.writeTimeout
	switch by := s.sendBy.Load(); {
	case s.mode == shimHandshake:
		timeout = s.c.owner.handshakeTimeout
	case by != 0:
		timeout = max(time.Millisecond, time.Until(time.Unix(0, by)))
	}
	if by := s.deadline.Load(); by != 0 {
		left := time.Until(time.Unix(0, by))
		if left <= 0 {
			return 0, os.ErrDeadlineExceeded
		}
		timeout = min(timeout, left)
	}
	s.omu.Lock()
	defer s.omu.Unlock()
	s.one[0] = p
	err := s.c.src.write(s.one[:], timeout, s)
	s.waiting(false)
	s.one[0] = nil
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// MustWait is called by the source.
func (s *shim) MustWait() { s.waiting(true) }

func (s *shim) waiting(yes bool) {
	s.fmu.Lock()
	defer s.fmu.Unlock()
	s.waits = yes
	if yes && s.full != nil {
		s.full.MustWait()
	}
}

// tell says who is to be told from now on; nil for nobody.
func (s *shim) tell(full Waiter) {
	s.fmu.Lock()
	defer s.fmu.Unlock()
	s.full = full
	if s.waits && full != nil {
		full.MustWait()
	}
}

// Close ends the connection for net/http, and for crypto/tls when a handshake is given up.
func (s *shim) Close() error {
	s.leave()
	s.c.shut(false)
	s.c.end()
	return nil
}

func (s *shim) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(s.c.src.local()) }

func (s *shim) RemoteAddr() net.Addr {
	_ = s.lazy.do() // the next Read reports it
	return net.TCPAddrFromAddrPort(s.c.remote)
}

func (s *shim) SetReadDeadline(t time.Time) error { return s.c.SetReadDeadline(t) }

// SetWriteDeadline bounds the writes that begin later. Every write has the timeout of the listener as well.
func (s *shim) SetWriteDeadline(t time.Time) error {
	s.deadline.Store(nanoseconds(t))
	return nil
}

func (s *shim) SetDeadline(t time.Time) error {
	_ = s.SetWriteDeadline(t) // cannot fail
	return s.SetReadDeadline(t)
}
