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
	id, err := s.CreateAccount(ctx, store.Account{Name: "a", Credentials: []store.Credential{{Hash: "SHA-1", Salt: []byte{1}, Iterations: 5, StoredKey: []byte{2}, ServerKey: []byte{3}}}})
	require.NoError(t, err)
	require.EqualValues(t, 1, id)
	_, err = s.CreateAccount(ctx, store.Account{Name: "a"})
	require.ErrorIs(t, err, store.ErrExists)
	a, err := s.Account(ctx, "a")
	require.NoError(t, err)
	require.Len(t, a.Credentials, 1)
	v, err := s.SetRosterItem(ctx, id, store.RosterItem{JID: jid.MustParse("b@c"), Groups: []string{"g"}, To: true, Listed: true}, 5)
	require.NoError(t, err)
	require.EqualValues(t, 1, v)
	items, v, err := s.Roster(ctx, id)
	require.NoError(t, err)
	require.EqualValues(t, 1, v)
	require.Equal(t, []store.RosterItem{{JID: jid.MustParse("b@c"), Groups: []string{"g"}, To: true, Listed: true}}, items)
	_, err = s.RemoveRosterItem(ctx, id, jid.MustParse("b@c"))
	require.NoError(t, err)
	_, removed, _, ok, err := s.RosterChanges(ctx, id, 1)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, []jid.JID{jid.MustParse("b@c")}, removed)
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

// TestAccountChanges: a process hears what another one did to accounts, but neither of its own doing nor of new accounts.
func TestAccountChanges(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "accounts.db")
	node, err := sqlite.Open(ctx, path, sqlite.Options{})
	require.NoError(t, err)
	defer node.Close()
	command, err := sqlite.Open(ctx, path, sqlite.Options{})
	require.NoError(t, err)
	defer command.Close()
	start, err := node.AccountChanges(ctx, -1, 1)
	require.NoError(t, err)
	require.Len(t, start, 1)

	id, err := command.CreateAccount(ctx, store.Account{Name: "romeo"})
	require.NoError(t, err)
	changes, err := node.AccountChanges(ctx, start[0].Number, 10)
	require.NoError(t, err)
	require.Empty(t, changes, "nobody can hold anything of an account that was not there")

	require.NoError(t, command.SetCredentials(ctx, "romeo", []store.Credential{{Hash: "SHA-1", Salt: []byte{1}, Iterations: 5, StoredKey: []byte{2}, ServerKey: []byte{3}}}))
	require.NoError(t, node.SetDisabled(ctx, "romeo", true))
	require.NoError(t, command.DeleteAccount(ctx, "romeo"))
	changes, err = node.AccountChanges(ctx, start[0].Number, 10)
	require.NoError(t, err)
	require.Len(t, changes, 2)
	for i, c := range changes {
		require.Equal(t, id, c.ID)
		require.Equal(t, "romeo", c.Name)
		require.Greater(t, c.Number, start[0].Number)
		start[0] = changes[i]
	}
}
