package inbox

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// list reads the whole list in pages.
func (h *house) list(o store.Party, limit int) (all []Conversation) {
	h.t.Helper()
	from := Position{}
	for {
		page, next, err := h.view.Conversations(context.Background(), owner(o), from, limit)
		require.NoError(h.t, err)
		page, next, err = h.view.AddNewest(context.Background(), page, next)
		require.NoError(h.t, err)
		require.LessOrEqual(h.t, len(page), limit)
		all = append(all, page...)
		if next == (Position{}) {
			return all
		}
		// As clients are told it.
		var ok bool
		from, ok = ParsePosition(next.Text(idText), parseID)
		require.True(h.t, ok)
		require.Equal(h.t, next, from)
	}
}

func idText(id uint64) string { return fmt.Sprint("id-", id) }

func parseID(text string) (id uint64, ok bool) {
	_, err := fmt.Sscanf(text, "id-%d", &id)
	return id, err == nil
}

// TestConversations: direct ones, notes and rooms, the newest message first, however large the pages, and each as it is
// by itself.
func TestConversations(t *testing.T) {
	h := newHouse(t)
	alice, bob, carol := h.account("alice"), h.account("bob"), h.account("carol")
	romeo := store.Party{JID: jid.MustParse("romeo@montague.example")}
	h.say(bob, alice, "1")
	room := h.room("hall@rooms.example", alice, bob)
	h.append(textIn(room, bob, "2"))
	h.append(textIn(h.room("attic@rooms.example", bob), bob, "not for alice"))
	h.say(romeo, alice, "3")
	h.say(alice, alice, "4")
	h.say(alice, carol, "5")
	h.mark(h.with(alice, bob), alice, store.MarkRead, 1)
	h.mark(room, alice, store.MarkReadPrivate, 1)
	h.choose(alice, romeo.JID, true)
	for limit := 1; limit <= 6; limit++ {
		var seen []string
		for _, c := range h.list(alice, limit) {
			seen = append(seen, c.Address().String()+" "+string(c.LastMessage.Stanza))
			require.Equal(t, c.With.Is(romeo), c.Settings.Pinned)
			require.Equal(t, c.Address().Domain() == "rooms.example", c.Kind == store.Room)
			one, err := h.view.Conversation(t.Context(), owner(alice), c.Address())
			require.NoError(t, err)
			require.Equal(t, c, one)
			if c.Kind == store.Room || c.With == bob {
				require.Equal(t, store.ReadMarkers{Delivered: 1, Read: 1}, c.Own,
					"a marker moves no conversation and is no message")
				require.Zero(t, c.Unread)
			}
		}
		require.Equal(t, []string{
			"carol@example.org 5", "alice@example.org 4", "romeo@montague.example 3", "hall@rooms.example 2",
			"bob@example.org 1",
		}, seen)
	}
	for _, with := range []string{
		"nobody@example.org", "example.org", "juliet@montague.example", "attic@rooms.example",
	} {
		_, err := h.view.Conversation(t.Context(), owner(alice), jid.MustParse(with))
		require.ErrorIs(t, err, store.ErrNotFound, with)
		_, _, _, err = h.view.History(t.Context(), owner(alice), jid.MustParse(with), HistoryQuery{})
		require.ErrorIs(t, err, store.ErrNotFound, with)
	}
}

// TestPositions: what is none is refused.
func TestPositions(t *testing.T) {
	for _, text := range []string{".", ".0", ".-1", ".x", ".18446744073709551615", "x", "id-0", "7"} {
		_, ok := ParsePosition(text, parseID)
		require.False(t, ok, text)
	}
	p, ok := ParsePosition("", parseID)
	require.True(t, ok)
	require.Zero(t, p)
	require.Empty(t, p.Text(idText))
}

