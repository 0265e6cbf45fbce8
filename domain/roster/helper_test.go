package roster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a store.Rosters in memory, with its history.
type memory struct {
	mu      sync.Mutex // guards the rest
	rosters map[store.AccountID]*kept
	fail    error
	reads   int
	forgets bool // it cannot tell what changed
}

type kept struct {
	items   map[jid.JID]store.RosterItem
	changed map[jid.JID]uint64 // removed items too
	version uint64
}

func (m *memory) of(owner store.AccountID) *kept {
	if m.rosters == nil {
		m.rosters = map[store.AccountID]*kept{}
	}
	if m.rosters[owner] == nil {
		m.rosters[owner] = &kept{items: map[jid.JID]store.RosterItem{}, changed: map[jid.JID]uint64{}}
	}
	return m.rosters[owner]
}

func (m *memory) Roster(_ context.Context, owner store.AccountID) ([]store.RosterItem, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	k := m.of(owner)
	return slices.Collect(maps.Values(k.items)), k.version, m.fail
}

func (m *memory) RosterChanges(_ context.Context, owner store.AccountID, since uint64) ([]store.RosterChange, uint64,
	bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.of(owner)
	var changes []store.RosterChange
	for contact, version := range k.changed {
		if version <= since {
			continue
		}
		it, ok := k.items[contact]
		if !ok {
			it = store.RosterItem{JID: contact}
		}
		changes = append(changes, store.RosterChange{RosterItem: it, Version: version})
	}
	slices.SortFunc(changes, func(a, b store.RosterChange) int { return cmp.Compare(a.Version, b.Version) })
	return changes, k.version, !m.forgets, m.fail
}

func (m *memory) ChangeRosterItem(_ context.Context, owner store.AccountID, contact jid.JID, max int,
	change func(*store.RosterItem) error) (store.RosterItem, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.of(owner)
	nothing := store.RosterItem{JID: contact}
	before, there := k.items[contact]
	if !there {
		before = nothing
	}
	item := before
	if err := cmp.Or(m.fail, change(&item)); err != nil {
		return item, 0, err
	}
	item.JID = contact
	if item.Equal(&before) {
		return item, k.version, nil
	}
	others := 0
	for _, other := range k.items {
		if other.JID != contact && other.Listed == item.Listed {
			others++
		}
	}
	gone := item.Equal(&nothing)
	if !gone && others >= max && (!there || before.Listed != item.Listed) {
		return item, 0, store.ErrLimit
	}
	k.version++
	k.changed[contact] = k.version
	if gone {
		delete(k.items, contact)
		return item, k.version, nil
	}
	k.items[contact] = item
	return item, k.version, nil
}

var errDisk = errors.New("the disk is on fire")

// box is an outbox that remembers.
type box struct {
	mu   sync.Mutex // guards sent
	sent []*stream.Packet
}

func (b *box) Send(p *stream.Packet) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent = append(b.sent, p)
}

func (b *box) Close(*stream.Error) {}

func (*box) WaitRoom(context.Context) error { return nil }
func (*box) Detached() bool                 { return false }

func (b *box) texts() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := []string{}
	for _, p := range b.sent {
		out = append(out, show(p.Stanza))
	}
	b.sent = nil
	return out
}

func parse(t testing.TB, text string) *stanza.Stanza {
	t.Helper()
	at := strings.IndexAny(text, " />")
	s, err := xmlstream.Unmarshal([]byte(text[:at] + " xmlns='jabber:client'" + text[at:]))
	require.NoError(t, err, text)
	return s
}

func show(s *stanza.Stanza) string {
	return strings.Replace(string(xmlstream.Marshal(nil, s)), " xmlns='jabber:client'", "", 1)
}

// world is the domain capulet.lit with juliet (1), romeo (2) and nurse (3), and what stands between packages in a node.
type world struct {
	t        testing.TB
	contacts *Contacts
	sessions *session.Manager
	store    *memory
	away     *box // gets what goes to other domains
	boxes    map[string]*box
	sess     map[string]*session.Session
	accounts map[string]uint64
}

func newWorld(t testing.TB, change ...func(*Config)) *world {
	w := &world{t: t, store: &memory{}, away: &box{}, boxes: map[string]*box{}, sess: map[string]*session.Session{},
		accounts: map[string]uint64{"juliet": 1, "romeo": 2, "nurse": 3}}
	w.sessions = session.New(session.Config{Departed: func(ctx context.Context, s *session.Session,
		last *stanza.Stanza) {
		w.contacts.Departed(ctx, s, last)
	}})
	c := Config{Domain: jid.MustParse("capulet.lit"), Sessions: w.sessions, Store: w.store, Forward: w.forward}
	for _, f := range change {
		f(&c)
	}
	k, err := New(c)
	require.NoError(t, err)
	w.contacts = k
	return w
}

