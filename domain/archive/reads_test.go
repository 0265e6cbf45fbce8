package archive

import (
	"context"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// mayRead fails the test when it is called, however indirectly, by the committer or by a worker that delivers: both have all that they
// need. What a device reports is read for by its own writer, and in tests wherever that is played.
func mayRead(t testing.TB) {
	var calls [64]uintptr
	frames := runtime.CallersFrames(calls[:runtime.Callers(2, calls[:])])
	for {
		f, more := frames.Next()
		switch {
		case strings.HasSuffix(f.Function, "archive.(*Archive).Delivered"):
			return
		case strings.HasSuffix(f.Function, "archive.(*Archive).commitAll"), strings.HasSuffix(f.Function, "router.(*delivery).work"):
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

func (b *brittle) Numbered(ctx context.Context, c store.ConversationID, first uint64, limit int) ([]store.Message, error) {
	mayRead(b.t)
	return b.MessageLog.Numbered(ctx, c, first, limit)
}

func (b *brittle) Conversation(ctx context.Context, one, other store.Party) (store.ConversationID, uint64, error) {
	mayRead(b.t)
	return b.MessageLog.Conversation(ctx, one, other)
}

func (b *brittle) Origin(ctx context.Context, sender store.Party, id string) (store.MessageID, store.ConversationID, uint64, error) {
	mayRead(b.t)
	return b.MessageLog.Origin(ctx, sender, id)
}

func (b *brittle) Undelivered(ctx context.Context, owner store.AccountID, after store.MessageID, limit int) ([]store.Message, error) {
	mayRead(b.t)
	return b.MessageLog.Undelivered(ctx, owner, after, limit)
}

func (b *brittle) DeliveryCursor(ctx context.Context, owner store.AccountID) (store.DeliveryCursor, error) {
	mayRead(b.t)
	return b.MessageLog.DeliveryCursor(ctx, owner)
}

func (b *brittle) ReadMarkersOf(ctx context.Context, c store.ConversationID, account store.AccountID) ([]store.ReadMarkers, error) {
	mayRead(b.t)
	return b.MessageLog.ReadMarkersOf(ctx, c, account)
}

// TestCommitterAndWorkersReadNothing: of all that can happen to a message, nothing makes the committer or a worker read the log, the preferences or the
// accounts. Every other test of this package with a committer checks it too.
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
