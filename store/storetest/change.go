package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// Changes runs the suite for store.Changes.
func Changes(t *testing.T, d Databases) {
	databaseTests{
		"OfEveryKind":  testChangeKinds,
		"OfOthers":     testChangesOfOthers,
		"CommitOrder":  testChangesInOrder,
		"OfOneAccount": testChangesOfAccount,
	}.run(t, d)
}

// pair opens one database twice, as two processes do.
func pair(t *testing.T, d Databases) (node, tool Database) {
	t.Helper()
	folder := t.TempDir()
	node, tool = d.Open(t, folder, noon), d.Open(t, folder, noon)
	t.Cleanup(func() { require.NoError(t, node.Close()); require.NoError(t, tool.Close()) })
	return node, tool
}

// testChangeKinds: all that somebody may have in memory is told of, and what fails or changes nothing is not.
func testChangeKinds(t *testing.T, d Databases) {
	node, tool := pair(t, d)
	ctx := context.Background()
	id, _ := twoAccounts(t, tool)
	require.NoError(t, tool.PutDevice(ctx, device(id, "phone", 0), store.AnyBasis, 1))
	after, err := node.NewestChange(ctx)
	require.NoError(t, err)
	for i, one := range []struct {
		kind store.ChangeKind
		do   func() error
	}{
		{store.AccountChanged, func() error { return tool.SetDisabled(ctx, "alice", false) }},
		{store.RosterChanged, func() error { _, err := SetRosterItem(tool, id, listed(1), 10); return err }},
		{"", func() error { _, err := SetRosterItem(tool, id, listed(1), 10); return err }},
		{store.RosterChanged, func() error { _, err := removeItem(tool, id, contact(1)); return err }},
		{store.PreferenceChanged, func() error {
			return tool.SetArchivePreference(ctx, id,
				store.ArchivePreference{Default: "never"})
		}},
		{store.PreferenceChanged, func() error { return tool.SetHideReads(ctx, id, true) }},
		{store.SettingsChanged, func() error {
			_, err := tool.SetConversationSettings(ctx, id, mute("b@x", noon(), true), 10)
			return err
		}},
		{"", func() error {
			_, err := tool.SetConversationSettings(ctx, id, mute("b@x", noon(), true), 10)
			return err
		}},
		{store.ProfileChanged, func() error {
			_,
				err := tool.SetProfile(ctx, store.Profile{Account: id, Name: "Alice"})
			return err
		}},
		{"", func() error { _, err := tool.SetProfile(ctx, store.Profile{Account: id, Name: "Alice"}); return err }},
		{store.DeviceRemoved, func() error {
			return tool.PutDevice(ctx, device(id, "laptop", time.Hour), store.AnyBasis, 1)
		}},
		{"", func() error {
			return tool.NoteLogins(ctx, []store.DeviceLogin{{Account: id, Device: "laptop", Seen: noon()}})
		}},
		{"", func() error { return tool.SetLastActivity(ctx, id, 5, "") }},
		{store.DeviceRemoved, func() error { return tool.RemoveDevice(ctx, id, "laptop") }},
		{store.AccountChanged, func() error { return tool.SetCredentials(ctx, "alice", credentials(1)) }},
		{store.AccountChanged, func() error { return tool.DeleteAccount(ctx, "alice") }},
	} {
		require.NoError(t, one.do(), i)
		changes, err := node.Changes(ctx, after, 10)
		require.NoError(t, err)
		if one.kind == "" {
			require.Empty(t, changes, i)
			continue
		}
		require.Len(t, changes, 1, i)
		c := changes[0]
		require.Greater(t, c.Number, after)
		require.Equal(t, one.kind, c.Kind, i)
		require.Equal(t, id, c.Account)
		require.Equal(t, "alice", c.Name)
		require.Equal(t, c.Kind == store.DeviceRemoved, c.Device != "")
		after = c.Number
	}
	require.Error(t, tool.SetDisabled(ctx, "nobody", true))
	made, err := tool.CreateAccounts(ctx, []store.Account{{Name: "bob"}, {Name: "carol"}})
	require.NoError(t, err)
	changes, err := node.Changes(ctx, after, 10)
	require.NoError(t, err)
	require.Len(t, changes, 1)
	require.Equal(t, store.Change{Number: changes[0].Number, Kind: store.AccountCreated, Account: made[1],
		Name: "carol"}, changes[0])
}

