package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/sqlite"
	"github.com/posthouse-im/posthouse/wire/jid"
)

func TestSmoke(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "x y?.db")
	s, err := sqlite.Open(ctx, path, sqlite.Options{})
	require.NoError(t, err)
	id, err := s.CreateAccount(ctx,
		store.Account{Name: "a", Credentials: []store.Credential{{Hash: "SHA-1", Salt: []byte{1}, Iterations: 5,
			StoredKey: []byte{2}, ServerKey: []byte{3}}}})
	require.NoError(t, err)
	require.NotZero(t, id)
	_, err = s.CreateAccount(ctx, store.Account{Name: "a"})
	require.ErrorIs(t, err, store.ErrExists)
	a, err := s.Account(ctx, "a")
	require.NoError(t, err)
	require.Len(t, a.Credentials, 1)
	want := store.RosterItem{JID: jid.MustParse("b@c"), Groups: []string{"g"}, To: true, Listed: true}
	set := func(to store.RosterItem) (version uint64, err error) {
		_, version, err = s.ChangeRosterItem(ctx, id, to.JID, 5,
			func(i *store.RosterItem) error { *i = to; return nil })
		return version, err
	}
	v, err := set(want)
	require.NoError(t, err)
	require.EqualValues(t, 1, v)
	items, v, err := s.Roster(ctx, id)
	require.NoError(t, err)
	require.EqualValues(t, 1, v)
	require.Equal(t, []store.RosterItem{want}, items)
	_, err = set(store.RosterItem{JID: want.JID})
	require.NoError(t, err)
	changes, _, ok, err := s.RosterChanges(ctx, id, 1)
	require.NoError(t, err)
	require.True(t, ok)
	gone := store.RosterItem{JID: jid.MustParse("b@c")}
	require.Equal(t, []store.RosterChange{{RosterItem: gone, Version: 2}}, changes)
	one, err := s.Secret(ctx, "x", 16)
	require.NoError(t, err)
	two, err := s.Secret(ctx, "x", 16)
	require.NoError(t, err)
	require.Equal(t, one, two)
	require.NoError(t, s.DeleteAccount(ctx, "a"))
	_, err = s.CreateAccount(ctx, store.Account{Name: "a"})
	require.ErrorIs(t, err, store.ErrExists)
	require.NoError(t, s.Close())
	s, err = sqlite.Open(ctx, path, sqlite.Options{})
	require.NoError(t, err)
	require.NoError(t, s.Close())
}
