package link

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// memoryLimit is how many bytes one direction of a connection in memory holds before the writer waits, about as much as
// a socket.
const memoryLimit = 64 << 10

// Memory makes connections without sockets, for tests, and for measuring with more of them than there are file
// descriptors. They have everything that a TCP connection has, StartTLS and timeouts included. They use nothing but
// mutexes, conditions and timers, so they work inside testing/synctest.
type Memory struct {
	owner *owner
}

// NewMemory returns the counterpart of a Listener in ModePlain; handler is called for each connection on a goroutine of
// its own.
func NewMemory(handler func(Conn)) *Memory {
	m, _ := newMetrics(nil, "memory") // fails only when registering
	o := newOwner(m, Config{})
	o.handler = handler
	return &Memory{owner: o}
}

// Dial returns the client's end of a new connection.
func (m *Memory) Dial() (net.Conn, error) {
	c, client := newMemoryConn(m.owner)
	if !m.owner.adopt(c) {
		return nil, net.ErrClosed
	}
	go m.owner.serve(c)
	return client, nil
}

// Shutdown waits for the handlers, as Listener.Shutdown does.
func (m *Memory) Shutdown(ctx context.Context) error { return m.owner.wait(ctx) }

// Pipe returns the two ends of one connection in memory. Nothing runs on its own: use is called on the goroutine of
// Receive, and Close closes at once.
func Pipe() (Conn, net.Conn) {
	m, _ := newMetrics(nil, "pipe") // fails only when registering
	o := newOwner(m, Config{})
	o.pools = newPools(false)
	c, client := newMemoryConn(o)
	return c, client
}

func newMemoryConn(o *owner) (*conn, *memoryClient) {
	up, down := newHalf(), newHalf()
	src := &memorySource{in: up, out: down}
	addr := netip.MustParseAddrPort("127.0.0.1:0")
	return newConn(o, src, addr), &memoryClient{in: down, out: up}
}

var errPeerGone = errors.New("write on a connection that the other end has closed")

// half is one direction: a queue of bytes.
type half struct {
	mu     sync.Mutex // guards everything below
	cond   sync.Cond  // told of every change
	queue  []byte
	ended  bool // the writer has said that nothing more comes
	gone   bool // the reader has closed
	read   deadline
	write  deadline
	hurry  time.Duration
	broken error // what both sides get, after an abort
}

// deadline is a moment, and the timer that tells when it has come.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func newHalf() *half {
	h := new(half)
	h.cond.L = &h.mu
	return h
}

// set sets a deadline; h.mu is held.
func (l *deadline) set(h *half, t time.Time) {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	l.at = t
	// what is over needs no timer; and one in a synctest bubble crashes the race detector of Go 1.26
	if d := time.Until(t); d > 0 {
		l.timer = time.AfterFunc(d, h.cond.Broadcast)
	}
	h.cond.Broadcast()
}

func (l *deadline) over() bool { return !l.at.IsZero() && !time.Now().Before(l.at) }

// take waits for bytes and moves some to p.
func (h *half) take(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.gone:
			return 0, net.ErrClosed
		case h.broken != nil:
			return 0, h.broken
		case h.read.over():
			return 0, os.ErrDeadlineExceeded
		case len(h.queue) > 0:
			n := copy(p, h.queue)
			if h.queue = h.queue[n:]; len(h.queue) == 0 {
				h.queue = nil // an idle connection holds no memory
			}
			h.cond.Broadcast()
			return n, nil
		case h.ended:
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

// wait waits until take would not, and reports whether it had to. Like take, it prefers the deadline to what is there.
func (h *half) wait() (parked bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for !h.gone && h.broken == nil && !h.read.over() && len(h.queue) == 0 && !h.ended {
		parked = true
		h.cond.Wait()
	}
	if h.read.over() {
		return parked, os.ErrDeadlineExceeded
	}
	return parked, nil
}

// give puts p into the queue, waiting for room.
func (h *half) give(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for {
		switch {
		case h.ended:
			return n, net.ErrClosed
		case h.broken != nil:
			return n, h.broken
		case h.gone:
			return n, errPeerGone
		case len(p) == 0:
			return n, nil
		case h.write.over():
			return n, os.ErrDeadlineExceeded
		}
		if k := min(len(p), memoryLimit-len(h.queue)); k > 0 {
			h.queue = append(h.queue, p[:k]...)
			p, n = p[k:], n+k
			h.cond.Broadcast()
			continue
		}
		h.cond.Wait()
	}
}

// change calls f with the lock held and tells everybody.
func (h *half) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	h.cond.Broadcast()
}

