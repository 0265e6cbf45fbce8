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

// TestRetractedIsGone: after the tables are written and compacted, no file of the log holds what was retracted, neither what had
// been written to a table before nor what had not (P22).
func TestRetractedIsGone(t *testing.T) {
	files := vfs.NewMem()
	l := mustOpen(t, "log", Options{files: files, MemTableBytes: 256 << 10, packMessages: 10, Logger: silent()})
	var said []*store.Append
	for n := range 2 {
		b := batch(30)
		for i, a := range b {
			a.Flags |= store.Unread
			a.Stanza = []byte(strings.Repeat(fmt.Sprint(i), 50) + secret(n*len(b)+i) + strings.Repeat("y", 50))
		}
		require.NoError(t, l.Append(t.Context(), someTime(), b, nil))
		said = append(said, b...)
		if n == 0 {
			require.NoError(t, l.db.Flush())
		}
	}
	require.NotEmpty(t, holding(t, files, secret(45)), "a search that finds nothing means nothing")
	for _, n := range []int{5, 45} {
		undo := batch(1)[0]
		undo.Retract, undo.Remains = said[n].ID, []byte("<gone/>")
		require.NoError(t, l.Append(t.Context(), someTime(), []*store.Append{undo}, nil))
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
	c, err := l.ConversationWith(t.Context(), 2, said[0].Sender)
	require.NoError(t, err)
	require.Equal(t, 58, c.Unread)
	require.NoError(t, l.Close())
}

// TestNotSeenBeforeDurable: while a batch is being flushed, what it writes anew is read as it was; a crash then leaves it so.
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
	said := batch(2)
	for _, a := range said {
		a.Flags |= store.Unread
	}
	require.NoError(t, l.Append(t.Context(), someTime(), said, nil))
	look := func(l *Log) (string, []store.MessageFlags, store.Conversation) {
		m, err := l.Message(t.Context(), said[0].ID)
		require.NoError(t, err)
		all, err := l.Since(t.Context(), 0, 10)
		require.NoError(t, err)
		var flags []store.MessageFlags
		for _, m := range all {
			flags = append(flags, m.Flags)
		}
		c, err := l.ConversationWith(t.Context(), 2, said[0].Sender)
		require.NoError(t, err)
		return string(m.Stanza), flags, c
	}
	text, flags, conversation := look(l)
	require.Equal(t, 2, conversation.Unread)

	hold, entered = make(chan struct{}), make(chan struct{})
	change := batch(1)[0]
	change.Sender, change.Recipient = change.Recipient, change.Sender
	change.Retract, change.Remains = said[0].ID, []byte("<gone/>")
	change.ReadMarkers = &store.ReadMarkers{Account: 2, Device: "phone", Read: 2}
	done := make(chan error)
	go func() { done <- l.Append(t.Context(), someTime(), []*store.Append{change}, nil) }()
	<-entered
	gotText, gotFlags, gotConversation := look(l)
	crashed := disk.CrashClone(vfs.CrashCloneCfg{})
	close(hold)
	require.NoError(t, <-done)
	require.Equal(t, text, gotText)
	require.Equal(t, flags, gotFlags)
	require.Equal(t, conversation, gotConversation)

	after, _, c := look(l)
	require.Equal(t, "<gone/>", after)
	require.Equal(t, uint64(2), c.Own.Read)
	require.Zero(t, c.Unread)
	hold = nil
	require.NoError(t, l.Close())
	l = mustOpen(t, "log", Options{files: crashed, Logger: silent()})
	gotText, gotFlags, gotConversation = look(l)
	require.Equal(t, text, gotText)
	require.Equal(t, flags, gotFlags)
	require.Equal(t, conversation, gotConversation)
	require.NoError(t, l.Close())
}

// TestDamagedBesides: a damaged message cannot be retracted and damaged read markers are forgotten; neither stops the log.
func TestDamagedBesides(t *testing.T) {
	files := vfs.NewMem()
	l := mustOpen(t, "log", Options{files: files, Logger: silent()})
	said := batch(2)
	marker := batch(1)[0]
	marker.ReadMarkers = &store.ReadMarkers{Account: 1, Device: "phone", Read: 2}
	require.NoError(t, l.Append(t.Context(), someTime(), append(said, marker), nil))
	require.NoError(t, l.Close())
	damage(t, files, "log", said[0].ID)

	l = mustOpen(t, "log", Options{files: files, Logger: silent()})
	o := markersOf{said[0].Conversation, 1}
	require.NoError(t, l.db.Set(o.key(nil), []byte{99}, engine.Sync))
	c, err := l.ConversationWith(t.Context(), 1, said[0].Recipient)
	require.NoError(t, err)
	require.Zero(t, c.Own.Read)
	undo, again := batch(1)[0], batch(1)[0]
	undo.Retract, undo.Remains = said[0].ID, []byte("<gone/>")
	again.ReadMarkers = &store.ReadMarkers{Account: 1, Device: "phone", Read: 1}
	require.NoError(t, l.Append(t.Context(), someTime(), []*store.Append{undo, again}, nil))
	require.False(t, again.Stale)
	_, err = l.Message(t.Context(), said[0].ID)
	require.ErrorIs(t, err, store.ErrDamaged)
	c, err = l.ConversationWith(t.Context(), 1, said[0].Recipient)
	require.NoError(t, err)
	require.Equal(t, uint64(1), c.Own.Read)
	require.NoError(t, l.Close())
}
