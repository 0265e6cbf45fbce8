package archive

import (
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/store"
)

// budget holds a token bucket for each account that queries its history, so that nobody can make the store scan
// without end. A full bucket is the same as none, and is forgotten.
type budget struct {
	rate, burst float64 // fixed

	mu      sync.Mutex // guards the rest
	buckets map[store.AccountID]bucket
	sweepAt int // number of buckets at which the full ones are looked for
}

type bucket struct {
	tokens float64
	at     time.Time
}

const budgetSweep = 1024

func newBudget(rate, burst float64) *budget {
	return &budget{rate: rate, burst: burst, buckets: make(map[store.AccountID]bucket), sweepAt: budgetSweep}
}

// Allow reports whether the account may ask one more thing that reads many messages, and takes one token of its budget when it may.
func (a *Archive) Allow(account uint64) bool {
	return a.budget.allow(store.AccountID(account), a.now())
}

// Spend takes what reading so many messages costs from the account's budget.
func (a *Archive) Spend(account uint64, messages int) {
	a.budget.spend(store.AccountID(account), float64(messages)/messagesPerToken, a.now())
}

// allow reports whether the account may ask one more thing, and takes one token when it may. What it costs beyond that
// is told to spend afterwards, when it is known.
func (b *budget) allow(account store.AccountID, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	have := b.tokens(account, now)
	if have < 1 {
		return false
	}
	b.take(account, have-1, now)
	return true
}

// spend takes tokens. A bucket may become negative: the last query allowed is answered in full, and the next waits longer.
func (b *budget) spend(account store.AccountID, cost float64, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.take(account, b.tokens(account, now)-cost, now)
}

// take must be called with mu held.
func (b *budget) take(account store.AccountID, left float64, now time.Time) {
	b.buckets[account] = bucket{left, now}
	if len(b.buckets) < b.sweepAt {
		return
	}
	for a := range b.buckets {
		if b.tokens(a, now) >= b.burst {
			delete(b.buckets, a)
		}
	}
	b.sweepAt = max(budgetSweep, 2*len(b.buckets))
}

// tokens must be called with mu held.
func (b *budget) tokens(account store.AccountID, now time.Time) float64 {
	was, ok := b.buckets[account]
	if !ok {
		return b.burst
	}
	return min(b.burst, was.tokens+max(0, now.Sub(was.at).Seconds())*b.rate)
}
