package cache

import (
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Forever is the time to live of an entry that does not expire.
const Forever time.Duration = math.MaxInt64

// Config makes a Cache. Limit is required.
type Config[K comparable, V any] struct {
	// Limit is how much is held: entries or, with Weight, the sum of their weights. It is divided among shards, so that
	// less may be held when keys are spread unevenly.
	Limit int
	// Weight says how much a value counts for; always the same for the same value. nil: each counts for one.
	Weight func(V) int
	// Group returns what a key has in common with those that are invalidated together with it, such as an account; nil:
	// InvalidateGroup is not used.
	Group func(K) uint64
	// Now is the clock; nil means the time of the machine.
	Now func() time.Time
}

// Cache is a bounded map whose entries can expire. Any goroutine may call it. An entry takes 25 to 40 bytes beside its
// key and value. A key that is kept must not be a piece of something larger, which it would keep in memory.
//
// When there is no room, a few entries that the map happens to offer are looked at: the first that has expired, or that
// was not used since it was last looked at, gives way, else the last of them. An entry that is heavier than a whole
// shard may be is held alone there.
type Cache[K comparable, V any] struct {
	config Config[K, V]
	start  time.Time
	seed   maphash.Seed
	limit  int // of a shard
	shards []shard[K, V]
}

type shard[K comparable, V any] struct {
	mu         sync.RWMutex // guards the rest
	entries    map[K]*entry[V]
	loads      map[K]*load[V] // on their way; what is invalidated is taken out
	weight     int            // of all entries
	peak       int            // most entries since the map was made: maps do not shrink
	generation uint64         // of tokens: rises with everything that makes what was read before stale
}

type entry[V any] struct {
	value V
	// state is the moment at which it expires, since the cache was made, and in the lowest bit whether it was used
	// since it was last looked at for eviction.
	state atomic.Uint64
}

const (
	used       = 1
	maxShards  = 64 // spread the locks; a hit holds one, shared, for an access of a map
	shardLimit = 64 // the least for a shard before there are fewer of them
	lookedAt   = 8  // entries, to evict one
	fewEntries = 16 // a map that never had more is not made anew
)

// New returns an empty cache.
func New[K comparable, V any](c Config[K, V]) *Cache[K, V] {
	n := maxShards
	if c.Weight != nil {
		n /= 4 // weights differ, so that fewer are filled more evenly
	}
	for n > 1 && c.Limit/n < shardLimit {
		n /= 2
	}
	cache := &Cache[K, V]{
		config: c,
		start:  time.Now(),
		seed:   maphash.MakeSeed(),
		limit:  max(1, c.Limit/n),
		shards: make([]shard[K, V], n),
	}
	if c.Now != nil {
		cache.start = c.Now()
	}
	return cache
}

// Get returns the value of a key, and whether there is one.
func (c *Cache[K, V]) Get(key K) (value V, ok bool) {
	s := c.shard(key)
	s.mu.RLock()
	e := s.entries[key]
	s.mu.RUnlock()
	if e == nil || !c.use(e) {
		return value, false
	}
	return e.value, true
}

// use reports whether an entry has not expired, and notes that it is used.
func (c *Cache[K, V]) use(e *entry[V]) bool {
	state := e.state.Load()
	if expired(state, c.moment(state)) {
		return false
	}
	if state&used == 0 {
		e.state.Or(used)
	}
	return true
}

// Token is taken before a value is read from where it comes from, and handed to Put. It holds nothing.
type Token struct{ generation uint64 }

// Begin returns a token for reading the value of a key.
func (c *Cache[K, V]) Begin(key K) Token {
	s := c.shard(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return Token{s.generation}
}

// Put keeps a value for a time, unless the key was invalidated or set since the token was taken. Now and then it is not
// kept because another key was. A ttl of zero or less keeps nothing.
func (c *Cache[K, V]) Put(token Token, key K, value V, ttl time.Duration) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation == token.generation {
		c.put(s, key, value, ttl)
	}
}

// Set keeps a value that is newer than anything that is being read, in any case. Whoever changes what is cached and
// calls Set afterwards must do both under a lock of its own, or call Invalidate instead.
func (c *Cache[K, V]) Set(key K, value V, ttl time.Duration) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	delete(s.loads, key)
	c.put(s, key, value, ttl)
}

