package inbox

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/pebble"
	"github.com/posthouse-im/posthouse/store/storetest"
)

func openLog(t testing.TB, folder string) *pebble.Log {
	t.Helper()
	l, err := pebble.Open(folder, pebble.Options{
		MemTableBytes: 1 << 20, CacheBytes: 1 << 20, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	require.NoError(t, err)
	return l
}

// client is what a client makes of the pages that it gets.
type client struct {
	cursor   string
	first    []store.MessageID // of the first sync
	since    []store.MessageID // of what followed it
	seen     map[string]Conversation
	roster   map[string]string
	profiles map[string]string
}

// model is a store that changes at random, and clients that follow it.
type model struct {
	*house
	root    string
	current *pebble.Log
	// world are all parties, the first two of which have clients; talks are the rooms, each with some of them as
	// members.
	world   []store.Party
	talks   []store.ConversationID
	clients map[store.AccountID][]*client
	// begun is where the log ended when a client began, by client.
	begun map[*client]store.MessageID
	names int
}

// TestSyncModel: whatever happens between the pages, of whatever size, the pages together are what has happened:
// nothing is skipped and no message comes twice, also when the store is closed and opened from what it wrote last.
func TestSyncModel(t *testing.T) {
	h := newHouse(t)
	h.config.Conversations, h.config.Messages = 3, 4
	root := t.TempDir()
	runs := 0
	storetest.Checks(t, 12)
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		m := &model{house: h, root: filepath.Join(root, fmt.Sprint(runs)), clients: map[store.AccountID][]*client{},
			begun: map[*client]store.MessageID{}}
		m.world = h.accounts(fmt.Sprintf("run%d-", runs), 6)
		m.open()
		for i := range 3 {
			m.talks = append(m.talks, h.room(fmt.Sprintf("run%d-room%d@rooms.example", runs, i), m.world[i:i+4]...))
		}
		defer func() {
			require.NoError(t, m.current.Close())
			require.NoError(t, os.RemoveAll(m.root))
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"say": m.talk, "join or leave": m.member, "mark": m.mark, "retract": m.retract, "settings": m.setting,
			"roster": m.contact, "profile": m.profile,
			"sync": m.step, "sync more": m.step, "begin": m.begin, "reopen": m.reopen,
		})
		m.settle(rt)
	})
}

func (m *model) open() {
	m.current = openLog(m.t, m.root)
	m.use(m.current)
}

// reopen closes the log, which writes nothing out, and opens it as after a crash, from the engine's log.
func (m *model) reopen(*rapid.T) {
	require.NoError(m.t, m.current.Close())
	m.open()
}

func (m *model) one(t *rapid.T, label string) store.Party {
	return rapid.SampledFrom(m.world).Draw(t, label)
}

// conversation picks one, and somebody who may be its author.
func (m *model) conversation(t *rapid.T) (store.ConversationID, store.Party) {
	from := m.one(t, "from")
	if n := rapid.IntRange(0, 8).Draw(t, "room"); n < len(m.talks) {
		return m.talks[n], from
	}
	return m.with(from, m.one(t, "to")), from
}

func (m *model) talk(t *rapid.T) {
	var batch []*store.Append
	for range rapid.IntRange(1, 5).Draw(t, "size") {
		in, from := m.conversation(t)
		a := textIn(in, from, fmt.Sprint(len(batch)))
		a.Flags = rapid.SampledFrom(
			[]store.MessageFlags{said, said, inBoth, store.InAuthorArchive, store.Unread},
		).Draw(t, "flags")
		batch = append(batch, a)
	}
	m.append(batch...)
}

// member lets somebody into a room or out of it, from the next message on.
func (m *model) member(t *rapid.T) {
	ctx, in, who := context.Background(), rapid.SampledFrom(m.talks).Draw(t, "room"), m.one(t, "who")
	member, err := m.log.Member(ctx, in, who.Account)
	if err != nil {
		require.ErrorIs(m.t, err, store.ErrNotFound)
		member.Account = who.Account
	}
	if n := len(member.Access); n > 0 && member.Access[n-1].Through == 0 {
		member.Role, member.Access[n-1].Through = store.RoleNone, store.ThisSeq
	} else if n < store.MaxIntervals {
		member.Role, member.Access = store.RoleMember, append(member.Access, store.Interval{From: store.ThisSeq})
	}
	a := textIn(in, who, "joins or leaves")
	a.Flags, a.Members = 0, []store.Member{member}
	m.append(a)
}

func (m *model) mark(t *rapid.T) {
	in, from := m.conversation(t)
	kind := rapid.SampledFrom(
		[]store.MarkerKind{store.MarkDelivered, store.MarkRead, store.MarkReadPrivate},
	).Draw(t, "kind")
	m.house.mark(in, from, kind, rapid.Uint64Range(1, 20).Draw(t, "through"))
}

