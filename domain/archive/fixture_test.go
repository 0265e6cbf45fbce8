package archive

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/storetest"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	romeo  = 1
	juliet = 2
	nurse  = 3
)

// people are the accounts of verona.example.
var people = map[string]store.AccountID{"romeo": romeo, "juliet": juliet, "nurse": nurse}

type directory struct {
	t   testing.TB
	err error
}

func (d *directory) Lookup(_ context.Context, name string) (store.AccountID, bool, error) {
	mayRead(d.t)
	id, ok := people[name]
	return id, ok, d.err
}

type contacts map[store.AccountID][]string

func (c contacts) Contact(_ context.Context, account store.AccountID, contact jid.JID) (bool, error) {
	for _, known := range c[account] {
		if known == contact.String() {
			return true, nil
		}
	}
	return false, nil
}

// memoryPreferences is store.ArchivePreferences in memory; it counts reads.
type memoryPreferences struct {
	t     testing.TB
	mu    sync.Mutex // guards kept
	kept  map[store.AccountID]store.ArchivePreference
	reads atomic.Int32
	err   error
}

func (p *memoryPreferences) ArchivePreference(_ context.Context, owner store.AccountID) (store.ArchivePreference,
	error) {
	p.reads.Add(1)
	mayRead(p.t)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kept[owner], p.err
}

func (p *memoryPreferences) SetHideReads(_ context.Context, owner store.AccountID, hide bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept == nil {
		p.kept = map[store.AccountID]store.ArchivePreference{}
	}
	v := p.kept[owner]
	v.HideReads = hide
	p.kept[owner] = v
	return p.err
}

func (p *memoryPreferences) SetArchivePreference(_ context.Context, owner store.AccountID,
	v store.ArchivePreference) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept == nil {
		p.kept = map[store.AccountID]store.ArchivePreference{}
	}
	v.HideReads = p.kept[owner].HideReads
	p.kept[owner] = v
	return p.err
}

// brittle is a log whose Append fails when it is told to, and that counts. Neither the committer nor a delivery worker
// may read it.
type brittle struct {
	store.MessageLog
	t testing.TB
	// before is called with each batch; an error makes Append fail without storing. deliver is called with reports of
	// delivery.
	before  func(batch []*store.Append) error
	deliver func(reports []store.Delivered) error
	commits atomic.Int32
	largest atomic.Int32
	// numbered counts how often messages were read by their number, and what is looked up to move markers.
	numbered atomic.Int32
}

func (b *brittle) Append(ctx context.Context, batch *store.Batch) error {
	if b.before != nil {
		if err := b.before(batch.Entries); err != nil {
			return err
		}
	}
	b.commits.Add(1)
	if n := int32(len(batch.Entries)); n > b.largest.Load() {
		b.largest.Store(n)
	}
	return b.MessageLog.Append(ctx, batch)
}

func (b *brittle) Deliver(ctx context.Context, reports []store.Delivered) error {
	if b.deliver != nil {
		if err := b.deliver(reports); err != nil {
			return err
		}
	}
	return b.MessageLog.Deliver(ctx, reports)
}

var errDisk = errors.New("disk is broken")

// from is a client that sends.
func from(address string) *router.Origin {
	j := jid.MustParse(address)
	account := store.AccountID(0)
	if j.Domain() == "verona.example" {
		account = people[j.Local()]
	}
	return &router.Origin{Kind: router.Client, Account: uint64(account), Address: j}
}

// house is an archive with a router around it. Everything that is delivered is kept in order.
type house struct {
	*Archive
	router    *router.Router
	log       *brittle
	prefs     *memoryPreferences
	directory *directory

	mu        sync.Mutex // guards the rest
	delivered []*stream.Packet
	receipts  []router.Receipt
	copies    []*router.Envelope // what the author's other devices get
	pending   sync.WaitGroup     // what accept was given and is not delivered
	onRoute   func(*stream.Packet)
	left      atomic.Bool // nobody is there any more
}

type option func(*Config)

