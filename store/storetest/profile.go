package storetest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// Settings runs the suite for store.Settings.
func Settings(t *testing.T, d Databases) {
	databaseTests{
		"KeepsWholeSettings": testSettings,
		"Chosen":             testChosenSettings,
		"Changes":            testSettingsChanges,
		"Limit":              testSettingsLimit,
	}.run(t, d)
}

// Profiles runs the suite for store.Profiles.
func Profiles(t *testing.T, d Databases) {
	databaseTests{
		"EveryAccountHasOne": testProfiles,
		"Changes":            testProfileChanges,
		"Search":             testProfileSearch,
		"SearchPages":        testProfileSearchPages,
	}.run(t, d)
}

func mute(with string, until time.Time, pinned bool) store.ConversationSettings {
	return store.ConversationSettings{With: with, MutedUntil: until, Pinned: pinned}
}

func testSettings(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, b := twoAccounts(t, s)
	forever := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	for _, c := range []store.ConversationSettings{
		mute("b@x", noon().Add(1234567*time.Nanosecond), false), mute("a@x", forever, true),
		mute("c@x", time.Time{}, true), mute("d@x", noon(), false),
	} {
		got, err := s.SetConversationSettings(ctx, a, c, 10)
		require.NoError(t, err)
		c.MutedUntil, c.Changed = c.MutedUntil.Truncate(time.Millisecond), got.Changed
		require.Equal(t, c, got)
	}
	_, err := s.SetConversationSettings(ctx, a, mute("d@x", time.Time{}, false), 10)
	require.NoError(t, err)
	all := []string{"b@x", "nobody@x", "a@x", "c@x", "a@x", "d@x"}
	got, err := s.ConversationSettings(ctx, a, all)
	require.NoError(t, err)
	slices.SortFunc(got, func(a, b store.ConversationSettings) int { return strings.Compare(a.With, b.With) })
	got = slices.DeleteFunc(got, func(c store.ConversationSettings) bool { return !c.Chosen() })
	require.Len(t, got, 3)
	for i, want := range []store.ConversationSettings{mute("a@x", forever, true),
		mute("b@x", noon().Add(time.Millisecond), false), mute("c@x", time.Time{}, true)} {
		want.Changed = got[i].Changed
		require.Equal(t, want, got[i])
	}
	got, err = s.ConversationSettings(ctx, a, []string{"c@x"})
	require.NoError(t, err)
	require.Len(t, got, 1)
	got, err = s.ConversationSettings(ctx, a, nil)
	require.NoError(t, err)
	require.Empty(t, got)
	got, err = s.ConversationSettings(ctx, b, all)
	require.NoError(t, err)
	require.Empty(t, got, "of another account")
	require.NoError(t, s.DeleteAccount(ctx, "alice"))
	got, err = s.ConversationSettings(ctx, a, all)
	require.NoError(t, err)
	require.Empty(t, got, "it goes with the account")
	_, err = s.SetConversationSettings(ctx, a, mute("b@x", noon(), false), 10)
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = s.SetConversationSettings(ctx, a, mute("b@x", time.Time{}, false), 10)
	require.ErrorIs(t, err, store.ErrNotFound)
}

// testChosenSettings: those that differ from the default come in pages, the latest change first.
func testChosenSettings(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, b := twoAccounts(t, s)
	set := func(owner store.AccountID, c store.ConversationSettings) {
		_, err := s.SetConversationSettings(ctx, owner, c, 10)
		require.NoError(t, err)
	}
	for _, with := range []string{"a@x", "b@x", "c@x", "d@x"} {
		set(a, mute(with, time.Time{}, true))
	}
	set(a, mute("c@x", time.Time{}, false))
	set(a, mute("a@x", noon(), false))
	set(b, mute("e@x", noon(), false))
	chosen := func(before uint64, limit int) (names []string, last uint64) {
		found, err := s.ChosenConversationSettings(ctx, a, before, limit)
		require.NoError(t, err)
		for _, c := range found {
			require.True(t, c.Chosen())
			names, last = append(names, c.With), c.Changed
		}
		return names, last
	}
	names, _ := chosen(0, 10)
	require.Equal(t, []string{"a@x", "d@x", "b@x"}, names)
	names, last := chosen(0, 2)
	require.Equal(t, []string{"a@x", "d@x"}, names)
	names, last = chosen(last, 2)
	require.Equal(t, []string{"b@x"}, names)
	names, _ = chosen(last, 2)
	require.Empty(t, names)
}

