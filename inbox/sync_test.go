package inbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/storetest"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// TestFirstSync: the roster, and the newest conversations with their newest messages, in pages that are not greater
// than asked for.
func TestFirstSync(t *testing.T) {
	h := newHouse(t)
	h.config.Conversations, h.config.Messages = 4, 3
	h.use(h.log)
	ctx := t.Context()
	alice, friend := h.account("alice"), h.account("friend")
	for _, item := range []store.RosterItem{
		{JID: friend.JID, Name: "F", Listed: true}, {JID: h.account("asks").JID, PendingIn: true},
	} {
		_, err := storetest.SetRosterItem(h.db, alice.Account, item, 10)
		require.NoError(t, err)
	}
	for i := 1; i <= 6; i++ {
		peer := h.account(fmt.Sprint("peer", i))
		h.say(peer, alice, counted(fmt.Sprint(peer.JID.Local(), "-"), 1, i)...)
	}
	_, err := h.db.SetConversationSettings(
		ctx, alice.Account, store.ConversationSettings{With: "peer5@example.org", Pinned: true}, 10,
	)
	require.NoError(t, err)

	for _, limit := range []int{1, 4, 6, 100} {
		pages, cursor := h.follow(alice, "", limit)
		require.True(t, pages[0].First)
		require.True(t, pages[0].RosterAll)
		require.Len(t, pages[0].Roster, 2, "a contact, and one who asks")
		require.Equal(t, []string{"peer6", "peer5", "peer4", "peer3"}, withs(pages...))
		said := bodies(pages...)
		each := min(limit, 3)
		require.Len(t, said, 4*each)
		if limit >= 3 {
			require.Subset(t, said, []string{"peer6-4", "peer6-5", "peer6-6", "peer5-3", "peer4-2", "peer3-1"})
		}
		seen := map[string]int{}
		for i, p := range pages {
			require.LessOrEqual(t, len(p.Messages), limit)
			require.Equal(t, i == 0, p.First)
			for _, c := range p.Conversations {
				require.Equal(t, c.With.JID.Local() == "peer5", c.Settings.Pinned)
				require.NotZero(t, c.Unread)
			}
			for _, name := range names(p.Profiles) {
				seen[name]++
			}
		}
		require.Equal(t, map[string]int{"alice": 1, "friend": 1, "asks": 1, "peer3": 1, "peer4": 1, "peer5": 1,
			"peer6": 1}, seen)
		next := h.sync(alice, cursor, limit)
		require.True(t, next.Empty())
		require.False(t, next.More)
		require.Equal(t, cursor, next.Cursor)
	}
}

// TestFirstSyncWhileMessagesCome: what is stored between the pages of a first sync comes after them, once, and moves no
// conversation out of them.
func TestFirstSyncWhileMessagesCome(t *testing.T) {
	h := newHouse(t)
	alice := h.account("alice")
	var peers []store.Party
	for i := 1; i <= 5; i++ {
		peers = append(peers, h.account(fmt.Sprint("peer", i)))
		h.say(peers[i-1], alice, fmt.Sprint("old", i))
	}
	page := h.sync(alice, "", 2)
	pages := []Page{page}
	for i := 4; len(withs(pages...)) < 5; i-- {
		require.True(t, page.More)
		h.say(alice, peers[max(i-3, 0)], "new") // one that was not told of yet
		h.say(h.account(fmt.Sprint("dave", i)), alice, "hello")
		page = h.sync(alice, page.Cursor, 2)
		pages = append(pages, page)
	}
	require.Len(t, pages, 3)
	require.True(t, page.More, "there is something new")
	require.Equal(t, []string{"peer5", "peer4", "peer3", "peer2", "peer1"}, withs(pages...))
	require.Equal(t, []string{"old4", "old5", "old2", "old3", "old1"}, bodies(pages...))
	pages, _ = h.follow(alice, page.Cursor, 3)
	require.Equal(t, []string{"new", "hello", "new", "hello"}, bodies(pages...))
}

