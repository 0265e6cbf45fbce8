package pebble

import (
	"io"
	"log/slog"
	"testing"
	"time"

	engine "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/storetest"
)

// silent is a logger for tests that provoke errors.
func silent() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// onDisk runs the suite on real files.
func onDisk(o Options) storetest.Logs {
	o.Logger = silent()
	return storetest.Logs{
		Open:   func(t testing.TB, folder string) storetest.Log { return mustOpen(t, folder, o) },
		Damage: func(t testing.TB, folder string, id store.MessageID) { damage(t, vfs.Default, folder, id) },
	}
}

// inMemory runs the suite on files in memory, which are there as long as the test.
func inMemory(o Options) storetest.Logs {
	disks := map[string]vfs.FS{}
	o.Logger = silent()
	return storetest.Logs{
		Open: func(t testing.TB, folder string) storetest.Log {
			if disks[folder] == nil {
				disks[folder] = vfs.NewMem()
			}
			o.files = disks[folder]
			return mustOpen(t, "log", o)
		},
		Damage: func(t testing.TB, folder string, id store.MessageID) { damage(t, disks[folder], "log", id) },
	}
}

func mustOpen(t testing.TB, folder string, o Options) *Log {
	t.Helper()
	l, err := Open(folder, o)
	require.NoError(t, err)
	return l
}

// damage flips one bit in the middle of a stored record, behind the log's back.
func damage(t testing.TB, files vfs.FS, folder string, id store.MessageID) {
	t.Helper()
	o, err := Options{files: files}.withDefaults()
	require.NoError(t, err)
	db, err := engine.Open(folder, engineOptions(folder, o, newEvents(silent(), nil)))
	require.NoError(t, err)
	key := idKey(nil, keyMessage, uint64(id))
	value, closer, err := db.Get(key)
	require.NoError(t, err)
	changed := append([]byte(nil), value...)
	require.NoError(t, closer.Close())
	changed[len(changed)/2] ^= 0x10
	require.NoError(t, db.Set(key, changed, engine.Sync))
	require.NoError(t, db.Close())
}

func TestMessageLog(t *testing.T) {
	t.Parallel()
	storetest.MessageLog(t, onDisk(Options{}))
}

func TestMessageLogRelaxed(t *testing.T) {
	t.Parallel()
	storetest.MessageLog(t, inMemory(Options{Durability: DurabilityRelaxed}))
}

// TestMessageLogPacked packs every few messages, so that answers come from disk and memory together.
func TestMessageLogPacked(t *testing.T) {
	t.Parallel()
	storetest.MessageLog(t, inMemory(Options{packMessages: 7}))
}

// TestMessageLogSmall keeps no conversation in memory, packs at once and flushes all the time.
func TestMessageLogSmall(t *testing.T) {
	t.Parallel()
	storetest.MessageLog(t, inMemory(Options{ConversationBytes: 1, MemTableBytes: 256 << 10, packMessages: 1}))
}

func TestModel(t *testing.T) {
	storetest.MessageLogModel(t, inMemory(Options{ConversationBytes: 4000, packMessages: 3, MemTableBytes: 256 << 10}))
}

// TestToldOfFormerMarkers: a report that comes after the marker moved on says what the other party was told of, too.
func TestToldOfFormerMarkers(t *testing.T) {
	l := mustOpen(t, t.TempDir(), Options{Logger: silent()})
	defer func() { require.NoError(t, l.Close()) }()
	alice, bob := store.Party{Account: 1}, store.Party{Account: 2}
	opened, err := l.OpenConversation(t.Context(), time.Now(), store.DirectKey(alice, bob), nil)
	require.NoError(t, err)
	var batch store.Batch
	for range 4 {
		batch.Entries = append(batch.Entries,
			&store.Append{Message: store.Message{Conversation: opened.ID, Author: alice, Flags: store.ForOffline}})
	}
	require.NoError(t, l.Append(t.Context(), &batch))
	moved := make([]store.MessageID, 4)
	for i := range moved {
		change := &store.Append{Message: store.Message{Conversation: opened.ID, Author: bob,
			Marker: &store.Marker{Account: 2, Kind: store.MarkDelivered, Through: uint64(i + 1)}}}
		require.NoError(t, l.Append(t.Context(), &store.Batch{Entries: []*store.Append{change}}))
		moved[i] = change.ID
	}
	for _, step := range []struct {
		account store.AccountID
		ids     []store.MessageID
		told    uint64
	}{
		{2, moved[1:2], 0}, // his own
		{1, moved[1:2], 2},
		{1, moved[:1], 2}, // late
		{1, []store.MessageID{moved[3], moved[2]}, 4},
	} {
		require.NoError(t, l.Deliver(t.Context(), []store.Delivered{{Account: step.account, IDs: step.ids}}))
		all, _, err := l.Markers(t.Context(), opened.ID, 2, 1)
		require.NoError(t, err)
		require.Equal(t, step.told, all[0].Told)
	}
}
