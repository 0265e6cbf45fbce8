package pebble

import (
	"testing"

	engine "github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/storetest"
)

func logs(o Options) storetest.Logs {
	return storetest.Logs{
		Open: func(t testing.TB, folder string) storetest.Log {
			t.Helper()
			l, err := Open(folder, o)
			require.NoError(t, err)
			return l
		},
		Damage: damage,
	}
}

// damage flips one bit in the middle of a stored record, behind the log's back.
func damage(t testing.TB, folder string, id store.MessageID) {
	t.Helper()
	db, err := engine.Open(folder, &engine.Options{FormatMajorVersion: engine.FormatValueSeparation, Logger: quiet{}})
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

type quiet struct{}

func (quiet) Infof(string, ...any)      {}
func (quiet) Errorf(string, ...any)     {}
func (quiet) Fatalf(f string, a ...any) { panic(f) }

func TestMessageLog(t *testing.T) {
	storetest.MessageLog(t, logs(Options{}))
}

func TestMessageLogRelaxed(t *testing.T) {
	storetest.MessageLog(t, logs(Options{Durability: DurabilityRelaxed, MemTableBytes: 1 << 20}))
}

// TestMessageLogPacked packs every few messages, so that answers come from disk and memory together.
func TestMessageLogPacked(t *testing.T) {
	storetest.MessageLog(t, logs(Options{packMessages: 7, MemTableBytes: 1 << 20}))
}

// TestMessageLogSmall runs with no conversation kept in memory, so that every number is read back.
func TestMessageLogSmall(t *testing.T) {
	storetest.MessageLog(t, logs(Options{Conversations: 1, MemTableBytes: 256 << 10, packMessages: 1}))
}

func TestModel(t *testing.T) {
	storetest.MessageLogModel(t, logs(Options{Conversations: 2, packMessages: 3, MemTableBytes: 256 << 10}))
}
