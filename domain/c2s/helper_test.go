package c2s_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/domain/c2s"
	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/link"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/storetest"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

const (
	header  = `<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>`
	iterats = 4096
)

// accounts is a store.Accounts in memory.
type accounts struct {
	devices *storetest.MemoryDevices
	mu      sync.Mutex // guards the rest
	byID    map[string]store.Account
	gone    map[string]bool
	last    store.AccountID
}

func (a *accounts) Account(ctx context.Context, name string) (store.Account, error) {
	basis, _ := a.devices.NewestChange(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if acc, ok := a.byID[name]; ok {
		acc.Basis = store.Basis(basis)
		return acc, nil
	}
	return store.Account{}, store.ErrNotFound
}

func (a *accounts) ListAccounts(context.Context, string, int) ([]store.Account, error) {
	return nil, errors.New("not used here")
}

func (a *accounts) CreateAccount(_ context.Context, acc store.Account) (store.AccountID, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.byID[acc.Name]; ok || a.gone[acc.Name] {
		return 0, store.ErrExists
	}
	a.last++
	acc.ID = a.last
	a.byID[acc.Name] = acc
	return acc.ID, nil
}

func (a *accounts) CreateAccounts(context.Context, []store.Account) ([]store.AccountID, error) {
	return nil, errors.New("not used here")
}

func (a *accounts) change(name string, f func(*store.Account)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	acc, ok := a.byID[name]
	if !ok {
		return store.ErrNotFound
	}
	f(&acc)
	a.byID[name] = acc
	return nil
}

func (a *accounts) SetCredentials(_ context.Context, name string, c []store.Credential) error {
	return a.change(name, func(acc *store.Account) { acc.Credentials = c })
}

func (a *accounts) RenewCredentials(context.Context, string, store.Basis, []store.Credential,
	[]store.Credential) error {
	return errors.New("not used here")
}

func (a *accounts) IterationCounts(context.Context) ([]store.IterationCount, error) { return nil, nil }

func (a *accounts) SetDisabled(_ context.Context, name string, disabled bool) error {
	return a.change(name, func(acc *store.Account) { acc.Disabled = disabled })
}

func (a *accounts) SetAdmin(_ context.Context, name string, admin bool) error {
	return a.change(name, func(acc *store.Account) { acc.Admin = admin })
}

func (a *accounts) DeleteAccount(_ context.Context, name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.byID, name)
	a.gone[name] = true
	return nil
}

// archive stands in for the stage that holds messages until they are stored: it numbers them and, unless it is
// told to hold them, lets them go on at once.
type archive struct {
	router *router.Router
	quick  bool       // it does nothing, for benchmarks
	queue  bool       // workers deliver, as in a node; fixed before the first message
	mu     sync.Mutex // guards the rest
	holds  bool
	held   []*router.Envelope
	stored []*router.Envelope
}

func (a *archive) stage(ctx context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
	if e.Stanza.Kind != stanza.Message || a.quick {
		return router.Continue, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.Stanza.Body() == "refuse me" {
		return router.Continue, stanza.Refuse(stanza.NotAcceptable, "")
	}
	if e.Stanza.Body() == "panic" {
		panic("a stage's fault")
	}
	if e.Stanza.Body() != "" {
		e.Receipt.ID, e.Receipt.Seq = uint64(len(a.stored)+1), uint64(len(a.stored)+1)
		e.Target.ID = e.Receipt.ID
		e.Receipt.Time = time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
		a.stored = append(a.stored, e)
	} else if e.Stanza.Child("urn:xmpp:receipts", "received") != nil {
		e.Receipt.ID, e.Receipt.Time = 1<<20, time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	}
	if a.queue && !a.router.Reserve(ctx, e, 100) {
		return router.Finish, stanza.Refuse(stanza.ResourceConstraint, "")
	}
	if a.holds {
		a.held = append(a.held, e)
		return router.Hold, nil
	}
	return router.Continue, nil
}

// address stands in for the stage that gives a stanza without an address one (RFC 6120 §10.3).
func address(_ context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
	if !e.Stanza.To.IsZero() {
		return router.Continue, nil
	}
	if e.Stanza.Kind == stanza.Presence {
		return router.Finish, nil
	}
	e.Stanza.To = e.Stanza.From.Bare()
	return router.Continue, nil
}

func (a *archive) hold(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.holds = on
}

// release lets up to n held messages go on, as the committer does, and returns how many it were.
func (a *archive) release(n int) int {
	a.mu.Lock()
	n = min(n, len(a.held))
	out := slices.Clone(a.held[:n])
	a.held = a.held[n:]
	a.mu.Unlock()
	for _, e := range out {
		a.router.Resume(context.Background(), e)
	}
	return len(out)
}

func (a *archive) storedBodies() (bodies []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.stored {
		bodies = append(bodies, e.Stanza.Body())
	}
	return bodies
}

// delivered is a Marker and a Returner that remembers.
type delivered struct {
	mu       sync.Mutex // guards the rest
	ids      []uint64
	returned []*stream.Packet
	calls    int
}

func (d *delivered) Delivered(_, id uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ids = append(d.ids, id)
}

func (d *delivered) Return(_ context.Context, s *session.Session, packets []*stream.Packet) {
	if s == nil {
		panic("no session")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.returned = append(d.returned, packets...)
	d.calls++
}

func (d *delivered) marks() []uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.ids)
}

