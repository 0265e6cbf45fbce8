package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// Rosters runs the suite for store.Rosters.
func Rosters(t *testing.T, d Databases) {
	databaseTests{
		"KeepsWholeItems":   testRosterItems,
		"Versions":          testRosterVersions,
		"Changes":           testRosterChanges,
		"ManyRemovals":      testRosterManyRemovals,
		"Limit":             testRosterLimit,
		"OwnersAreSeparate": testRosterOwners,
		"ConcurrentChanges": testRosterConcurrent,
		"Change":            testRosterChange,
		"ChangersLoseNothing": func(t *testing.T, d Databases) {
			folder := t.TempDir()
			a, b := d.Open(t, folder, noon), d.Open(t, folder, noon)
			defer func() { require.NoError(t, a.Close()); require.NoError(t, b.Close()) }()
			owner, _ := twoAccounts(t, a)
			require.NoError(t, RosterChangers(context.Background(), owner, a, b, a))
		},
	}.run(t, d)
}

// SetRosterItem stores an item, whatever was there, and returns the roster's version. One with nothing but its JID
// removes what was there.
func SetRosterItem(s store.Rosters, owner store.AccountID, item store.RosterItem, max int) (version uint64, err error) {
	_, version, err = s.ChangeRosterItem(context.Background(), owner, item.JID, max, func(i *store.RosterItem) error {
		*i = item
		return nil
	})
	return version, err
}

// removeItem removes the item of a contact, if there is one.
func removeItem(s store.Rosters, owner store.AccountID, contact jid.JID) (version uint64, err error) {
	return SetRosterItem(s, owner, store.RosterItem{JID: contact}, 1)
}

// listed is an item in which nothing but the contact is said.
func listed(n int) store.RosterItem { return store.RosterItem{JID: contact(n), Listed: true} }

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
		{JID: contact(0), Name: "Zero ☃", To: true, Listed: true,
			Groups: []string{"Friends", "with \"quotes\", and commas"}},
		{JID: contact(1), From: true, Listed: true},
		{JID: contact(2), PendingOut: true, Listed: true},
		{JID: contact(3), PendingIn: true,
			Request: []byte("<presence type='subscribe'><status>hi</status></presence>")},
		{JID: contact(4), Approved: true, Listed: true, Name: "x"},
		{JID: contact(5), To: true, From: true, PendingOut: true, PendingIn: true, Approved: true, Listed: true,
			Groups: []string{"g"}},
		{JID: jid.MustParse("gateway.example"), Listed: true},
	}
	for _, item := range want {
		_, err := SetRosterItem(s, a, item, 100)
		require.NoError(t, err)
	}
	got, _, err := s.Roster(ctx, a)
	require.NoError(t, err)
	require.ElementsMatch(t, want, got)
	// Setting replaces the whole item.
	want[0] = listed(0)
	_, err = SetRosterItem(s, a, want[0], 100)
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
	version, err := SetRosterItem(s, a, listed(1), 10)
	step(1, version, err)
	version, err = SetRosterItem(s, a, listed(2), 10)
	step(2, version, err)
	version, err = SetRosterItem(s, a, store.RosterItem{JID: contact(1), Name: "one", Listed: true}, 10)
	step(3, version, err)
	version, err = removeItem(s, a, contact(1))
	step(4, version, err)
	version, err = removeItem(s, a, contact(1))
	step(4, version, err)
	version, err = removeItem(s, a, contact(9))
	step(4, version, err)
	version, err = SetRosterItem(s, a, listed(2), 10)
	step(4, version, err)
	_, err = SetRosterItem(s, a, listed(3), 1)
	require.ErrorIs(t, err, store.ErrLimit)
	require.NoError(t, s.Close())
	s = d.Open(t, folder, noon)
	version, err = SetRosterItem(s, a, listed(1), 10)
	step(5, version, err)
	require.NoError(t, s.Close())
}

