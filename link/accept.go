//go:build unix

package link

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Waiting for file descriptors: from the first to the longest wait, doubled each time.
const (
	backoffMin = 5 * time.Millisecond
	backoffMax = 250 * time.Millisecond
)

// fileLimit keeps file descriptors for the rest of the process. The system gives out the lowest that is free, so a
// descriptor that is near the limit tells that all below are taken, whoever took them.
type fileLimit struct {
	highest int         // connections with a higher descriptor are refused
	low     atomic.Bool // the last accept met the limit

	mu     sync.Mutex // guards the fields below
	spare  *os.File   // given up for a moment when there is no descriptor left, to be able to refuse a connection
	closed bool
}

func newFileLimit(reserve int) (*fileLimit, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return nil, fmt.Errorf("ask for the limit on open files: %w", err)
	}
	limit := int(min(r.Cur, 1<<30))
	if reserve <= 0 {
		reserve = min(128, limit/8)
	}
	f := &fileLimit{highest: limit - 1 - reserve}
	return f, f.take()
}

// take opens the spare descriptor.
func (f *fileLimit) take() error {
	spare, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("reserve a file descriptor: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return spare.Close()
	}
	f.spare = spare
	return nil
}

// close gives the spare descriptor back for good.
func (f *fileLimit) close() {
	f.lend()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
}

// lend gives it back until take.
func (f *fileLimit) lend() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.spare != nil {
		_ = f.spare.Close() // it was only read from, and not even that
	}
	f.spare = nil
}

// accept returns the next connection that is admitted. Behind a trusted proxy it is not known yet for whom it is: see
// introduce. It fails only when the listener is closed or broken.
func (l *Listener) accept() (*conn, error) {
	wait := backoffMin
	for {
		tcp, err := l.tcp.AcceptTCP()
		if err != nil {
			if !outOfFiles(err) {
				return nil, err
			}
			l.runOut()
			l.shed()
			wait = l.backOff(wait)
			continue
		}
		c, err := l.take(tcp)
		if err != nil {
			wait = l.backOff(wait)
			continue
		}
		if l.files.low.CompareAndSwap(true, false) {
			l.owner.metrics.backoff.Set(0)
			l.owner.log.Info("accepting connections again", "listener", l.cfg.Name)
		}
		if c != nil {
			return c, nil
		}
		wait = backoffMin
	}
}

// take makes a connection of a socket; nil if it is not admitted. It fails when the socket has one of the last
// descriptors.
func (l *Listener) take(tcp *net.TCPConn) (*conn, error) {
	src, err := newTCPSource(tcp, l.owner.pools)
	if err == nil && src.descriptor() > l.files.highest {
		err = unix.EMFILE
	}
	if err != nil {
		l.runOut()
		l.owner.metrics.refused("files")
		refuse(tcp)
		return nil, err
	}
	remote := addrPort(tcp.RemoteAddr())
	c := newConn(l.owner, src, remote)
	if !contains(l.cfg.TrustedProxies, remote.Addr()) {
		c.fresh = true
		release, ok := l.admit(remote)
		if !ok {
			refuse(tcp)
			return nil, nil
		}
		c.release = release
	}
	l.owner.metrics.accepted.Inc()
	l.owner.metrics.open.Inc()
	c.release = joinRelease(c.release, l.gone)
	return c, nil
}

// refuse closes a socket with a reset, so that nothing of it stays.
func refuse(tcp *net.TCPConn) {
	_ = tcp.SetLinger(0) // on failure it is closed the slower way
	_ = tcp.Close()
}

func outOfFiles(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) ||
		errors.Is(err, unix.ENOMEM)
}

// shed refuses the connection at the head of the queue with the help of the spare descriptor. Otherwise its client
// would hang.
func (l *Listener) shed() {
	l.files.lend()
	// the client may have gone meanwhile; on failure the listener is closed
	_ = l.tcp.SetDeadline(time.Now().Add(time.Millisecond))
	if tcp, err := l.tcp.AcceptTCP(); err == nil {
		l.owner.metrics.refused("files")
		refuse(tcp)
	}
	_ = l.tcp.SetDeadline(time.Time{})
	_ = l.files.take() // somebody else was faster; the next connection waits in the queue then
}

// runOut notes that there are no descriptors for connections, and says so once.
func (l *Listener) runOut() {
	l.owner.metrics.exhausted.Inc()
	if l.files.low.CompareAndSwap(false, true) {
		l.owner.metrics.backoff.Set(1)
		l.owner.log.Warn("out of file descriptors: connections are refused", "listener", l.cfg.Name, "highest",
			l.files.highest)
	}
}

// backOff waits, or until the listener is closed, and returns how long to wait next time.
func (l *Listener) backOff(d time.Duration) time.Duration {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.done:
	}
	return min(2*d, backoffMax)
}
