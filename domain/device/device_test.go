package device

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/sqlite"
	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// box is an outbox that remembers how its session was ended.
type box struct {
	mu    sync.Mutex // guards ended
	ended []string
}

func (*box) Send(*stream.Packet) {}

func (*box) WaitRoom(context.Context) error { return nil }
func (*box) Detached() bool                 { return false }

func (b *box) Close(e *stream.Error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = append(b.ended, string(e.Condition))
}

// world is a domain with one person, romeo.
type world struct {
	t        *testing.T
	now      time.Time
	db       *sqlite.Store
	file     string
	tokens   *token.Service
	sessions *session.Manager
	keeper   *Keeper
	account  store.AccountID
	boxes    map[string]*box
	all      map[string]*session.Session
}

func newWorld(t *testing.T, change ...func(*Config)) *world {
	w := &world{
		t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), file: filepath.Join(t.TempDir(), "posthouse.db"),
		boxes: map[string]*box{}, all: map[string]*session.Session{},
	}
	w.db = w.open()
	var err error
	w.account, err = w.db.CreateAccount(t.Context(), store.Account{Name: "romeo"})
	require.NoError(t, err)
	clock := func() time.Time { return w.now }
	w.tokens, err = token.New(t.Context(), token.Config{
		Domain: jid.MustParse("montague.lit"), Secret: make([]byte, 32), Keys: w.db, Services: w.db, Devices: w.db,
		Accounts: w.db, Now: clock,
	})
	require.NoError(t, err)
	w.sessions = session.New(session.Config{Now: clock})
	c := Config{
		Devices: w.db, Accounts: w.db, Tokens: w.tokens, Sessions: w.sessions, Now: clock, MaxDevices: 3,
		Burst: 100,
		Log:   slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, f := range change {
		f(&c)
	}
	w.keeper, err = New(c)
	require.NoError(t, err)
	return w
}

// open opens the store, as another process would.
func (w *world) open() *sqlite.Store {
	db, err := sqlite.Open(w.t.Context(), w.file, sqlite.Options{Relaxed: true, Now: func() time.Time { return w.now }})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { require.NoError(w.t, db.Close()) })
	return db
}

// bind makes a session, of a device when that is not "".
func (w *world) bind(resource, device string, hidden *session.Hidden) {
	b := &box{}
	basis, err := w.db.NewestChange(w.t.Context())
	require.NoError(w.t, err)
	s, refusal := w.sessions.Bind(session.Binding{
		Account: uint64(w.account), Bare: jid.MustParse("romeo@montague.lit"), Resource: resource, Outbox: b,
		Device: device, Basis: basis, Hidden: hidden,
	})
	require.Nil(w.t, refusal)
	w.boxes[resource], w.all[resource] = b, s
}

// known puts a device into the store.
func (w *world) known(id string) {
	require.NoError(w.t, w.db.PutDevice(w.t.Context(), store.Device{
		Account: w.account, ID: id, Name: "My " + id, Software: "Test", Created: w.now, Seen: w.now,
	}, store.AnyBasis, 10))
}

// ask asks from a session, and returns the answer or the condition of the refusal.
func (w *world) ask(resource, kind, text string) (*stanza.Element, string) {
	w.t.Helper()
	s, err := xmlstream.Unmarshal([]byte("<iq xmlns='jabber:client' id='1' type='" + kind + "'>" + text + "</iq>"))
	require.NoError(w.t, err)
	s.From = jid.MustParse("romeo@montague.lit/" + resource)
	s.To = s.From.Bare()
	hub, err := service.New(service.Config{Domain: jid.MustParse("montague.lit")})
	require.NoError(w.t, err)
	require.NoError(w.t, hub.Serve(w.keeper.Handlers()))
	ctx, queued := session.WithReply(w.t.Context())
	origin := service.Origin{Account: uint64(w.account)}
	if from := w.all[resource]; from != nil {
		origin.Session = from
	}
	answer, refusal := hub.Answer(ctx, origin, s)
	if refusal != nil {
		return nil, string(refusal.Condition)
	}
	if b := w.boxes[resource]; b != nil {
		require.Empty(w.t, b.ended, "the answer comes before the end")
	}
	queued()
	if len(answer) == 0 {
		return nil, ""
	}
	return &answer[0], ""
}

const askToken = "<token xmlns='urn:posthouse:token:1'/>"

// token asks for tokens, which it must get.
func (w *world) token(resource string) *stanza.Element {
	w.t.Helper()
	answer, refusal := w.ask(resource, "get", askToken)
	require.Empty(w.t, refusal)
	return answer
}

