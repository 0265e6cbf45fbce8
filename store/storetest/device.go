package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// Devices runs the suite for store.Devices.
func Devices(t *testing.T, d Databases) {
	databaseTests{
		"KeepsWholeDevices":  testDevices,
		"Limit":              testDeviceLimit,
		"ChangeIsOne":        testDeviceChange,
		"NoteLogins":         testDeviceLogins,
		"EndWithTheAccount":  testDevicesEnd,
		"RemovalsAreNoticed": testDeviceRemovals,
	}.run(t, d)
}

func device(owner store.AccountID, id string, seen time.Duration) store.Device {
	return store.Device{
		Account: owner, ID: id, Name: "Phone of " + id, Software: "Test ☃", Created: noon(), Seen: noon().Add(seen),
		Generation: 1<<62 + 7, Used: 1<<62 + 6, LoginExpires: noon().Add(time.Hour),
		UsedExpires: noon().Add(time.Minute), Counter: 3,
		Refresh: []byte("new " + id), RefreshBefore: []byte("old " + id), RefreshExpires: noon().Add(2 * time.Hour),
	}
}

// testDevices: every field of a device comes back, the last seen first, and owners are separate.
func testDevices(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, b := twoAccounts(t, s)
	_, err := s.Device(ctx, a, "x")
	require.ErrorIs(t, err, store.ErrNotFound)
	all, err := s.ListDevices(ctx, a)
	require.NoError(t, err)
	require.Empty(t, all)

	x, y, bare := device(a, "x", 0), device(a, "y", time.Second), store.Device{Account: b, ID: "x"}
	for _, one := range []store.Device{x, y, bare} {
		require.NoError(t, s.PutDevice(ctx, one, store.AnyBasis, 10))
		require.Equal(t, one, storedDevice(t, s, one.Account, one.ID))
	}
	all, err = s.ListDevices(ctx, a)
	require.NoError(t, err)
	require.Equal(t, []store.Device{y, x}, all)

	x.Seen, x.Refresh, x.Name = noon().Add(time.Minute), nil, ""
	require.NoError(t, s.PutDevice(ctx, x, store.AnyBasis, 10))
	all, err = s.ListDevices(ctx, a)
	require.NoError(t, err)
	require.Equal(t, []store.Device{x, y}, all)
	all, err = s.ListDevices(ctx, b)
	require.NoError(t, err)
	require.Equal(t, []store.Device{bare}, all)
	require.ErrorIs(t, s.PutDevice(ctx, device(b+99, "x", 0), store.AnyBasis, 10), store.ErrNotFound)
}

// testDeviceLimit: those seen longest ago give way, the one that is stored never does.
func testDeviceLimit(t *testing.T, d Databases) {
	folder, ctx := t.TempDir(), context.Background()
	s, other := d.Open(t, folder, noon), d.Open(t, folder, noon)
	defer func() { require.NoError(t, s.Close()); require.NoError(t, other.Close()) }()
	a, b := twoAccounts(t, s)
	begin, err := other.NewestChange(ctx)
	require.NoError(t, err)
	require.NoError(t, s.PutDevice(ctx, device(b, "of another", -time.Hour), store.AnyBasis, 3))
	for i := range 3 {
		require.NoError(t, s.PutDevice(ctx, device(a, fmt.Sprint(i), time.Duration(i)*time.Second), store.AnyBasis, 3))
	}
	require.NoError(t, s.PutDevice(ctx, device(a, "1", time.Hour), store.AnyBasis, 3),
		"one that is there takes no place of another")
	require.NoError(t, s.PutDevice(ctx, device(a, "long ago", -time.Hour), store.AnyBasis, 3))
	require.Equal(t, []string{"1", "2", "long ago"}, deviceNames(t, s, a))
	require.Equal(t, []string{"of another"}, deviceNames(t, s, b))
	changes, err := other.Changes(ctx, begin, 10)
	require.NoError(t, err)
	require.Len(t, changes, 1)
	require.Equal(t, store.DeviceRemoved, changes[0].Kind)
	require.Equal(t, "0", changes[0].Device, "who gave way was signed out")
}

func deviceNames(t *testing.T, s store.Devices, owner store.AccountID) (names []string) {
	t.Helper()
	all, err := s.ListDevices(context.Background(), owner)
	require.NoError(t, err)
	for _, one := range all {
		names = append(names, one.ID)
	}
	return names
}

// storedDevice reads a device, without its basis.
func storedDevice(t *testing.T, s Database, owner store.AccountID, id string) store.Device {
	t.Helper()
	d, err := s.Device(context.Background(), owner, id)
	require.NoError(t, err)
	d.Basis = 0
	return d
}