func (m *model) retract(t *rapid.T) {
	all, err := m.log.Since(context.Background(), 0, 1000)
	require.NoError(m.t, err)
	all = slices.DeleteFunc(all, func(m store.Message) bool { return m.Marker != nil })
	if len(all) == 0 {
		return
	}
	old := rapid.SampledFrom(all).Draw(t, "old")
	a := textIn(old.Conversation, old.Author, "retract")
	a.Flags, a.Retract, a.Remains = inBoth, old.ID, []byte("gone")
	m.append(a)
}

func (m *model) setting(t *rapid.T) {
	with := m.one(t, "with").JID.String()
	if rapid.Bool().Draw(t, "in a room") {
		opened, err := m.log.ConversationByID(context.Background(), rapid.SampledFrom(m.talks).Draw(t, "room"))
		require.NoError(m.t, err)
		with = opened.Key.Room.String()
	}
	s := store.ConversationSettings{With: with, Pinned: rapid.Bool().Draw(t, "pinned")}
	_, err := m.db.SetConversationSettings(
		context.Background(), m.world[rapid.IntRange(0, 1).Draw(t, "owner")].Account, s, 100,
	)
	require.NoError(m.t, err)
}

func (m *model) contact(t *rapid.T) {
	owner, contact := m.world[rapid.IntRange(0, 1).Draw(t, "owner")].Account, m.one(t, "contact").JID
	if rapid.Bool().Draw(t, "remove") {
		_, err := storetest.SetRosterItem(m.db, owner, store.RosterItem{JID: contact}, 100)
		require.NoError(m.t, err)
		return
	}
	m.names++
	_, err := storetest.SetRosterItem(m.db, owner, store.RosterItem{
		JID: contact, Name: fmt.Sprint(m.names), Listed: rapid.Bool().Draw(t, "listed"),
	}, 100)
	require.NoError(m.t, err)
}

func (m *model) profile(t *rapid.T) {
	m.names++
	_, err := m.db.SetProfile(
		context.Background(), store.Profile{Account: m.one(t, "who").Account, Name: fmt.Sprint(m.names)},
	)
	require.NoError(m.t, err)
}

// begin adds a client without a cursor.
func (m *model) begin(t *rapid.T) {
	owner := m.world[rapid.IntRange(0, 1).Draw(t, "owner")]
	if len(m.clients[owner.Account]) < 3 {
		m.add(owner, rapid.IntRange(1, 9).Draw(t, "limit"))
	}
}

func (m *model) add(owner store.Party, limit int) {
	last, err := m.log.Last(context.Background())
	require.NoError(m.t, err)
	c := &client{seen: map[string]Conversation{}, roster: map[string]string{}, profiles: map[string]string{}}
	m.clients[owner.Account] = append(m.clients[owner.Account], c)
	m.begun[c] = last
	m.take(owner, c, limit)
}

// step lets one client take one page.
func (m *model) step(t *rapid.T) {
	owner := m.world[rapid.IntRange(0, 1).Draw(t, "owner")]
	if known := m.clients[owner.Account]; len(known) > 0 {
		m.take(owner, rapid.SampledFrom(known).Draw(t, "client"), rapid.IntRange(1, 9).Draw(t, "limit"))
	}
}

func (m *model) take(owner store.Party, c *client, limit int) Page {
	p := m.sync(owner, c.cursor, limit)
	require.LessOrEqual(m.t, len(p.Messages), limit)
	require.Equal(m.t, c.cursor == "", p.First)
	for _, message := range p.Messages {
		if message.ID <= m.begun[c] {
			c.first = append(c.first, message.ID)
		} else {
			c.since = append(c.since, message.ID)
		}
	}
	told := map[string]bool{}
	for _, conversation := range p.Conversations {
		address := conversation.Address().String()
		require.False(m.t, told[address], "once on a page")
		told[address] = true
		c.seen[address] = conversation
	}
	if p.RosterAll {
		clear(c.roster)
	}
	for _, contact := range p.Removed {
		delete(c.roster, contact.String())
	}
	for _, item := range p.Roster {
		c.roster[item.JID.String()] = item.Name
	}
	for _, profile := range p.Profiles {
		c.profiles[profile.Username] = profile.Name
	}
	c.cursor = p.Cursor
	return p
}

// settle lets all clients, and new ones, take what is left, and compares what they have with what there is.
func (m *model) settle(t *rapid.T) {
	ctx := context.Background()
	for _, owner := range m.world[:2] {
		m.add(owner, 2)
		newcomer := m.clients[owner.Account][len(m.clients[owner.Account])-1]
		for _, c := range m.clients[owner.Account] {
			for {
				if p := m.take(owner, c, rapid.IntRange(1, 9).Draw(t, "limit")); p.Empty() && !p.More {
					break
				}
			}
			m.compareMessages(t, owner, c)
			items, _, err := m.db.Roster(ctx, owner.Account)
			require.NoError(t, err)
			want := map[string]string{}
			for _, item := range items {
				if item.Listed {
					want[item.JID.String()] = item.Name
				}
			}
			require.Equal(t, want, c.roster)
			m.compareConversations(t, owner, c)
		}
		list := m.list(owner, 4)
		list = list[:min(len(list), m.config.Conversations)]
		require.Len(t, newcomer.seen, len(list), "a first sync is the beginning of the list")
		for _, want := range list {
			want.LastMessage = nil
			require.Equal(t, want, newcomer.seen[want.Address().String()])
		}
	}
}

