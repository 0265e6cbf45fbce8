package auth

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/cache"
	"github.com/posthouse-im/posthouse/store"
)

// devices is what is held in memory of the devices that log in with tokens, and what is to be written of their logins.
//
// What it knows of a device is dropped by every change that goes through Authenticator.Devices, and by ForgetDevices
// for those that do not. Logins are written together, by Run, so that a login writes nothing. Any goroutine may call
// it.
type devices struct {
	store store.Devices
	known *cache.Cache[deviceKey, deviceState] // by account

	flushing sync.Mutex // held while logins are written; taken before mu
	mu       sync.Mutex // guards the rest
	noted    map[deviceKey]store.DeviceLogin
	writing  map[deviceKey]store.DeviceLogin // what a flush is writing
}

// deviceKey names a device.
type deviceKey struct {
	account store.AccountID
	id      string
}

// deviceState is what a login needs to know of a device.
type deviceState struct {
	generation, used, counter uint64
	expires, usedExpires      int64 // Unix milliseconds
	basis                     store.Basis
}

const (
	// deviceTTL is how long what was read of a device is good. All changes are noticed before that.
	deviceTTL = time.Hour
	// maxNoted bounds the logins that wait to be written. Who comes when there are more writes them all.
	maxNoted = 16_384
	// noteInterval is how often logins are written.
	noteInterval = time.Minute
)

func newDevices(s store.Devices, size int, now func() time.Time) *devices {
	known := cache.New(cache.Config[deviceKey, deviceState]{
		Limit: size,
		Group: func(k deviceKey) uint64 { return uint64(k.account) },
		Now:   now,
	})
	return &devices{store: s, known: known, noted: map[deviceKey]store.DeviceLogin{}}
}

// find returns what is known of a device, or store.ErrNotFound. Devices that do not exist are asked for again each
// time.
func (d *devices) find(ctx context.Context, key deviceKey) (deviceState, error) {
	if s, ok := d.known.Get(key); ok {
		return s, nil
	}
	key.id = strings.Clone(key.id) // it may be a part of what somebody sent
	return d.known.Load(ctx, key, func(ctx context.Context) (deviceState, time.Duration, error) {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		found, err := d.store.Device(ctx, key.account, key.id)
		return deviceState{
			generation: found.Generation, used: found.Used, counter: found.Counter,
			expires: found.LoginExpires.UnixMilli(), usedExpires: found.UsedExpires.UnixMilli(), basis: found.Basis,
		}, deviceTTL, err
	})
}

// forget drops what is known of one device.
func (d *devices) forget(account store.AccountID, id string) {
	d.known.Invalidate(deviceKey{account, id})
}

// forgetAccount drops what is known of all devices of an account.
func (d *devices) forgetAccount(account store.AccountID) {
	d.known.InvalidateGroup(uint64(account), nil)
}

// forgetAll drops everything.
func (d *devices) forgetAll() { d.known.Clear() }

// errReplayed: the counter is not higher than one that was seen with the same token.
var errReplayed = errors.New("the counter was seen before")

// note remembers a login with a token, to be written later. count is what the client has counted to, 0 when it does not
// count. The error is errReplayed or, for a client that counts, the store's.
func (d *devices) note(ctx context.Context, key deviceKey, s deviceState, l store.DeviceLogin) error {
	full, err := d.tryNote(key, s, l)
	if !full || err != nil {
		return err
	}
	if err = d.flush(ctx); err == nil {
		_, err = d.tryNote(key, s, l)
	}
	if l.Counter == 0 && !errors.Is(err, errReplayed) {
		return nil // only the time of the login is lost
	}
	return err
}

func (d *devices) tryNote(key deviceKey, s deviceState, l store.DeviceLogin) (full bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	last := uint64(0)
	if l.Generation == s.used {
		last = s.counter
	}
	for _, known := range []map[deviceKey]store.DeviceLogin{d.writing, d.noted} {
		if k, ok := known[key]; ok && k.Generation == l.Generation {
			last = max(last, k.Counter)
		}
	}
	if l.Counter != 0 && l.Counter <= last {
		return false, errReplayed
	}
	if _, known := d.noted[key]; !known && len(d.noted) >= maxNoted {
		return true, nil
	}
	key.id = strings.Clone(key.id)
	l.Account, l.Device, l.Counter = key.account, key.id, max(l.Counter, last)
	d.noted[key] = l
	return false, nil
}

