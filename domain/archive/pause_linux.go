package archive

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// clockPause waits by a timer of the system's that can be read like a socket, timerfd_create(2): as such it is in the
// network poller, wakes it to within some 50 µs, and holds no thread meanwhile, as nanosleep(2) would.
type clockPause struct {
	file    *os.File
	fd      int         // of file, which is open until close
	stop    func() bool // ends what ends the wait when the context does
	expired [8]byte     // what is read: how often it has expired
}

// newPause returns a pause for one run of the committer: by the system's clock, or by a timer of Go's where that cannot
// be had.
func newPause(ctx context.Context) pause {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return newTimerPause(ctx)
	}
	file := os.NewFile(uintptr(fd), "timerfd")
	if file.SetReadDeadline(time.Time{}) != nil { // it is not in the poller
		_ = file.Close() // nothing is lost
		return newTimerPause(ctx)
	}
	return &clockPause{file: file, fd: fd,
		stop: context.AfterFunc(ctx, func() { _ = file.SetReadDeadline(time.Now()) })}
}

// wait does not wait when the system refuses: the next batch is smaller then.
func (p *clockPause) wait(d time.Duration) {
	if unix.TimerfdSettime(p.fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil) == nil {
		_, _ = p.file.Read(p.expired[:]) // fails when the context has ended
	}
}

func (p *clockPause) close() {
	p.stop()
	_ = p.file.Close() // nothing is lost
}