// forward does with presence what router and local do.
func (w *world) forward(ctx context.Context, p *stream.Packet) {
	to, kind := p.Stanza.To, p.Stanza.Type
	switch {
	case to.Domain() != "capulet.lit":
		w.away.Send(p)
	case kindOf(kind) >= 0 || kind == stanza.TypeProbe:
		if account := w.accounts[to.Local()]; account != 0 {
			w.contacts.Receive(ctx, account, p.Stanza)
		}
	case to.IsFull():
		w.sessions.Send(to, p)
	default:
		w.sessions.SendAvailable(to, p)
	}
}

func (w *world) connect(full string) *session.Session {
	w.t.Helper()
	j := jid.MustParse(full)
	b := &box{}
	s, refusal := w.sessions.Bind(session.Binding{Account: w.accounts[j.Local()], Bare: j.Bare(),
		Resource: j.Resource(), Outbox: b})
	require.Nil(w.t, refusal)
	w.boxes[full], w.sess[full] = b, s
	return s
}

// say has a session send presence, with what package local does around it.
func (w *world) say(full, text string) *stanza.Error {
	w.t.Helper()
	s, p, ctx := w.sess[full], parse(w.t, text), context.Background()
	p.From = s.JID()
	switch {
	case kindOf(p.Type) >= 0:
		return w.contacts.Subscribe(ctx, s, p)
	case !p.To.IsZero():
		require.True(w.t, w.sessions.Direct(s, p.To, p.Type == ""))
		w.forward(ctx, &stream.Packet{Stanza: p})
	default:
		s.Broadcasting.Lock()
		defer s.Broadcasting.Unlock()
		c := w.sessions.SetPresence(s, p, 0)
		w.contacts.Announce(ctx, s, &c)
		for r := c.Replay; r != nil; {
			_, r = r.Finish(ctx)
		}
	}
	return nil
}

// appear connects a session that is interested in the roster and available; what it was told is forgotten.
func (w *world) appear(full string) {
	w.t.Helper()
	w.sessions.SetInterested(w.connect(full), w.version(jid.MustParse(full).Local()))
	require.Nil(w.t, w.say(full, "<presence/>"))
	w.hush()
}

// version returns that of the roster of an account.
func (w *world) version(name string) uint64 {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	return w.store.of(store.AccountID(w.accounts[name])).version
}

// hush forgets what everybody was sent.
func (w *world) hush() {
	for _, b := range w.boxes {
		b.texts()
	}
	w.away.texts()
}

// iq has a session send a roster request, and returns the answer's payload as text, or the condition.
func (w *world) iq(full, kind, query string) string {
	w.t.Helper()
	iq := parse(w.t, "<iq type='"+kind+"' id='1'>"+query+"</iq>")
	iq.From = w.sess[full].JID()
	iq.To = iq.From.Bare()
	hub, err := service.New(service.Config{Domain: iq.To.DomainJID()})
	require.NoError(w.t, err)
	require.NoError(w.t, hub.Serve(w.contacts.Handlers()))
	ctx, queued := session.WithReply(context.Background())
	result, refusal := hub.Answer(ctx, service.Origin{Account: w.sess[full].Account(), Session: w.sess[full]}, iq)
	if refusal != nil {
		return string(refusal.Condition)
	}
	queued()
	out := ""
	for i := range result {
		out += string(xmlstream.MarshalElement(nil, &result[i]))
	}
	return out
}

// got checks what a session was sent since the last call. Ids of pushes are left out.
func (w *world) got(full string, want ...string) {
	w.t.Helper()
	if want == nil {
		want = []string{}
	}
	require.Equal(w.t, want, w.texts(full), full)
}

func (w *world) texts(full string) []string {
	b := w.boxes[full]
	if full == "away" {
		b = w.away
	}
	out := b.texts()
	for i, text := range out {
		if before, rest, ok := strings.Cut(text, " id='push"); ok {
			_, after, _ := strings.Cut(rest, "'")
			out[i] = before + after
		}
	}
	return out
}

// push is a roster push as got shows it.
func push(full string, version int, item string) string {
	bare, _, _ := strings.Cut(full, "/")
	return fmt.Sprintf("<iq from='%s' to='%s' type='set'><query xmlns='jabber:iq:roster' ver='%d'>%s</query></iq>",
		bare, full, version, item)
}

// give puts an item into an account's roster behind everybody's back.
func (w *world) give(account store.AccountID, contact string, change func(*store.RosterItem)) {
	it := store.RosterItem{JID: jid.MustParse(contact), Listed: true}
	change(&it)
	_, _, err := w.store.ChangeRosterItem(context.Background(), account, it.JID, 1<<30,
		func(i *store.RosterItem) error {
			*i = it
			return nil
		})
	require.NoError(w.t, err)
	w.contacts.Forget(uint64(account))
}

// both makes two accounts see each other.
func (w *world) both(a, b string) {
	see := func(it *store.RosterItem) { it.To, it.From = true, true }
	w.give(store.AccountID(w.accounts[a]), b+"@capulet.lit", see)
	w.give(store.AccountID(w.accounts[b]), a+"@capulet.lit", see)
}

// item returns what is stored of a contact, nil for nothing.
func (w *world) item(account store.AccountID, contact string) *store.RosterItem {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	if it, ok := w.store.of(account).items[jid.MustParse(contact)]; ok {
		return &it
	}
	return nil
}