// testSettingsChanges: who asks for what is new gets everything once, in order, also what is back at the default.
func testSettingsChanges(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, _ := twoAccounts(t, s)
	changed, last, err := s.ChangedConversationSettings(ctx, a, 0, 10)
	require.NoError(t, err)
	require.Empty(t, changed)
	require.Zero(t, last)
	set := func(c store.ConversationSettings) uint64 {
		got, err := s.SetConversationSettings(ctx, a, c, 10)
		require.NoError(t, err)
		return got.Changed
	}
	n1, n2 := set(mute("a@x", noon(), false)), set(mute("b@x", noon(), false))
	require.Greater(t, n2, n1)
	require.Equal(t, n2, set(mute("b@x", noon(), false)), "what is as it was is no change")
	require.Zero(t, set(mute("z@x", time.Time{}, false)), "nor is a default that was never anything else")
	n3 := set(mute("a@x", time.Time{}, false))
	require.Greater(t, n3, n2)
	with := func(after uint64, limit int) (names []string) {
		changed, last, err := s.ChangedConversationSettings(ctx, a, after, limit)
		require.NoError(t, err)
		require.Equal(t, n3, last)
		for _, c := range changed {
			require.Greater(t, c.Changed, after)
			names = append(names, c.With)
		}
		return names
	}
	require.Equal(t, []string{"b@x", "a@x"}, with(0, 10))
	require.Equal(t, []string{"b@x"}, with(0, 1))
	require.Equal(t, []string{"a@x"}, with(n2, 10))
	require.Empty(t, with(n3, 10))
}

func testSettingsLimit(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, b := twoAccounts(t, s)
	set := func(owner store.AccountID, n int, pinned bool) error {
		_, err := s.SetConversationSettings(ctx, owner, mute(fmt.Sprintf("%d@x", n), time.Time{}, pinned), 3)
		return err
	}
	for n := range 3 {
		require.NoError(t, set(a, n, true))
	}
	require.ErrorIs(t, set(a, 3, true), store.ErrLimit)
	require.NoError(t, set(b, 3, true), "each account has its own limit")
	// However many come and go, those that are chosen stay within the limit, and what is remembered of the others too.
	for n := range 20 {
		require.NoError(t, set(a, n, false))
		require.NoError(t, set(a, n+3, true))
	}
	changed, _, err := s.ChangedConversationSettings(ctx, a, 0, 100)
	require.NoError(t, err)
	require.LessOrEqual(t, len(changed), 6)
	chosen, err := s.ChosenConversationSettings(ctx, a, 0, 100)
	require.NoError(t, err)
	require.Len(t, chosen, 3)
	// Numbers rise also when what had the greatest one is forgotten.
	greatest := uint64(0)
	for n := range 6 {
		got, err := s.SetConversationSettings(ctx, b, mute(fmt.Sprint(n, "@y"), noon(), true), 1000)
		require.NoError(t, err)
		require.Greater(t, got.Changed, greatest)
		got, err = s.SetConversationSettings(ctx, b, mute(fmt.Sprint(n, "@y"), time.Time{}, false), 1)
		require.NoError(t, err)
		require.Greater(t, got.Changed, greatest)
		greatest = got.Changed
	}
}

func testProfiles(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, b := twoAccounts(t, s)
	got, err := s.Profiles(ctx, []store.AccountID{a, b, b + 100})
	require.NoError(t, err)
	require.ElementsMatch(t, []store.Profile{{Account: a, Username: "alice"}, {Account: b, Username: "bob"}}, got)
	set, err := s.SetProfile(ctx, store.Profile{Account: a, Username: "ignored", Name: "Alice ☃",
		Title: "Keeper of 'keys'", Changed: 77})
	require.NoError(t, err)
	require.Equal(t, store.Profile{Account: a, Username: "alice", Name: "Alice ☃", Title: "Keeper of 'keys'",
		Changed: set.Changed}, set)
	got, err = s.Profiles(ctx, []store.AccountID{a})
	require.NoError(t, err)
	require.Equal(t, []store.Profile{set}, got)
	got, err = s.Profiles(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, got)
	_, err = s.SetProfile(ctx, store.Profile{Account: b + 100, Name: "Nobody"})
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, s.DeleteAccount(ctx, "alice"))
	got, err = s.Profiles(ctx, []store.AccountID{a})
	require.NoError(t, err)
	require.Empty(t, got)
}

// testProfileChanges: numbers rise over all accounts, and are not used again after an account is gone.
func testProfileChanges(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, b := twoAccounts(t, s)
	changed, last, err := s.ChangedProfiles(ctx, 0, 10)
	require.NoError(t, err)
	require.Empty(t, changed)
	require.Zero(t, last)
	set := func(account store.AccountID, name string) uint64 {
		p, err := s.SetProfile(ctx, store.Profile{Account: account, Name: name})
		require.NoError(t, err)
		return p.Changed
	}
	n1, n2 := set(a, "A"), set(b, "B")
	require.Greater(t, n2, n1)
	require.Equal(t, n2, set(b, "B"), "what is as it was is no change")
	n3 := set(a, "AA")
	names := func(after uint64, limit int, want ...string) {
		t.Helper()
		changed, last, err := s.ChangedProfiles(ctx, after, limit)
		require.NoError(t, err)
		require.Equal(t, n3, last)
		got := []string{}
		for _, p := range changed {
			got = append(got, p.Username+" "+p.Name)
		}
		require.Equal(t, append([]string{}, want...), got)
	}
	names(0, 10, "bob B", "alice AA")
	names(0, 1, "bob B")
	names(n2, 10, "alice AA")
	names(n3, 10)
	require.NoError(t, s.DeleteAccount(ctx, "alice"))
	require.Greater(t, set(b, "BB"), n3)
}

