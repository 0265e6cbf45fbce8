//go:build unix

package link

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tcpSource reads and writes a TCP socket through its file descriptor, which lets the reader wait for bytes without
// holding a buffer and the writer write without setting a deadline (and with it a timer) as long as the socket takes
// what it is given.
type tcpSource struct {
	tcp   *net.TCPConn
	raw   syscall.RawConn
	pools *pools
	slow  hurrier

	// Owned by the reader.
	try   func(fd uintptr) bool // check, bound once
	again bool                  // check has been called before in this wait
}

func newTCPSource(tcp *net.TCPConn, p *pools) (*tcpSource, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("get at the socket: %w", err)
	}
	s := &tcpSource{tcp: tcp, raw: raw, pools: p}
	s.try = s.check
	return s, nil
}

func (s *tcpSource) wait() (parked bool, err error) {
	s.again = false
	err = s.raw.Read(s.try)
	return s.again, plainError(err)
}

// check reports whether the socket is readable. Before it is called for the first time the runtime forgets what it knew
// of that, so it has to ask the system, or a wake-up would be lost; it is called again when the system has said so.
func (s *tcpSource) check(fd uintptr) bool {
	if s.again {
		return true
	}
	var b [1]byte
	_, _, errno := unix.Syscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT,
		0, 0)
	if errno == unix.EAGAIN {
		s.again = true
		return false
	}
	return true // bytes, the end or an error: read tells
}

func (s *tcpSource) read(b *buffer) (int, error) {
	if err := s.raw.Read(b.try); err != nil {
		return 0, plainError(err)
	}
	return b.n, b.err
}

// tryRead reads once and never waits.
func (b *buffer) tryRead(fd uintptr) bool {
	for {
		n, err := unix.Read(int(fd), b.data[:])
		b.n, b.err = max(n, 0), nil
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			b.err = errWouldBlock
		case err != nil:
			b.err = fmt.Errorf("read: %w", err)
		case n == 0:
			b.err = io.EOF
		}
		return true
	}
}

func (s *tcpSource) pending() (bool, error) {
	var n int
	var err error
	var b [1]byte
	ctlErr := s.raw.Control(func(fd uintptr) {
		n, _, err = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	switch {
	case ctlErr != nil:
		return false, plainError(ctlErr)
	case err == unix.EAGAIN, err == unix.EINTR:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("peek: %w", err)
	}
	return n > 0, nil
}

// write tries at once, and only when the socket is full does it set a deadline and wait.
func (s *tcpSource) write(vec [][]byte, timeout time.Duration, full Waiter) error {
	w := s.pools.writers.Get().(*writer)
	defer w.done(s.pools)
	w.vec, w.wait = vec, false
	if err := s.raw.Write(w.try); err != nil {
		return plainError(err)
	}
	if w.full {
		if full != nil {
			full.MustWait()
		}
		s.slow.begin(s.tcp, timeout)
		defer s.slow.end(s.tcp)
		w.full, w.wait = false, true
		if err := s.raw.Write(w.try); err != nil {
			return plainError(err)
		}
	}
	if w.err != nil {
		return fmt.Errorf("write: %w", w.err)
	}
	return nil
}

func (s *tcpSource) hurry(d time.Duration)             { s.slow.hurry(s.tcp, d) }
func (s *tcpSource) setReadDeadline(t time.Time) error { return plainError(s.tcp.SetReadDeadline(t)) }
func (s *tcpSource) closeWrite() error                 { return plainError(s.tcp.CloseWrite()) }
func (s *tcpSource) close() error                      { return plainError(s.tcp.Close()) }
func (s *tcpSource) local() netip.AddrPort             { return addrPort(s.tcp.LocalAddr()) }

// abort sends a reset, so that the system keeps nothing of the connection.
func (s *tcpSource) abort() error {
	_ = s.tcp.SetLinger(0) // fails only on a socket that is closed
	return plainError(s.tcp.Close())
}

// writer is one write in progress. It comes from a pool so that an idle connection keeps no vectors, as a net.TCPConn
// does.
type writer struct {
	vec  [][]byte // what is to be written
	skip int      // bytes of vec[0] that are written
	wait bool     // on a full socket wait for room, do not come back
	full bool     // came back because the socket is full
	err  error
	try  func(fd uintptr) bool
	sys  vector
}

func newWriter() *writer {
	w := new(writer)
	w.try = w.tryWrite
	return w
}

func (w *writer) tryWrite(fd uintptr) bool {
	for {
		w.advance(0)
		if len(w.vec) == 0 {
			return true
		}
		n, err := w.sys.write(int(fd), w.vec, w.skip)
		switch err {
		case nil:
			w.advance(n)
		case unix.EINTR:
		case unix.EAGAIN:
			w.full = !w.wait
			return w.full
		default:
			w.err = err
			return true
		}
	}
}

// advance notes that n more bytes are written, and skips empty pieces.
func (w *writer) advance(n int) {
	w.skip += n
	for len(w.vec) > 0 && w.skip >= len(w.vec[0]) {
		w.skip -= len(w.vec[0])
		w.vec = w.vec[1:]
	}
}

// done gives w back, without anything of the caller's in it.
func (w *writer) done(p *pools) {
	w.vec, w.skip, w.full, w.err = nil, 0, false, nil
	p.writers.Put(w)
}

// descriptor returns the number of the socket's file descriptor; -1 if it is closed.
func (s *tcpSource) descriptor() int {
	n := -1
	_ = s.raw.Control(func(fd uintptr) { n = int(fd) }) // fails on a closed socket
	return n
}