// testChangesOfOthers: what another process changes is told, in order and in pages; what one has changed itself is not.
func testChangesOfOthers(t *testing.T, d Databases) {
	node, tool := pair(t, d)
	ctx := context.Background()
	begin, err := node.NewestChange(ctx)
	require.NoError(t, err)
	require.Zero(t, begin)
	_, _ = twoAccounts(t, node)
	_, err = tool.CreateAccount(ctx, store.Account{Name: "carol"})
	require.NoError(t, err)
	require.NoError(t, node.SetDisabled(ctx, "alice", true))
	require.NoError(t, tool.SetDisabled(ctx, "bob", true))
	said := func(s store.Changes, after int64, limit int) (said []string, last int64) {
		changes, err := s.Changes(ctx, after, limit)
		require.NoError(t, err)
		for _, c := range changes {
			require.Greater(t, c.Number, last)
			said, last = append(said, string(c.Kind)+" "+c.Name), c.Number
		}
		return said, last
	}
	all, last := said(node, begin, 10)
	require.Equal(t, []string{"created carol", "account bob"}, all)
	newest, err := tool.NewestChange(ctx)
	require.NoError(t, err)
	require.Equal(t, newest, last)
	all, _ = said(tool, begin, 10)
	require.Equal(t, []string{"created alice", "created bob", "account alice"}, all)
	all, last = said(node, begin, 1)
	require.Equal(t, []string{"created carol"}, all)
	all, last = said(node, last, 1)
	require.Equal(t, []string{"account bob"}, all)
	all, _ = said(node, last, 1)
	require.Empty(t, all)
}

// testChangesInOrder: who asks again and again with the last number misses nothing of what several change at the same
// time.
func testChangesInOrder(t *testing.T, d Databases) {
	folder, ctx := t.TempDir(), context.Background()
	reader := d.Open(t, folder, noon)
	defer func() { require.NoError(t, reader.Close()) }()
	owner, _ := twoAccounts(t, reader)
	after, err := reader.NewestChange(ctx)
	require.NoError(t, err)
	const writers, each = 3, 30
	var all sync.WaitGroup
	done := make(chan struct{})
	for range writers {
		s := d.Open(t, folder, noon)
		defer func() { require.NoError(t, s.Close()) }()
		all.Go(func() {
			for n := range each {
				if _, err := s.SetProfile(ctx, store.Profile{Account: owner, Name: fmt.Sprint(n, &s)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		all.Wait()
		close(done)
	}()
	found := 0
	for ended := false; ; {
		select {
		case <-done:
			ended = true
		default:
		}
		changes, err := reader.Changes(ctx, after, 7)
		require.NoError(t, err)
		for _, c := range changes {
			require.Greater(t, c.Number, after)
			after = c.Number
		}
		found += len(changes)
		if ended && len(changes) == 0 {
			break
		}
	}
	require.Equal(t, writers*each, found)
}

// testChangesOfAccount: what ends logins of an account or a device is found by number, whoever did it, and nothing is
// stored of a device that relies on what was read before it.
func testChangesOfAccount(t *testing.T, d Databases) {
	ctx := context.Background()
	s, other := pair(t, d)
	a, b := twoAccounts(t, s)
	newest := func() store.Basis {
		t.Helper()
		number, err := s.NewestChange(ctx)
		require.NoError(t, err)
		return store.Basis(number)
	}
	basis := newest()
	check := func(account store.AccountID, id string, want bool) {
		t.Helper()
		for _, s := range []Database{s, other} {
			changed, now, err := s.ChangedSince(ctx, account, id, basis)
			require.NoError(t, err)
			require.Equal(t, want, changed)
			require.Equal(t, newest(), now)
			for _, later := range []store.Basis{now, store.AnyBasis} {
				changed, _, err = s.ChangedSince(ctx, account, id, later)
				require.NoError(t, err)
				require.False(t, changed)
			}
		}
		touched := false
		put := s.PutDevice(ctx, device(account, id, 0), basis, 10)
		require.NoError(t, other.PutDevice(ctx, device(account, id, 0), newest(), 10))
		changed := s.ChangeDevice(ctx, account, id, basis, func(*store.Device) error { touched = true; return nil })
		if want {
			require.ErrorIs(t, put, store.ErrOvertaken)
			require.ErrorIs(t, changed, store.ErrOvertaken)
			require.False(t, touched)
			return
		}
		require.NoError(t, put)
		require.NoError(t, changed)
	}
	check(a, "phone", false) // that it was made is no change
	_, err := SetRosterItem(s, a, listed(1), 10)
	require.NoError(t, err)
	check(a, "phone", false) // which ends no login
	require.NoError(t, s.RemoveDevice(ctx, a, "phone"))
	check(a, "phone", true)
	check(a, "laptop", false)
	check(b, "phone", false)
	require.NoError(t, other.SetDisabled(ctx, "alice", false))
	check(a, "phone", true)
	check(a, "laptop", true)
	check(b, "phone", false)
}