func (m *model) compareMessages(t *rapid.T, owner store.Party, c *client) {
	all, _, err := m.log.History(context.Background(), store.HistoryQuery{Owner: owner.Account, Limit: 10_000})
	require.NoError(t, err)
	var since []store.MessageID
	newest := map[store.ConversationID][]store.MessageID{}
	for _, message := range all {
		if message.ID > m.begun[c] {
			since = append(since, message.ID)
			continue
		}
		newest[message.Conversation] = append(newest[message.Conversation], message.ID)
	}
	require.Equal(t, since, c.since, "what came after the first sync came once and in order")
	known := map[store.MessageID]bool{}
	for _, id := range c.first {
		require.False(t, known[id])
		known[id] = true
	}
	// The newest one of each of the three newest conversations of then is there.
	for range 3 {
		var last store.MessageID
		var of store.ConversationID
		for conversation, ids := range newest {
			if id := ids[len(ids)-1]; id > last {
				last, of = id, conversation
			}
		}
		if last != 0 {
			require.True(t, known[last])
			delete(newest, of)
		}
	}
}

// compareConversations compares what was told of conversations, and the profiles that belong to them and to contacts.
func (m *model) compareConversations(t *rapid.T, owner store.Party, c *client) {
	ctx := context.Background()
	due := map[string]bool{owner.JID.Local(): true}
	stored, _, err := m.log.Conversations(ctx, owner.Account, 0, 100)
	require.NoError(t, err)
	for _, want := range stored {
		got, ok := c.seen[address(&want).String()]
		if !ok {
			require.LessOrEqual(
				t, m.changed(t, owner, &want), m.begun[c], "one in which something has changed is known",
			)
			continue
		}
		require.Equal(t, shown(want), shown(got.Conversation))
		if want.Kind == store.Direct {
			due[want.With.JID.Local()] = true
		}
	}
	// What was chosen is known of every conversation that is, and of every one for which it was chosen since.
	for address, got := range c.seen {
		settings, err := m.db.ConversationSettings(ctx, owner.Account, []string{address})
		require.NoError(t, err)
		require.Equal(t, len(settings) > 0 && settings[0].Pinned, got.Settings.Pinned, address)
	}
	for contact := range c.roster {
		due[contact[:len(contact)-len("@example.org")]] = true
	}
	for name := range due {
		a, err := m.db.Account(ctx, name)
		require.NoError(t, err)
		profiles, err := m.db.Profiles(ctx, []store.AccountID{a.ID})
		require.NoError(t, err)
		got, ok := c.profiles[name]
		require.True(t, ok, "the profile of %s is not there", name)
		require.Equal(t, profiles[0].Name, got)
	}
}

// changed returns where the newest message or marker that a conversation shows stands.
func (m *model) changed(t *rapid.T, owner store.Party, c *store.Conversation) store.MessageID {
	all, _, err := m.log.History(context.Background(), store.HistoryQuery{
		Owner: owner.Account, Conversation: c.ID, Limit: 10_000, Markers: true,
	})
	require.NoError(t, err)
	all = slices.DeleteFunc(all, func(m store.Message) bool {
		return m.Marker != nil && c.Kind == store.Room && m.Author.Account != owner.Account
	})
	return all[len(all)-1].ID
}

// shown is what a client knows for certain of a conversation: of a room that the account has left it is not told what
// is retracted there later.
func shown(c store.Conversation) store.Conversation {
	if n := len(c.Member.Access); c.Kind == store.Room && c.Member.Access[n-1].Through != 0 {
		c.Unread = 0
	}
	return c
}

// TestAwayForTenThousand: a client that was away for 10,000 messages catches up without a hole, and quickly.
func TestAwayForTenThousand(t *testing.T) {
	h := newHouse(t)
	log := openLog(t, t.TempDir())
	defer func() { require.NoError(t, log.Close()) }()
	h.use(log)
	alice := h.account("alice")
	peers := h.accounts("peer", 10)
	_, cursor := h.follow(alice, "", 100)
	for range 100 {
		var batch []*store.Append
		for i := range 100 {
			batch = append(batch, h.text(peers[i%len(peers)], alice, "hello"))
		}
		h.append(batch...)
	}
	begun := time.Now()
	pages, _ := h.follow(alice, cursor, 500)
	t.Logf("10,000 messages in %d pages and %v", len(pages), time.Since(begun))
	require.Len(t, pages, 20)
	numbers := map[store.ConversationID]uint64{}
	total := 0
	var last store.MessageID
	for _, p := range pages {
		for _, m := range p.Messages {
			numbers[m.Conversation]++
			require.Equal(t, numbers[m.Conversation], m.Seq)
			require.Greater(t, m.ID, last)
			last = m.ID
			total++
		}
	}
	require.Equal(t, 10_000, total)
}
