package pebble

import (
	"encoding/binary"
	"testing"

	engine "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// asSchema1 makes a closed log one of schema 1.
func asSchema1(t *testing.T, files vfs.FS) {
	t.Helper()
	o, err := Options{files: files}.withDefaults()
	require.NoError(t, err)
	db, err := engine.Open("log", engineOptions(o, newEvents(silent(), nil)))
	require.NoError(t, err)
	require.NoError(t, db.DeleteRange([]byte{keyMember}, []byte{keyMember + 1}, engine.NoSync))
	require.NoError(t, db.Set([]byte{keyVersion}, binary.AppendUvarint(nil, 1), engine.Sync))
	require.NoError(t, db.Close())
}

// TestUpgrade: a log of the first schema has, after it was opened, what a new one has from the beginning. One whose first
// messages are damaged too.
func TestUpgrade(t *testing.T) {
	files := vfs.NewMem()
	o := Options{files: files, packMessages: 4, Logger: silent()}
	party := func(address string, account store.AccountID) store.Party {
		return store.Party{JID: jid.MustParse(address), Account: account}
	}
	alice, bob, romeo := party("alice@example.org", 1), party("bob@example.org", 2), party("romeo@montague.example", 0)
	l := mustOpen(t, "log", o)
	var first store.MessageID
	for round := range 3 {
		for _, pair := range [][2]store.Party{{bob, alice}, {alice, romeo}, {alice, alice}, {romeo, bob}} {
			a := &store.Append{Message: store.Message{
				Flags: store.InSenderArchive | store.InRecipientArchive | store.Unread, Sender: pair[0], Recipient: pair[1], Stanza: []byte("x"),
			}}
			require.NoError(t, l.Append(t.Context(), someTime(), []*store.Append{a}, nil))
			if round == 0 && first == 0 {
				first = a.ID
			}
		}
	}
	list := func() (all [][]store.Conversation) {
		for account := range store.AccountID(4) {
			found, _, err := l.Conversations(t.Context(), account, 0, 10)
			require.NoError(t, err)
			all = append(all, found)
		}
		return all
	}
	want := list()
	require.Len(t, want[1], 3)
	require.NoError(t, l.Close())
	for range 2 {
		asSchema1(t, files)
		l = mustOpen(t, "log", o)
		require.Equal(t, want, list())
		version, err := l.version()
		require.NoError(t, err)
		require.EqualValues(t, schemaVersion, version)
		require.NoError(t, l.Close())
		damage(t, files, "log", first)
	}
}