// closeBoth ends a connection from one end: nothing is read there any more, and nothing comes out of it.
func closeBoth(in, out *half) {
	in.change(func() { in.gone = true; in.read.set(in, time.Time{}) })
	out.change(func() { out.ended = true; out.write.set(out, time.Time{}) })
}

// memorySource is the server's end.
type memorySource struct {
	in, out *half
}

func (s *memorySource) wait() (bool, error) { return s.in.wait() }

func (s *memorySource) read(b *buffer) (int, error) {
	if waiting, _ := s.pending(); !waiting && s.in.open() {
		return 0, errWouldBlock
	}
	return s.in.take(b.data[:])
}

// open reports whether bytes may still come.
func (h *half) open() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.gone && h.broken == nil && !h.ended
}

func (s *memorySource) pending() (bool, error) {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	return len(s.in.queue) > 0, nil
}

func (s *memorySource) write(vec [][]byte, timeout time.Duration, full Waiter) error {
	for _, b := range vec {
		if s.out.fits(b) {
			continue
		}
		if full != nil {
			full.MustWait()
		}
		s.out.change(func() {
			if s.out.hurry > 0 {
				timeout = min(timeout, s.out.hurry)
			}
			s.out.write.set(s.out, time.Now().Add(timeout))
		})
		_, err := s.out.give(b)
		s.out.change(func() { s.out.write.set(s.out, time.Time{}) })
		if err != nil {
			return err
		}
	}
	return nil
}

// fits puts b into the queue if there is room for all of it, which needs no deadline.
func (h *half) fits(b []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended || h.broken != nil || h.gone || len(b) > memoryLimit-len(h.queue) {
		return false
	}
	h.queue = append(h.queue, b...)
	h.cond.Broadcast()
	return true
}

func (s *memorySource) hurry(d time.Duration) {
	s.out.change(func() { s.out.hurry = d; s.out.write.set(s.out, time.Now().Add(d)) })
}

func (s *memorySource) setReadDeadline(t time.Time) error {
	s.in.change(func() { s.in.read.set(s.in, t) })
	return nil
}

func (s *memorySource) closeWrite() error {
	s.out.change(func() { s.out.ended = true; s.out.write.set(s.out, time.Time{}) })
	return nil
}

func (s *memorySource) close() error {
	closeBoth(s.in, s.out)
	return nil
}

func (s *memorySource) abort() error {
	for _, h := range []*half{s.in, s.out} {
		h.change(func() { h.broken = errPeerGone })
	}
	return s.close()
}

func (s *memorySource) local() netip.AddrPort { return netip.MustParseAddrPort("127.0.0.1:0") }

// memoryClient is the client's end.
type memoryClient struct{ in, out *half }

func (c *memoryClient) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return c.in.take(p)
}

func (c *memoryClient) Write(p []byte) (int, error) { return c.out.give(p) }

func (c *memoryClient) Close() error {
	closeBoth(c.in, c.out)
	return nil
}

// CloseWrite ends the client's direction only.
func (c *memoryClient) CloseWrite() error {
	c.out.change(func() { c.out.ended = true })
	return nil
}

func (c *memoryClient) LocalAddr() net.Addr  { return memoryAddr{} }
func (c *memoryClient) RemoteAddr() net.Addr { return memoryAddr{} }

func (c *memoryClient) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *memoryClient) SetReadDeadline(t time.Time) error {
	c.in.change(func() { c.in.read.set(c.in, t) })
	return nil
}

func (c *memoryClient) SetWriteDeadline(t time.Time) error {
	c.out.change(func() { c.out.write.set(c.out, t) })
	return nil
}

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "memory" }
