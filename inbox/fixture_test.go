package inbox

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/sqlite"
	"github.com/posthouse-im/posthouse/store/storetest"
	"github.com/posthouse-im/posthouse/wire/jid"
)

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

const (
	inBoth = store.InAuthorArchive | store.InRecipientArchive
	said   = inBoth | store.Unread
)

// directory is how the accounts of a database are found.
type directory struct{ *sqlite.Store }

func (d directory) Lookup(ctx context.Context, name string) (store.AccountID, bool, error) {
	a, err := d.Account(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return 0, false, nil
	}
	return a.ID, err == nil, err
}

// rooms are the incarnations of rooms, by address.
type rooms map[string]uint64

func (r rooms) Lookup(_ context.Context, address jid.JID) (uint64, bool, error) {
	n, ok := r[address.String()]
	return n, ok, nil
}

// house is a database with a log, seen by a View.
type house struct {
	t     testing.TB
	db    *sqlite.Store
	log   store.MessageLog
	rooms rooms
	view  *View
	now   time.Time
	// config is what the next View is made with.
	config Config
}

// inOrder numbers accounts 1, 2, 3, …
type inOrder struct{ last uint64 }

func (r *inOrder) Read(b []byte) (int, error) {
	r.last++
	binary.BigEndian.PutUint64(b, r.last<<1)
	return len(b), nil
}

func newHouse(t testing.TB) *house {
	t.Helper()
	return newHouseAt(t, nil)
}

// newHouseAt has a clock for the database.
func newHouseAt(t testing.TB, now func() time.Time) *house {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "posthouse.db"), sqlite.Options{
		Now: now, Random: &inOrder{},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	h := &house{t: t, db: db, now: noon(), rooms: rooms{}}
	h.config = Config{
		Rosters: db, Settings: db, Profiles: db, Accounts: directory{db}, Former: db, Rooms: h.rooms,
		Key: []byte("0123456789abcdef"), Logger: slog.New(slog.DiscardHandler),
	}
	h.use(storetest.NewMemory())
	return h
}

// use makes a View of another log.
func (h *house) use(log store.MessageLog) {
	h.t.Helper()
	h.log, h.config.Log = log, log
	var err error
	h.view, err = New(h.config)
	require.NoError(h.t, err)
}

// account makes an account and returns it as a party.
func (h *house) account(name string) store.Party {
	h.t.Helper()
	id, err := h.db.CreateAccount(h.t.Context(), store.Account{Name: name})
	require.NoError(h.t, err)
	return store.Party{JID: jid.MustParse(name + "@example.org"), Account: id}
}

// accounts makes many at once.
func (h *house) accounts(prefix string, n int) (made []store.Party) {
	h.t.Helper()
	var accounts []store.Account
	for i := range n {
		accounts = append(accounts, store.Account{Name: fmt.Sprint(prefix, i)})
	}
	ids, err := h.db.CreateAccounts(h.t.Context(), accounts)
	require.NoError(h.t, err)
	for i, id := range ids {
		made = append(made, store.Party{JID: jid.MustParse(accounts[i].Name + "@example.org"), Account: id})
	}
	return made
}

func owner(p store.Party) Owner { return Owner{Account: p.Account, JID: p.JID} }

// with opens the conversation of two parties.
func (h *house) with(a, b store.Party) store.ConversationID {
	h.t.Helper()
	opened, err := h.log.OpenConversation(context.Background(), h.now, store.DirectKey(a, b), nil)
	require.NoError(h.t, err)
	return opened.ID
}

// room opens a room's conversation, with those members.
func (h *house) room(address string, members ...store.Party) store.ConversationID {
	h.t.Helper()
	h.rooms[address] = 1
	var all []store.Member
	for _, m := range members {
		all = append(all, store.Member{Account: m.Account, Role: store.RoleMember, Access: []store.Interval{{From: 1}}})
	}
	opened, err := h.log.OpenConversation(context.Background(), h.now, store.RoomKey(jid.MustParse(address), 1), all)
	require.NoError(h.t, err)
	return opened.ID
}

// text is a message of one party to the other.
func (h *house) text(from, to store.Party, body string) *store.Append {
	h.t.Helper()
	return textIn(h.with(from, to), from, body)
}

// textIn is a message in a conversation.
func textIn(in store.ConversationID, from store.Party, body string) *store.Append {
	return &store.Append{Message: store.Message{Conversation: in, Author: from, Flags: said, Stanza: []byte(body)}}
}

// append stores a batch, a millisecond after the last.
func (h *house) append(batch ...*store.Append) []*store.Append {
	h.t.Helper()
	h.now = h.now.Add(time.Millisecond)
	require.NoError(h.t, h.log.Append(context.Background(), &store.Batch{Now: h.now, Entries: batch}))
	return batch
}

// say stores texts from one to the other.
func (h *house) say(from, to store.Party, bodies ...string) {
	h.t.Helper()
	for _, body := range bodies {
		h.append(h.text(from, to, body))
	}
}

// mark moves a marker.
func (h *house) mark(in store.ConversationID, who store.Party, kind store.MarkerKind, through uint64) *store.Append {
	h.t.Helper()
	return h.append(&store.Append{Message: store.Message{
		Conversation: in, Marker: &store.Marker{Account: who.Account, Kind: kind, Through: through},
	}})[0]
}

// choose stores settings.
func (h *house) choose(o store.Party, with jid.JID, pinned bool) {
	h.t.Helper()
	_, err := h.db.SetConversationSettings(
		h.t.Context(), o.Account, store.ConversationSettings{With: with.String(), Pinned: pinned}, 10_000,
	)
	require.NoError(h.t, err)
}

func (h *house) sync(o store.Party, cursor string, limit int) Page {
	h.t.Helper()
	p, err := h.view.Sync(context.Background(), owner(o), cursor, limit, 0)
	require.NoError(h.t, err)
	return p
}

// follow syncs until there is no more, and returns all pages and the cursor.
func (h *house) follow(o store.Party, cursor string, limit int) (pages []Page, _ string) {
	h.t.Helper()
	for {
		p := h.sync(o, cursor, limit)
		pages, cursor = append(pages, p), p.Cursor
		if !p.More {
			return pages, cursor
		}
	}
}

func bodies(pages ...Page) []string {
	all := []string{}
	for _, p := range pages {
		for _, m := range p.Messages {
			all = append(all, string(m.Stanza))
		}
	}
	return all
}

func withs(pages ...Page) []string {
	all := []string{}
	for _, p := range pages {
		for _, c := range p.Conversations {
			all = append(all, c.Address().Local())
		}
	}
	return all
}

func names(profiles []store.Profile) []string {
	all := []string{}
	for _, p := range profiles {
		all = append(all, p.Username)
	}
	return all
}

func counted(name string, first, last int) []string {
	all := []string{}
	for i := first; i <= last; i++ {
		all = append(all, fmt.Sprint(name, i))
	}
	return all
}
