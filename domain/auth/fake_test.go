package auth_test

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/storetest"
)

// memory is a store.Accounts in memory that counts reads, can fail and can be held up.
type memory struct {
	mu       sync.Mutex // guards what follows
	accounts map[string]store.Account
	next     store.AccountID
	err      error

	reads atomic.Int64
	hold  func() // called by Account after it has read; nil: not

	devices *storetest.MemoryDevices // which end with passwords; nil: none
}

func newMemory() *memory { return &memory{accounts: make(map[string]store.Account)} }

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *memory) Account(ctx context.Context, name string) (store.Account, error) {
	m.reads.Add(1)
	var basis store.Basis
	if m.devices != nil {
		number, _ := m.devices.NewestChange(ctx)
		basis = store.Basis(number)
	}
	m.mu.Lock()
	a, ok := m.accounts[name]
	err := m.err
	m.mu.Unlock()
	if m.hold != nil {
		m.hold()
	}
	switch {
	case ctx.Err() != nil:
		return store.Account{}, ctx.Err()
	case err != nil:
		return store.Account{}, err
	case !ok:
		return store.Account{}, store.ErrNotFound
	}
	a.Basis = basis
	return a, nil
}

func (m *memory) ListAccounts(_ context.Context, after string, limit int) ([]store.Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.SortedFunc(maps.Values(m.accounts),
		func(a, b store.Account) int { return cmp.Compare(a.Name, b.Name) })
	all = slices.DeleteFunc(all, func(a store.Account) bool { return a.Name <= after })
	return all[:min(limit, len(all))], m.err
}

func (m *memory) CreateAccount(_ context.Context, a store.Account) (store.AccountID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return 0, m.err
	}
	if _, ok := m.accounts[a.Name]; ok {
		return 0, store.ErrExists
	}
	m.next++
	a.ID, a.Created = m.next, time.Now()
	m.accounts[a.Name] = a
	return a.ID, nil
}

func (m *memory) CreateAccounts(ctx context.Context, accounts []store.Account) ([]store.AccountID, error) {
	var ids []store.AccountID
	for _, a := range accounts {
		id, _ := m.CreateAccount(ctx, a)
		ids = append(ids, id)
	}
	return ids, m.err
}

func (m *memory) update(name string, change func(*store.Account)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.accounts[name]
	if m.err != nil {
		return m.err
	}
	if !ok {
		return store.ErrNotFound
	}
	change(&a)
	m.accounts[name] = a
	return nil
}

func (m *memory) SetCredentials(_ context.Context, name string, c []store.Credential) error {
	return m.update(name, func(a *store.Account) {
		a.Credentials = c
		m.endDevices(a)
	})
}

func (m *memory) RenewCredentials(_ context.Context, name string, _ store.Basis, old,
	renewed []store.Credential) (err error) {
	same := func(a, b store.Credential) bool { return bytes.Equal(a.StoredKey, b.StoredKey) }
	failed := m.update(name, func(a *store.Account) {
		if !slices.EqualFunc(a.Credentials, old, same) {
			err = store.ErrOvertaken
			return
		}
		a.Credentials = renewed
	})
	return cmp.Or(failed, err)
}

func (m *memory) IterationCounts(context.Context) (all []store.IterationCount, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.accounts {
		for _, c := range a.Credentials {
			i := slices.IndexFunc(all, func(n store.IterationCount) bool {
				return n.Hash == c.Hash && n.Iterations == c.Iterations
			})
			if i < 0 {
				i, all = len(all), append(all, store.IterationCount{Hash: c.Hash, Iterations: c.Iterations})
			}
			all[i].Credentials++
		}
	}
	slices.SortFunc(all, func(a, b store.IterationCount) int {
		return cmp.Or(cmp.Compare(a.Hash, b.Hash), a.Iterations-b.Iterations)
	})
	return all, m.err
}

func (m *memory) endDevices(a *store.Account) {
	if m.devices != nil {
		_, _ = m.devices.RemoveDevices(context.Background(), a.ID, "")
	}
}

func (m *memory) SetDisabled(_ context.Context, name string, disabled bool) error {
	return m.update(name, func(a *store.Account) {
		a.Disabled = disabled
		if disabled {
			m.endDevices(a)
		}
	})
}

func (m *memory) SetAdmin(_ context.Context, name string, admin bool) error {
	return m.update(name, func(a *store.Account) { a.Admin = admin })
}

func (m *memory) DeleteAccount(_ context.Context, name string) error {
	if err := m.update(name, m.endDevices); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.accounts, name)
	return nil
}

var _ store.Accounts = (*memory)(nil)
