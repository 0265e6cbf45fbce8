package pebble

import (
	"context"
	"fmt"
	"sync"

	"github.com/posthouse-im/posthouse/store"
)

// maxBacklog is how many full memtables may wait to be written as tables. The engine holds a write for as long as there
// are too many, whatever the reason, and gives no way to take the write back: then a full disk would not be answered by
// Append, but time out. So the wait is here, before anything is given to the engine, whose own limit is higher.
const (
	maxBacklog    = 3
	engineBacklog = 8
)

// firstTable is the size of the engine's first memtable; each one after it has twice the size of the one before, up to
// the configured one. The engine lets small ones lie until there is half a full one, so they are counted by size: three
// of the first ones are no backlog.
const firstTable = 256 << 10

// backlog counts them by what the engine tells. A batch of the size of a memtable is one that is not counted, so that
// there may be more than it says, never fewer; when none waits it is right again.
type backlog struct {
	// mu guards everything below. No other lock is taken under it.
	mu sync.Mutex
	// table is the configured size of a memtable, next that of the one that is being filled, and waiting are the sizes
	// of those that wait.
	table, next uint64
	waiting     []uint64
	// moved is closed, and made anew, when fewer wait or the disk was found full.
	moved chan struct{}
}

func newBacklog() *backlog { return &backlog{moved: make(chan struct{})} }

// configure is told the size of a memtable before the engine starts.
func (b *backlog) configure(table uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.table, b.next = table, min(firstTable, table)
}

func (b *backlog) rotated() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, b.next)
	b.next = min(2*b.next, b.table)
}

// flushed takes n of them off, and wakes who waits.
func (b *backlog) flushed(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = b.waiting[min(n, len(b.waiting)):]
	close(b.moved)
	b.moved = make(chan struct{})
}

// look reports whether too much waits, and returns what is closed when that changes.
func (b *backlog) look() (bool, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sum := uint64(0)
	for _, size := range b.waiting {
		sum += size
	}
	return sum >= maxBacklog*b.table, b.moved
}

// reset begins to count, once the log is open.
func (b *backlog) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = nil
}

// roomInMemory waits until the engine takes a write without holding it. Append gets store.ErrFull when that cannot be
// for want of space.
func (l *Log) roomInMemory(ctx context.Context) error {
	for {
		crowded, moved := l.events.backlog.look()
		if !crowded {
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
		crowded, moved := l.events.backlog.look()
		if !crowded {
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