func (w *world) verify(answer *stanza.Element) error {
	_, err := w.tokens.Verify(w.t.Context(), answer.Attr("access"))
	return err
}

// list returns what the list of devices shows, a line each.
func (w *world) list(resource string) []string {
	w.t.Helper()
	answer, refusal := w.ask(resource, "get", "<devices xmlns='urn:posthouse:device:1'/>")
	require.Empty(w.t, refusal)
	out := []string{}
	for e := range answer.Elements {
		line := e.Local
		for _, a := range e.Attrs {
			line += " " + a.Local + "=" + a.Value
		}
		out = append(out, line)
	}
	return out
}

// TestNameTakenAnew: sessions of another account by the same name are neither shown nor ended.
func TestNameTakenAnew(t *testing.T) {
	w := newWorld(t)
	w.bind("balcony", "", nil)
	r := request{account: w.account, iq: &stanza.Stanza{From: jid.MustParse("romeo@montague.lit/balcony")}}
	require.Len(t, w.keeper.sessions(r), 1)
	r.account++
	require.Empty(t, w.keeper.sessions(r))
}

func TestToken(t *testing.T) {
	w := newWorld(t)
	w.known("phone")
	w.bind("balcony", "phone", nil)
	answer := w.token("balcony")
	require.Equal(t, NSToken, answer.Space)
	require.Equal(t, "phone", answer.Attr("device"))
	require.Equal(t, "2026-03-01T12:15:00Z", answer.Attr("expires"))
	require.Equal(t, "2026-03-31T12:00:00Z", answer.Attr("refresh-expires"))
	p, err := w.tokens.Verify(t.Context(), answer.Attr("access"))
	require.NoError(t, err)
	require.Equal(t, "romeo@montague.lit", p.JID.String())
	require.Equal(t, "phone", p.Device)
	_, _, err = w.tokens.Refresh(t.Context(), answer.Attr("refresh"))
	require.NoError(t, err)
}

// TestTokenMakesDevice: a client that named no device gets one by its resource, the same the next time, and its session
// belongs to it.
func TestTokenMakesDevice(t *testing.T) {
	w := newWorld(t)
	w.bind("Gajim.X", "", nil)
	first := w.token("Gajim.X")
	device := first.Attr("device")
	require.Regexp(t, `^resource\.[A-Za-z0-9_-]{20}$`, device)
	require.Equal(t, device, w.all["Gajim.X"].Device())
	require.Equal(t, device, w.token("Gajim.X").Attr("device"))
	require.Equal(t, []string{
		"device id=" + device + " name=Gajim.X created=2026-03-01T12:00:00Z seen=2026-03-01T12:00:00Z current=true",
		"session resource=Gajim.X device=" + device + " since=2026-03-01T12:00:00Z current=true",
	}, w.list("Gajim.X"))

	// One that named a device which nobody has stored yet.
	w.bind("web", "3f9f0d24", nil)
	require.Equal(t, "3f9f0d24", w.token("web").Attr("device"))
	// There is a bound: those seen longest ago give way.
	for _, r := range []string{"a", "b", "c"} {
		w.now = w.now.Add(time.Second)
		w.bind(r, "", nil)
		w.token(r)
	}
	require.ErrorIs(t, w.verify(first), token.ErrRevoked)
}

// TestSignOut: tokens are dead and sessions end; the one that asks gets its answer before.
func TestSignOut(t *testing.T) {
	w := newWorld(t)
	w.known("phone")
	w.known("laptop")
	w.bind("balcony", "phone", nil)
	w.bind("kitchen", "phone", nil)
	w.bind("orchard", "laptop", nil)
	w.bind("plain", "", nil)
	phone, laptop := w.token("balcony"), w.token("orchard")
	plain := of("plain", "")

	_, refusal := w.ask("orchard", "set", "<remove xmlns='urn:posthouse:device:1' id='nothing'/>")
	require.Equal(t, "item-not-found", refusal)
	_, refusal = w.ask("orchard", "set", "<remove xmlns='urn:posthouse:device:1'/>")
	require.Equal(t, "bad-request", refusal)
	require.NoError(t, w.verify(phone))

	_, refusal = w.ask("orchard", "set", "<remove xmlns='urn:posthouse:device:1' id='phone'/>")
	require.Empty(t, refusal)
	require.ErrorIs(t, w.verify(phone), token.ErrRevoked)
	require.Equal(t, []string{"not-authorized"}, w.boxes["balcony"].ended)
	require.Equal(t, []string{"not-authorized"}, w.boxes["kitchen"].ended)
	require.Empty(t, w.boxes["orchard"].ended)
	// A session in its last moment does not come back by asking for tokens.
	delete(w.boxes, "balcony")
	_, refusal = w.ask("balcony", "get", askToken)
	require.Equal(t, "not-authorized", refusal)
	require.Len(t, devices(w), 1)

	// A session without a device is signed out by the name that the list gives it.
	require.Contains(t, w.list("orchard"), "session resource=plain device="+plain+" since=2026-03-01T12:00:00Z")
	_, refusal = w.ask("orchard", "set", "<remove xmlns='urn:posthouse:device:1' id='"+plain+"'/>")
	require.Empty(t, refusal)
	require.Equal(t, []string{"not-authorized"}, w.boxes["plain"].ended)
	delete(w.boxes, "plain")
	_, refusal = w.ask("plain", "get", askToken)
	require.Equal(t, "not-authorized", refusal)

	// Oneself.
	_, refusal = w.ask("orchard", "set", "<remove xmlns='urn:posthouse:device:1' id='laptop'/>")
	require.Empty(t, refusal)
	require.Equal(t, []string{"not-authorized"}, w.boxes["orchard"].ended)
	require.ErrorIs(t, w.verify(laptop), token.ErrRevoked)
	require.Empty(t, devices(w))
}