func (d *delivered) bodies() (bodies []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.returned {
		bodies = append(bodies, p.Stanza.Body())
	}
	return bodies
}

// env is a server with real authentication, sessions and router, and a route that delivers to full addresses, and
// for bare ones to all sessions that were announced with presence.
type env struct {
	t        *testing.T
	server   *c2s.Server
	sessions *session.Manager
	archive  *archive
	done     *delivered
	store    *accounts
	auth     *auth.Authenticator
	config   c2s.Config
	router   *router.Router
	unstick  chan struct{} // the delivery of what says "stuck" waits for it
	served   sync.WaitGroup
	stop     context.CancelFunc

	mu    sync.Mutex // guards links
	links []link.Conn
	iqs   func(s *stanza.Stanza) // called by the route of the server's own address
}

func (e *env) Resolve(_ context.Context, envelope *router.Envelope) (router.Verdict, *stanza.Error) {
	s := envelope.Stanza
	envelope.Target = router.Target{Kind: router.AnAccount}
	if s.Kind == stanza.Message && s.To.IsFull() && e.sessions.Lookup(s.To) == nil {
		return router.Finish, stanza.Refuse(stanza.ServiceUnavailable, "")
	}
	return router.Continue, nil
}

func (e *env) Deliver(ctx context.Context, envelope *router.Envelope) *stanza.Error {
	if envelope.Stanza.Body() == "stuck" {
		<-e.unstick
	}
	return e.Route(ctx, &stream.Packet{Stanza: envelope.Stanza, ArchiveID: envelope.Target.ID})
}

func (e *env) Route(_ context.Context, p *stream.Packet) *stanza.Error {
	s := p.Stanza
	if s.To.Local() == "" || s.To.IsBare() && s.Kind == stanza.IQ {
		if e.iqs != nil {
			e.iqs(s)
		}
		if s.IsRequest() {
			e.sessions.Send(s.From, &stream.Packet{Stanza: s.Reply()})
		}
		return nil
	}
	if s.To.IsFull() {
		if !e.sessions.Send(s.To, p) {
			return stanza.Refuse(stanza.ServiceUnavailable, "")
		}
		return nil
	}
	e.sessions.Visit(s.To, func(u *session.User) {
		for s := range u.All {
			u.Send(s, p)
		}
	})
	return nil
}

// codecs is what the composition root gives to c2s.
func codecs(l link.Conn) (stream.Decoder, stream.Codec) {
	if l.Protocol() == link.ProtocolCompact {
		return pbstream.NewDecoder(stream.Limits{}), pbstream.Codec{}
	}
	if l.Framed() {
		return xmlstream.NewFramedDecoder(stream.Limits{}), xmlstream.Framed{}
	}
	return xmlstream.NewDecoder(stream.Limits{}), xmlstream.XML{}
}

func newEnv(t testing.TB, change func(*c2s.Config)) *env {
	devices := &storetest.MemoryDevices{}
	overtaken := func(ctx context.Context, account uint64, device string, basis int64) (bool, error) {
		changed, _, err := devices.ChangedSince(ctx, store.AccountID(account), device, store.Basis(basis))
		return changed, err
	}
	e := &env{
		sessions: session.New(session.Config{Overtaken: overtaken}),
		archive:  &archive{}, done: &delivered{},
		store: &accounts{devices: devices, byID: map[string]store.Account{}, gone: map[string]bool{}},
	}
	e.t, _ = t.(*testing.T)
	var err error
	e.auth, err = auth.New(e.store, auth.Config{
		Iterations: iterats, PlainWithoutTLS: true, Secret: make([]byte, 32), PasswordMin: 3,
		AllowCommonPasswords: true,
		Tokens:               auth.TokenConfig{Devices: devices, Key: make([]byte, 32)},
		Changes:              devices,
	})
	require.NoError(t, err)
	var r *router.Router
	resolve := func(ctx context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
		return r.Resolve(ctx, e)
	}
	r = router.New(router.Config{Chains: map[router.OriginKind][]router.Stage{
		router.Client: {{Name: "address", Run: address}, {Name: "resolve", Run: resolve},
			{Name: "archive", Run: e.archive.stage}},
	}})
	r.Handle("localhost", e)
	e.archive.router, e.router, e.unstick = r, r, make(chan struct{})
	e.config = c2s.Config{
		Domain: "localhost", Codec: codecs, Auth: e.auth, Sessions: e.sessions, Router: r, Marker: e.done,
		Returner:  e.done,
		RateBytes: -1, RateStanzas: -1,
	}
	if change != nil {
		change(&e.config)
	}
	e.server, err = c2s.New(e.config)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	e.stop = cancel
	e.served.Go(func() { e.server.Run(ctx) })
	for _, name := range []string{"romeo", "juliet"} {
		_, err := e.auth.Create(context.Background(), name, "secret of "+name)
		require.NoError(t, err)
	}
	return e
}