// TestFirstSyncWhileProfilesChange: what changes beside the log between the pages of a first sync is told before a page
// says that there is no more.
func TestFirstSyncWhileProfilesChange(t *testing.T) {
	h := newHouse(t)
	alice := h.account("alice")
	for _, peer := range h.accounts("peer", 3) {
		h.say(peer, alice, "old")
	}
	page := h.sync(alice, "", 1)
	require.Equal(t, []string{"peer2"}, withs(page))
	a, err := h.db.Account(t.Context(), "peer2")
	require.NoError(t, err)
	_, err = h.db.SetProfile(t.Context(), store.Profile{Account: a.ID, Name: "new"})
	require.NoError(t, err)
	var told []string
	for more := page.More; more; more = page.More {
		page = h.sync(alice, page.Cursor, 1)
		for _, p := range page.Profiles {
			told = append(told, p.Username+" "+p.Name)
		}
	}
	require.Contains(t, told, "peer2 new")
}

// busyLog says something after every read of the list and of the end of the log.
type busyLog struct {
	store.MessageLog
	say func()
}

func (b busyLog) Last(ctx context.Context) (store.MessageID, error) {
	defer b.say()
	return b.MessageLog.Last(ctx)
}

func (b busyLog) Conversations(
	ctx context.Context, o store.AccountID, before store.MessageID, limit int,
) ([]store.Conversation, bool, error) {
	defer b.say()
	return b.MessageLog.Conversations(ctx, o, before, limit)
}

// TestFirstSyncBetweenReads: what is said between any two reads of a page moves no conversation out of a first sync,
// into it or to another place in it, and comes afterwards.
func TestFirstSyncBetweenReads(t *testing.T) {
	for _, limit := range []int{1, 5, 100} {
		h := newHouse(t)
		alice := h.account("alice")
		peers := h.accounts("peer", 20)
		for _, p := range peers {
			h.say(p, alice, "old")
		}
		said := 0
		h.use(busyLog{h.log, func() {
			said++
			h.say(peers[said*7%len(peers)], alice, "new")
		}})
		var pages []Page
		told := map[string]bool{}
		for cursor := ""; len(told) < len(peers); cursor = pages[len(pages)-1].Cursor {
			p := h.sync(alice, cursor, limit)
			pages = append(pages, p)
			require.Less(t, len(pages), 30)
			for _, body := range bodies(p) {
				require.Equal(t, "old", body)
			}
			for _, with := range withs(p) {
				require.Equal(t, fmt.Sprint("peer", len(peers)-1-len(told)), with)
				told[with] = true
			}
		}
		h.use(h.log.(busyLog).MessageLog)
		since, _ := h.follow(alice, pages[len(pages)-1].Cursor, limit)
		news := bodies(since...)
		require.Len(t, news, said)
		require.NotContains(t, news, "old")
	}
}

// TestFirstSyncWhileAllSpeak: when more conversations than can be followed move between the pages of a first sync,
// those that it does not tell of come with what was said, with their profiles.
func TestFirstSyncWhileAllSpeak(t *testing.T) {
	h := newHouse(t)
	h.config.Conversations = maxMoved + 100
	h.use(h.log)
	alice := h.account("alice")
	peers := h.accounts("peer", maxMoved+50)
	for _, p := range peers {
		h.say(p, alice, "old")
	}
	first := h.sync(alice, "", 1)
	for _, p := range peers[1:] {
		h.say(p, alice, "new")
	}
	pages, cursor := h.follow(alice, first.Cursor, 1000)
	pages = append(pages, first)
	seen := map[string]bool{}
	for _, p := range pages {
		for _, profile := range p.Profiles {
			seen[profile.Username] = true
		}
	}
	require.Len(t, seen, len(peers)+1)
	require.Subset(t, withs(pages...), []string{"peer0", "peer1", "peer249"})
	news := 0
	for _, body := range bodies(pages...) {
		if body == "new" {
			news++
		}
	}
	require.Equal(t, len(peers)-1, news)
	h.say(peers[3], alice, "newer")
	require.Equal(t, []string{"newer"}, bodies(h.sync(alice, cursor, 10)))
}

