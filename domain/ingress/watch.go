package ingress

import (
	"sync"
	"sync/atomic"
)

// watched knows who waits for which account to change.
type watched struct {
	count  atomic.Int64 // of all watchers, so that Changed costs nothing when there are none
	shards [64]struct {
		mu sync.Mutex // guards by
		by map[uint64]map[chan struct{}]struct{}
	}
}

// Watch implements uplink.Domain. The channel is not closed.
func (x *Ingress) Watch(account uint64) (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	s := &x.watched.shards[account%uint64(len(x.watched.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = map[uint64]map[chan struct{}]struct{}{}
	}
	if s.by[account] == nil {
		s.by[account] = map[chan struct{}]struct{}{}
	}
	s.by[account][c] = struct{}{}
	x.watched.count.Add(1)
	return c, sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.by[account], c)
		if len(s.by[account]) == 0 {
			delete(s.by, account)
		}
		x.watched.count.Add(-1)
	})
}

// Changed tells those who watch the account that what they can read of it has changed. It never blocks.
func (x *Ingress) Changed(account uint64) {
	if x.watched.count.Load() == 0 {
		return
	}
	s := &x.watched.shards[account%uint64(len(x.watched.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.by[account] {
		select {
		case c <- struct{}{}:
		default: // it has a notice already
		}
	}
}
