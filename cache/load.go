package cache

import (
	"context"
	"time"
)

// load is a value that is being read, for all who ask for it.
type load[V any] struct {
	done chan struct{} // closed when the rest is there
	// Written before done is closed.
	value V
	err   error
	// ended: it was not read to its end, because the context of who read it was, or because of a panic.
	ended bool
}

// Load returns the value of a key, and reads it when there is none: read returns it with its time to live, 0 for a
// value that is not to be kept. Many who ask at once wait for one to read, and get its value or its error, each for as
// long as their own ctx; when the ctx of the one who reads ends, another one reads. Who asks after an Invalidate never
// gets what was read before it. An error is not kept. read must not load the same key.
func (c *Cache[K, V]) Load(
	ctx context.Context, key K, read func(context.Context) (value V, ttl time.Duration, err error),
) (value V, err error) {
	if value, ok := c.Get(key); ok {
		return value, nil
	}
	s := c.shard(key)
	for {
		s.mu.Lock()
		if e := s.entries[key]; e != nil && c.use(e) {
			s.mu.Unlock()
			return e.value, nil
		}
		l := s.loads[key]
		if l == nil {
			if s.loads == nil {
				s.loads = make(map[K]*load[V])
			}
			l = &load[V]{done: make(chan struct{})}
			s.loads[key] = l
			s.mu.Unlock()
			return c.lead(ctx, s, key, l, read)
		}
		s.mu.Unlock()
		select {
		case <-l.done:
		case <-ctx.Done():
			return value, ctx.Err()
		}
		if !l.ended {
			return l.value, l.err
		}
	}
}

// lead reads a value for all who wait for it.
func (c *Cache[K, V]) lead(
	ctx context.Context, s *shard[K, V], key K, l *load[V], read func(context.Context) (V, time.Duration, error),
) (V, error) {
	var ttl time.Duration
	l.ended = true // unless read returns
	defer func() {
		s.mu.Lock()
		if s.loads[key] == l { // not invalidated meanwhile
			delete(s.loads, key)
			if !l.ended && l.err == nil {
				c.put(s, key, l.value, ttl)
			}
		}
		s.mu.Unlock()
		close(l.done)
	}()
	l.value, ttl, l.err = read(ctx)
	l.ended = l.err != nil && ctx.Err() != nil
	return l.value, l.err
}