// TestChanges: each kind of change comes with the next page, and only then.
func TestChanges(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	alice, bob, carol, dave := h.account("alice"), h.account("bob"), h.account("carol"), h.account("dave")
	h.say(bob, alice, "1")
	_, cursor := h.follow(alice, "", 10)
	next := func() Page {
		t.Helper()
		p := h.sync(alice, cursor, 10)
		cursor = p.Cursor
		require.False(t, p.More)
		require.False(t, p.First)
		again := h.sync(alice, cursor, 10)
		require.True(t, again.Empty(), "%+v", again)
		return p
	}
	h.say(bob, alice, "2")
	p := next()
	require.Equal(t, []string{"2"}, bodies(p))
	require.Equal(t, 2, p.Conversations[0].Unread)
	require.Empty(t, p.Profiles, "it is known already")

	h.mark(h.with(alice, bob), alice, store.MarkRead, 2)
	p = next()
	require.Empty(t, p.Messages, "a marker is no message")
	require.Equal(t, []string{"bob"}, withs(p))
	require.Zero(t, p.Conversations[0].Unread)
	require.Equal(t, uint64(2), p.Conversations[0].Own.Read)

	h.say(carol, alice, "hello")
	p = next()
	require.Equal(t, []string{"carol"}, withs(p))
	require.Equal(t, []string{"carol"}, names(p.Profiles), "a new conversation's")
	h.say(dave, bob, "not for alice")
	p = next()
	require.True(t, p.Empty())

	for _, with := range []string{"carol@example.org", "dave@example.org"} {
		_, err := h.db.SetConversationSettings(
			ctx, alice.Account, store.ConversationSettings{With: with, Pinned: true}, 10,
		)
		require.NoError(t, err)
	}
	p = next()
	require.Equal(t, []string{"carol", "dave"}, withs(p))
	require.Equal(t, []string{"carol", "dave"}, names(p.Profiles), "the first sync may have left them out")
	require.True(t, p.Conversations[0].Settings.Pinned)
	require.NotZero(t, p.Conversations[0].ID)
	require.Equal(t, store.Conversation{Kind: store.Direct, With: dave}, p.Conversations[1].Conversation)
	_, err := h.db.SetConversationSettings(
		ctx, alice.Account, store.ConversationSettings{With: "carol@example.org"}, 10,
	)
	require.NoError(t, err)
	p = next()
	require.Equal(t, []string{"carol"}, withs(p))
	require.False(t, p.Conversations[0].Settings.Pinned)

	_, err = storetest.SetRosterItem(h.db, alice.Account, store.RosterItem{JID: dave.JID, Listed: true}, 10)
	require.NoError(t, err)
	p = next()
	require.Len(t, p.Roster, 1)
	require.False(t, p.RosterAll)
	require.Equal(t, []string{"dave"}, names(p.Profiles))
	_, err = storetest.SetRosterItem(h.db, alice.Account, store.RosterItem{JID: dave.JID}, 10)
	require.NoError(t, err)
	p = next()
	require.Equal(t, dave.JID, p.Removed[0])

	h.with(alice, dave) // in which nothing was said
	for _, who := range []store.Party{alice, carol, dave} {
		_, err = h.db.SetProfile(ctx, store.Profile{Account: who.Account, Name: "New " + who.JID.Local()})
		require.NoError(t, err)
	}
	p = next()
	require.Equal(t, []string{"alice", "carol"}, names(p.Profiles), "not of somebody unknown")
	require.Equal(t, "New carol", p.Profiles[1].Name)
}

// TestFloor: a conversation that the first sync left out is told of with its profile when something is said in it.
func TestFloor(t *testing.T) {
	h := newHouse(t)
	h.config.Conversations = 1
	h.use(h.log)
	alice, bob, carol := h.account("alice"), h.account("bob"), h.account("carol")
	h.say(bob, alice, "1", "2")
	h.say(carol, alice, "3")
	pages, cursor := h.follow(alice, "", 10)
	require.Equal(t, []string{"carol"}, withs(pages...))
	h.say(bob, alice, "4")
	h.say(carol, alice, "5")
	p := h.sync(alice, cursor, 10)
	require.Equal(t, []string{"bob", "carol"}, withs(p))
	require.Equal(t, []string{"bob"}, names(p.Profiles))
	h.say(bob, alice, "6")
	require.Empty(t, h.sync(alice, p.Cursor, 10).Profiles)
}

