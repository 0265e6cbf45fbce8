package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// Database is everything that is kept beside messages.
type Database interface {
	store.Accounts
	store.Changes
	store.FormerAccounts
	store.Rosters
	store.ArchivePreferences
	store.LastActivity
	store.Activities
	store.Secrets
	store.Settings
	store.Profiles
	store.Devices
	store.SigningKeys
	store.ServiceKeys
	store.Audit
	Close() error
}

// Databases says how to make the databases of one implementation.
type Databases struct {
	// Open opens the database in the folder, or creates it. It may be open several times, as by several processes.
	Open func(t testing.TB, folder string, now func() time.Time) Database
}

// openDatabase opens a database in a new folder and closes it at the end of the test.
func openDatabase(t testing.TB, d Databases) Database {
	t.Helper()
	s := d.Open(t, t.TempDir(), noon)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func credentials(n byte) []store.Credential {
	made := []store.Credential{
		{Hash: "SHA-1", Salt: []byte{n, 0, 1}, Iterations: 4096, StoredKey: []byte{n, 2}, ServerKey: []byte{n, 3}},
		{Hash: "SHA-256", Salt: []byte{n, 0, 4}, Iterations: 10000, StoredKey: []byte{n, 5}, ServerKey: []byte{n, 6}},
	}
	return made
}

// databaseTests are the tests of a suite, by name. They do not depend on each other.
type databaseTests map[string]func(*testing.T, Databases)

func (tests databaseTests) run(t *testing.T, d Databases) {
	for name, run := range tests {
		t.Run(name, func(t *testing.T) { run(t, d) })
	}
}

// Accounts runs the suite for store.Accounts and store.FormerAccounts.
func Accounts(t *testing.T, d Databases) {
	databaseTests{
		"Create":                testCreateAccount,
		"CreateMany":            testCreateAccounts,
		"Change":                testChangeAccount,
		"RenewCredentials":      testRenewCredentials,
		"Delete":                testDeleteAccount,
		"NamesAreReserved":      testReservedNames,
		"IdentitiesAreUsedOnce": testIdentities,
		"List":                  testListAccounts,
		"TwoProcesses":          testTwoProcesses,
	}.run(t, d)
}

func testCreateAccount(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	_, err := s.Account(ctx, "alice")
	require.ErrorIs(t, err, store.ErrNotFound)
	id, err := s.CreateAccount(ctx,
		store.Account{ID: 77, Name: "alice", Created: noon().Add(time.Hour), Credentials: credentials(1)})
	require.NoError(t, err)
	got, err := s.Account(ctx, "alice")
	require.NoError(t, err)
	require.Equal(t, store.Account{ID: id, Name: "alice", Created: noon(), Credentials: credentials(1),
		Basis: got.Basis}, got)
	require.NotZero(t, id)
	_, err = s.CreateAccount(ctx, store.Account{Name: "alice", Credentials: credentials(2)})
	require.ErrorIs(t, err, store.ErrExists)
	got, err = s.Account(ctx, "alice")
	require.NoError(t, err)
	require.Equal(t, credentials(1), got.Credentials, "a refused account changes nothing")

	other, err := s.CreateAccount(ctx, store.Account{Name: "bob", Disabled: true})
	require.NoError(t, err)
	got, err = s.Account(ctx, "bob")
	require.NoError(t, err)
	require.Equal(t, store.Account{ID: other, Name: "bob", Created: noon(), Disabled: true, Basis: got.Basis}, got)
	require.NotEqual(t, id, other)
	// Names are prepared already: the store compares them byte by byte.
	_, err = s.Account(ctx, "Alice")
	require.ErrorIs(t, err, store.ErrNotFound)
}

func testCreateAccounts(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	first, err := s.CreateAccount(ctx, store.Account{Name: "user5"})
	require.NoError(t, err)
	_, err = s.CreateAccount(ctx, store.Account{Name: "gone"})
	require.NoError(t, err)
	require.NoError(t, s.DeleteAccount(ctx, "gone"))
	var batch []store.Account
	many := Scaled(t, 300)
	for i := range many {
		batch = append(batch, store.Account{Name: fmt.Sprint("user", i), Credentials: credentials(byte(i))})
	}
	batch = append(batch, store.Account{Name: "user7"}, store.Account{Name: "gone"})
	ids, err := s.CreateAccounts(ctx, batch)
	require.NoError(t, err)
	require.Len(t, ids, len(batch))
	seen := map[store.AccountID]bool{first: true}
	for i, id := range ids {
		if i == 5 || i >= many {
			require.Zero(t, id, batch[i].Name)
			continue
		}
		require.False(t, seen[id])
		seen[id] = true
	}
	got, err := s.Account(ctx, fmt.Sprint("user", many-1))
	require.NoError(t, err)
	require.Equal(t, ids[many-1], got.ID)
	require.Equal(t, credentials(byte(many-1)), got.Credentials)
	ids, err = s.CreateAccounts(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, ids)
}

// testRenewCredentials: keys are replaced only when they and the account are as they were; that ends no login, and
// others hear of it.
func testRenewCredentials(t *testing.T, d Databases) {
	node, tool := pair(t, d)
	ctx := context.Background()
	a, _ := twoAccounts(t, tool)
	require.NoError(t, tool.SetCredentials(ctx, "alice", credentials(1)))
	require.NoError(t, tool.PutDevice(ctx, device(a, "phone", 0), store.AnyBasis, 10))
	before, err := node.Account(ctx, "alice")
	require.NoError(t, err)
	renew := func(basis store.Basis, old []store.Credential) error {
		return tool.RenewCredentials(ctx, "alice", basis, old, credentials(2))
	}
	require.ErrorIs(t, renew(before.Basis, credentials(3)), store.ErrOvertaken)
	require.ErrorIs(t, renew(before.Basis, credentials(1)[:1]), store.ErrOvertaken)
	require.ErrorIs(t, renew(before.Basis-1, credentials(1)), store.ErrOvertaken)
	require.ErrorIs(t, tool.RenewCredentials(ctx, "nobody", before.Basis, nil, nil), store.ErrNotFound)
	require.NoError(t, renew(before.Basis, before.Credentials))
	after, err := node.Account(ctx, "alice")
	require.NoError(t, err)
	require.Equal(t, credentials(2), after.Credentials)
	changed, _, err := node.ChangedSince(ctx, a, "phone", before.Basis)
	require.NoError(t, err)
	require.False(t, changed)
	_, err = node.Device(ctx, a, "phone")
	require.NoError(t, err)
	changes, err := node.Changes(ctx, int64(before.Basis), 10)
	require.NoError(t, err)
	require.Len(t, changes, 1)
	require.Equal(t, store.CredentialsRenewed, changes[0].Kind)
	require.Equal(t, "alice", changes[0].Name)
	counts, err := node.IterationCounts(ctx)
	require.NoError(t, err)
	require.Equal(t, []store.IterationCount{{Hash: "SHA-1", Iterations: 4096, Credentials: 1},
		{Hash: "SHA-256", Iterations: 10000, Credentials: 1}}, counts)
}

func testChangeAccount(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	require.ErrorIs(t, s.SetCredentials(ctx, "alice", credentials(1)), store.ErrNotFound)
	require.ErrorIs(t, s.SetDisabled(ctx, "alice", true), store.ErrNotFound)
	require.ErrorIs(t, s.DeleteAccount(ctx, "alice"), store.ErrNotFound)
	_, err := s.CreateAccount(ctx, store.Account{Name: "alice", Credentials: credentials(1)})
	require.NoError(t, err)
	require.NoError(t, s.SetCredentials(ctx, "alice", credentials(2)[:1]))
	require.NoError(t, s.SetDisabled(ctx, "alice", true))
	got, err := s.Account(ctx, "alice")
	require.NoError(t, err)
	require.False(t, got.Admin)
	for _, admin := range []bool{true, true, false} {
		require.NoError(t, s.SetAdmin(ctx, "alice", admin))
		got, err = s.Account(ctx, "alice")
		require.NoError(t, err)
		require.Equal(t, admin, got.Admin)
		all, err := s.ListAccounts(ctx, "", 10)
		require.NoError(t, err)
		require.Equal(t, admin, all[0].Admin)
	}
	require.ErrorIs(t, s.SetAdmin(ctx, "nobody", true), store.ErrNotFound)
	require.Equal(t, credentials(2)[:1], got.Credentials)
	require.True(t, got.Disabled)
	require.NoError(t, s.SetDisabled(ctx, "alice", true), "twice is no error")
	require.NoError(t, s.SetDisabled(ctx, "alice", false))
	got, err = s.Account(ctx, "alice")
	require.NoError(t, err)
	require.False(t, got.Disabled)
	require.Equal(t, noon(), got.Created)
}

// testDeleteAccount: what belongs to an account goes with it.
func testDeleteAccount(t *testing.T, d Databases) {
	now := noon()
	s, ctx := d.Open(t, t.TempDir(), func() time.Time { return now }), context.Background()
	defer func() { require.NoError(t, s.Close()) }()
	id, err := s.CreateAccount(ctx, store.Account{Name: "alice", Credentials: credentials(1)})
	require.NoError(t, err)
	_, err = SetRosterItem(s, id, store.RosterItem{JID: bob().JID, Listed: true}, 10)
	require.NoError(t, err)
	require.NoError(t, s.SetArchivePreference(ctx, id, store.ArchivePreference{Default: "never"}))
	require.NoError(t, s.SetLastActivity(ctx, id, 1, "bye"))
	require.NoError(t, s.DeleteAccount(ctx, "alice"))
	_, err = s.Account(ctx, "alice")
	require.ErrorIs(t, err, store.ErrNotFound)
	items, version, err := s.Roster(ctx, id)
	require.NoError(t, err)
	require.Empty(t, items)
	require.Zero(t, version)
	p, err := s.ArchivePreference(ctx, id)
	require.NoError(t, err)
	require.Zero(t, p)
	_, _, err = s.LastActivity(ctx, id)
	require.ErrorIs(t, err, store.ErrNotFound)
}

func testReservedNames(t *testing.T, d Databases) {
	now := noon()
	s, ctx := d.Open(t, t.TempDir(), func() time.Time { return now }), context.Background()
	defer func() { require.NoError(t, s.Close()) }()
	old, err := s.CreateAccount(ctx, store.Account{Name: "alice"})
	require.NoError(t, err)
	_, err = s.CreateAccount(ctx, store.Account{Name: "bob"})
	require.NoError(t, err)
	_, err = s.FormerAccount(ctx, "alice")
	require.ErrorIs(t, err, store.ErrNotFound, "it is there")
	require.NoError(t, s.DeleteAccount(ctx, "alice"))
	former := func(want store.AccountID) {
		t.Helper()
		got, err := s.FormerAccount(ctx, "alice")
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	former(old)
	now = now.Add(365*24*time.Hour - time.Second)
	_, err = s.CreateAccount(ctx, store.Account{Name: "alice"})
	require.ErrorIs(t, err, store.ErrExists)
	now = now.Add(2 * time.Second)
	id, err := s.CreateAccount(ctx, store.Account{Name: "alice"})
	require.NoError(t, err)
	require.NotEqual(t, old, id)
	require.NoError(t, s.DeleteAccount(ctx, "bob"))
	former(old)
	require.NoError(t, s.DeleteAccount(ctx, "alice"), "and again")
	former(id)
	_, err = s.CreateAccount(ctx, store.Account{Name: "alice"})
	require.ErrorIs(t, err, store.ErrExists)
}

// testIdentities: identities are not given in order, and not even the newest one is used again, whatever happens in
// between.
func testIdentities(t *testing.T, d Databases) {
	folder, ctx := t.TempDir(), context.Background()
	seen := map[store.AccountID]bool{}
	for i := range 4 {
		s := d.Open(t, folder, noon)
		name := fmt.Sprint("user", i)
		id, err := s.CreateAccount(ctx, store.Account{Name: name})
		require.NoError(t, err)
		require.False(t, seen[id])
		seen[id] = true
		require.Greater(t, id, store.AccountID(1000), "it is easily guessed")
		require.Less(t, id, store.AccountID(1<<63))
		require.NoError(t, s.DeleteAccount(ctx, name))
		require.NoError(t, s.Close())
	}
}

func testListAccounts(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	var batch []store.Account
	for _, name := range []string{"c", "a", "é", "b", "B"} {
		batch = append(batch, store.Account{Name: name, Disabled: name == "b", Credentials: credentials(1)})
	}
	ids, err := s.CreateAccounts(ctx, batch)
	require.NoError(t, err)
	var names []string
	after := ""
	for {
		page, err := s.ListAccounts(ctx, after, 2)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		require.LessOrEqual(t, len(page), 2)
		for _, a := range page {
			names = append(names, a.Name)
			require.Empty(t, a.Credentials)
			require.Equal(t, a.Name == "b", a.Disabled)
			require.Equal(t, noon(), a.Created)
			require.Contains(t, ids, a.ID)
		}
		after = page[len(page)-1].Name
	}
	require.Equal(t, []string{"B", "a", "b", "c", "é"}, names)
}

// testTwoProcesses: two that write at the same time wait for each other, and each sees what the other has done.
func testTwoProcesses(t *testing.T, d Databases) {
	folder, ctx := t.TempDir(), context.Background()
	a, b := d.Open(t, folder, noon), d.Open(t, folder, noon)
	defer func() { require.NoError(t, a.Close()); require.NoError(t, b.Close()) }()
	const each = 50
	errs := make(chan error, 2)
	for n, s := range []Database{a, b} {
		go func() {
			for i := range each {
				if _, err := s.CreateAccount(ctx, store.Account{Name: fmt.Sprintf("user%d-%d", n, i)}); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	require.NoError(t, <-errs)
	require.NoError(t, <-errs)
	for _, s := range []Database{a, b} {
		all, err := s.ListAccounts(ctx, "", 1000)
		require.NoError(t, err)
		require.Len(t, all, 2*each)
	}
}

// Preferences runs the suite for store.ArchivePreferences, store.LastActivity, store.Activities and store.Secrets.
func Preferences(t *testing.T, d Databases) {
	databaseTests{
		"ArchivePreference": testArchivePreference,
		"LastActivity":      testLastActivity,
		"Secret":            testSecret,
	}.run(t, d)
}

// twoAccounts creates accounts.
func twoAccounts(t testing.TB, s Database) (a, b store.AccountID) {
	ids, err := s.CreateAccounts(context.Background(), []store.Account{{Name: "alice"}, {Name: "bob"}})
	require.NoError(t, err)
	return ids[0], ids[1]
}

func testArchivePreference(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, b := twoAccounts(t, s)
	for _, want := range []store.ArchivePreference{
		{Default: "roster", Always: []jid.JID{romeo().JID, jid.MustParse("room@chat.example/ä")},
			Never: []jid.JID{juliet().JID}},
		{Default: "never"},
		{},
	} {
		require.NoError(t, s.SetArchivePreference(ctx, a, want))
		got, err := s.ArchivePreference(ctx, a)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	got, err := s.ArchivePreference(ctx, b)
	require.NoError(t, err)
	require.Zero(t, got)

	// HideReads is set by itself, before and after the rest, and the rest leaves it.
	for _, who := range []store.AccountID{a, b} {
		require.NoError(t, s.SetHideReads(ctx, who, true))
		require.NoError(t, s.SetArchivePreference(ctx, who, store.ArchivePreference{Default: "never"}))
		got, err = s.ArchivePreference(ctx, who)
		require.NoError(t, err)
		require.Equal(t, store.ArchivePreference{Default: "never", HideReads: true}, got)
		require.NoError(t, s.SetHideReads(ctx, who, false))
		got, err = s.ArchivePreference(ctx, who)
		require.NoError(t, err)
		require.Equal(t, store.ArchivePreference{Default: "never"}, got)
	}
}

func testLastActivity(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, b := twoAccounts(t, s)
	_, _, err := s.LastActivity(ctx, a)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, s.SetLastActivity(ctx, a, 1_700_000_000, "off to bed"))
	require.NoError(t, s.SetLastActivity(ctx, a, 1_700_000_001, ""))
	seconds, status, err := s.LastActivity(ctx, a)
	require.NoError(t, err)
	require.Equal(t, int64(1_700_000_001), seconds)
	require.Empty(t, status)
	require.NoError(t, s.SetActivities(ctx, map[store.AccountID]store.Activity{
		a: {Seconds: 5, Status: "é"}, b: {Seconds: 6}, b + 100: {Seconds: 7},
	}))
	seconds, status, err = s.LastActivity(ctx, a)
	require.NoError(t, err)
	require.Equal(t, int64(5), seconds)
	require.Equal(t, "é", status)
	seconds, _, err = s.LastActivity(ctx, b)
	require.NoError(t, err)
	require.Equal(t, int64(6), seconds)
	_, _, err = s.LastActivity(ctx, b+100)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, s.SetActivities(ctx, nil))
}

func testSecret(t *testing.T, d Databases) {
	folder, ctx := t.TempDir(), context.Background()
	s := d.Open(t, folder, noon)
	one, err := s.Secret(ctx, "one", 16)
	require.NoError(t, err)
	require.Len(t, one, 16)
	require.NotEqual(t, make([]byte, 16), one)
	two, err := s.Secret(ctx, "two", 32)
	require.NoError(t, err)
	require.Len(t, two, 32)
	require.NotEqual(t, one, two[:16])
	require.NoError(t, s.Close())
	s = d.Open(t, folder, noon)
	defer func() { require.NoError(t, s.Close()) }()
	again, err := s.Secret(ctx, "one", 16)
	require.NoError(t, err)
	require.Equal(t, one, again)
}