func testRosterChanges(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, _ := twoAccounts(t, s)
	// want has the numbers of contacts that were changed, negative ones of those removed, and the versions.
	check := func(since uint64, want ...[2]int) {
		t.Helper()
		changes, version, ok, err := s.RosterChanges(ctx, a, since)
		require.NoError(t, err)
		require.True(t, ok)
		var got [][2]int
		for _, c := range changes {
			n := slices.IndexFunc([]jid.JID{contact(0), contact(1), contact(2), contact(3)},
				func(j jid.JID) bool { return j == c.JID })
			if c.RosterItem.Equal(&store.RosterItem{JID: c.JID}) {
				n = -n
			}
			got = append(got, [2]int{n, int(c.Version)})
		}
		require.Equal(t, want, got, "since %d", since)
		_, now, err := s.Roster(ctx, a)
		require.NoError(t, err)
		require.Equal(t, now, version)
	}
	check(0)
	times := 0
	set := func(n int) {
		t.Helper()
		times++
		_, err := SetRosterItem(s, a, store.RosterItem{JID: contact(n), Listed: true, Name: fmt.Sprint(times)}, 10)
		require.NoError(t, err)
	}
	remove := func(n int) {
		t.Helper()
		_, err := removeItem(s, a, contact(n))
		require.NoError(t, err)
	}
	set(1)    // 1
	set(2)    // 2
	set(3)    // 3
	remove(2) // 4
	set(1)    // 5
	check(0, [2]int{3, 3}, [2]int{-2, 4}, [2]int{1, 5})
	check(2, [2]int{3, 3}, [2]int{-2, 4}, [2]int{1, 5})
	check(3, [2]int{-2, 4}, [2]int{1, 5})
	check(4, [2]int{1, 5})
	check(5)
	set(2)    // 6: what was removed is there again
	remove(3) // 7
	check(3, [2]int{1, 5}, [2]int{2, 6}, [2]int{-3, 7})
	_, _, ok, err := s.RosterChanges(ctx, a, 8)
	require.NoError(t, err)
	require.False(t, ok, "a version from the future is not of this roster")
}

// testRosterManyRemovals: however many contacts come and go, a roster does not grow for ever, and an answer to an old
// version is either complete or refused.
func testRosterManyRemovals(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, _ := twoAccounts(t, s)
	const total = 520 // more than are remembered
	for n := range total {
		_, err := SetRosterItem(s, a, listed(n), 2)
		require.NoError(t, err)
		_, err = removeItem(s, a, contact(n))
		require.NoError(t, err)
	}
	changes, version, ok, err := s.RosterChanges(ctx, a, 0)
	require.NoError(t, err)
	require.EqualValues(t, 2*total, version)
	require.False(t, ok && len(changes) != total, "%d of %d removals are told", len(changes), total)
	for _, c := range changes {
		require.Equal(t, store.RosterItem{JID: c.JID}, c.RosterItem)
	}
	changes, _, ok, err = s.RosterChanges(ctx, a, version-4)
	require.NoError(t, err)
	if ok {
		require.Equal(t, []store.RosterChange{
			{RosterItem: store.RosterItem{JID: contact(total - 2)}, Version: version - 2},
			{RosterItem: store.RosterItem{JID: contact(total - 1)}, Version: version},
		}, changes)
	}
}

func testRosterLimit(t *testing.T, d Databases) {
	s := openDatabase(t, d)
	a, _ := twoAccounts(t, s)
	set := func(n int) error {
		_, err := SetRosterItem(s, a, listed(n), 3)
		return err
	}
	for n := range 3 {
		require.NoError(t, set(n))
	}
	require.ErrorIs(t, set(3), store.ErrLimit)
	require.NoError(t, set(1), "an item that is there may be changed")
	_, err := removeItem(s, a, contact(0))
	require.NoError(t, err)
	require.NoError(t, set(3), "a removed item does not count")
	require.ErrorIs(t, set(0), store.ErrLimit)
	waiting := store.RosterItem{JID: contact(9), PendingIn: true}
	_, err = SetRosterItem(s, a, waiting, 1)
	require.NoError(t, err, "those that are not listed are counted by themselves")
	_, err = SetRosterItem(s, a, store.RosterItem{JID: contact(8), PendingIn: true}, 1)
	require.ErrorIs(t, err, store.ErrLimit)
	waiting.Listed = true
	_, err = SetRosterItem(s, a, waiting, 3)
	require.ErrorIs(t, err, store.ErrLimit, "it would be listed")
	_, err = SetRosterItem(s, a, waiting, 4)
	require.NoError(t, err)
}

