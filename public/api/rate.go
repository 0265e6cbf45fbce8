package api

import (
	"hash/maphash"
	"math"
	"net/netip"
	"sync"
	"time"
)

// limiter is the generic cell rate algorithm for many keys: so many at once, one more every period. Each key costs one point in time. There
// are at most maxKeys of them: when it is full of keys in use, those that are forgotten begin anew, which favours nobody in particular.
type limiter struct {
	period time.Duration // between two requests; 0: no limit
	burst  int
	seed   maphash.Seed
	shards [32]struct {
		mu   sync.Mutex // guards next
		next map[string]time.Time
	}
}

// maxKeys bounds the keys of one shard, some 100 bytes each.
const maxKeys = 2048

// newLimiter allows rate requests a second and burst at once. A rate that is not positive means no limit.
func newLimiter(rate float64, burst int) *limiter {
	l := &limiter{burst: max(burst, 1), seed: maphash.MakeSeed()}
	if rate > 0 {
		l.period = time.Duration(float64(time.Second) / rate)
	}
	return l
}

// take counts a request and returns 0, or how many seconds to wait, in which case it was not counted.
func (l *limiter) take(key string, now time.Time) (wait int) {
	if l.period == 0 {
		return 0
	}
	s := &l.shards[maphash.String(l.seed, key)%uint64(len(l.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.next[key]
	if next.Before(now) {
		next = now
	}
	if over := next.Sub(now) - l.period*time.Duration(l.burst-1); over > 0 {
		return max(1, int(math.Ceil(over.Seconds())))
	}
	if s.next == nil {
		s.next = map[string]time.Time{}
	}
	if _, known := s.next[key]; !known && len(s.next) >= maxKeys {
		looked := 0
		for other, t := range s.next { // in no order: a few are looked at, so that a full table costs no more than one that is not
			if t.Before(now) || len(s.next) >= maxKeys {
				delete(s.next, other)
			}
			if looked++; looked == 16 {
				break
			}
		}
	}
	s.next[key] = next.Add(l.period)
	return 0
}

// addressKey counts IPv6 by its /64, which is what one customer gets.
func addressKey(a netip.Addr) string {
	if a = a.Unmap(); a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			a = p.Addr()
		}
	}
	return a.String()
}

func limited(wait int) *Problem {
	if wait == 0 {
		return nil
	}
	p := problem(CodeRateLimited, "")
	p.Retry = wait
	return p
}

func (a *API) limitAddress(client netip.AddrPort) *Problem {
	return limited(a.byAddress.take(addressKey(client.Addr()), a.now()))
}
