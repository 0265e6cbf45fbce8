package storetest

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/posthouse-im/posthouse/store"
)

// MemoryDevices is a store.Devices that is as simple as can be, for tests of other packages, and the store.Changes of
// what is removed there. It knows no accounts: whoever changes one calls RemoveDevices with no exception, which counts
// as a change of the account. The zero value is empty.
type MemoryDevices struct {
	// mu guards everything below.
	mu      sync.Mutex
	all     []store.Device
	changes []store.Change
	writes  int
	reads   int
}

var (
	_ store.Devices = (*MemoryDevices)(nil)
	_ store.Changes = (*MemoryDevices)(nil)
)

// NewestChange implements store.Changes.
func (m *MemoryDevices) NewestChange(context.Context) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return int64(len(m.changes)), nil
}

// Changes implements store.Changes: there is no other process.
func (m *MemoryDevices) Changes(context.Context, int64, int) ([]store.Change, error) { return nil, nil }

// ChangedSince implements store.Changes.
func (m *MemoryDevices) ChangedSince(
	_ context.Context, account store.AccountID, device string, basis store.Basis,
) (bool, store.Basis, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed(account, device, basis), store.Basis(len(m.changes)), nil
}

func (m *MemoryDevices) changed(account store.AccountID, device string, basis store.Basis) bool {
	return slices.ContainsFunc(m.changes, func(c store.Change) bool {
		return c.Account == account && c.Number > int64(basis) &&
			(c.Kind == store.AccountChanged || c.Device == device)
	})
}

func (m *MemoryDevices) note(kind store.ChangeKind, account store.AccountID, device string) {
	m.changes = append(m.changes,
		store.Change{Number: int64(len(m.changes) + 1), Kind: kind, Account: account, Device: device})
}

// Writes returns how many times something was written, and Reads how many times something was read.
func (m *MemoryDevices) Writes() int { return m.count(&m.writes) }

// Reads returns how many times something was read.
func (m *MemoryDevices) Reads() int { return m.count(&m.reads) }

func (m *MemoryDevices) count(n *int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return *n
}

func (m *MemoryDevices) index(owner store.AccountID, id string) int {
	return slices.IndexFunc(m.all, func(d store.Device) bool { return d.Account == owner && d.ID == id })
}

// Device implements store.Devices.
func (m *MemoryDevices) Device(_ context.Context, owner store.AccountID, id string) (store.Device, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	if i := m.index(owner, id); i >= 0 {
		d := m.all[i]
		d.Basis = store.Basis(len(m.changes))
		return d, nil
	}
	return store.Device{}, store.ErrNotFound
}

// ListDevices implements store.Devices.
func (m *MemoryDevices) ListDevices(_ context.Context, owner store.AccountID) (list []store.Device, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.list(owner), nil
}

func (m *MemoryDevices) list(owner store.AccountID) (list []store.Device) {
	for _, d := range m.all {
		if d.Account == owner {
			list = append(list, d)
		}
	}
	slices.SortStableFunc(
		list, func(a, b store.Device) int { return cmp.Or(b.Seen.Compare(a.Seen), cmp.Compare(a.ID, b.ID)) },
	)
	return list
}

// PutDevice implements store.Devices.
func (m *MemoryDevices) PutDevice(_ context.Context, d store.Device, basis store.Basis, max int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed(d.Account, d.ID, basis) {
		return store.ErrOvertaken
	}
	m.writes++
	if i := m.index(d.Account, d.ID); i >= 0 {
		m.all[i] = d
		return nil
	}
	list := m.list(d.Account)
	for len(list) >= max {
		i := m.index(d.Account, list[len(list)-1].ID)
		m.all = slices.Delete(m.all, i, i+1)
		m.note(store.DeviceRemoved, d.Account, list[len(list)-1].ID)
		list = list[:len(list)-1]
	}
	m.all = append(m.all, d)
	return nil
}

// ChangeDevice implements store.Devices.
func (m *MemoryDevices) ChangeDevice(
	_ context.Context, owner store.AccountID, id string, basis store.Basis, change func(*store.Device) error,
) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed(owner, id, basis) {
		return store.ErrOvertaken
	}
	i := m.index(owner, id)
	if i < 0 {
		return store.ErrNotFound
	}
	d := m.all[i]
	if err := change(&d); err != nil {
		return err
	}
	m.writes++
	m.all[i] = d
	return nil
}

// NoteLogins implements store.Devices.
func (m *MemoryDevices) NoteLogins(_ context.Context, logins []store.DeviceLogin) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	for _, l := range logins {
		i := m.index(l.Account, l.Device)
		if i < 0 {
			continue
		}
		d := &m.all[i]
		if l.Seen.After(d.Seen) {
			d.Seen = l.Seen
		}
		if l.Generation == d.Used {
			d.Counter = max(d.Counter, l.Counter)
		}
	}
	return nil
}

// RemoveDevice implements store.Devices.
func (m *MemoryDevices) RemoveDevice(_ context.Context, owner store.AccountID, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	i := m.index(owner, id)
	if i < 0 {
		return store.ErrNotFound
	}
	m.all = slices.Delete(m.all, i, i+1)
	m.note(store.DeviceRemoved, owner, id)
	return nil
}

// RemoveDevices implements store.Devices.
func (m *MemoryDevices) RemoveDevices(_ context.Context, owner store.AccountID, but string) (gone []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	m.all = slices.DeleteFunc(m.all, func(d store.Device) bool {
		if d.Account != owner || d.ID == but {
			return false
		}
		gone = append(gone, d.ID)
		m.note(store.DeviceRemoved, owner, d.ID)
		return true
	})
	if but == "" {
		m.note(store.AccountChanged, owner, "")
	}
	slices.Sort(gone)
	return gone, nil
}