func testRosterOwners(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, b := twoAccounts(t, s)
	_, err := SetRosterItem(s, a, store.RosterItem{JID: contact(1), Name: "a's", Listed: true}, 10)
	require.NoError(t, err)
	version, err := removeItem(s, b, contact(1))
	require.NoError(t, err)
	require.Zero(t, version)
	version, err = SetRosterItem(s, b, store.RosterItem{JID: contact(1), Name: "b's", Listed: true}, 10)
	require.NoError(t, err)
	require.EqualValues(t, 1, version)
	_, err = removeItem(s, b, contact(1))
	require.NoError(t, err)
	items, _, err := s.Roster(ctx, a)
	require.NoError(t, err)
	require.Equal(t, []store.RosterItem{{JID: contact(1), Name: "a's", Listed: true}}, items)
}

// testRosterConcurrent: changes at the same time get versions of their own, and a reader sees items and version that
// belong together.
func testRosterConcurrent(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, _ := twoAccounts(t, s)
	const writers, each = 4, 25
	versions := make(chan uint64, writers*each)
	errs := make(chan error, writers)
	for w := range writers {
		go func() {
			for n := range each {
				version, err := SetRosterItem(s, a, listed(w*each+n), 1000)
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

// testRosterChange: change sees what is stored, an error stores nothing, and who the item is of cannot be changed.
func testRosterChange(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, b := twoAccounts(t, s)
	refusal := errors.New("no")
	_, _, err := s.ChangeRosterItem(ctx, a, contact(1), 10, func(i *store.RosterItem) error {
		i.Listed = true
		return refusal
	})
	require.ErrorIs(t, err, refusal)
	items, version, err := s.Roster(ctx, a)
	require.NoError(t, err)
	require.Empty(t, items)
	require.Zero(t, version)
	want := store.RosterItem{JID: contact(1), Name: "One", Groups: []string{"g"}, Request: []byte("x"), PendingIn: true,
		Listed: true}
	got, version, err := s.ChangeRosterItem(ctx, a, contact(1), 10, func(i *store.RosterItem) error {
		if !i.Equal(&store.RosterItem{JID: contact(1)}) {
			return fmt.Errorf("there was %+v", i)
		}
		*i = want
		i.JID = contact(2) // which is not a change
		return nil
	})
	require.NoError(t, err)
	require.EqualValues(t, 1, version)
	require.Equal(t, want, got)
	got, version, err = s.ChangeRosterItem(ctx, a, contact(1), 10, func(i *store.RosterItem) error {
		if !i.Equal(&want) {
			return fmt.Errorf("there was %+v", i)
		}
		i.To = true
		return nil
	})
	want.To = true
	require.NoError(t, err)
	require.EqualValues(t, 2, version)
	require.Equal(t, want, got)
	_, err = SetRosterItem(s, b+99, listed(1), 10)
	require.ErrorIs(t, err, store.ErrNotFound)
}

// RosterChangers has each of the stores, which are handles on one, change one contact and contacts of its own at the
// same time, and returns what was lost of it.
func RosterChangers(ctx context.Context, owner store.AccountID, stores ...store.Rosters) error {
	const each = 10
	shared := contact(0)
	var all sync.WaitGroup
	errs := make([]error, len(stores))
	for w, s := range stores {
		all.Go(func() {
			for n := range each {
				_, _, err := s.ChangeRosterItem(ctx, owner, shared, 1000, func(i *store.RosterItem) error {
					i.Listed, i.Groups = true, append(slices.Clone(i.Groups), fmt.Sprint(w, " ", n))
					return nil
				})
				_, own := SetRosterItem(s, owner, listed(1+w*each+n), 1000)
				errs[w] = errors.Join(errs[w], err, own)
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	items, version, err := stores[0].Roster(ctx, owner)
	if err != nil {
		return err
	}
	if changes := 2 * each * len(stores); version != uint64(changes) {
		return fmt.Errorf("%d changes made version %d", changes, version)
	}
	if len(items) != 1+each*len(stores) {
		return fmt.Errorf("there are %d items", len(items))
	}
	at := slices.IndexFunc(items, func(i store.RosterItem) bool { return i.JID == shared })
	if at < 0 || len(items[at].Groups) != each*len(stores) {
		return fmt.Errorf("of %d groups that were added there are %q", each*len(stores), items[max(at, 0)].Groups)
	}
	return nil
}
