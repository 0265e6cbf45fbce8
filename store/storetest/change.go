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
	require.NoError(t, tool.PutDevice(ctx, device(id, "phone", 0), 1))
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
		{store.DeviceRemoved, func() error { return tool.PutDevice(ctx, device(id, "laptop", time.Hour), 1) }},
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

// testChangesOfAccount: what ends logins of an account or a device is found by number and by time, whoever did it.
func testChangesOfAccount(t *testing.T, d Databases) {
	folder, ctx := t.TempDir(), context.Background()
	now := noon()
	s := d.Open(t, folder, func() time.Time { return now })
	defer func() { require.NoError(t, s.Close()) }()
	a, b := twoAccounts(t, s)
	begin, err := s.NewestChange(ctx)
	require.NoError(t, err)
	check := func(account store.AccountID, device string, since int64, want time.Time) {
		t.Helper()
		changed, err := s.ChangedSince(ctx, account, device, since)
		require.NoError(t, err)
		require.Equal(t, !want.IsZero(), changed)
		at, err := s.LastChange(ctx, account, device)
		require.NoError(t, err)
		require.Equal(t, want, at)
	}
	check(a, "phone", 0, time.Time{}) // that it was made is no change
	_, err = SetRosterItem(s, a, listed(1), 10)
	require.NoError(t, err)
	check(a, "phone", begin, time.Time{}) // which ends no login
	require.NoError(t, s.PutDevice(ctx, device(a, "phone", 0), 10))
	require.NoError(t, s.RemoveDevice(ctx, a, "phone"))
	check(a, "phone", begin, noon())
	check(a, "laptop", begin, time.Time{})
	now = now.Add(time.Minute)
	require.NoError(t, s.SetDisabled(ctx, "alice", true))
	check(a, "phone", begin, now)
	check(a, "laptop", begin, now)
	check(b, "phone", begin, time.Time{})
	last, err := s.NewestChange(ctx)
	require.NoError(t, err)
	changed, err := s.ChangedSince(ctx, a, "phone", last)
	require.NoError(t, err)
	require.False(t, changed)
}
