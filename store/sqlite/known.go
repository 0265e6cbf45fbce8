package sqlite

import (
	"math"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/store"
)

const (
	// followedFor is for how long after Changes was asked somebody is taken to follow the changes.
	followedFor = 5 * time.Second
	// mostKnown is how many changes are kept in memory, some 100 bytes each.
	mostKnown = 1 << 14
)

// known are the changes that end logins, in memory, so that a login need not ask the engine twice whether there were
// any. It is used while somebody follows the changes of others and ends what they concern: what this store has changed
// is here when the change returns, and what others have changed when Changes has returned it.
type known struct {
	// mu guards everything below.
	mu sync.Mutex
	// from is where it begins: every change with a higher number is here, or will be told by Changes.
	from     store.Basis
	followed time.Time
	of       map[store.AccountID][]store.Change
	count    int
}

func newKnown() known {
	return known{from: math.MaxInt64, of: make(map[store.AccountID][]store.Change)}
}

// begin notes that somebody follows the changes after a number.
func (k *known) begin(number int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.from == math.MaxInt64 || k.from < store.Basis(number) {
		k.from = store.Basis(number)
	}
}

// end gives it up: something may be missing.
func (k *known) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.from = math.MaxInt64
}

// follow notes that somebody has asked for changes.
func (k *known) follow(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.followed = now
}

func (k *known) add(changes []store.Change) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.from == math.MaxInt64 {
		return
	}
	for _, c := range changes {
		if c.Kind != store.AccountChanged && c.Kind != store.DeviceRemoved {
			continue
		}
		if k.count == mostKnown {
			clear(k.of)
			k.from, k.count = max(k.from, store.Basis(c.Number)-1), 0
		}
		k.of[c.Account] = append(k.of[c.Account], c)
		k.count++
	}
}

// since is ChangedSince from memory; known is false when that cannot tell.
func (k *known) since(account store.AccountID, device string, basis store.Basis, now time.Time) (changed, known bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if basis < k.from || now.Sub(k.followed) > followedFor {
		return false, false
	}
	for _, c := range k.of[account] {
		if store.Basis(c.Number) > basis && (c.Kind == store.AccountChanged || c.Device == device) {
			return true, true
		}
	}
	return false, true
}
