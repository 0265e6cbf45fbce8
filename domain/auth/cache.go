package auth

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// cacheShards spreads the locks. Sixteen per core of a large machine is plenty: a hit holds a read lock for a map access.
const cacheShards = 64

// cache is a bounded map whose entries expire. When a shard is full, an entry that was not used lately gives way
// (an approximation of least recently used that costs a hit one atomic load). It has no goroutine; any may call it.
type cache[K comparable, V any] struct {
	seed     maphash.Seed
	perShard int
	shards   [cacheShards]cacheShard[K, V]
}

type cacheShard[K comparable, V any] struct {
	mu         sync.RWMutex // guards entries and generation
	entries    map[K]*cacheEntry[V]
	generation uint64 // grows with every removal, see token
	_          [24]byte
}

type cacheEntry[V any] struct {
	value   V
	expires time.Duration // on the owner's clock; 0 is never
	used    atomic.Bool
}

// newCache returns a cache of about size entries.
func newCache[K comparable, V any](size int) *cache[K, V] {
	return &cache[K, V]{seed: maphash.MakeSeed(), perShard: max(1, (size+cacheShards-1)/cacheShards)}
}

func (c *cache[K, V]) shard(key K) *cacheShard[K, V] {
	return &c.shards[maphash.Comparable(c.seed, key)%cacheShards]
}

func (c *cache[K, V]) get(key K, now time.Duration) (value V, ok bool) {
	s := c.shard(key)
	s.mu.RLock()
	e := s.entries[key]
	s.mu.RUnlock()
	if e == nil || e.expires != 0 && now >= e.expires {
		return value, false
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	return e.value, true
}

// token is taken before a value is read from its source and handed to put, which then refuses a value that a removal
// has overtaken.
func (c *cache[K, V]) token(key K) uint64 {
	s := c.shard(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.generation
}

// put stores a value unless there was a removal in the shard since the token was taken.
func (c *cache[K, V]) put(key K, value V, now, expires time.Duration, token uint64) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation == token {
		s.set(key, value, now, expires, c.perShard)
	}
}

// set stores a value in any case.
func (c *cache[K, V]) set(key K, value V, now, expires time.Duration) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(key, value, now, expires, c.perShard)
}

func (s *cacheShard[K, V]) set(key K, value V, now, expires time.Duration, limit int) {
	if s.entries == nil {
		s.entries = make(map[K]*cacheEntry[V])
	}
	if _, known := s.entries[key]; !known && len(s.entries) >= limit {
		s.evict(now)
	}
	s.entries[key] = &cacheEntry[V]{value: value, expires: expires}
}

// evict removes one entry: of a few that the map happens to offer, the first that has expired or was not used since it was last
// passed over, else the last of them.
func (s *cacheShard[K, V]) evict(now time.Duration) {
	var victim K
	seen := 0
	for key, e := range s.entries {
		victim = key
		if seen++; seen == 8 || e.expires != 0 && now >= e.expires || !e.used.Swap(false) {
			break
		}
	}
	delete(s.entries, victim)
}

func (c *cache[K, V]) remove(key K) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	delete(s.entries, key)
}

func (c *cache[K, V]) clear() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.generation++
		s.entries = nil
		s.mu.Unlock()
	}
}

func (c *cache[K, V]) len() (n int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		n += len(s.entries)
		s.mu.RUnlock()
	}
	return n
}
