package limit

import (
	"hash/maphash"
	"math"
	"sync"
	"time"
)

// Table has a bucket for each key, all of one rate. Any goroutine may call it.
//
// It is bounded. A bucket that is full again is the same as none: whenever a key is added, two others are looked at and
// forgotten if they are full, so that the table shrinks when fewer keys are in use. When it holds as many keys as it
// may, sixteen are looked at, and if none of them is full, the one of them that is nearest to it is forgotten. That key
// has a full bucket when it is used again: a table that is too small allows more, never less.
type Table[K comparable] struct {
	rate   Rate
	now    func() time.Time // nil: the time of the machine
	start  time.Time
	seed   maphash.Seed
	bound  int // keys in a shard
	shards [tableShards]tableShard[K]
}

// tableShards spreads the locks, which are held for two accesses of a map.
const tableShards = 16

type tableShard[K comparable] struct {
	mu      sync.Mutex // guards buckets
	buckets map[K]Bucket
	_       [48]byte // a cache line each
}

const (
	lookedAt         = 2  // keys, when another one is added
	lookedAtWhenFull = 16 // keys, when there are as many as there may be
)

// DefaultBound is how many keys a table holds when nobody has a reason to choose: some 3 MB.
const DefaultBound = 1 << 16

// NewTable returns a table of at most about bound keys, 20 to 40 bytes each beside the key; 0 means DefaultBound. now
// may be nil.
func NewTable[K comparable](rate Rate, bound int, now func() time.Time) *Table[K] {
	if bound <= 0 {
		bound = DefaultBound
	}
	t := &Table[K]{rate: rate, now: now, seed: maphash.MakeSeed(), bound: (bound + tableShards - 1) / tableShards}
	t.start = time.Now()
	if now != nil {
		t.start = now()
	}
	return t
}

// Take takes tokens from a key's bucket when so many are there, and then returns 0. Otherwise it takes none, and
// returns how long it will take until they are there.
func (t *Table[K]) Take(key K, tokens float64) (wait time.Duration) {
	if !t.rate.Limited() {
		return 0
	}
	s, b, known, now := t.lock(key)
	defer s.mu.Unlock()
	if wait = b.Take(t.rate, now, tokens); wait == 0 {
		s.put(key, b, known, now, t.bound)
	}
	return wait
}

// Spend takes tokens from a key's bucket whether they are there or not, and returns the time in which those that were
// missing come back.
func (t *Table[K]) Spend(key K, tokens float64) (debt time.Duration) {
	if !t.rate.Limited() {
		return 0
	}
	s, b, known, now := t.lock(key)
	defer s.mu.Unlock()
	debt = b.Spend(t.rate, now, tokens)
	s.put(key, b, known, now, t.bound)
	return debt
}

// lock returns the bucket of a key, and its shard with mu held.
func (t *Table[K]) lock(key K) (s *tableShard[K], b Bucket, known bool, now time.Duration) {
	now, s = t.moment(), t.shard(key)
	s.mu.Lock()
	b, known = s.buckets[key]
	return s, b, known, now
}

// Len returns how many keys it holds.
func (t *Table[K]) Len() (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.buckets)
		s.mu.Unlock()
	}
	return n
}

func (t *Table[K]) shard(key K) *tableShard[K] {
	return &t.shards[maphash.Comparable(t.seed, key)%tableShards]
}

// moment returns the time since the table was made. A clock that is set back to before that counts as if it were then.
func (t *Table[K]) moment() time.Duration {
	if t.now == nil {
		return time.Since(t.start)
	}
	return max(0, t.now().Sub(t.start))
}

// put must be called with mu held.
func (s *tableShard[K]) put(key K, b Bucket, known bool, now time.Duration, bound int) {
	if !known {
		if s.buckets == nil {
			s.buckets = make(map[K]Bucket)
		}
		s.forget(now, bound)
	}
	s.buckets[key] = b
}

// forget makes room for one more key. mu is held.
func (s *tableShard[K]) forget(now time.Duration, bound int) {
	var victim K
	least, look := time.Duration(math.MaxInt64), lookedAt
	if len(s.buckets) >= bound {
		look = lookedAtWhenFull
	}
	for key, b := range s.buckets { // the runtime begins anywhere
		if b.Full(now) {
			delete(s.buckets, key)
		} else if b.full < least {
			victim, least = key, b.full
		}
		if look--; look == 0 {
			break
		}
	}
	if len(s.buckets) >= bound {
		delete(s.buckets, victim)
	}
}
