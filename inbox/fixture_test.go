package inbox

import (
	"context"
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
	inBoth = store.InSenderArchive | store.InRecipientArchive
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

// house is a database with a log, seen by a View.
type house struct {
	t    testing.TB
	db   *sqlite.Store
	log  store.MessageLog
	view *View
	now  time.Time
	// config is what the next View is made with.
	config Config
}

func newHouse(t testing.TB) *house {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "posthouse.db"), sqlite.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	h := &house{t: t, db: db, now: noon(), config: Config{
		Rosters: db, Settings: db, Profiles: db, Accounts: directory{db}, Key: []byte("0123456789abcdef"), Logger: slog.New(slog.DiscardHandler),
	}}
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

func text(from, to store.Party, body string) *store.Append {
	return &store.Append{Message: store.Message{Sender: from, Recipient: to, Flags: said, Stanza: []byte(body)}}
}

// append stores a batch, a millisecond after the last.
func (h *house) append(batch ...*store.Append) []*store.Append {
	h.t.Helper()
	h.now = h.now.Add(time.Millisecond)
	require.NoError(h.t, h.log.Append(context.Background(), h.now, batch, nil))
	return batch
}

// say stores texts from one to the other.
func (h *house) say(from, to store.Party, bodies ...string) {
	h.t.Helper()
	for _, body := range bodies {
		h.append(text(from, to, body))
	}
}

func (h *house) sync(o store.Party, cursor string, limit int) Page {
	h.t.Helper()
	p, err := h.view.Sync(context.Background(), owner(o), cursor, limit)
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
			all = append(all, c.With.JID.Local())
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
