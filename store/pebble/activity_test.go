package pebble

import (
	"fmt"
	"testing"

	engine "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// correspondent is one of alice's many.
func correspondent(i int) store.Party {
	return store.Party{JID: jid.MustParse(fmt.Sprintf("c%d@example.org", i)), Account: store.AccountID(100 + i)}
}

// toEach sends alice a message of each of n correspondents, in batches.
func toEach(t testing.TB, l *Log, n int) {
	t.Helper()
	for i := 0; i < n; {
		var entries []*store.Append
		for ; i < n && len(entries) < 200; i++ {
			o, err := l.OpenConversation(t.Context(), someTime(), store.DirectKey(alice(), correspondent(i)), nil)
			require.NoError(t, err)
			entries = append(entries, &store.Append{Message: store.Message{
				Conversation: o.ID,
				Flags:        store.InAuthorArchive | store.InRecipientArchive | store.Unread,
				Author:       correspondent(i),
				Stanza:       []byte("<message/>"),
			}})
		}
		require.NoError(t, put(t.Context(), l, someTime(), entries...))
	}
}

// entriesOf counts alice's activity entries.
func entriesOf(t *testing.T, l *Log) (n int) {
	t.Helper()
	lower, upper := bounds(keyActivity, 1)
	it, err := l.db.NewIter(&engine.IterOptions{LowerBound: lower, UpperBound: upper})
	require.NoError(t, err)
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	require.NoError(t, it.Close())
	return n
}

// TestActivityIsCleared: what is overtaken in a long list goes away when the list is read, and the list is right before
// and after, also when the account has only just become large.
func TestActivityIsCleared(t *testing.T) {
	t.Parallel()
	files := vfs.NewMem()
	l := mustOpen(t, "log", Options{files: files, packMessages: 100, Logger: silent()})
	const total = 300
	for round := range 6 {
		toEach(t, l, total)
		<-l.packing.done
		var before store.MessageID
		for i := 0; i < total; i += 50 {
			found, more, err := l.Conversations(t.Context(), 1, before, 50)
			require.NoError(t, err)
			require.Len(t, found, 50)
			require.Equal(t, i+50 < total, more)
			for j, c := range found {
				require.Equal(t, correspondent(total-1-i-j), c.With)
				require.Equal(t, uint64(round+1), c.LastSeq)
				require.Equal(t, round+1, c.Unread)
				before = c.Last
			}
		}
	}
	require.True(t, l.large.has(1))
	require.False(t, l.large.has(100))
	require.Less(t, entriesOf(t, l), 4*total, "all that were overtaken are still there")
	require.NoError(t, l.Close())
	l = mustOpen(t, "log", Options{files: files, Logger: silent()})
	require.True(t, l.large.has(1))
	require.NoError(t, l.Close())
}

// TestRestoredBackup: a position that was given out after a backup was made is not held by the log that is restored
// from it, even when that has grown beyond it since; one from before is.
func TestRestoredBackup(t *testing.T) {
	files, backup := vfs.NewMem(), vfs.NewMem()
	l := mustOpen(t, "log", Options{files: files, Logger: silent()})
	position := func() (store.MessageID, uint64) {
		b := batch(t, l, 1)
		require.NoError(t, put(t.Context(), l, someTime(), b...))
		epoch, err := l.Epoch(t.Context(), b[0].ID)
		require.NoError(t, err)
		return b[0].ID, epoch
	}
	early, earlyEpoch := position()
	require.NoError(t, l.Close())
	_, err := vfs.Clone(files, backup, "log", "log")
	require.NoError(t, err)
	l = mustOpen(t, "log", Options{files: files, Logger: silent()})
	late, lateEpoch := position()
	require.NoError(t, l.Close())

	l = mustOpen(t, "log", Options{files: backup, Logger: silent()})
	for _, grown := range []bool{false, true} {
		held, err := l.Holds(t.Context(), early, earlyEpoch)
		require.NoError(t, err)
		require.True(t, held)
		held, err = l.Holds(t.Context(), late, lateEpoch)
		require.NoError(t, err)
		require.False(t, held)
		if !grown {
			again, _ := position()
			require.Equal(t, late, again, "the same identity is given out once more")
		}
	}
	require.NoError(t, l.Close())
}
