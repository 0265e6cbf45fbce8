package inbox

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/storetest"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// count is how often something was read, and how many records came of it.
type count map[string]int

func (c count) note(call string, records int) {
	c["calls of "+call]++
	c["records of "+call] += records
}

// countedLog counts what is read from a log.
type countedLog struct {
	store.MessageLog
	count count
}

func (l countedLog) Message(ctx context.Context, id store.MessageID) (store.Message, error) {
	l.count.note("Message", 1)
	return l.MessageLog.Message(ctx, id)
}

func (l countedLog) History(ctx context.Context, q store.HistoryQuery) ([]store.Message, bool, error) {
	found, more, err := l.MessageLog.History(ctx, q)
	l.count.note("History", len(found))
	return found, more, err
}

func (l countedLog) Numbered(
	ctx context.Context, c store.ConversationID, first uint64, limit int,
) ([]store.Message, error) {
	found, err := l.MessageLog.Numbered(ctx, c, first, limit)
	l.count.note("Numbered", len(found))
	return found, err
}

func (l countedLog) FindConversation(ctx context.Context, key store.ConversationKey) (store.Opened, error) {
	l.count.note("FindConversation", 1)
	return l.MessageLog.FindConversation(ctx, key)
}

func (l countedLog) Conversations(
	ctx context.Context, o store.AccountID, before store.MessageID, limit int,
) ([]store.Conversation, bool, error) {
	found, more, err := l.MessageLog.Conversations(ctx, o, before, limit)
	l.count.note("Conversations", len(found))
	return found, more, err
}

func (l countedLog) ConversationOf(
	ctx context.Context, o store.AccountID, id store.ConversationID,
) (store.Conversation, error) {
	l.count.note("ConversationOf", 1)
	return l.MessageLog.ConversationOf(ctx, o, id)
}

// countedSettings counts what is read of settings.
type countedSettings struct {
	store.Settings
	count count
}

func (s countedSettings) ConversationSettings(
	ctx context.Context, o store.AccountID, with []string,
) ([]store.ConversationSettings, error) {
	found, err := s.Settings.ConversationSettings(ctx, o, with)
	s.count.note("ConversationSettings", len(found))
	return found, err
}

func (s countedSettings) ChosenConversationSettings(
	ctx context.Context, o store.AccountID, before uint64, limit int,
) ([]store.ConversationSettings, error) {
	found, err := s.Settings.ChosenConversationSettings(ctx, o, before, limit)
	s.count.note("ChosenConversationSettings", len(found))
	return found, err
}

func (s countedSettings) ChangedConversationSettings(
	ctx context.Context, o store.AccountID, after uint64, limit int,
) ([]store.ConversationSettings, uint64, error) {
	found, last, err := s.Settings.ChangedConversationSettings(ctx, o, after, limit)
	s.count.note("ChangedConversationSettings", len(found))
	return found, last, err
}

// crowd makes an account with that many conversations, each with two messages, and settings for some of them.
func (h *house) crowd(name string, conversations int) (o store.Party) {
	h.t.Helper()
	o = h.account(name)
	var batch []*store.Append
	for i := range conversations {
		peer := store.Party{JID: jid.MustParse(fmt.Sprint("peer", i, "@elsewhere.example"))}
		batch = append(batch, h.text(peer, o, "1"), h.text(peer, o, "2"))
		if i%10 == 9 {
			h.choose(o, peer.JID, true)
		}
		if len(batch) >= 500 || i == conversations-1 {
			h.append(batch...)
			batch = nil
		}
	}
	return o
}

// TestCostIsFlat: what a page of the list, of a first sync and of changes, and looking for one conversation reads is
// the same for an account with 200 conversations and for one with ten times as many, 20,000 in `make nightly`.
func TestCostIsFlat(t *testing.T) {
	h := newHouse(t)
	log := openLog(t, t.TempDir())
	defer func() { require.NoError(t, log.Close()) }()
	h.use(log)
	few, many := h.crowd("few", 200), h.crowd("many", storetest.Scaled(t, 2000))
	gone := h.account("gone")
	h.say(gone, few, "bye")
	h.say(gone, many, "bye")
	require.NoError(t, h.db.DeleteAccount(t.Context(), "gone"))
	read := count{}
	h.config.Settings = countedSettings{h.db, read}
	h.use(countedLog{log, read})
	for name, do := range map[string]func(o store.Party, begun string){
		"the list": func(o store.Party, _ string) {
			list, next, err := h.view.Conversations(t.Context(), owner(o), Position{}, 50)
			require.NoError(t, err)
			require.Len(t, list, 50)
			require.NotZero(t, next.Before)
			list, _, err = h.view.Conversations(t.Context(), owner(o), next, 50)
			require.NoError(t, err)
			require.Len(t, list, 50)
		},
		"a first sync": func(o store.Party, _ string) {
			pages, _ := h.follow(o, "", 100)
			require.Len(t, withs(pages...), 50)
		},
		"changes": func(o store.Party, begun string) {
			require.Len(t, bodies(h.sync(o, begun, 100)), 100)
		},
		"the end of the list": func(o store.Party, _ string) {
			_, next, err := h.view.Conversations(t.Context(), owner(o), Position{Chosen: newest}, 10)
			require.NoError(t, err)
			require.NotZero(t, next.Chosen)
		},
		"a conversation": func(o store.Party, _ string) {
			_, found, _, err := h.view.History(
				t.Context(), owner(o), jid.MustParse("peer5@elsewhere.example"), HistoryQuery{After: 1},
			)
			require.NoError(t, err)
			require.Len(t, found, 1)
		},
		"somebody who has left": func(o store.Party, _ string) {
			c, err := h.view.Conversation(t.Context(), owner(o), gone.JID)
			require.NoError(t, err)
			require.NotZero(t, c.Last)
		},
		"nobody": func(o store.Party, _ string) {
			_, err := h.view.Conversation(t.Context(), owner(o), jid.MustParse("nobody@example.org"))
			require.ErrorIs(t, err, store.ErrNotFound)
		},
	} {
		var costs []count
		for _, o := range []store.Party{few, many} {
			_, settings, err := h.db.ChangedConversationSettings(t.Context(), o.Account, newest, 1)
			require.NoError(t, err)
			begun := h.view.seal.text(&cursor{account: o.Account, settings: settings - 3})
			clear(read)
			do(o, begun)
			cost := count{}
			for what, n := range read {
				cost[what] = n
			}
			costs = append(costs, cost)
		}
		require.Equal(t, costs[0], costs[1], name)
		all := 0
		for _, n := range costs[1] {
			all += n
		}
		t.Logf("%s: %v", name, costs[1])
		require.LessOrEqual(t, all, 500, "%s: %v", name, costs[1])
	}
}
