package auth

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/cache"
	"github.com/posthouse-im/posthouse/limit"
)

// FailureConfig bounds failed logins and registrations. The zero value works; a negative number means without limit.
type FailureConfig struct {
	// PerUser is how many failures per minute are without a delay, for one address with one name.
	PerUser int `yaml:"per_user" default:"5"`
	// PerAddress is how many failures per minute are without a delay, for one address over all names.
	PerAddress int `yaml:"per_address" default:"30"`
	// KnownPerUser replaces both for an address from which the user has logged in within KnownFor.
	KnownPerUser int `yaml:"known_per_user" default:"30"`
	// KnownFor is how long an address stays known after a login.
	KnownFor time.Duration `yaml:"known_for" default:"720h" min:"1m"`
	// MaxDelay is the maximum of the growing delay.
	MaxDelay time.Duration `yaml:"max_delay" default:"15m" min:"1s"`
	// Entries is how many addresses, and addresses with names, are held, some 100 bytes each.
	Entries int `yaml:"entries" default:"65536" min:"64"`
	// Registrations is how many accounts an address may register an hour.
	Registrations int `yaml:"registrations" default:"20"`
}

func perMinute(n int) limit.Rate { return limit.Per(float64(n), time.Minute, float64(n)) }

// failures counts failed logins for each address with each name, and for each address. When either has used up its free
// ones, further tries are refused unseen for a time that doubles with every failure after that.
//
// Somebody else cannot lock an owner out: nothing is counted for a name alone, and at an address from which the owner
// has logged in lately, what others do with other names does not count, and what they do with this name costs seconds,
// not a quarter of an hour. Known addresses are held in memory only.
//
// When the table is full, an entry that holds nobody up gives way, else the one that would end soonest.
type failures struct {
	seed       maphash.Seed
	clock      func() time.Duration
	perUser    limit.Rate
	perAddress limit.Rate
	knownUser  limit.Rate
	maxDelay   time.Duration
	knownFor   time.Duration
	known      *cache.Cache[failureKey, struct{}]
	limit      int // of entries in a shard
	shards     [16]failureShard
}

type failureShard struct {
	mu      sync.Mutex // guards entries
	entries map[failureKey]failureEntry
}

// failureKey is an address with a name's hash, or with 0 for all names.
type failureKey struct {
	address limit.Address
	name    uint64
}

// failureEntry is the state of a key.
type failureEntry struct {
	free    limit.Bucket  // failures that cost nothing
	until   time.Duration // refused before
	strikes uint8         // failures since the free ones were used up
}

// forgiveAfter is how long after its last failure a key begins anew with the smallest delay.
const forgiveAfter = time.Hour

func newFailures(c FailureConfig, now func() time.Time) *failures {
	f := &failures{
		seed: maphash.MakeSeed(), clock: monotonic(now),
		perUser: perMinute(c.PerUser), perAddress: perMinute(c.PerAddress), knownUser: perMinute(c.KnownPerUser),
		maxDelay: c.MaxDelay, knownFor: c.KnownFor,
		known: cache.New(cache.Config[failureKey, struct{}]{Limit: c.Entries, Now: now}),
	}
	f.limit = max(1, c.Entries/len(f.shards))
	return f
}

// keys returns the key of an address with a name, and of the address.
func (f *failures) keys(ip netip.Addr, name string) (pair, all failureKey) {
	all.address = limit.AddressOf(ip)
	pair = failureKey{address: all.address, name: maphash.String(f.seed, name) | 1}
	return pair, all
}

func (f *failures) shard(k failureKey) *failureShard {
	return &f.shards[maphash.Comparable(f.seed, k)%uint64(len(f.shards))]
}

// allowed reports whether a login may be tried.
func (f *failures) allowed(ip netip.Addr, name string) bool {
	now := f.clock()
	pair, all := f.keys(ip, name)
	if f.blocked(pair, now) {
		return false
	}
	if !f.blocked(all, now) {
		return true
	}
	_, known := f.known.Get(pair)
	return known
}

func (f *failures) blocked(k failureKey, now time.Duration) bool {
	s := f.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[k]
	return ok && now < e.until
}

// failed counts a failure and reports whether it used up what was free.
func (f *failures) failed(ip netip.Addr, name string) (tripped bool) {
	now := f.clock()
	pair, all := f.keys(ip, name)
	if _, known := f.known.Get(pair); known {
		return f.count(pair, f.knownUser, now, f.knownUser.Time(1))
	}
	user := f.count(pair, f.perUser, now, f.maxDelay)
	return f.count(all, f.perAddress, now, f.maxDelay) || user
}

// count adds a failure to a key. longest bounds the delay.
func (f *failures) count(k failureKey, r limit.Rate, now, longest time.Duration) (full bool) {
	if !r.Limited() {
		return false
	}
	s := f.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, known := s.entries[k]
	if !known && len(s.entries) >= f.limit {
		s.evict(now)
	}
	if e.free.Full(now - forgiveAfter) {
		e.strikes = 0
	}
	// Once the free ones are used up, every failure costs a longer delay, until the key is forgiven.
	e.free.Spend(r, now, 1)
	if full = e.strikes > 0 || e.free.Wait(r, now, 1) > 0; full {
		e.until = now + min(r.Time(1)<<e.strikes, longest)
		e.strikes = min(e.strikes+1, 20)
	}
	if s.entries == nil {
		s.entries = make(map[failureKey]failureEntry)
	}
	s.entries[k] = e
	return full
}

func (s *failureShard) evict(now time.Duration) {
	var victim failureKey
	soonest, seen := time.Duration(-1), 0
	for k, e := range s.entries {
		end := max(e.until, e.free.FullAt())
		if soonest < 0 || end < soonest {
			victim, soonest = k, end
		}
		if seen++; seen == 16 || soonest <= now {
			break
		}
	}
	delete(s.entries, victim)
}

// succeeded makes the address known for the name, and forgives the pair. The address's own count stays: an
// attacker with an account of their own must not be able to reset it.
func (f *failures) succeeded(ip netip.Addr, name string) {
	pair, _ := f.keys(ip, name)
	f.known.Set(pair, struct{}{}, f.knownFor)
	s := f.shard(pair)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, pair)
}

// newRegistrationTable counts the accounts that addresses make.
func newRegistrationTable(c FailureConfig, now func() time.Time) *limit.Table[limit.Address] {
	rate := limit.Per(float64(c.Registrations), time.Hour, float64(c.Registrations))
	return limit.NewTable[limit.Address](rate, c.Entries, now)
}
