package pebble

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// TestOpeningWritesNothing: opening a direct conversation neither writes nor waits for what is being written. It is
// there after a crash when something was appended to it, and can be opened again when not.
func TestOpeningWritesNothing(t *testing.T) {
	disk := vfs.NewCrashableMem()
	var hold, entered chan struct{}
	files := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if hold != nil && strings.HasSuffix(op.Path, ".log") &&
			(op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo) {
			close(entered)
			<-hold
		}
		return nil
	}))
	l := mustOpen(t, "log", Options{files: files, Logger: silent()})
	require.NoError(t, put(t.Context(), l, someTime(), batch(t, l, 1)...))
	hold, entered = make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() { done <- put(t.Context(), l, someTime(), batch(t, l, 1)...) }()
	<-entered
	written := l.db.Metrics().WAL.BytesIn
	open := func(l *Log, i int) store.ConversationID {
		o, err := l.OpenConversation(t.Context(), someTime(), store.DirectKey(alice(), correspondent(i)), nil)
		require.NoError(t, err)
		return o.ID
	}
	used, empty := open(l, 1), open(l, 2)
	require.Equal(t, used, open(l, 1))
	require.Equal(t, written, l.db.Metrics().WAL.BytesIn)
	close(hold)
	require.NoError(t, <-done)

	said := batch(t, l, 2)
	said[0].Conversation, said[1].Conversation = used, used
	hold = nil
	require.NoError(t, put(t.Context(), l, someTime(), said...))
	crashed := disk.CrashClone(vfs.CrashCloneCfg{})
	require.NoError(t, l.Close())
	l = mustOpen(t, "log", Options{files: crashed, Logger: silent()})
	require.Equal(t, used, open(l, 1))
	in, _, err := l.Conversations(t.Context(), 1, 0, 10)
	require.NoError(t, err)
	require.Len(t, in, 2)
	require.Equal(t, uint64(2), in[0].LastSeq)
	_, err = l.ConversationByID(t.Context(), empty)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NotEqual(t, used, open(l, 2))
	require.NoError(t, l.Close())
}

// TestUnwrittenAreBounded: who opens conversations and says nothing cannot fill the memory with them, and all of them
// are found.
func TestUnwrittenAreBounded(t *testing.T) {
	l := mustOpen(t, "log", Options{files: vfs.NewMem(), ConversationBytes: 1, Logger: silent()})
	far := func(i int) store.ConversationKey {
		address := fmt.Sprintf("%d@%sexample", i, strings.Repeat(strings.Repeat("x", 60)+".", 14))
		return store.DirectKey(alice(), store.Party{JID: jid.MustParse(address)})
	}
	made := map[store.ConversationID]bool{}
	const total = 2000
	for i := range total {
		o, err := l.OpenConversation(t.Context(), someTime(), far(i), nil)
		require.NoError(t, err)
		made[o.ID] = true
		require.Less(t, l.conversations.size, maxUnwritten)
	}
	require.Less(t, len(l.conversations.unwritten), total, "none was written")
	require.Len(t, l.conversations.keys, len(l.conversations.unwritten))
	for i := range total {
		o, err := l.FindConversation(t.Context(), far(i))
		require.NoError(t, err)
		require.True(t, made[o.ID])
	}
	require.Len(t, made, total)
	require.NoError(t, l.Close())
}

// TestConversationMemory: what is kept of conversations is bounded in bytes, whatever the length of addresses.
func TestConversationMemory(t *testing.T) {
	for _, length := range []int{3, 900} {
		const limit = 256 << 10
		// The engine works in the background: what it gives up meanwhile is counted too, so the least is what counts.
		least := math.MaxInt
		for try := 0; try < 5 && least > limit*5/4; try++ {
			least = min(least, conversationMemory(t, length, limit))
		}
		require.LessOrEqual(t, least, limit*5/4)
	}
}

// conversationMemory returns how many bytes a log keeps for conversations with addresses of that length.
func conversationMemory(t *testing.T, length, limit int) int {
	l := mustOpen(t, "log", Options{files: vfs.NewMem(), ConversationBytes: limit, Logger: silent()})
	domain := strings.Repeat(strings.Repeat("x", 60)+".", length/60) + "example"
	const total, size = 3_000, 100
	before := heap()
	for i := 0; i < total; {
		var entries []*store.Append
		for ; len(entries) < 2*size; i++ {
			far := store.Party{JID: jid.MustParse(fmt.Sprintf("user%d@%s", i, domain))}
			o, err := l.OpenConversation(t.Context(), someTime(), store.DirectKey(alice(), far), nil)
			require.NoError(t, err)
			entries = append(entries,
				&store.Append{Message: store.Message{
					Conversation: o.ID, Author: far, Stanza: []byte("<message/>"),
				}},
				&store.Append{Message: store.Message{
					Conversation: o.ID,
					Marker:       &store.Marker{Account: 1, Kind: store.MarkRead, Through: 1},
				}})
		}
		require.NoError(t, put(t.Context(), l, someTime(), entries...))
	}
	w, c := &l.writer, &l.conversations
	require.Greater(t, len(w.tails.old), 0, "nothing was forgotten")
	kept := len(w.tails.young) + len(w.tails.old)
	require.Less(t, kept, total)
	l.recents.young = newRecent(nil) // what the indexes do not have yet has a bound of its own
	with := heap()
	w.tails, w.reached = newWriter(&l.opts).tails, newWriter(&l.opts).reached
	c.byID.young, c.byID.old, c.byKey.young, c.byKey.old = nil, nil, nil, nil
	took := int(with) - int(heap())
	t.Logf("addresses of %d: %d tails, %d bytes of %d; %d in all", len(domain), kept, took, limit, with-before)
	require.NoError(t, l.Close())
	return took
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
