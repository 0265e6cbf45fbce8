package local

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/store"
)

const (
	// directoryAge is how long an account is remembered at most; a deleted one is still taken for existing that long.
	directoryAge = 30 * time.Second
	// directoryBound is how many accounts are remembered at most, in two halves.
	directoryBound = 200_000
)

// Directory answers from memory which accounts exist. Accounts that do not exist are not remembered, so that a new one
// is there at once and strangers' guesses take no memory. It may be used from any goroutine.
type Directory struct {
	accounts store.AccountReader
	now      func() time.Time

	mu            sync.RWMutex // guards the rest
	recent, older map[string]store.AccountID
	turned        time.Time // when recent became older
}

// NewDirectory returns a directory of the accounts of a store. now nil means time.Now.
func NewDirectory(accounts store.AccountReader, now func() time.Time) *Directory {
	if now == nil {
		now = time.Now
	}
	return &Directory{accounts: accounts, now: now, recent: map[string]store.AccountID{}, turned: now()}
}

// Lookup returns the identity of the account with that prepared localpart, ok false when there is none.
func (d *Directory) Lookup(ctx context.Context, name string) (account store.AccountID, ok bool, err error) {
	now := d.now()
	d.mu.RLock()
	if now.Sub(d.turned) < directoryAge/2 {
		if account, ok = d.recent[name]; !ok {
			account, ok = d.older[name]
		}
	}
	d.mu.RUnlock()
	if ok {
		return account, true, nil
	}
	a, err := d.accounts.Account(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if age := now.Sub(d.turned); age >= directoryAge {
		d.recent, d.older, d.turned = map[string]store.AccountID{}, nil, now
	} else if age >= directoryAge/2 || len(d.recent) >= directoryBound/2 {
		d.recent, d.older, d.turned = map[string]store.AccountID{}, d.recent, now
	}
	d.recent[name] = a.ID
	return a.ID, true, nil
}

// Forget makes the directory ask the store again, after an account was deleted.
func (d *Directory) Forget(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.recent, name)
	delete(d.older, name)
}