func devices(w *world) []store.Device {
	all, err := w.db.ListDevices(w.t.Context(), w.account)
	require.NoError(w.t, err)
	return all
}

func TestSignOutOthers(t *testing.T) {
	w := newWorld(t)
	w.known("phone")
	w.known("laptop")
	w.bind("balcony", "phone", nil)
	w.bind("garden", "phone", nil)
	w.bind("orchard", "laptop", nil)
	w.bind("plain", "", nil)
	w.bind("unstored", "tablet", nil)
	phone, laptop := w.token("balcony"), w.token("orchard")
	_, refusal := w.ask("balcony", "set", "<remove-others xmlns='urn:posthouse:device:1'/>")
	require.Empty(t, refusal)
	require.NoError(t, w.verify(phone))
	require.ErrorIs(t, w.verify(laptop), token.ErrRevoked)
	for _, resource := range []string{"orchard", "plain", "unstored"} {
		require.Equal(t, []string{"not-authorized"}, w.boxes[resource].ended, resource)
		delete(w.boxes, resource)
		_, refusal = w.ask(resource, "get", askToken)
		require.Equal(t, "not-authorized", refusal, resource)
	}
	require.Empty(t, w.boxes["balcony"].ended)
	require.Empty(t, w.boxes["garden"].ended, "it is of the same device")
	require.Len(t, devices(w), 1)

	// From a session whose device is not stored.
	w = newWorld(t)
	w.known("phone")
	w.bind("balcony", "phone", nil)
	w.bind("plain", "", nil)
	_, refusal = w.ask("plain", "set", "<remove-others xmlns='urn:posthouse:device:1'/>")
	require.Empty(t, refusal)
	require.Empty(t, w.boxes["plain"].ended)
	require.Equal(t, []string{"not-authorized"}, w.boxes["balcony"].ended)
	require.Empty(t, devices(w))
	w.token("plain")
}

// TestPasswordChangedMeanwhile: a session that began with the old password gets no tokens, though it has not been ended
// yet and had no device that the change could remove. Another process may have changed it.
func TestPasswordChangedMeanwhile(t *testing.T) {
	for name, change := range map[string]func(*sqlite.Store) error{
		"password": func(db *sqlite.Store) error { return db.SetCredentials(context.Background(), "romeo", nil) },
		"disabled": func(db *sqlite.Store) error { return db.SetDisabled(context.Background(), "romeo", true) },
		"deleted":  func(db *sqlite.Store) error { return db.DeleteAccount(context.Background(), "romeo") },
	} {
		for _, device := range []string{"", "phone"} {
			w := newWorld(t)
			w.bind("plain", device, nil)
			w.now = w.now.Add(time.Second)
			require.NoError(t, change(w.open()), name)
			_, refusal := w.ask("plain", "get", askToken)
			require.Equal(t, "not-authorized", refusal, name)
			require.Empty(t, devices(w))
			if name == "password" { // who logs in with the new one does
				w.now = w.now.Add(time.Millisecond)
				w.bind("plain", device, nil)
				w.token("plain")
			}
		}
	}
}

// TestLaterDevice: a session whose device was signed out by another process, and has come back by a new login, gets
// none of the new one's tokens in its last moment.
func TestLaterDevice(t *testing.T) {
	w := newWorld(t)
	w.known("phone")
	w.bind("old", "phone", nil)
	w.token("old")
	w.now = w.now.Add(time.Second)
	require.NoError(t, w.open().RemoveDevice(t.Context(), w.account, "phone"))
	w.now = w.now.Add(time.Millisecond)
	w.known("phone")
	_, refusal := w.ask("old", "get", askToken)
	require.Equal(t, "not-authorized", refusal)
	require.Len(t, devices(w), 1)
	w.bind("new", "phone", nil)
	w.token("new")
}