// TestProfilesInPages: more changes than fit a page come with the next ones.
func TestProfilesInPages(t *testing.T) {
	h := newHouse(t)
	alice := h.account("alice")
	_, cursor := h.follow(alice, "", 10)
	for i := range 7 {
		peer := h.account(fmt.Sprint("peer", i))
		_, err := storetest.SetRosterItem(h.db, alice.Account, store.RosterItem{JID: peer.JID, Listed: true}, 10)
		require.NoError(t, err)
	}
	_, cursor = h.follow(alice, cursor, 10)
	for i := range 7 {
		a, err := h.db.Account(t.Context(), fmt.Sprint("peer", i))
		require.NoError(t, err)
		_, err = h.db.SetProfile(t.Context(), store.Profile{Account: a.ID, Name: "P"})
		require.NoError(t, err)
	}
	pages, _ := h.follow(alice, cursor, 3)
	require.Len(t, pages, 3)
	var seen []string
	for _, p := range pages {
		seen = append(seen, names(p.Profiles)...)
	}
	require.Equal(t, []string{"peer0", "peer1", "peer2", "peer3", "peer4", "peer5", "peer6"}, seen)
}

// TestMarkers: a client is told once of a marker that has changed, as a number of its conversation, however often it
// has; and not of what it may not see.
func TestMarkers(t *testing.T) {
	h := newHouse(t)
	alice, bob := h.account("alice"), h.account("bob")
	h.say(bob, alice, "1", "2", "3", "4", "5")
	direct := h.with(alice, bob)
	_, cursor := h.follow(alice, "", 100)
	for n := uint64(1); n <= 4; n++ {
		h.mark(direct, bob, store.MarkDelivered, n)
		h.mark(direct, alice, store.MarkDelivered, n+1)
		h.mark(direct, alice, store.MarkReadPrivate, n)
	}
	replaced := h.mark(direct, bob, store.MarkRead, 1)
	h.mark(direct, bob, store.MarkRead, 2)
	p := h.sync(alice, cursor, 100)
	require.False(t, p.More)
	require.Empty(t, p.Messages)
	require.Len(t, p.Conversations, 1)
	c := p.Conversations[0]
	require.Equal(t, store.ReadMarkers{Delivered: 5, Read: 4}, c.Own)
	require.Equal(t, store.ReadMarkers{Delivered: 4, Read: 2}, c.Peer)
	require.Equal(t, 1, c.Unread)
	require.Equal(t, uint64(5), c.LastSeq)
	again := h.sync(alice, p.Cursor, 100)
	require.True(t, again.Empty())

	// One at a time, each change comes once: there are four markers.
	pages, _ := h.follow(alice, cursor, 1)
	require.Len(t, pages, 4)

	// The identity of a marker that was replaced is a position.
	at := cursorAt(t, h, alice, replaced.ID)
	p = h.sync(alice, at, 100)
	require.Len(t, p.Conversations, 1)
	requireEmpty(t, h.sync(alice, p.Cursor, 100))

	// What only alice's devices may know is not told to bob.
	_, before := h.follow(bob, "", 100)
	h.mark(direct, alice, store.MarkReadPrivate, 5)
	requireEmpty(t, h.sync(bob, before, 100))
	require.Equal(t, []string{"bob"}, withs(h.sync(alice, p.Cursor, 100)))
}

func requireEmpty(t *testing.T, p Page) {
	t.Helper()
	require.True(t, p.Empty(), "%+v", p)
}

// cursorAt is a cursor at a position.
func cursorAt(t *testing.T, h *house, o store.Party, at store.MessageID) string {
	epoch, err := h.log.Epoch(t.Context(), at)
	require.NoError(t, err)
	return h.view.seal.text(&cursor{account: o.Account, at: at, epoch: epoch})
}

// TestRoomsInSync: a room that an account is in is in its first sync and in what follows; of markers, the account's
// own.
func TestRoomsInSync(t *testing.T) {
	h := newHouse(t)
	alice, bob, carol := h.account("alice"), h.account("bob"), h.account("carol")
	room := h.room("hall@rooms.example", alice, bob, carol)
	h.append(textIn(room, bob, "1"))
	h.say(bob, alice, "direct")
	pages, cursor := h.follow(alice, "", 10)
	require.Equal(t, []string{"bob", "hall"}, withs(pages...))
	require.Equal(t, store.Room, pages[0].Conversations[1].Kind)
	require.Equal(t, 1, pages[0].Conversations[1].Unread)
	require.Equal(t, []string{"1", "direct"}, bodies(pages...))

	h.append(textIn(room, carol, "2"))
	h.append(textIn(h.room("attic@rooms.example", bob), bob, "not for alice"))
	h.mark(room, bob, store.MarkRead, 1)
	p := h.sync(alice, cursor, 10)
	require.Equal(t, []string{"2"}, bodies(p))
	require.Equal(t, []string{"hall"}, withs(p))
	h.mark(room, bob, store.MarkRead, 2)
	quiet := h.sync(alice, p.Cursor, 10)
	require.True(t, quiet.Empty())
	requireEmpty(t, h.sync(alice, quiet.Cursor, 10))
	h.mark(room, alice, store.MarkRead, 2)
	p = h.sync(alice, p.Cursor, 10)
	require.Equal(t, []string{"hall"}, withs(p))
	require.Equal(t, uint64(2), p.Conversations[0].Own.Read)
	require.Zero(t, p.Conversations[0].Unread)
	require.Empty(t, p.Messages)
	h.choose(alice, jid.MustParse("hall@rooms.example"), true)
	p = h.sync(alice, p.Cursor, 10)
	require.Equal(t, store.Room, p.Conversations[0].Kind)
	require.True(t, p.Conversations[0].Settings.Pinned)
}

