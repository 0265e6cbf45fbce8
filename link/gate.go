package link

import (
	"errors"
	"runtime"
	"sync/atomic"
	"time"
)

// errBusy says that too many handshakes wait for a processor already.
var errBusy = errors.New("too many TLS handshakes waiting")

// Gate bounds how many TLS handshakes are computed at the same time, so that a flood of them leaves the processors to the connections that are
// established. A handshake passes it only while it computes, never while it waits for the peer, so that silent
// peers do not shut others out. One Gate may be shared by several listeners.
type Gate struct {
	slots   chan struct{}
	waiting atomic.Int32
	limit   int32
}

// NewGate returns a gate for the given numbers of handshakes computing and waiting; 0 means twice the processors, and 512.
// A handshake that finds the waiting places taken fails at once.
func NewGate(running, waiting int) *Gate {
	if running <= 0 {
		running = 2 * runtime.GOMAXPROCS(0)
	}
	if waiting <= 0 {
		waiting = 512
	}
	return &Gate{slots: make(chan struct{}, running), limit: int32(waiting)}
}

// enter takes a slot, waiting up to d.
func (g *Gate) enter(d time.Duration) error {
	select {
	case g.slots <- struct{}{}:
		return nil
	default:
	}
	defer g.waiting.Add(-1)
	if g.waiting.Add(1) > g.limit {
		return errBusy
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-t.C:
		return errBusy
	}
}

// leave gives a slot back.
func (g *Gate) leave() { <-g.slots }
