package inbox

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
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
	l, err := pebble.Open(folder, pebble.Options{MemTableBytes: 1 << 20, CacheBytes: 1 << 20, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
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
	// world are all parties, the first two of which have clients.
	world   []store.Party
	clients map[store.AccountID][]*client
	// begun is where the log ended when a client began, by client.
	begun map[*client]store.MessageID
	names int
}

// TestSyncModel: whatever happens between the pages, of whatever size, the pages together are what has happened: nothing is skipped and
// no message comes twice, also when the store is closed and opened from what it wrote last.
func TestSyncModel(t *testing.T) {
	h := newHouse(t)
	h.config.Conversations, h.config.Messages = 3, 4
	root := t.TempDir()
	runs := 0
	// Each run opens files and waits for the disk many times over.
	checks := flag.Lookup("rapid.checks")
	if checks.Value.String() == checks.DefValue {
		require.NoError(t, checks.Value.Set("20"))
		t.Cleanup(func() { require.NoError(t, checks.Value.Set(checks.DefValue)) })
	}
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		m := &model{house: h, root: filepath.Join(root, fmt.Sprint(runs)), clients: map[store.AccountID][]*client{}, begun: map[*client]store.MessageID{}}
		m.world = h.accounts(fmt.Sprintf("run%d-", runs), 6)
		m.open()
		defer func() {
			require.NoError(t, m.current.Close())
			require.NoError(t, os.RemoveAll(m.root))
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"say": m.talk, "mark": m.mark, "retract": m.retract, "settings": m.setting, "roster": m.contact, "profile": m.profile,
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

func (m *model) talk(t *rapid.T) {
	var batch []*store.Append
	for range rapid.IntRange(1, 5).Draw(t, "size") {
		a := text(m.one(t, "from"), m.one(t, "to"), fmt.Sprint(len(batch)))
		a.Flags = rapid.SampledFrom([]store.MessageFlags{said, said, inBoth, store.InSenderArchive, store.Unread}).Draw(t, "flags")
		batch = append(batch, a)
	}
	m.append(batch...)
}

func (m *model) mark(t *rapid.T) {
	from, to := m.one(t, "from"), m.one(t, "to")
	a := text(from, to, "mark")
	a.Flags = inBoth
	a.ReadMarkers = &store.ReadMarkers{
		Account: from.Account, Device: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "device"), Read: rapid.Uint64Range(1, 20).Draw(t, "read"),
	}
	m.append(a)
}

func (m *model) retract(t *rapid.T) {
	all, err := m.log.Since(context.Background(), 0, 1000)
	require.NoError(m.t, err)
	if len(all) == 0 {
		return
	}
	old := rapid.SampledFrom(all).Draw(t, "old")
	a := text(old.Sender, old.Recipient, "retract")
	a.Flags, a.Retract, a.Remains = inBoth, old.ID, []byte("gone")
	m.append(a)
}

func (m *model) setting(t *rapid.T) {
	s := store.ConversationSettings{With: m.one(t, "with").JID.String(), Pinned: rapid.Bool().Draw(t, "pinned")}
	_, err := m.db.SetConversationSettings(context.Background(), m.world[rapid.IntRange(0, 1).Draw(t, "owner")].Account, s, 100)
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
	_, err := storetest.SetRosterItem(m.db, owner, store.RosterItem{JID: contact, Name: fmt.Sprint(m.names), Listed: rapid.Bool().Draw(t, "listed")}, 100)
	require.NoError(m.t, err)
}

func (m *model) profile(t *rapid.T) {
	m.names++
	_, err := m.db.SetProfile(context.Background(), store.Profile{Account: m.one(t, "who").Account, Name: fmt.Sprint(m.names)})
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
	for _, conversation := range p.Conversations {
		c.seen[conversation.With.JID.String()] = conversation
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
	settings, err := m.db.ConversationSettings(ctx, owner.Account)
	require.NoError(t, err)
	for _, want := range stored {
		got, ok := c.seen[want.With.JID.String()]
		if !ok || got.Last == 0 {
			require.LessOrEqual(t, want.Last, m.begun[c], "one that something was said in is known")
			continue
		}
		if want.Last > m.begun[c] {
			require.Equal(t, want, got.Conversation)
		}
		due[want.With.JID.Local()] = true
	}
	for _, s := range settings {
		if got, ok := c.seen[s.With]; ok {
			require.Equal(t, s.Pinned, got.Settings.Pinned, s.With)
		}
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
			batch = append(batch, text(peers[i%len(peers)], alice, "hello"))
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