// TestRestoredBackup: a cursor of what a restored backup does not have begins anew, also when the log has grown since
// (P27).
func TestRestoredBackup(t *testing.T) {
	h := newHouse(t)
	folder, backup := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	log := openLog(t, folder)
	h.use(log)
	alice, bob := h.account("alice"), h.account("bob")
	h.say(bob, alice, "1")
	_, early := h.follow(alice, "", 10)
	require.NoError(t, log.Close())
	require.NoError(t, os.CopyFS(backup, os.DirFS(folder)))
	log = openLog(t, folder)
	h.use(log)
	h.say(bob, alice, "lost")
	_, late := h.follow(alice, early, 10)
	h.mark(h.with(alice, bob), alice, store.MarkRead, 2)
	_, later := h.follow(alice, late, 10)
	require.NoError(t, log.Close())

	h.now = noon().Add(time.Millisecond)
	log = openLog(t, backup)
	defer func() { require.NoError(t, log.Close()) }()
	h.use(log)
	refused := func() {
		t.Helper()
		for _, cursor := range []string{late, later} {
			_, err := h.view.Sync(t.Context(), owner(alice), cursor, 10, 0)
			require.ErrorIs(t, err, ErrStartOver)
		}
	}
	refused()
	h.say(bob, alice, "2") // which gets the identity of the lost one
	refused()
	h.now = noon().Add(time.Hour)
	h.say(bob, alice, "3")
	refused()
	require.Equal(t, []string{"2", "3"}, bodies(h.sync(alice, early, 10)), "what is still there goes on")
}

// damagedLog serves no message whose body is "bad".
type damagedLog struct{ store.MessageLog }

func (d damagedLog) History(ctx context.Context, q store.HistoryQuery) ([]store.Message, bool, error) {
	found, more, err := d.MessageLog.History(ctx, q)
	var good []store.Message
	var bad []store.MessageID
	for _, m := range found {
		if string(m.Stanza) == "bad" {
			bad = append(bad, m.ID)
			continue
		}
		good = append(good, m)
	}
	if bad != nil {
		err = &store.DamagedError{IDs: bad}
	}
	return good, more, err
}

func (d damagedLog) Message(ctx context.Context, id store.MessageID) (store.Message, error) {
	m, err := d.MessageLog.Message(ctx, id)
	if string(m.Stanza) == "bad" {
		return store.Message{}, &store.DamagedError{IDs: []store.MessageID{id}}
	}
	return m, err
}

// TestDamagedMessages: a client gets past them (P28).
func TestDamagedMessages(t *testing.T) {
	h := newHouse(t)
	alice, bob := h.account("alice"), h.account("bob")
	h.say(bob, alice, "1", "2")
	_, cursor := h.follow(alice, "", 10)
	h.use(damagedLog{h.log})
	h.say(bob, alice, "3", "bad", "bad", "4", "bad")
	pages, cursor := h.follow(alice, cursor, 1)
	require.Equal(t, []string{"3", "4"}, bodies(pages...))
	h.say(bob, alice, "5")
	require.Equal(t, []string{"5"}, bodies(h.sync(alice, cursor, 10)))
	first, _ := h.follow(alice, "", 10)
	require.Equal(t, []string{"1", "2", "3", "4", "5"}, bodies(first...))
	h.say(bob, alice, "bad")
	c, err := h.view.Conversation(t.Context(), owner(alice), bob.JID)
	require.NoError(t, err)
	require.Nil(t, c.LastMessage)
}
