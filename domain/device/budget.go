package device

import (
	"sync"
	"time"
)

// budget is a token bucket for each account. One that is full again is forgotten.
type budget struct {
	rate, burst float64 // fixed

	// mu guards the rest.
	mu      sync.Mutex
	spent   map[uint64]spent
	sweepAt int // number of entries at which the full ones are looked for
}

type spent struct {
	much float64
	at   time.Time
}

const budgetSweep = 1024

func newBudget(rate, burst float64) *budget {
	return &budget{rate: rate, burst: burst, spent: make(map[uint64]spent), sweepAt: budgetSweep}
}

// allow takes one token, when there is one.
func (b *budget) allow(account uint64, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	much := b.left(account, now) + 1
	if much > b.burst {
		return false
	}
	b.spent[account] = spent{much, now}
	if len(b.spent) >= b.sweepAt {
		for a := range b.spent {
			if b.left(a, now) == 0 {
				delete(b.spent, a)
			}
		}
		b.sweepAt = max(budgetSweep, 2*len(b.spent))
	}
	return true
}

// left returns what is still spent. mu is held.
func (b *budget) left(account uint64, now time.Time) float64 {
	s, ok := b.spent[account]
	if !ok {
		return 0
	}
	return max(0, s.much-max(0, now.Sub(s.at).Seconds())*b.rate)
}
