package local

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// parse reads a stanza as written in a test; jabber:client is the default namespace.
func parse(t testing.TB, text string) *stanza.Stanza {
	t.Helper()
	at := strings.IndexAny(text, " />")
	s, err := xmlstream.Unmarshal([]byte(text[:at] + " xmlns='jabber:client'" + text[at:]))
	require.NoError(t, err, text)
	return s
}

// show writes a stanza as a test expects it.
func show(s *stanza.Stanza) string {
	return strings.Replace(string(xmlstream.Marshal(nil, s)), " xmlns='jabber:client'", "", 1)
}

// box is an outbox that remembers.
type box struct {
	mu     sync.Mutex // guards the rest
	sent   []*stream.Packet
	closed []*stream.Error
}

func (b *box) Send(p *stream.Packet) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent = append(b.sent, p)
}

func (b *box) Close(e *stream.Error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = append(b.closed, e)
}

func (*box) WaitRoom(context.Context) error { return nil }
func (*box) Detached() bool                 { return false }

// take returns what was sent since the last take.
func (b *box) take() []*stream.Packet {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.sent
	b.sent = nil
	return out
}

func (b *box) texts() []string {
	out := []string{}
	for _, p := range b.take() {
		out = append(out, show(p.Whole()))
	}
	return out
}

func (b *box) ids() []uint64 {
	out := []uint64{}
	for _, p := range b.take() {
		if p.ArchiveID != 0 {
			out = append(out, p.ArchiveID)
		}
	}
	return out
}

// people are the accounts of the test's domain.
type people map[string]store.AccountID

func (p people) Lookup(_ context.Context, name string) (store.AccountID, bool, error) {
	if name == "broken" {
		return 0, false, errors.New("the disk is on fire")
	}
	id, ok := p[name]
	return id, ok, nil
}

// friends is a Contacts that remembers what it was asked.
type friends struct {
	mu    sync.Mutex // guards the rest
	calls []string
	sees  map[string]bool // "account peer"
}

func (f *friends) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

func (f *friends) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.calls
	f.calls = nil
	return out
}

func (f *friends) Announce(_ context.Context, s *session.Session, c *session.Change) func(context.Context) {
	kind := c.Now.Type
	if kind == "" {
		kind = "available"
	}
	f.note("announce %v %s initial=%v", s.JID(), kind, c.Initial())
	return nil
}

func (f *friends) Subscribe(_ context.Context, s *session.Session, p *stanza.Stanza) *stanza.Error {
	f.note("subscribe %v %s to %v", s.JID(), p.Type, p.To)
	return nil
}

func (f *friends) Receive(_ context.Context, account uint64, p *stanza.Stanza) {
	f.note("receive %d %s from %v", account, p.Type, p.From)
}

func (f *friends) Sees(_ context.Context, account uint64, peer jid.JID) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sees[fmt.Sprint(account, " ", peer)], nil
}

// log is an Offline: a log of stored messages and which of them arrived.
type log struct {
	mu        sync.Mutex // guards the rest
	stored    []*stream.Packet
	delivered map[uint64]bool
	kept      []uint64
	fail      error
}

func (l *log) Kept(_ uint64, id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, id)
}

func (l *log) takeKept() []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.kept
	l.kept = nil
	return out
}

func (l *log) Replay(ctx context.Context, _ uint64, yield func(*stream.Packet) bool) error {
	for i := 0; ; i++ {
		l.mu.Lock()
		if l.fail != nil || i >= len(l.stored) {
			defer l.mu.Unlock()
			return l.fail
		}
		p := l.stored[i]
		done := l.delivered[p.ArchiveID]
		l.mu.Unlock()
		if !done && !yield(&stream.Packet{Stanza: p.Stanza, ArchiveID: p.ArchiveID, Role: stream.Replay}) {
			return ctx.Err()
		}
	}
}

// world is a domain with juliet (1), romeo (2) and nurse (3), and a chain in front of it.
type world struct {
	t        testing.TB
	domain   *Domain
	services *service.Hub
	sessions *session.Manager
	friends  *friends
	log      *log
	router   *router.Router
	away     *box // gets what goes to montague.lit
	boxes    map[string]*box
	sess     map[string]*session.Session
}

