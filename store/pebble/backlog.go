package pebble

import (
	"context"
	"fmt"
	"sync"

	"github.com/posthouse-im/posthouse/store"
)

// maxBacklog is how many full memtables may wait to be written as tables. The engine holds a write for as long as there are too many,
// whatever the reason, and gives no way to take the write back: then a full disk would not be an answer to Append but the end of its
// caller's patience. So the wait is here, before anything is given to the engine, whose own limit is higher.
const (
	maxBacklog    = 3
	engineBacklog = 8
)

// backlog counts them by what the engine tells. A batch of the size of a memtable is one that is not counted, so that there may be more than it
// says, never fewer; when none waits it is right again.
type backlog struct {
	// mu guards everything below. It is a leaf.
	mu      sync.Mutex
	waiting int
	// moved is closed, and made anew, when fewer wait or the disk was found full.
	moved chan struct{}
}

func newBacklog() *backlog { return &backlog{moved: make(chan struct{})} }

func (b *backlog) rotated() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting++
}

// flushed takes n of them off, and wakes who waits.
func (b *backlog) flushed(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = max(b.waiting-n, 0)
	close(b.moved)
	b.moved = make(chan struct{})
}

// look returns how many wait, and what is closed when that changes.
func (b *backlog) look() (int, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting, b.moved
}

// reset begins to count, once the log is open.
func (b *backlog) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = 0
}

// roomInMemory waits until the engine takes a write without holding it. Append gets store.ErrFull when that cannot be for want of space.
func (l *Log) roomInMemory(ctx context.Context) error {
	for {
		waiting, moved := l.events.backlog.look()
		if waiting < maxBacklog {
			return nil
		}
		if l.events.full.Load() {
			return fmt.Errorf("message log: no table can be written: %w", store.ErrFull)
		}
		select {
		case <-moved:
		case <-l.events.failed:
			return l.Err()
		case <-ctx.Done():
			return fmt.Errorf("wait for tables to be written: %w", context.Cause(ctx))
		}
	}
}

// packerMayGoOn waits as roomInMemory does, for as long as it takes, but not longer than the log is open.
func (l *Log) packerMayGoOn() error {
	for {
		waiting, moved := l.events.backlog.look()
		if waiting < maxBacklog {
			return nil
		}
		select {
		case <-moved:
		case <-l.events.failed:
			return l.Err()
		case <-l.closing:
			return errClosed
		}
	}
}
