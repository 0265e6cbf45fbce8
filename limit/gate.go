package limit

import (
	"context"
	"errors"
	"sync/atomic"
)

// ErrBusy: as many wait at a gate as may.
var ErrBusy = errors.New("too many are waiting")

// Gate lets a number of callers at once do something expensive, and lets a bounded number of others wait. Any goroutine
// may call it.
type Gate struct {
	slots   chan struct{}
	waiting atomic.Int64
	most    int64
}

// NewGate returns a gate with slots for so many inside, and so many who wait.
func NewGate(inside, waiting int) *Gate {
	return &Gate{slots: make(chan struct{}, inside), most: int64(waiting)}
}

// Enter takes a slot, and waits for one as long as ctx. Leave must be called afterwards. The error is ErrBusy, at
// once, or that of ctx.
func (g *Gate) Enter(ctx context.Context) error {
	select {
	case g.slots <- struct{}{}:
		return nil
	default:
	}
	defer g.waiting.Add(-1)
	if g.waiting.Add(1) > g.most {
		return ErrBusy
	}
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Leave gives the slot back.
func (g *Gate) Leave() { <-g.slots }

// Inside returns how many have a slot.
func (g *Gate) Inside() int { return len(g.slots) }

// Waiting returns how many wait for a slot.
func (g *Gate) Waiting() int { return int(g.waiting.Load()) }