// TestQuietConversations: a conversation without a message is there when somebody has the address, and when something
// was chosen for it; the list, a first sync and later ones say the same of it.
func TestQuietConversations(t *testing.T) {
	h := newHouse(t)
	alice, bob := h.account("alice"), h.account("bob")
	c, err := h.view.Conversation(t.Context(), owner(alice), bob.JID)
	require.NoError(t, err)
	require.Equal(t, Conversation{Conversation: store.Conversation{Kind: store.Direct, With: bob}}, c)
	_, found, more, err := h.view.History(t.Context(), owner(alice), bob.JID, HistoryQuery{})
	require.NoError(t, err)
	require.Empty(t, found)
	require.False(t, more)
	require.Empty(t, h.list(alice, 10))

	_, cursor := h.follow(alice, "", 10)
	juliet := jid.MustParse("juliet@montague.example")
	talked := h.accounts("talked", 3)
	for _, p := range talked {
		h.say(alice, p, "hello")
		h.choose(alice, p.JID, true)
	}
	h.choose(alice, bob.JID, true)
	h.choose(alice, jid.MustParse("back@montague.example"), true)
	h.choose(alice, juliet, true)
	h.choose(alice, jid.MustParse("back@montague.example"), false)
	unseen := h.text(bob, h.account("dora"), "not in dora's archive")
	unseen.Flags = store.InAuthorArchive
	h.append(unseen)
	dora := store.Party{JID: jid.MustParse("dora@example.org"), Account: bob.Account + 4}
	h.choose(dora, bob.JID, true)

	want := []string{"talked2", "talked1", "talked0", "juliet", "bob"}
	for limit := 1; limit <= 7; limit++ {
		var seen []string
		for _, c := range h.list(alice, limit) {
			seen = append(seen, c.Address().Local())
			require.True(t, c.Settings.Pinned)
			one, err := h.view.Conversation(t.Context(), owner(alice), c.Address())
			require.NoError(t, err)
			require.Equal(t, c, one)
		}
		require.Equal(t, want, seen, "pages of %d", limit)
		pages, _ := h.follow(alice, "", limit)
		require.Equal(t, want, withs(pages...), "pages of %d", limit)
		for _, p := range pages {
			for _, c := range p.Conversations {
				one, err := h.view.Conversation(t.Context(), owner(alice), c.Address())
				require.NoError(t, err)
				one.LastMessage = nil
				require.Equal(t, one, c)
			}
		}
	}
	pages, _ := h.follow(alice, cursor, 3)
	later := map[string]Conversation{}
	for _, p := range pages {
		for _, c := range p.Conversations {
			later[c.Address().Local()] = c
		}
	}
	require.Equal(t, h.list(alice, 10)[3:], []Conversation{later["juliet"], later["bob"]})
	require.False(t, later["back"].Settings.Pinned)
	require.Equal(t, []string{"bob"}, addresses(h.list(dora, 10)))
	require.Equal(t, h.list(dora, 10)[0].ID, unseen.Conversation)

	h.say(bob, alice, "at last")
	require.Equal(t, []string{"bob", "talked2", "talked1", "talked0", "juliet"}, addresses(h.list(alice, 10)))
}

func addresses(all []Conversation) (names []string) {
	for _, c := range all {
		names = append(names, c.Address().Local())
	}
	return names
}

// TestDeletedAccount: a conversation with somebody who has left can still be read, also when the name has a new owner
// whose own begins anew.
func TestDeletedAccount(t *testing.T) {
	now := noon()
	h := newHouseAt(t, func() time.Time { return now })
	alice, bob := h.account("alice"), h.account("bob")
	h.say(bob, alice, "1", "2")
	require.NoError(t, h.db.DeleteAccount(t.Context(), "bob"))
	now = now.Add(2 * 365 * 24 * time.Hour)
	require.NoError(
		t, h.db.DeleteAccount(t.Context(), h.account("other").JID.Local()), "which forgets reservations that are over",
	)
	c, found, _, err := h.view.History(t.Context(), owner(alice), bob.JID, HistoryQuery{})
	require.NoError(t, err)
	require.Equal(t, bob, c.With)
	require.Len(t, found, 2)
	c, err = h.view.Conversation(t.Context(), owner(alice), bob.JID)
	require.NoError(t, err)
	require.Equal(t, bob, c.With)

	successor := h.account("bob")
	c, err = h.view.Conversation(t.Context(), owner(alice), bob.JID)
	require.NoError(t, err)
	require.Equal(t, successor, c.With)
	require.Zero(t, c.Last)
	h.say(successor, alice, "3")
	require.Equal(t, []string{"bob", "bob"}, addresses(h.list(alice, 10)))
}