// TestOtherSystems: a session through which another system acts gets no tokens of the person; it may list and sign out
// devices.
func TestOtherSystems(t *testing.T) {
	w := newWorld(t)
	w.known("phone")
	w.bind("balcony", "phone", nil)
	w.bind("api", "phone", &session.Hidden{})
	_, refusal := w.ask("api", "get", askToken)
	require.Equal(t, "not-allowed", refusal)
	require.Equal(t, []string{
		"device id=phone name=My phone software=Test created=2026-03-01T12:00:00Z seen=2026-03-01T12:00:00Z " +
			"current=true",
		"session resource=balcony device=phone since=2026-03-01T12:00:00Z",
	}, w.list("api"))
	_, refusal = w.ask("api", "set", "<remove xmlns='urn:posthouse:device:1' id='phone'/>")
	require.Empty(t, refusal)
	require.Equal(t, []string{"not-authorized"}, w.boxes["balcony"].ended)
}

func TestRate(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Rate, c.Burst = 0.5, 3 })
	w.bind("balcony", "", nil)
	for range 3 {
		w.list("balcony")
	}
	_, refusal := w.ask("balcony", "get", askToken)
	require.Equal(t, "resource-constraint", refusal)
	w.now = w.now.Add(2 * time.Second)
	w.token("balcony")
	_, refusal = w.ask("balcony", "get", askToken)
	require.Equal(t, "resource-constraint", refusal)
	require.Empty(t, w.boxes["balcony"].ended)
}

// TestRemovalIsNotStarved: whatever a thief asks with a device of the account, the owner can sign it out, by a stream
// or by the API.
func TestRemovalIsNotStarved(t *testing.T) {
	for _, remove := range []string{"<remove xmlns='urn:posthouse:device:1' id='stolen'/>",
		"<remove-others xmlns='urn:posthouse:device:1'/>"} {
		for _, from := range []string{"phone", "api/phone"} {
			w := newWorld(t, func(c *Config) { c.Rate, c.Burst = 0.01, 3 })
			w.known("stolen")
			w.known("phone")
			w.bind("thief", "stolen", nil)
			w.bind("phone", "phone", nil)
			w.bind("api/phone", "phone", &session.Hidden{})
			for kind, text := range map[string]string{
				"get": "<devices xmlns='urn:posthouse:device:1'/>",
				"set": "<remove xmlns='urn:posthouse:device:1' id='nothing'/>",
			} {
				refusal := ""
				for n := 0; refusal != "resource-constraint"; n++ {
					_, refusal = w.ask("thief", kind, text)
					require.LessOrEqual(t, n, 3, "there is no limit")
				}
			}
			_, refusal := w.ask(from, "set", remove)
			require.Empty(t, refusal)
			require.Equal(t, []string{"not-authorized"}, w.boxes["thief"].ended)
		}
	}
}

// broken is a store of devices that fails.
type broken struct{ store.Devices }

func (broken) ListDevices(context.Context, store.AccountID) ([]store.Device, error) {
	return nil, errors.New("the disk is on fire")
}

func (broken) RemoveDevices(context.Context, store.AccountID, string) ([]string, error) {
	return nil, errors.New("the disk is on fire")
}

func (broken) RemoveDevice(context.Context, store.AccountID, string) error {
	return errors.New("the disk is on fire")
}

// TestStoreFails: nothing is said to be done that is not, and nobody is told why.
func TestStoreFails(t *testing.T) {
	var log strings.Builder
	w := newWorld(t, func(c *Config) {
		c.Devices = broken{c.Devices}
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	w.bind("balcony", "phone", nil)
	for kind, text := range map[string]string{
		"<devices xmlns='urn:posthouse:device:1'/>":             "get",
		"<remove xmlns='urn:posthouse:device:1' id='balcony'/>": "set",
		"<remove-others xmlns='urn:posthouse:device:1'/>":       "set",
	} {
		_, refusal := w.ask("balcony", text, kind)
		require.Equal(t, "internal-server-error", refusal)
	}
	require.Contains(t, log.String(), "on fire")
	_, err := New(Config{})
	require.Error(t, err)
}

// TestSessionGone: what asked has ended before it is answered.
func TestSessionGone(t *testing.T) {
	w := newWorld(t)
	_, refusal := w.ask("nobody", "get", askToken)
	require.Equal(t, "not-authorized", refusal)
}
