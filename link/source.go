package link

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// bufferSize is what one read takes at most. A stanza of a chat is a few hundred bytes, so that one read often brings
// several.
const bufferSize = 8 << 10

// buffer is what is read into, and the state of that one read. Only connections that are being worked on hold one.
type buffer struct {
	n    int
	err  error
	try  func(fd uintptr) bool // tryRead, bound once
	data [bufferSize - 32]byte // the whole is one size class of the allocator
}

func newBuffer() *buffer {
	b := new(buffer)
	b.try = b.tryRead
	return b
}

// source is the bottom of a connection: a socket, memory, or any other net.Conn. Reading is done by one goroutine;
// write by one at a time (conn.wmu or the lock of crypto/tls sees to it); the rest by anyone.
type source interface {
	// wait parks until read may have something to tell, also the end, and reports whether it had to park. It needs
	// little stack. It fails with os.ErrDeadlineExceeded, net.ErrClosed or what the system says.
	wait() (parked bool, err error)
	// read reads what is there, without waiting: errWouldBlock if that is nothing, or io.EOF or the errors of wait.
	read(b *buffer) (int, error)
	// pending reports whether bytes are waiting to be read.
	pending() (bool, error)
	// write writes all of vec, which it does not change, or fails after timeout. What has been written by then is not
	// told: the stream is broken. It tells full, if that is not nil, before it waits for the peer to read, or where it
	// cannot know.
	write(vec [][]byte, timeout time.Duration, full Waiter) error
	// hurry makes a write that is in progress or comes later fail after d.
	hurry(d time.Duration)
	setReadDeadline(t time.Time) error
	// closeWrite tells the peer that nothing more will come; reading goes on.
	closeWrite() error
	// close frees everything; abort does so without waiting for what is still to be sent, and makes the peer's next
	// write fail.
	close() error
	abort() error
	local() netip.AddrPort
}

// pools is what the connections of one owner share.
type pools struct {
	buffers sync.Pool // of *buffer
	writers sync.Pool // of *writer
	stacks  *stacks   // nil: work where you are
}

func newPools(lend bool) *pools {
	p := new(pools)
	p.buffers.New = func() any { return newBuffer() }
	p.writers.New = func() any { return newWriter() }
	if lend {
		p.stacks = newStacks()
	}
	return p
}

func (p *pools) get() *buffer { return p.buffers.Get().(*buffer) }

func (p *pools) put(b *buffer) {
	if b != nil {
		p.buffers.Put(b)
	}
}

func (p *pools) close() {
	if p.stacks != nil {
		p.stacks.close()
	}
}

// plainError strips what package net wraps around an error, so that callers see the few that Conn promises as they are.
func plainError(err error) error {
	switch {
	case err == nil, err == io.EOF:
		return err
	case errors.Is(err, net.ErrClosed):
		return net.ErrClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	}
	return err
}

// anySource makes a source of a net.Conn that is not a TCP socket of ours, such as the TLS connection that a foreign
// listener of net/http made. It cannot wait without a buffer: read waits instead.
type anySource struct {
	conn net.Conn
	slow hurrier
}

func (s *anySource) wait() (bool, error) { return true, nil }

func (s *anySource) read(b *buffer) (int, error) {
	n, err := s.conn.Read(b.data[:])
	if n > 0 {
		return n, nil // the next read returns the error again
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return 0, plainError(err)
}

// tls is the state of a TLS connection that somebody else made.
func (s *anySource) tls() *tls.ConnectionState {
	c, ok := s.conn.(*tls.Conn)
	if !ok {
		return nil
	}
	st := c.ConnectionState()
	return &st
}

// pending cannot be known here.
func (s *anySource) pending() (bool, error) { return false, errors.ErrUnsupported }

func (s *anySource) write(vec [][]byte, timeout time.Duration, full Waiter) error {
	if full != nil {
		full.MustWait()
	}
	s.slow.begin(s.conn, timeout)
	defer s.slow.end(s.conn)
	for _, b := range vec {
		if _, err := s.conn.Write(b); err != nil {
			return plainError(err)
		}
	}
	return nil
}

func (s *anySource) hurry(d time.Duration)             { s.slow.hurry(s.conn, d) }
func (s *anySource) setReadDeadline(t time.Time) error { return s.conn.SetReadDeadline(t) }
func (s *anySource) close() error                      { return s.conn.Close() }
func (s *anySource) abort() error                      { return s.conn.Close() }

func (s *anySource) closeWrite() error {
	if c, ok := s.conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

func (s *anySource) local() netip.AddrPort { return addrPort(s.conn.LocalAddr()) }

// hurrier holds the deadline of a slow write: once hurried, no write takes longer than that.
type hurrier struct {
	mu    sync.Mutex    // guards limit, and the order of the deadlines that are set
	limit time.Duration // 0: not hurried
}

type deadliner interface{ SetWriteDeadline(t time.Time) error }

func (h *hurrier) begin(c deadliner, timeout time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.limit > 0 {
		timeout = min(timeout, h.limit)
	}
	_ = c.SetWriteDeadline(time.Now().Add(timeout)) // fails only on a closed connection, where the write will as well
}

func (h *hurrier) end(c deadliner) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = c.SetWriteDeadline(time.Time{})
}

func (h *hurrier) hurry(c deadliner, d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.limit = d
	_ = c.SetWriteDeadline(time.Now().Add(d))
}

// addrPort is the address in a net.Addr; the zero value if there is none. An IPv4 address that the system gives in IPv6
// form is unmapped.
func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		p := a.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	case nil:
		return netip.AddrPort{}
	}
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}