func newWorld(t testing.TB, change ...func(*Config)) *world {
	w := &world{t: t, sessions: session.New(session.Config{}), friends: &friends{sees: map[string]bool{}},
		log: &log{delivered: map[uint64]bool{}}, away: &box{}, boxes: map[string]*box{},
		sess: map[string]*session.Session{}}
	c := Config{
		Domain: jid.MustParse("capulet.lit"), Sessions: w.sessions, Contacts: w.friends, Offline: w.log,
		Accounts: people{"juliet": 1, "romeo": 2, "nurse": 3},
		Forward:  func(ctx context.Context, p *stream.Packet) { w.router.Forward(ctx, p) },
	}
	for _, f := range change {
		f(&c)
	}
	var err error
	w.services, err = service.New(service.Config{Domain: c.Domain, Accounts: c.Accounts, Contacts: c.Contacts,
		Available: w.sessions.Available})
	require.NoError(t, err)
	c.Services = w.services
	d, err := New(c)
	require.NoError(t, err)
	require.NoError(t, w.services.Serve(d.Handlers(), w.services.Basics()))
	w.domain = d
	resolve := router.Stage{Name: "resolve",
		Run: func(ctx context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
			return w.router.Resolve(ctx, e)
		}}
	w.router = router.New(router.Config{
		Chains: map[router.OriginKind][]router.Stage{router.Client: {d.Address(), d.Strip(), d.Presence(), resolve}},
		Author: []router.Delivery{d.Carbons()},
	})
	w.router.Handle("capulet.lit", d)
	w.router.Handle("montague.lit", elsewhere{w.away})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		for _, s := range w.sess {
			w.sessions.Unbind(s)
		}
		require.NoError(t, d.Close(ctx))
	})
	return w
}

// elsewhere is a route that takes everything.
type elsewhere struct{ box *box }

func (elsewhere) Resolve(_ context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
	e.Target.Kind = router.Remote
	return router.Continue, nil
}

func (e elsewhere) Deliver(ctx context.Context, envelope *router.Envelope) *stanza.Error {
	return e.Route(ctx, &stream.Packet{Stanza: envelope.Stanza, ArchiveID: envelope.Target.ID})
}

func (e elsewhere) Route(_ context.Context, p *stream.Packet) *stanza.Error {
	e.box.Send(p)
	return nil
}

// connect binds a resource of one of the accounts.
func (w *world) connect(full string) *session.Session {
	w.t.Helper()
	j := jid.MustParse(full)
	id := w.domain.accounts.(people)[j.Local()]
	b := &box{}
	s, refusal := w.sessions.Bind(session.Binding{Account: uint64(id), Bare: j.Bare(), Resource: j.Resource(),
		Outbox: b})
	require.Nil(w.t, refusal)
	w.boxes[full], w.sess[full] = b, s
	return s
}

// appear connects a resource and makes it available; what is replayed to it has arrived when it returns.
func (w *world) appear(full string, priority int) *session.Session {
	w.t.Helper()
	s := w.connect(full)
	require.Nil(w.t, w.say(full, fmt.Sprintf("<presence><priority>%d</priority></presence>", priority)))
	w.domain.replays.Wait()
	w.friends.take()
	return s
}

// say has a session send a stanza through the chain, and returns the refusal.
func (w *world) say(full, text string) *stanza.Error { return w.sayStored(full, text, 0) }

// sayStored is say for a message that the archive stage stored.
func (w *world) sayStored(full, text string, id uint64) *stanza.Error {
	w.t.Helper()
	done := false
	e := &router.Envelope{Stanza: parse(w.t, text), Origin: originOf(w.sess[full]),
		Delivered: func(*router.Envelope) { done = true }}
	e.Receipt.ID, e.Target.ID = id, id
	w.router.Accept(context.Background(), e)
	require.True(w.t, done)
	return e.Receipt.Err
}

// originOf is a session that sends.
func originOf(s *session.Session) *router.Origin {
	return &router.Origin{Kind: router.Client, Account: s.Account(), Address: s.JID(), Session: s}
}

// route gives the domain a stanza as it comes from another domain, with the identity that the archive gave it.
func (w *world) route(text string, id uint64) *stanza.Error {
	w.t.Helper()
	s := parse(w.t, text)
	if s.Kind != stanza.Message {
		return w.domain.Route(context.Background(), &stream.Packet{Stanza: s})
	}
	e := &router.Envelope{Stanza: s, Origin: &router.Origin{Address: jid.MustParse("montague.lit")}}
	verdict, refusal := w.domain.Resolve(context.Background(), e)
	if refusal != nil || verdict != router.Continue || e.Target.Kind == router.Nobody {
		return refusal
	}
	e.Receipt.ID, e.Target.ID = id, id
	return w.domain.Deliver(context.Background(), e)
}

// got checks what a resource was sent since the last call.
func (w *world) got(full string, want ...string) {
	w.t.Helper()
	if want == nil {
		want = []string{}
	}
	require.Equal(w.t, want, w.boxes[full].texts(), full)
}

// count returns how many stanzas each resource was sent since the last call, as "phone=1 laptop=0" in the order asked.
func (w *world) count(fulls ...string) string {
	var out []string
	for _, full := range fulls {
		_, resource, _ := strings.Cut(full, "/")
		out = append(out, fmt.Sprintf("%s=%d", resource, len(w.boxes[full].take())))
	}
	return strings.Join(out, " ")
}

func condition(e *stanza.Error) stanza.Condition {
	if e == nil {
		return ""
	}
	return e.Condition
}

func packet(s *stanza.Stanza, id uint64) *stream.Packet {
	return &stream.Packet{Stanza: s, ArchiveID: id}
}