func newHouse(t testing.TB, log store.MessageLog, options ...option) *house {
	t.Helper()
	h := &house{log: &brittle{MessageLog: log, t: t}, prefs: &memoryPreferences{t: t}, directory: &directory{t: t}}
	c := Config{
		Log: h.log, Preferences: h.prefs, Directory: h.directory, Domain: jid.MustParse("verona.example"),
		Key: []byte("sixteen bytes or"), Reply: h.reply,
	}
	for _, o := range options {
		o(&c)
	}
	a, err := New(c)
	require.NoError(t, err)
	h.Archive = a
	a.newPause = newTimerPause // the system's clock does not know of synctest's
	resolve := router.Stage{Name: "resolve",
		Run: func(ctx context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
			if e.Stanza.To.IsZero() { // RFC 6120 §10.3.1; the stage address does it
				e.Stanza.To = e.Stanza.From.Bare()
			}
			return h.router.Resolve(ctx, e)
		}}
	h.router = router.New(router.Config{
		Chains: map[router.OriginKind][]router.Stage{router.Client: {resolve, a.Stage()}},
		Recipient: []router.Delivery{{Name: "deliver",
			Run: func(ctx context.Context, e *router.Envelope) { h.router.Deliver(ctx, e) }}},
		Author: []router.Delivery{{Name: "copy", Run: h.copy}},
	})
	t.Cleanup(func() { require.NoError(t, h.router.Close(context.Background())) })
	h.router.Handle("verona.example", h)
	h.router.Handle("mantua.example", h)
	a.Connect(h.router)
	return h
}

// Resolve implements router.Route: everybody's address is here, but for accounts that do not exist.
func (h *house) Resolve(ctx context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
	to := e.Stanza.To
	e.Target = router.Target{Kind: router.Remote}
	if to.Domain() != "verona.example" {
		return router.Continue, nil
	}
	account, ok, err := h.directory.Lookup(ctx, to.Local())
	switch {
	case err != nil:
		return router.Finish, notStored
	case !ok && h.Known(ctx, e):
		return router.Finish, nil
	case !ok:
		return router.Finish, stanza.Refuse(stanza.ServiceUnavailable, "")
	}
	e.Target = router.Target{Kind: router.AnAccount, Account: uint64(account)}
	return router.Continue, nil
}

// Deliver implements router.Route, as package local does it.
func (h *house) Deliver(ctx context.Context, e *router.Envelope) *stanza.Error {
	p := &stream.Packet{Stanza: e.Stanza, Content: &e.Content, ArchiveID: e.Target.ID, Also: e.Target.Also}
	if e.Target.ID != 0 && e.Target.Account != 0 {
		h.Stamp(p, e.Stanza.To.Bare(), e.Receipt.Seq, e.Target.Archived)
	}
	return h.Route(ctx, p)
}

// reply gives what answers an account to its owner, until everybody leaves.
func (h *house) reply(account uint64, to jid.JID, p *stream.Packet) bool {
	owner, _, _ := h.directory.Lookup(context.Background(), to.Local())
	if account != uint64(owner) || h.left.Load() {
		return false
	}
	_ = h.Route(context.Background(), p)
	return true
}

// copy is what the author's account gets.
func (h *house) copy(_ context.Context, e *router.Envelope) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.copies = append(h.copies, e)
}

// Route implements router.Route.
func (h *house) Route(_ context.Context, p *stream.Packet) *stanza.Error {
	h.mu.Lock()
	h.delivered = append(h.delivered, p)
	on := h.onRoute
	h.mu.Unlock()
	if on != nil {
		on(p)
	}
	return nil
}

// run starts the committer and returns a function that ends it and returns what Run returned.
func (h *house) run(t testing.TB) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() {
			cancel()
			err = <-ended
			require.NoError(t, h.router.Close(context.Background()))
		})
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