// close ends everything and waits for it, so that no goroutine of a test outlives it.
func (e *env) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_ = e.server.Drain(ctx)
	_ = e.router.Close(ctx)
	e.stop()
	e.served.Wait()
}

// run runs a test with its own clock.
func run(t *testing.T, change func(*c2s.Config), f func(t *testing.T, e *env)) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, change)
		defer e.close()
		f(t, e)
	})
}

// elapse lets time pass; it is the test's own time, see run.
func elapse(d time.Duration) { <-time.After(d) }

// client is the other end of a stream, as text.
type client struct {
	t    *testing.T
	conn net.Conn
	buf  string
	// ended: quiet met the end of the connection.
	ended bool
}

// dial opens a connection that the server serves.
func (e *env) dial() *client {
	near, far := link.Pipe()
	e.serve(near)
	return &client{t: e.t, conn: far}
}

func (e *env) serve(l link.Conn) {
	e.mu.Lock()
	e.links = append(e.links, l)
	e.mu.Unlock()
	e.served.Go(func() { e.server.Serve(context.Background(), l) })
}

func (c *client) sendf(format string, args ...any) {
	c.t.Helper()
	c.send(fmt.Sprintf(format, args...))
}

func (c *client) send(text string) {
	c.t.Helper()
	_ = c.conn.SetWriteDeadline(time.Now().Add(time.Minute))
	_, err := io.WriteString(c.conn, text)
	require.NoError(c.t, err, "sending %.200s", text)
}

// more reads once. It reports false at the end of the connection.
func (c *client) more() bool {
	p := make([]byte, 4096)
	_ = c.conn.SetReadDeadline(time.Now().Add(time.Hour))
	n, err := c.conn.Read(p)
	c.buf += string(p[:n])
	require.NotErrorIs(c.t, err, context.DeadlineExceeded)
	if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
		require.Fail(c.t, "nothing came for an hour", "got %q", c.buf)
	}
	return err == nil
}

// expect reads until each part has come, in that order, and returns what was read up to the end of the last.
func (c *client) expect(parts ...string) string {
	c.t.Helper()
	taken := ""
	for _, part := range parts {
		for {
			if i := strings.Index(c.buf, part); i >= 0 {
				taken += c.buf[:i+len(part)]
				c.buf = c.buf[i+len(part):]
				break
			}
			if !c.more() {
				require.Fail(c.t, "the stream ended", "while waiting for %q, after %q", part, taken+c.buf)
			}
		}
	}
	return taken
}

// rest reads to the end of the connection.
func (c *client) rest() string {
	c.t.Helper()
	for c.more() {
	}
	out := c.buf
	c.buf = ""
	return out
}

// quiet waits until nothing moves any more and returns what had come.
func (c *client) quiet() string {
	synctest.Wait()
	p := make([]byte, 1<<20)
	_ = c.conn.SetReadDeadline(time.Now().Add(time.Nanosecond))
	for {
		n, err := c.conn.Read(p)
		c.buf += string(p[:n])
		if err != nil {
			c.ended = !errors.Is(err, os.ErrDeadlineExceeded)
			break
		}
	}
	out := c.buf
	c.buf = ""
	return out
}

// fails expects the stream to be closed with the given condition.
func (c *client) fails(condition string) string {
	c.t.Helper()
	out := c.expect("<stream:error>", "<"+condition+" ", "</stream:error>", "</stream:stream>")
	c.conn.Close()
	return out
}

func plain(user string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00secret of " + user))
}

// login goes as far as the features after authentication.
func (e *env) login(user string) *client {
	c := e.dial()
	c.send(header)
	c.expect("</stream:features>")
	c.sendf("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>", plain(user))
	c.expect("<success", ">")
	c.send(header)
	c.expect("</stream:features>")
	return c
}

// bind goes as far as a bound resource.
func (e *env) bind(user, resource string) *client {
	c := e.login(user)
	c.bind(resource)
	return c
}

func (c *client) bind(resource string) {
	c.sendf("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>%s</resource></bind></iq>",
		resource)
	c.expect("<jid>", "</iq>")
}

// enable enables stream management and returns the stream's id.
func (c *client) enable() string {
	c.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
	return attr(c.expect("<enabled", ">"), "id")
}

// message sends a chat message.
func (c *client) message(to, body string) {
	c.sendf("<message to='%s' type='chat' id='m-%s'><body>%s</body></message>", to, body, body)
}

// attr finds an attribute's value in a piece of text.
func attr(text, name string) string {
	for _, quote := range []string{"'", `"`} {
		if _, after, ok := strings.Cut(text, " "+name+"="+quote); ok {
			value, _, _ := strings.Cut(after, quote)
			return value
		}
	}
	return ""
}

// each returns what stands between two strings, each time.
func each(text, before, after string) (found []string) {
	for {
		_, rest, ok := strings.Cut(text, before)
		if !ok {
			return found
		}
		value, rest, ok := strings.Cut(rest, after)
		if !ok {
			return found
		}
		found, text = append(found, value), rest
	}
}
