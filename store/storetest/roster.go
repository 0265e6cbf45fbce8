package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// Rosters runs the suite for store.Rosters.
func Rosters(t *testing.T, d Databases) {
	for name, run := range map[string]func(*testing.T, Databases){
		"KeepsWholeItems":   testRosterItems,
		"Versions":          testRosterVersions,
		"Changes":           testRosterChanges,
		"ManyRemovals":      testRosterManyRemovals,
		"Limit":             testRosterLimit,
		"OwnersAreSeparate": testRosterOwners,
		"ConcurrentChanges": testRosterConcurrent,
	} {
		t.Run(name, func(t *testing.T) { run(t, d) })
	}
}

func contact(n int) jid.JID { return jid.MustParse(fmt.Sprintf("contact%d@example.net", n)) }

// testRosterItems: every field of an item comes back.
func testRosterItems(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, _ := twoAccounts(t, s)
	items, version, err := s.Roster(ctx, a)
	require.NoError(t, err)
	require.Empty(t, items)
	require.Zero(t, version)
	want := []store.RosterItem{
		{JID: contact(0), Name: "Zero ☃", To: true, Listed: true, Groups: []string{"Friends", "with \"quotes\", and commas"}},
		{JID: contact(1), From: true, Listed: true},
		{JID: contact(2), PendingOut: true, Listed: true},
		{JID: contact(3), PendingIn: true, Request: []byte("<presence type='subscribe'><status>hi</status></presence>")},
		{JID: contact(4), Approved: true, Listed: true, Name: "x"},
		{JID: contact(5), To: true, From: true, PendingOut: true, PendingIn: true, Approved: true, Listed: true, Groups: []string{"g"}},
		{JID: jid.MustParse("gateway.example")},
	}
	for _, item := range want {
		_, err := s.SetRosterItem(ctx, a, item, 100)
		require.NoError(t, err)
	}
	got, _, err := s.Roster(ctx, a)
	require.NoError(t, err)
	require.ElementsMatch(t, want, got)
	// Setting replaces the whole item.
	want[0] = store.RosterItem{JID: contact(0)}
	_, err = s.SetRosterItem(ctx, a, want[0], 100)
	require.NoError(t, err)
	got, _, err = s.Roster(ctx, a)
	require.NoError(t, err)
	require.ElementsMatch(t, want, got)
}

// testRosterVersions: each change raises the version by one, a refused one does not.
func testRosterVersions(t *testing.T, d Databases) {
	folder, ctx := t.TempDir(), context.Background()
	s := d.Open(t, folder, noon)
	a, _ := twoAccounts(t, s)
	step := func(want uint64, version uint64, err error) {
		t.Helper()
		require.NoError(t, err)
		require.Equal(t, want, version)
		_, version, err = s.Roster(ctx, a)
		require.NoError(t, err)
		require.Equal(t, want, version)
	}
	version, err := s.SetRosterItem(ctx, a, store.RosterItem{JID: contact(1)}, 10)
	step(1, version, err)
	version, err = s.SetRosterItem(ctx, a, store.RosterItem{JID: contact(2)}, 10)
	step(2, version, err)
	version, err = s.SetRosterItem(ctx, a, store.RosterItem{JID: contact(1), Name: "one"}, 10)
	step(3, version, err)
	version, err = s.RemoveRosterItem(ctx, a, contact(1))
	step(4, version, err)
	_, err = s.RemoveRosterItem(ctx, a, contact(1))
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = s.RemoveRosterItem(ctx, a, contact(9))
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = s.SetRosterItem(ctx, a, store.RosterItem{JID: contact(3)}, 1)
	require.ErrorIs(t, err, store.ErrLimit)
	require.NoError(t, s.Close())
	s = d.Open(t, folder, noon)
	version, err = s.SetRosterItem(ctx, a, store.RosterItem{JID: contact(1)}, 10)
	step(5, version, err)
	require.NoError(t, s.Close())
}

