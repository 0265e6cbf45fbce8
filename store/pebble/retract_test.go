package pebble

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	engine "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// holding returns the files of the log that hold a text.
func holding(t *testing.T, files vfs.FS, text string) (found []string) {
	t.Helper()
	names, err := files.List("log")
	require.NoError(t, err)
	for _, name := range names {
		f, err := files.Open("log/" + name)
		require.NoError(t, err)
		content, err := io.ReadAll(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		if bytes.Contains(content, []byte(text)) {
			found = append(found, name)
		}
	}
	return found
}

// secrets returns n bytes that do not compress, with a text in them that can be found.
func secret(n int) string { return fmt.Sprintf("the-secret-of-%d", n) }

// TestRetractedIsGone: after the tables are written and compacted, no file of the log holds what was retracted, neither
// what had been written to a table before nor what had not (P22).
func TestRetractedIsGone(t *testing.T) {
	files := vfs.NewMem()
	l := mustOpen(t, "log", Options{files: files, MemTableBytes: 256 << 10, packMessages: 10, Logger: silent()})
	var said []*store.Append
	for n := range 2 {
		b := batch(t, l, 30)
		for i, a := range b {
			a.Flags |= store.Unread
			a.Stanza = []byte(strings.Repeat(fmt.Sprint(i), 50) + secret(n*len(b)+i) + strings.Repeat("y", 50))
		}
		require.NoError(t, put(t.Context(), l, someTime(), b...))
		said = append(said, b...)
		if n == 0 {
			require.NoError(t, l.db.Flush())
		}
	}
	require.NotEmpty(t, holding(t, files, secret(45)), "a search that finds nothing means nothing")
	for _, n := range []int{5, 45} {
		undo := batch(t, l, 1)[0]
		undo.Retract, undo.Remains = said[n].ID, []byte("<gone/>")
		require.NoError(t, put(t.Context(), l, someTime(), undo))
	}
	require.NoError(t, l.db.Flush())
	require.NoError(t, l.db.Compact(t.Context(), []byte{keyMessage}, []byte{keyMessage + 1}, false))
	l.db.TestOnlyWaitForCleaning()
	for n, a := range said {
		m, err := l.Message(t.Context(), a.ID)
		require.NoError(t, err)
		if n == 5 || n == 45 {
			require.Equal(t, "<gone/>", string(m.Stanza))
			require.Empty(t, holding(t, files, secret(n)))
		} else {
			require.Equal(t, a.Stanza, m.Stanza)
		}
	}
	c, err := l.ConversationOf(t.Context(), 2, said[0].Conversation)
	require.NoError(t, err)
	require.Equal(t, 58, c.Unread)
	require.NoError(t, l.Close())
}

// TestNotSeenBeforeDurable: while a batch is being flushed, what it writes anew is read as it was; a crash then leaves
// it so.
func TestNotSeenBeforeDurable(t *testing.T) {
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
	said := batch(t, l, 2)
	for _, a := range said {
		a.Flags |= store.Unread
	}
	require.NoError(t, put(t.Context(), l, someTime(), said...))
	room, err := l.OpenConversation(
		t.Context(), someTime(), store.RoomKey(jid.MustParse("hall@rooms.example.org"), 1), nil,
	)
	require.NoError(t, err)
	type view struct {
		text         string
		all          []store.Message
		conversation store.Conversation
		room         store.Opened
		members      []store.Member
		rooms        []store.Conversation
		last         store.MessageID
	}
	look := func(l *Log) (v view) {
		ctx := t.Context()
		m, err := l.Message(ctx, said[0].ID)
		require.NoError(t, err)
		v.text = string(m.Stanza)
		v.all, err = l.Since(ctx, 0, 10)
		require.NoError(t, err)
		v.conversation, err = l.ConversationOf(ctx, 2, said[0].Conversation)
		require.NoError(t, err)
		v.room, err = l.ConversationByID(ctx, room.ID)
		require.NoError(t, err)
		v.members, _, err = l.Members(ctx, room.ID, 0, 10)
		require.NoError(t, err)
		v.rooms, _, err = l.Conversations(ctx, 9, 0, 10)
		require.NoError(t, err)
		v.last, err = l.Last(ctx)
		require.NoError(t, err)
		return v
	}
	before := look(l)
	require.Equal(t, 2, before.conversation.Unread)

	hold, entered = make(chan struct{}), make(chan struct{})
	change := batch(t, l, 1)[0]
	change.Author = bob()
	change.Retract, change.Remains = said[0].ID, []byte("<gone/>")
	joining := &store.Append{Message: store.Message{Conversation: room.ID}}
	joining.Members = []store.Member{
		{Account: 9, Role: store.RoleMember, Access: []store.Interval{{From: store.ThisSeq}}},
	}
	entries := []*store.Append{change, marking(t, l, 2, store.MarkRead, 2), joining}
	done := make(chan error)
	go func() { done <- put(t.Context(), l, someTime(), entries...) }()
	<-entered
	during := look(l)
	crashed := disk.CrashClone(vfs.CrashCloneCfg{})
	close(hold)
	require.NoError(t, <-done)
	require.Equal(t, before, during)

	after := look(l)
	require.Equal(t, "<gone/>", after.text)
	require.Equal(t, uint64(2), after.conversation.Own.Read)
	require.Zero(t, after.conversation.Unread)
	require.Equal(t, uint64(1), after.room.Rights)
	require.Len(t, after.members, 1)
	require.Len(t, after.rooms, 1)
	hold = nil
	require.NoError(t, l.Close())
	l = mustOpen(t, "log", Options{files: crashed, Logger: silent()})
	// The room was opened after the last flush, and so it is gone.
	_, err = l.ConversationByID(t.Context(), room.ID)
	require.ErrorIs(t, err, store.ErrNotFound)
	all, err := l.Since(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Equal(t, before.all, all)
	require.NoError(t, l.Close())
}

// TestDamagedBesides: a damaged message cannot be retracted and a damaged marker is forgotten; neither stops the log.
func TestDamagedBesides(t *testing.T) {
	files := vfs.NewMem()
	o := Options{files: files, packMessages: 1, Logger: silent()}
	l := mustOpen(t, "log", o)
	said := batch(t, l, 2)
	require.NoError(t, put(t.Context(), l, someTime(), append(said, marking(t, l, 1, store.MarkRead, 2))...))
	in := said[0].Conversation
	require.NoError(t, put(t.Context(), l, someTime(), batch(t, l, 1)...)) // what is above is packed
	require.NoError(t, l.Close())
	damage(t, files, "log", said[0].ID)

	l = mustOpen(t, "log", o)
	require.NoError(t, l.db.Set(marker{in, 1, store.MarkRead}.key(nil), []byte{99}, engine.Sync))
	c, err := l.ConversationOf(t.Context(), 1, in)
	require.NoError(t, err)
	require.Zero(t, c.Own.Read)
	undo, again := batch(t, l, 1)[0], marking(t, l, 1, store.MarkRead, 1)
	undo.Retract, undo.Remains = said[0].ID, []byte("<gone/>")
	require.NoError(t, put(t.Context(), l, someTime(), undo, again))
	require.False(t, again.Stale)
	_, err = l.Message(t.Context(), said[0].ID)
	require.ErrorIs(t, err, store.ErrDamaged)
	c, err = l.ConversationOf(t.Context(), 1, in)
	require.NoError(t, err)
	require.Equal(t, uint64(1), c.Own.Read)
	require.NoError(t, l.Close())
}