// accept hands a stanza in; its receipt is appended when it is done.
func (h *house) accept(ctx context.Context, who *router.Origin, s *stanza.Stanza) {
	if s.From.IsZero() {
		s.From = who.Address
	}
	h.pending.Add(1)
	h.router.Accept(ctx, &router.Envelope{Stanza: s, Origin: who, Stored: func(e *router.Envelope) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.receipts = append(h.receipts, e.Receipt)
	}, Delivered: func(*router.Envelope) { h.pending.Done() }})
}

// say accepts a message and waits until it is delivered.
func (h *house) say(t testing.TB, who string, s *stanza.Stanza) router.Receipt {
	t.Helper()
	done := make(chan router.Receipt, 1)
	src := from(who)
	s.From = src.Address
	h.router.Accept(t.Context(), &router.Envelope{Stanza: s, Origin: src,
		Delivered: func(e *router.Envelope) { done <- e.Receipt }})
	select {
	case r := <-done:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("no receipt")
		panic("unreachable")
	}
}

// seen returns what was delivered so far and forgets it.
func (h *house) seen() []*stream.Packet {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.delivered
	h.delivered = nil
	return out
}

// copied returns what the author's devices got, and forgets it.
func (h *house) copied() []*router.Envelope {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.copies
	h.copies = nil
	return out
}

// flushDelivery waits until romeo and juliet have what was stored before.
func (h *house) flushDelivery(t testing.TB) {
	require.Nil(t, h.say(t, "romeo@verona.example/flush", chat("juliet@verona.example", "", active())).Err)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.delivered = h.delivered[:len(h.delivered)-1]
	h.copies = h.copies[:len(h.copies)-1]
}

func chat(to, body string, more ...stanza.Element) *stanza.Stanza {
	s := &stanza.Stanza{Kind: stanza.Message, Type: stanza.TypeChat, To: jid.MustParse(to)}
	if body != "" {
		s.Payload = append(s.Payload, stanza.New(stanza.NSClient, "body").WithText(body))
	}
	s.Payload = append(s.Payload, more...)
	return s
}

func origin(id string) stanza.Element { return stanza.New(nsStanzaID, "origin-id", "id", id) }

func active() stanza.Element { return stanza.New("http://jabber.org/protocol/chatstates", "active") }

// parse reads a stanza as somebody wrote it in XML.
func parse(t testing.TB, text string) *stanza.Stanza {
	t.Helper()
	s, err := xmlstream.Unmarshal([]byte(text))
	require.NoError(t, err, text)
	return s
}

// fill stores n messages between romeo and others straight in the log, one a second, and returns them.
func fill(t testing.TB, log store.MessageLog, start time.Time, n int,
	with func(i int) (from, to string)) []store.Message {
	t.Helper()
	var out []store.Message
	for i := range n {
		who, to := with(i)
		out = append(out, put(t, log, start.Add(time.Duration(i)*time.Second),
			stored(t, log, who, to, fmt.Sprintf("message %d", i)))...)
	}
	return out
}

// put stores messages in one batch.
func put(t testing.TB, log store.MessageLog, now time.Time, entries ...*store.Append) (out []store.Message) {
	t.Helper()
	require.NoError(t, log.Append(context.Background(), &store.Batch{Now: now, Entries: entries}))
	for _, a := range entries {
		out = append(out, a.Message)
	}
	return out
}

// stored is what the stage would make of a chat message.
func stored(t testing.TB, log store.MessageLog, who, to, body string) *store.Append {
	t.Helper()
	sender, recipient := from(who), from(to)
	s := chat(to, body)
	s.From = sender.Address
	a := &store.Append{}
	a.Author = party(who)
	opened, err := log.OpenConversation(context.Background(), noon, store.DirectKey(a.Author, party(to)), nil)
	require.NoError(t, err)
	a.Conversation = opened.ID
	if sender.Account != 0 {
		a.Flags |= store.InAuthorArchive
	}
	if recipient.Account != 0 {
		a.Flags |= store.InRecipientArchive | store.ForOffline
	}
	a.Stanza = xmlstream.Marshal(nil, s)
	return a
}

func memory() store.MessageLog { return storetest.NewMemory() }