func testRosterChanges(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, _ := twoAccounts(t, s)
	check := func(since uint64, wantItems, wantRemoved []jid.JID) {
		t.Helper()
		items, removed, version, ok, err := s.RosterChanges(ctx, a, since)
		require.NoError(t, err)
		require.True(t, ok)
		got := []jid.JID{}
		for _, i := range items {
			got = append(got, i.JID)
		}
		require.ElementsMatch(t, wantItems, got, "since %d", since)
		require.ElementsMatch(t, wantRemoved, removed, "since %d", since)
		_, now, err := s.Roster(ctx, a)
		require.NoError(t, err)
		require.Equal(t, now, version)
	}
	check(0, nil, nil)
	set := func(n int) {
		t.Helper()
		_, err := s.SetRosterItem(ctx, a, store.RosterItem{JID: contact(n)}, 10)
		require.NoError(t, err)
	}
	remove := func(n int) {
		t.Helper()
		_, err := s.RemoveRosterItem(ctx, a, contact(n))
		require.NoError(t, err)
	}
	set(1)    // 1
	set(2)    // 2
	set(3)    // 3
	remove(2) // 4
	set(1)    // 5
	check(0, []jid.JID{contact(1), contact(3)}, []jid.JID{contact(2)})
	check(2, []jid.JID{contact(1), contact(3)}, []jid.JID{contact(2)})
	check(3, []jid.JID{contact(1)}, []jid.JID{contact(2)})
	check(4, []jid.JID{contact(1)}, nil)
	check(5, nil, nil)
	set(2)    // 6: what was removed is there again
	remove(3) // 7
	check(3, []jid.JID{contact(1), contact(2)}, []jid.JID{contact(3)})
	_, _, _, ok, err := s.RosterChanges(ctx, a, 8)
	require.NoError(t, err)
	require.False(t, ok, "a version from the future is not of this roster")
}

// testRosterManyRemovals: however many contacts come and go, a roster does not grow for ever, and an answer to an old version
// is either complete or refused.
func testRosterManyRemovals(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, _ := twoAccounts(t, s)
	const total = 1200
	for n := range total {
		_, err := s.SetRosterItem(ctx, a, store.RosterItem{JID: contact(n)}, 2)
		require.NoError(t, err)
		_, err = s.RemoveRosterItem(ctx, a, contact(n))
		require.NoError(t, err)
	}
	items, removed, version, ok, err := s.RosterChanges(ctx, a, 0)
	require.NoError(t, err)
	require.EqualValues(t, 2*total, version)
	require.False(t, ok && len(removed) != total, "%d of %d removals are told", len(removed), total)
	require.Empty(t, items)
	_, removed, _, ok, err = s.RosterChanges(ctx, a, version-4)
	require.NoError(t, err)
	if ok {
		require.ElementsMatch(t, []jid.JID{contact(total - 1), contact(total - 2)}, removed)
	}
}

func testRosterLimit(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, _ := twoAccounts(t, s)
	set := func(n int) error {
		_, err := s.SetRosterItem(ctx, a, store.RosterItem{JID: contact(n)}, 3)
		return err
	}
	for n := range 3 {
		require.NoError(t, set(n))
	}
	require.ErrorIs(t, set(3), store.ErrLimit)
	require.NoError(t, set(1), "an item that is there may be changed")
	_, err := s.RemoveRosterItem(ctx, a, contact(0))
	require.NoError(t, err)
	require.NoError(t, set(3), "a removed item does not count")
	require.ErrorIs(t, set(0), store.ErrLimit)
}

func testRosterOwners(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, b := twoAccounts(t, s)
	_, err := s.SetRosterItem(ctx, a, store.RosterItem{JID: contact(1), Name: "a's"}, 10)
	require.NoError(t, err)
	_, err = s.RemoveRosterItem(ctx, b, contact(1))
	require.ErrorIs(t, err, store.ErrNotFound)
	version, err := s.SetRosterItem(ctx, b, store.RosterItem{JID: contact(1), Name: "b's"}, 10)
	require.NoError(t, err)
	require.EqualValues(t, 1, version)
	_, err = s.RemoveRosterItem(ctx, b, contact(1))
	require.NoError(t, err)
	items, _, err := s.Roster(ctx, a)
	require.NoError(t, err)
	require.Equal(t, []store.RosterItem{{JID: contact(1), Name: "a's"}}, items)
}

// testRosterConcurrent: changes at the same time get versions of their own, and a reader sees items and version that belong together.
func testRosterConcurrent(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, _ := twoAccounts(t, s)
	const writers, each = 4, 25
	versions := make(chan uint64, writers*each)
	errs := make(chan error, writers)
	for w := range writers {
		go func() {
			for n := range each {
				version, err := s.SetRosterItem(ctx, a, store.RosterItem{JID: contact(w*each + n)}, 1000)
				if err != nil {
					errs <- err
					return
				}
				versions <- version
			}
			errs <- nil
		}()
	}
	for done := 0; done < writers; {
		select {
		case err := <-errs:
			require.NoError(t, err)
			done++
		default:
			items, version, err := s.Roster(ctx, a)
			require.NoError(t, err)
			require.EqualValues(t, len(items), version, "each change of this test adds one item")
		}
	}
	close(versions)
	seen := map[uint64]bool{}
	for v := range versions {
		require.False(t, seen[v])
		seen[v] = true
	}
	require.Len(t, seen, writers*each)
}
