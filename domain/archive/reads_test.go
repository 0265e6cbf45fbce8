package archive

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// mayRead fails the test when it is called, however indirectly, by the committer or by a worker that delivers: both
// have all that they need.
func mayRead(t testing.TB) {
	if _, is := t.(*testing.B); is {
		return // looking costs more than what is measured
	}
	var calls [64]uintptr
	frames := runtime.CallersFrames(calls[:runtime.Callers(2, calls[:])])
	for {
		f, more := frames.Next()
		switch {
		case strings.HasSuffix(f.Function, "archive.(*Archive).commitAll"),
			strings.HasSuffix(f.Function, "router.(*delivery).work"):
			t.Errorf("the store is read under %s", f.Function)
			return
		}
		if !more {
			return
		}
	}
}

func (b *brittle) Message(ctx context.Context, id store.MessageID) (store.Message, error) {
	mayRead(b.t)
	return b.MessageLog.Message(ctx, id)
}

func (b *brittle) Numbered(ctx context.Context, c store.ConversationID, first uint64, limit int) ([]store.Message,
	error) {
	mayRead(b.t)
	b.numbered.Add(1)
	return b.MessageLog.Numbered(ctx, c, first, limit)
}

func (b *brittle) OpenConversation(ctx context.Context, now time.Time, key store.ConversationKey,
	members []store.Member) (store.Opened, error) {
	mayRead(b.t)
	return b.MessageLog.OpenConversation(ctx, now, key, members)
}

func (b *brittle) FindConversation(ctx context.Context, key store.ConversationKey) (store.Opened, error) {
	mayRead(b.t)
	return b.MessageLog.FindConversation(ctx, key)
}

func (b *brittle) ConversationByID(ctx context.Context, id store.ConversationID) (store.Opened, error) {
	mayRead(b.t)
	b.numbered.Add(1)
	return b.MessageLog.ConversationByID(ctx, id)
}

func (b *brittle) Named(ctx context.Context, c store.ConversationID, author store.Party, name string) (uint64,
	store.MessageID, error) {
	mayRead(b.t)
	return b.MessageLog.Named(ctx, c, author, name)
}

func (b *brittle) Cursor(ctx context.Context, owner store.AccountID) (store.DeliveryCursor, error) {
	mayRead(b.t)
	return b.MessageLog.Cursor(ctx, owner)
}

func (b *brittle) Markers(ctx context.Context, c store.ConversationID, from store.AccountID, limit int) ([]store.Marker,
	bool, error) {
	mayRead(b.t)
	b.numbered.Add(1)
	return b.MessageLog.Markers(ctx, c, from, limit)
}

func (b *brittle) Origin(ctx context.Context, sender store.Party, id string) (store.Sent, error) {
	mayRead(b.t)
	return b.MessageLog.Origin(ctx, sender, id)
}

func (b *brittle) Undelivered(ctx context.Context, owner store.AccountID, after store.MessageID,
	limit int) ([]store.Message, error) {
	mayRead(b.t)
	return b.MessageLog.Undelivered(ctx, owner, after, limit)
}

// TestCommitterAndWorkersReadNothing: of all that can happen to a message, nothing makes the committer or a worker read
// the log, the preferences or the accounts. Every other test of this package with a committer checks it too.
func TestCommitterAndWorkersReadNothing(t *testing.T) {
	h := newHouse(t, memory(), func(c *Config) { c.RetractWindow = -1 })
	stop := h.run(t)
	r := h.say(t, orchard, named("m1", chat("juliet@verona.example", "one", origin("o1"))))
	require.Nil(t, r.Err)
	h.say(t, orchard, named("m1", chat("juliet@verona.example", "one", origin("o1"))))
	h.say(t, orchard, chat("juliet@verona.example", "uno", replace("m1")))
	h.say(t, balcony, chat("romeo@verona.example", "", displayed("m1")))
	h.say(t, balcony, chat("romeo@verona.example", "read", displayed("m1")))
	h.say(t, balcony, chat("romeo@verona.example", "", displayed("unknown")))
	h.say(t, orchard, chat("juliet@verona.example", "", active()))
	h.say(t, orchard, chat("balthasar@mantua.example", "x"))
	_, refusal := h.Moderate(t.Context(), jid.MustParse("prince@verona.example"), h.StanzaID(r.ID), "")
	require.Nil(t, refusal)
	h.say(t, orchard, chat("juliet@verona.example", "", retract("m1")))
	require.NoError(t, stop())
	require.NotZero(t, h.prefs.reads.Load())
}