// flush writes the logins that were noted. Those that fail to be written wait for the next time, unless newer ones of
// the same device do.
func (d *devices) flush(ctx context.Context) error {
	d.flushing.Lock()
	defer d.flushing.Unlock()
	d.mu.Lock()
	d.writing, d.noted = d.noted, make(map[deviceKey]store.DeviceLogin)
	logins := make([]store.DeviceLogin, 0, len(d.writing))
	for _, l := range d.writing {
		logins = append(logins, l)
	}
	d.mu.Unlock()
	var err error
	if len(logins) > 0 {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		err = d.store.NoteLogins(ctx, logins)
	}
	// What is in the cache has the old counters. It goes before the new ones do.
	for key, l := range d.writing {
		if err == nil && l.Counter != 0 {
			d.known.Invalidate(key)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		for key, l := range d.writing {
			if _, newer := d.noted[key]; !newer && len(d.noted) < maxNoted {
				d.noted[key] = l
			}
		}
	}
	d.writing = nil
	return err
}

// Run writes down, once a minute and at the end, which devices have logged in with their tokens, and gives back the
// memory of what is too old to be used, credentials among it. It returns when ctx is done.
func (a *Authenticator) Run(ctx context.Context) error {
	tick := time.NewTicker(noteInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			a.writeLogins(context.WithoutCancel(ctx))
			return nil
		case <-tick.C:
			a.writeLogins(ctx)
			a.sweep()
		}
	}
}

func (a *Authenticator) sweep() {
	a.directory.sweep()
	a.memo.sweep()
	a.failures.known.Sweep()
	if a.devices != nil {
		a.devices.known.Sweep()
	}
}

func (a *Authenticator) writeLogins(ctx context.Context) {
	if a.devices == nil {
		return
	}
	if err := a.devices.flush(ctx); err != nil && ctx.Err() == nil {
		a.log.LogAttrs(ctx, slog.LevelError, "cannot note when devices have logged in; it is tried again",
			slog.String("event", "auth.store_failed"), slog.Any("err", err))
	}
}

// ForgetDevices drops what is held in memory of an account's devices, after another process has changed them.
func (a *Authenticator) ForgetDevices(account store.AccountID) {
	if a.devices != nil {
		a.devices.forgetAccount(account)
	}
}

// Devices returns the store of devices, for whoever changes them in this process: what is changed there counts at once.
// It is nil without TokenConfig.Devices.
func (a *Authenticator) Devices() store.Devices {
	if a.devices == nil {
		return nil
	}
	return heardDevices{a.devices.store, a.devices}
}

// heardDevices is a store whose changes are heard of here.
type heardDevices struct {
	store.Devices
	held *devices
}

func (h heardDevices) PutDevice(ctx context.Context, d store.Device, basis store.Basis, max int) error {
	defer h.held.forgetAccount(d.Account) // others may have had to go
	return h.Devices.PutDevice(ctx, d, basis, max)
}

func (h heardDevices) ChangeDevice(ctx context.Context, owner store.AccountID, id string, basis store.Basis,
	change func(*store.Device) error) error {
	defer h.held.forget(owner, id)
	return h.Devices.ChangeDevice(ctx, owner, id, basis, change)
}

func (h heardDevices) RemoveDevice(ctx context.Context, owner store.AccountID, id string) error {
	defer h.held.forget(owner, id)
	return h.Devices.RemoveDevice(ctx, owner, id)
}

func (h heardDevices) RemoveDevices(ctx context.Context, owner store.AccountID, but string) ([]string, error) {
	defer h.held.forgetAccount(owner)
	return h.Devices.RemoveDevices(ctx, owner, but)
}
