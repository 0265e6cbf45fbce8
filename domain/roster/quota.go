package roster

import (
	"sync"
	"time"
)

// quota counts what each account did today (UTC). Its memory is bounded by the accounts that did anything.
type quota struct {
	perDay int

	mu   sync.Mutex // guards the rest
	day  int64      // days since 1970
	used map[uint64]int
}

// take counts one and reports whether it was within the quota.
func (q *quota) take(account uint64, now time.Time) bool {
	day := now.Unix() / int64(24*time.Hour/time.Second)
	q.mu.Lock()
	defer q.mu.Unlock()
	if day != q.day || q.used == nil {
		q.day, q.used = day, map[uint64]int{}
	}
	if q.used[account] >= q.perDay {
		return false
	}
	q.used[account]++
	return true
}