// testDeviceChange: changes at the same time happen one after the other, and one that fails changes nothing.
func testDeviceChange(t *testing.T, d Databases) {
	folder, ctx := t.TempDir(), context.Background()
	s, other := d.Open(t, folder, noon), d.Open(t, folder, noon)
	defer func() { require.NoError(t, s.Close()); require.NoError(t, other.Close()) }()
	a, b := twoAccounts(t, s)
	begun := device(a, "x", 0)
	require.NoError(t, s.PutDevice(ctx, begun, store.AnyBasis, 10))
	nothing := func(*store.Device) error { return nil }
	require.ErrorIs(t, s.ChangeDevice(ctx, b, "x", store.AnyBasis, nothing), store.ErrNotFound)
	refusal := errors.New("no")
	require.ErrorIs(t, s.ChangeDevice(ctx, a, "x", store.AnyBasis, func(d *store.Device) error {
		d.Counter = 99
		return refusal
	}), refusal)
	require.Equal(t, begun, storedDevice(t, s, a, "x"))

	var all sync.WaitGroup
	for _, where := range []Database{s, other} {
		all.Go(func() {
			for range 20 {
				if err := where.ChangeDevice(ctx, a, "x", store.AnyBasis, func(d *store.Device) error {
					d.Counter++
					d.Account, d.ID = b, "y" // which is not a change
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	begun.Counter += 40
	require.Equal(t, begun, storedDevice(t, s, a, "x"))
}

// testDeviceLogins: neither time nor counter goes back, and a counter of another token does not count.
func testDeviceLogins(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, _ := twoAccounts(t, s)
	want := device(a, "x", 0)
	require.NoError(t, s.PutDevice(ctx, want, store.AnyBasis, 10))
	note := func(seen time.Duration, generation, counter uint64) {
		t.Helper()
		require.NoError(t, s.NoteLogins(ctx, []store.DeviceLogin{
			{Account: a, Device: "gone", Seen: noon()},
			{Account: a, Device: "x", Seen: noon().Add(seen), Generation: generation, Counter: counter},
		}))
		require.Equal(t, want, storedDevice(t, s, a, "x"))
	}
	want.Seen, want.Counter = noon().Add(time.Minute), 7
	note(time.Minute, want.Used, 7)
	note(time.Second, want.Used, 5)
	want.Seen = noon().Add(time.Hour)
	note(time.Hour, want.Used-1, 50)
	require.Equal(t, []string{"x"}, deviceNames(t, s, a))
}

// testDevicesEnd: a new password, disabling and deletion end all devices of the account, and of no other.
func testDevicesEnd(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	for i, end := range []func(name string) error{
		func(name string) error { return s.SetCredentials(ctx, name, credentials(9)) },
		func(name string) error { return s.SetDisabled(ctx, name, true) },
		func(name string) error { return s.DeleteAccount(ctx, name) },
	} {
		name := fmt.Sprint("user", i)
		id, err := s.CreateAccount(ctx, store.Account{Name: name})
		require.NoError(t, err)
		other, err := s.CreateAccount(ctx, store.Account{Name: name + "b"})
		require.NoError(t, err)
		require.NoError(t, s.PutDevice(ctx, device(id, "x", 0), store.AnyBasis, 10))
		require.NoError(t, s.PutDevice(ctx, device(other, "x", 0), store.AnyBasis, 10))
		require.NoError(t, s.SetDisabled(ctx, name, false), "which ends nothing")
		require.Equal(t, []string{"x"}, deviceNames(t, s, id))
		require.NoError(t, end(name))
		require.Empty(t, deviceNames(t, s, id))
		require.Equal(t, []string{"x"}, deviceNames(t, s, other))
		nothing := func(*store.Device) error { return nil }
		require.ErrorIs(t, s.ChangeDevice(ctx, id, "x", store.AnyBasis, nothing), store.ErrNotFound)
	}
}

// testDeviceRemovals: another process hears which devices were signed out.
func testDeviceRemovals(t *testing.T, d Databases) {
	folder, ctx := t.TempDir(), context.Background()
	node, tool := d.Open(t, folder, noon), d.Open(t, folder, noon)
	defer func() { require.NoError(t, node.Close()); require.NoError(t, tool.Close()) }()
	a, b := twoAccounts(t, tool)
	for i := range 4 {
		require.NoError(t, tool.PutDevice(ctx, device(a, fmt.Sprint(i), 0), store.AnyBasis, 10))
	}
	require.NoError(t, tool.PutDevice(ctx, device(b, "0", 0), store.AnyBasis, 10))
	begin, err := node.NewestChange(ctx)
	require.NoError(t, err)

	require.ErrorIs(t, tool.RemoveDevice(ctx, a, "none"), store.ErrNotFound)
	require.NoError(t, tool.RemoveDevice(ctx, a, "2"))
	require.ErrorIs(t, tool.RemoveDevice(ctx, a, "2"), store.ErrNotFound)
	gone, err := tool.RemoveDevices(ctx, a, "1")
	require.NoError(t, err)
	require.Equal(t, []string{"0", "3"}, gone)
	gone, err = tool.RemoveDevices(ctx, a, "1")
	require.NoError(t, err)
	require.Empty(t, gone)
	require.Equal(t, []string{"1"}, deviceNames(t, node, a))
	require.Equal(t, []string{"0"}, deviceNames(t, node, b))
	require.NoError(t, node.RemoveDevice(ctx, a, "1"), "which is its own doing")

	changes, err := node.Changes(ctx, begin, 10)
	require.NoError(t, err)
	var heard []string
	for _, c := range changes {
		require.Equal(t, store.DeviceRemoved, c.Kind)
		require.Equal(t, a, c.Account)
		require.NotEmpty(t, c.Name)
		heard = append(heard, c.Device)
	}
	require.Equal(t, []string{"2", "0", "3"}, heard)
	gone, err = tool.RemoveDevices(ctx, b+99, "")
	require.NoError(t, err)
	require.Empty(t, gone)
}
