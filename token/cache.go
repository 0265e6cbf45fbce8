package token

import (
	"sync"
	"time"
)

// cache is a bounded map whose entries expire. When it is full, one that has expired gives way, or else any: what is lost is looked up again.
type cache[K comparable, V any] struct {
	limit int
	// mu guards what follows.
	mu      sync.RWMutex
	entries map[K]cached[V]
	// generation grows with every call of forget, so that an answer which was on its way then is not kept.
	generation uint64
}

type cached[V any] struct {
	value V
	until time.Time
}

func newCache[K comparable, V any](limit int) *cache[K, V] {
	return &cache[K, V]{limit: limit, entries: make(map[K]cached[V])}
}

// get returns what is remembered, or the generation to hand to put.
func (c *cache[K, V]) get(key K, now time.Time) (value V, ok bool, generation uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e, ok := c.entries[key]
	if !ok || !now.Before(e.until) {
		return value, false, c.generation
	}
	return e.value, true, c.generation
}

// put remembers a value, unless something was forgotten since generation.
func (c *cache[K, V]) put(key K, value V, now, until time.Time, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generation != generation {
		return
	}
	if _, known := c.entries[key]; !known && len(c.entries) >= c.limit {
		c.evict(now)
	}
	c.entries[key] = cached[V]{value, until}
}

// evict removes one entry: the first expired one of a few that the map happens to offer, else the last of them.
func (c *cache[K, V]) evict(now time.Time) {
	var victim K
	seen := 0
	for key, e := range c.entries {
		victim = key
		if seen++; seen == 8 || !now.Before(e.until) {
			break
		}
	}
	delete(c.entries, victim)
}

// forget removes all entries whose keys match.
func (c *cache[K, V]) forget(matches func(K) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	for key := range c.entries {
		if matches(key) {
			delete(c.entries, key)
		}
	}
}

func (c *cache[K, V]) len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.entries)
}