func testProfileSearch(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	for _, p := range []struct{ username, name string }{
		{"wang", "王小明"}, {"oneil", "Shaun O'Neil-Smith"}, {"emil", "Émile Zola"}, {"emile2", "E\u0301MILE  Durkheim"},
		{"smith.j", ""},
		{"percent", "100%_sure \\ \"quoted\""}, {"gone", "Shaun Gone"}, {"off", "Shaun Off"},
		{"strasse", "Hans STRAẞE"}, {"mixed", "John王2世"},
	} {
		id, err := s.CreateAccount(ctx, store.Account{Name: p.username, Disabled: p.username == "off"})
		require.NoError(t, err)
		_, err = s.SetProfile(ctx, store.Profile{Account: id, Name: "Before Shaun"})
		require.NoError(t, err)
		_, err = s.SetProfile(ctx, store.Profile{Account: id, Name: p.name})
		require.NoError(t, err)
	}
	require.NoError(t, s.DeleteAccount(ctx, "gone"))
	for _, c := range []struct {
		words, want []string
	}{
		{[]string{"shaun"}, []string{"oneil"}},
		{[]string{"SHA", "neil"}, []string{"oneil"}},
		{[]string{"o'neil-s"}, []string{"oneil"}},
		{[]string{"smi"}, []string{"oneil", "smith.j"}},
		{[]string{"smith.j"}, []string{"smith.j"}},
		{[]string{"smith", "zola"}, nil},
		{[]string{"before"}, nil},
		{[]string{"haun"}, nil},
		{[]string{"émile"}, []string{"emil", "emile2"}},
		{[]string{"emil"}, []string{"emil", "emile2"}},
		{[]string{"王"}, []string{"mixed", "wang"}},
		{[]string{"小明"}, []string{"wang"}},
		{[]string{"明"}, []string{"wang"}},
		{[]string{"john"}, []string{"mixed"}},
		{[]string{"2世"}, []string{"mixed"}},
		{[]string{"strasse"}, []string{"strasse"}},
		{[]string{"straße", "hans"}, []string{"strasse"}},
		{[]string{"%"}, nil},
		{[]string{"_"}, nil},
		{[]string{"100%"}, []string{"percent"}},
		{[]string{"sur"}, []string{"percent"}},
		{[]string{"\\"}, []string{"percent"}},
		{[]string{"\"quoted\""}, []string{"percent"}},
		{[]string{"*"}, nil},
		{[]string{"' OR 1=1 --"}, nil},
		{[]string{"", " "}, []string{"emil", "emile2", "mixed", "oneil", "percent", "smith.j", "strasse", "wang"}},
		{nil, []string{"emil", "emile2", "mixed", "oneil", "percent", "smith.j", "strasse", "wang"}},
		{[]string{"s", "sh", "sha", "shau", "shaun", "o", "on", "one", "onei"}, []string{"oneil"}},
	} {
		got, err := s.SearchProfiles(ctx, c.words, "", 100)
		require.NoError(t, err, "%q", c.words)
		var names []string
		for _, p := range got {
			names = append(names, p.Username)
		}
		require.Equal(t, c.want, names, "%q", c.words)
	}
}

func testProfileSearchPages(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	var batch []store.Account
	for i := range 100 {
		batch = append(batch, store.Account{Name: fmt.Sprintf("user%02d", i)})
	}
	ids, err := s.CreateAccounts(ctx, batch)
	require.NoError(t, err)
	for i := 0; i < 100; i += 2 {
		_, err := s.SetProfile(ctx, store.Profile{Account: ids[i], Name: "Even Number"})
		require.NoError(t, err)
	}
	for words, want := range map[string]int{"even": 50, "user": 100, "": 100} {
		seen, after := 0, ""
		for {
			page, err := s.SearchProfiles(ctx, []string{words}, after, 7)
			require.NoError(t, err)
			if len(page) == 0 {
				break
			}
			require.LessOrEqual(t, len(page), 7)
			for _, p := range page {
				require.Greater(t, p.Username, after)
				after = p.Username
				seen++
			}
		}
		require.Equal(t, want, seen, "%q", words)
	}
	got, err := s.SearchProfiles(ctx, []string{"user99"}, "", math.MaxInt32)
	require.NoError(t, err)
	require.Equal(t, []store.Profile{{Account: ids[99], Username: "user99"}}, got)
}