// TestHistory: by number and by time, in both directions.
func TestHistory(t *testing.T) {
	h := newHouse(t)
	alice, bob := h.account("alice"), h.account("bob")
	h.say(bob, alice, "1", "2", "3") // noon and 1, 2, 3 ms
	hidden := h.text(bob, alice, "4")
	hidden.Flags = store.InAuthorArchive
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
		_, found, more, err := h.view.History(t.Context(), owner(alice), bob.JID, test.q)
		require.NoError(t, err)
		require.Equal(t, test.want, strings.Join(bodies(Page{Messages: found}), ""), "%+v", test.q)
		require.Equal(t, test.more, more, "%+v", test.q)
	}
}

// TestRoomHistory: a member sees of a room what its access has, and nobody else anything.
func TestRoomHistory(t *testing.T) {
	h := newHouse(t)
	alice, bob, carol := h.account("alice"), h.account("bob"), h.account("carol")
	room := h.room("hall@rooms.example", bob)
	h.append(textIn(room, bob, "1"))
	join := textIn(room, bob, "2")
	join.Members = []store.Member{
		{Account: alice.Account, Role: store.RoleMember, Access: []store.Interval{{From: store.ThisSeq}}},
	}
	h.append(join)
	h.append(textIn(room, alice, "3"))
	leave := textIn(room, bob, "4")
	leave.Members = []store.Member{
		{Account: alice.Account, Access: []store.Interval{{From: join.Seq, Through: store.ThisSeq}}},
	}
	h.append(leave)
	later := h.append(textIn(room, bob, "5"))[0]
	hall := jid.MustParse("hall@rooms.example")
	c, found, _, err := h.view.History(t.Context(), owner(alice), hall, HistoryQuery{})
	require.NoError(t, err)
	require.Equal(t, []string{"2", "3", "4"}, bodies(Page{Messages: found}))
	require.Equal(t, hall, c.Address())
	require.EqualValues(t, 4, c.LastSeq)
	m, key, err := h.view.Message(t.Context(), owner(alice), leave.ID)
	require.NoError(t, err)
	require.Equal(t, "4", string(m.Stanza))
	require.Equal(t, hall, AddressOf(&key, owner(alice)))
	_, _, err = h.view.Message(t.Context(), owner(alice), later.ID)
	require.ErrorIs(t, err, store.ErrNotFound)
	_, _, _, err = h.view.History(t.Context(), owner(carol), hall, HistoryQuery{})
	require.ErrorIs(t, err, store.ErrNotFound)
	// For who is not in it, it is an address like any.
	h.choose(carol, hall, true)
	c, err = h.view.Conversation(t.Context(), owner(carol), hall)
	require.NoError(t, err)
	require.Equal(t, store.Conversation{Kind: store.Direct, With: store.Party{JID: hall}}, c.Conversation)
}

// TestMessage: only what is in the owner's archive is there.
func TestMessage(t *testing.T) {
	h := newHouse(t)
	alice, bob, carol := h.account("alice"), h.account("bob"), h.account("carol")
	one := h.text(bob, alice, "1")
	one.Flags = store.InRecipientArchive
	h.append(one)
	m, key, err := h.view.Message(t.Context(), owner(alice), one.ID)
	require.NoError(t, err)
	require.Equal(t, one.Message, m)
	require.Equal(t, store.DirectKey(alice, bob), key)
	require.Equal(t, bob.JID, AddressOf(&key, owner(alice)))
	require.Equal(t, alice.JID, AddressOf(&key, owner(bob)))
	for _, who := range []store.Party{bob, carol} {
		_, _, err = h.view.Message(t.Context(), owner(who), one.ID)
		require.ErrorIs(t, err, store.ErrNotFound)
	}
	_, _, err = h.view.Message(t.Context(), owner(alice), one.ID+1)
	require.ErrorIs(t, err, store.ErrNotFound)
	marker := h.mark(one.Conversation, alice, store.MarkRead, 1)
	_, _, err = h.view.Message(t.Context(), owner(alice), marker.ID)
	require.ErrorIs(t, err, store.ErrNotFound, "a marker is no message")
}
