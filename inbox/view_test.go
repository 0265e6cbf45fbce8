package inbox

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

func TestConversations(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	alice, bob, carol := h.account("alice"), h.account("bob"), h.account("carol")
	romeo := store.Party{JID: jid.MustParse("romeo@montague.example")}
	h.say(bob, alice, "1")
	h.say(romeo, alice, "2")
	h.say(alice, carol, "3")
	_, err := h.db.SetConversationSettings(ctx, alice.Account, store.ConversationSettings{With: romeo.JID.String(), Pinned: true}, 5)
	require.NoError(t, err)
	var seen []string
	before := store.MessageID(0)
	for more := true; more; {
		var found []Conversation
		found, more, err = h.view.Conversations(ctx, owner(alice), before, 2)
		require.NoError(t, err)
		for _, c := range found {
			seen = append(seen, c.With.JID.Local()+" "+string(c.LastMessage.Stanza))
			require.Equal(t, c.With == romeo, c.Settings.Pinned)
			one, err := h.view.Conversation(ctx, owner(alice), c.With.JID)
			require.NoError(t, err)
			require.Equal(t, c, one)
		}
		before = found[len(found)-1].Last
	}
	require.Equal(t, []string{"carol 3", "romeo 2", "bob 1"}, seen)
	for _, with := range []string{"nobody@example.org", "example.org", "juliet@montague.example"} {
		_, err = h.view.Conversation(ctx, owner(alice), jid.MustParse(with))
		require.ErrorIs(t, err, store.ErrNotFound)
	}
}

// TestDeletedAccount: a conversation with somebody who has left can still be read.
func TestDeletedAccount(t *testing.T) {
	h := newHouse(t)
	alice, bob := h.account("alice"), h.account("bob")
	h.say(bob, alice, "1", "2")
	require.NoError(t, h.db.DeleteAccount(t.Context(), "bob"))
	c, err := h.view.Conversation(t.Context(), owner(alice), bob.JID)
	require.NoError(t, err)
	require.Equal(t, bob, c.With)
	found, _, err := h.view.History(t.Context(), owner(alice), bob.JID, HistoryQuery{})
	require.NoError(t, err)
	require.Len(t, found, 2)
}

// TestHistory: by number and by time, in both directions.
func TestHistory(t *testing.T) {
	h := newHouse(t)
	alice, bob := h.account("alice"), h.account("bob")
	h.say(bob, alice, "1", "2", "3") // noon and 1, 2, 3 ms
	hidden := text(bob, alice, "4")
	hidden.Flags = store.InSenderArchive
	h.append(hidden)
	h.say(alice, bob, "5", "6")
	at := func(ms int) time.Time { return noon().Add(time.Duration(ms) * time.Millisecond) }
	for _, test := range []struct {
		q    HistoryQuery
		want string
		more bool
	}{
		{HistoryQuery{}, "12356", false},
		{HistoryQuery{Limit: 2}, "12", true},
		{HistoryQuery{Limit: 2, Backward: true}, "56", true},
		{HistoryQuery{After: 2}, "356", false},
		{HistoryQuery{After: 4}, "56", false},
		{HistoryQuery{After: 6}, "", false},
		{HistoryQuery{After: 7}, "", false},
		{HistoryQuery{After: math.MaxUint64}, "", false},
		{HistoryQuery{Before: 5}, "123", false},
		{HistoryQuery{Before: 5, Limit: 1, Backward: true}, "3", true},
		{HistoryQuery{Before: 1}, "", false},
		{HistoryQuery{Before: 99}, "12356", false},
		{HistoryQuery{After: 1, Before: 6}, "235", false},
		{HistoryQuery{After: 3, Before: 3}, "", false},
		{HistoryQuery{From: at(2)}, "2356", false},
		{HistoryQuery{From: at(2), Until: at(5)}, "23", false},
		{HistoryQuery{Until: at(2).Add(time.Nanosecond)}, "12", false},
		{HistoryQuery{Until: noon()}, "", false},
		{HistoryQuery{Until: time.Unix(-5, 0)}, "", false},
		{HistoryQuery{From: time.Unix(-5, 0)}, "12356", false},
		{HistoryQuery{After: 1, From: at(3), Backward: true, Limit: 2}, "56", true},
		{HistoryQuery{After: 3, From: at(1)}, "56", false},
	} {
		found, more, err := h.view.History(t.Context(), owner(alice), bob.JID, test.q)
		require.NoError(t, err)
		require.Equal(t, test.want, strings.Join(bodies(Page{Messages: found}), ""), "%+v", test.q)
		require.Equal(t, test.more, more, "%+v", test.q)
	}
	found, more, err := h.view.History(t.Context(), owner(alice), jid.MustParse("nobody@example.org"), HistoryQuery{})
	require.NoError(t, err)
	require.Empty(t, found)
	require.False(t, more)
}

// TestMessage: only what is in the owner's archive is there.
func TestMessage(t *testing.T) {
	h := newHouse(t)
	alice, bob, carol := h.account("alice"), h.account("bob"), h.account("carol")
	one := text(bob, alice, "1")
	one.Flags = store.InRecipientArchive
	h.append(one)
	m, err := h.view.Message(t.Context(), owner(alice), one.ID)
	require.NoError(t, err)
	require.Equal(t, one.Message, m)
	for _, who := range []store.Party{bob, carol} {
		_, err = h.view.Message(t.Context(), owner(who), one.ID)
		require.ErrorIs(t, err, store.ErrNotFound)
	}
	_, err = h.view.Message(t.Context(), owner(alice), one.ID+1)
	require.ErrorIs(t, err, store.ErrNotFound)
}