// put must be called with the shard's mu held.
func (c *Cache[K, V]) put(s *shard[K, V], key K, value V, ttl time.Duration) {
	now := c.moment(0)
	wasUsed := uint64(0)
	if old := s.entries[key]; old != nil {
		wasUsed = old.state.Load() & used
		c.remove(s, key, old)
	}
	if ttl <= 0 {
		return
	}
	weight := c.weight(value)
	for len(s.entries) > 0 && s.weight+weight > c.limit {
		c.evict(s, now)
	}
	if s.entries == nil {
		s.entries = make(map[K]*entry[V])
	}
	expires := uint64(Forever)
	if ttl < Forever-now {
		expires = uint64(now + ttl)
	}
	e := &entry[V]{value: value}
	e.state.Store(expires<<1 | wasUsed)
	s.entries[key] = e
	s.weight += weight
	s.peak = max(s.peak, len(s.entries))
}

// evict removes one entry. mu is held, and there is one.
func (c *Cache[K, V]) evict(s *shard[K, V], now time.Duration) {
	var victim K
	seen := 0
	for key, e := range s.entries { // the runtime begins anywhere
		victim = key
		state := e.state.Load()
		if seen++; seen == lookedAt || state&used == 0 || expired(state, now) {
			break
		}
		e.state.And(^uint64(used))
	}
	c.remove(s, victim, s.entries[victim])
}

// remove must be called with mu held.
func (c *Cache[K, V]) remove(s *shard[K, V], key K, e *entry[V]) {
	s.weight -= c.weight(e.value)
	delete(s.entries, key)
}

// Invalidate forgets a key, after what it stands for has changed or might have. What is being read at that moment is
// not remembered either.
func (c *Cache[K, V]) Invalidate(key K) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	delete(s.loads, key)
	if e := s.entries[key]; e != nil {
		c.remove(s, key, e)
	}
}

// InvalidateGroup forgets, as Invalidate does, the keys of a group that match; nil matches all. It looks at all that is
// held in one shard.
func (c *Cache[K, V]) InvalidateGroup(group uint64, match func(K) bool) {
	s := &c.shards[c.hash(group)]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	meant := func(key K) bool { return c.config.Group(key) == group && (match == nil || match(key)) }
	for key := range s.loads {
		if meant(key) {
			delete(s.loads, key)
		}
	}
	for key, e := range s.entries {
		if meant(key) {
			c.remove(s, key, e)
		}
	}
}

// Clear forgets everything, as Invalidate does.
func (c *Cache[K, V]) Clear() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.generation++
		s.entries, s.loads, s.weight, s.peak = nil, nil, 0, 0
		s.mu.Unlock()
	}
}

// Sweep gives back the memory of what has expired. It looks at everything, one shard at a time.
func (c *Cache[K, V]) Sweep() {
	for i := range c.shards {
		c.sweep(&c.shards[i])
	}
}

func (c *Cache[K, V]) sweep(s *shard[K, V]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := c.moment(0)
	for key, e := range s.entries {
		if expired(e.state.Load(), now) {
			c.remove(s, key, e)
		}
	}
	if s.peak <= fewEntries || len(s.entries) > s.peak/4 {
		return
	}
	few := make(map[K]*entry[V], len(s.entries))
	for key, e := range s.entries {
		few[key] = e
	}
	s.entries, s.peak = few, len(few)
}

// Size returns how much is held, of what Config.Limit bounds.
func (c *Cache[K, V]) Size() (n int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		n += s.weight
		s.mu.RUnlock()
	}
	return n
}

func (c *Cache[K, V]) weight(value V) int {
	if c.config.Weight == nil {
		return 1
	}
	return c.config.Weight(value)
}

func (c *Cache[K, V]) shard(key K) *shard[K, V] {
	if c.config.Group != nil {
		return &c.shards[c.hash(c.config.Group(key))]
	}
	return &c.shards[maphash.Comparable(c.seed, key)%uint64(len(c.shards))]
}

func (c *Cache[K, V]) hash(group uint64) uint64 {
	return maphash.Comparable(c.seed, group) % uint64(len(c.shards))
}

func expired(state uint64, now time.Duration) bool { return state>>1 <= uint64(now) }

// moment returns the time since the cache was made; 0 when it is wanted for a state that never expires.
func (c *Cache[K, V]) moment(state uint64) time.Duration {
	switch {
	case state>>1 == uint64(Forever):
		return 0
	case c.config.Now == nil:
		return time.Since(c.start)
	}
	return max(0, c.config.Now().Sub(c.start))
}
