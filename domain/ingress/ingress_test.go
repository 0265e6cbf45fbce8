package ingress

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/uplink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	domain = jid.MustParse("montague.lit")
	romeo  = jid.MustParse("romeo@montague.lit")
)

// house is an ingress with real sessions and a real router, whose one stage and route do as a test says.
type house struct {
	*Ingress
	sessions *session.Manager
	stage    func(e *router.Envelope) (router.Verdict, *stanza.Error)
	route    func(s *stanza.Stanza) *stanza.Error
	router   *router.Router
}

// Route answers what sessions are sent, and otherwise does as the test says.
func (h *house) Route(_ context.Context, p *stream.Packet) *stanza.Error {
	if !p.Stanza.IsRequest() && p.Stanza.Kind == stanza.IQ && h.sessions.Send(p.Stanza.To, p) {
		return nil
	}
	return h.route(p.Stanza)
}

func (h *house) Resolve(_ context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
	e.Target.Kind = router.TheServer
	return router.Continue, nil
}

func (h *house) Deliver(ctx context.Context, e *router.Envelope) *stanza.Error {
	return h.Route(ctx, &stream.Packet{Stanza: e.Stanza})
}

func newHouse(t *testing.T, change ...func(*Config)) *house {
	t.Helper()
	h := &house{sessions: session.New(session.Config{MaxResources: 1})}
	h.stage = func(*router.Envelope) (router.Verdict, *stanza.Error) { return router.Continue, nil }
	h.route = func(*stanza.Stanza) *stanza.Error { return nil }
	resolve := router.Stage{Name: "resolve",
		Run: func(ctx context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
			e.Stanza.From = e.Origin.Address
			return h.router.Resolve(ctx, e)
		}}
	test := router.Stage{Name: "test",
		Run: func(_ context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) { return h.stage(e) }}
	h.router = router.New(router.Config{Chains: map[router.OriginKind][]router.Stage{router.API: {resolve, test}}})
	h.router.Handle(domain.Domain(), h)
	c := Config{Domain: domain, Sessions: h.sessions, Router: h.router,
		StanzaID: func(uint64) string { return "public" }}
	for _, f := range change {
		f(&c)
	}
	var err error
	h.Ingress, err = New(c)
	require.NoError(t, err)
	t.Cleanup(func() { h.sweep(0) })
	return h
}

func message(to jid.JID) *stanza.Stanza {
	return &stanza.Stanza{Kind: stanza.Message, Type: stanza.TypeChat, ID: "m", To: to}
}

func request(id string) *stanza.Stanza {
	return &stanza.Stanza{Kind: stanza.IQ, Type: stanza.TypeGet, ID: id, To: domain,
		Payload: []stanza.Element{stanza.New("urn:test", "query")}}
}

// TestSend: the receipt is that of the chain, and refusals come back as errors.
func TestSend(t *testing.T) {
	h := newHouse(t)
	when := time.Unix(5, 0)
	h.stage = func(e *router.Envelope) (router.Verdict, *stanza.Error) {
		e.Receipt = router.Receipt{ID: 7, Seq: 3, Time: when, Duplicate: true}
		return router.Continue, nil
	}
	caller := uplink.Caller{Account: 1, Bare: romeo, Device: "phone"}
	var from jid.JID
	h.route = func(s *stanza.Stanza) *stanza.Error { from = s.From; return nil }
	r, err := h.Send(t.Context(), caller, message(romeo))
	require.NoError(t, err)
	require.Equal(t, uplink.Receipt{StanzaID: "public", Number: 3, Time: when, Duplicate: true}, r)
	require.Equal(t, "romeo@montague.lit/api/phone", from.String())

	h.stage = func(*router.Envelope) (router.Verdict, *stanza.Error) {
		return router.Finish, stanza.Refuse(stanza.Conflict, "")
	}
	for _, c := range []uplink.Caller{caller, {Bare: domain}} {
		_, err = h.Send(t.Context(), c, message(romeo))
		requireRefusal(t, err, stanza.Conflict)
	}

	// What is held for ever is not known about.
	h.stage = func(*router.Envelope) (router.Verdict, *stanza.Error) { return router.Hold, nil }
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = h.Send(ctx, caller, message(romeo))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = h.Send(t.Context(), caller, request("x"))
	require.Error(t, err)
}

func requireRefusal(t *testing.T, err error, condition stanza.Condition) {
	t.Helper()
	var refusal *stanza.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, condition, refusal.Condition)
}

// TestOrigin: who speaks for an administrator is one for the stages, and nobody else is.
func TestOrigin(t *testing.T) {
	h := newHouse(t)
	for _, c := range []uplink.Caller{
		{Account: 1, Bare: romeo}, {Account: 1, Bare: romeo, Admin: true}, {Bare: domain},
		{Bare: domain, Admin: true, Actor: "key:crm", Device: "key/1"},
	} {
		h.stage = func(e *router.Envelope) (router.Verdict, *stanza.Error) {
			require.Equal(t, router.API, e.Origin.Kind)
			require.Equal(t, c.Admin, e.Origin.Admin)
			require.Equal(t, c.Actor, e.Origin.Actor)
			require.Equal(t, c.Account, e.Origin.Account)
			require.Equal(t, c.Bare, e.Origin.Address.Bare())
			require.Equal(t, c.Account != 0, e.Origin.Session != nil)
			return router.Finish, nil
		}
		_, err := h.Send(t.Context(), c, message(romeo))
		require.NoError(t, err)
	}
}

// TestAsk: answers find their request, also when they come later and when there are many; an error is one.
func TestAsk(t *testing.T) {
	h := newHouse(t)
	h.route = func(s *stanza.Stanza) *stanza.Error {
		if s.ID == "bad" {
			return &stanza.Error{Condition: stanza.Forbidden, Text: "No."}
		}
		go h.sessions.Send(s.From, &stream.Packet{Stanza: s.Reply(stanza.New("urn:test", s.ID))})
		return nil
	}
	for _, c := range []uplink.Caller{{Account: 1, Bare: romeo}, {Bare: domain, Device: "key/1"}} {
		var all sync.WaitGroup
		for _, id := range []string{"a", "b", "c", "d"} {
			all.Go(func() {
				result, err := h.Ask(t.Context(), c, request(id))
				require.NoError(t, err)
				require.Equal(t, id, result[0].Local)
			})
		}
		all.Wait()
	}
	_, err := h.Ask(t.Context(), uplink.Caller{Account: 1, Bare: romeo}, request("bad"))
	requireRefusal(t, err, stanza.Forbidden)
	var refusal *stanza.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, "No.", refusal.Text)
	require.Empty(t, h.callers["romeo@montague.lit/api"].asked)

	h.route = func(*stanza.Stanza) *stanza.Error { return nil }
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = h.Ask(ctx, uplink.Caller{Account: 1, Bare: romeo}, request("a"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = h.Ask(t.Context(), uplink.Caller{Account: 1, Bare: romeo}, message(romeo))
	require.Error(t, err)
}

// TestHidden: a caller's session is nobody's: it takes no place of a resource, is not live, not shown, and gets no
// messages.
func TestHidden(t *testing.T) {
	h := newHouse(t)
	caller := uplink.Caller{Account: 1, Bare: romeo, Device: "phone"}
	_, err := h.Send(t.Context(), caller, message(romeo))
	require.NoError(t, err)
	full := jid.MustParse("romeo@montague.lit/api/phone")
	hidden := h.sessions.Lookup(full)
	require.NotNil(t, hidden)
	for range h.sessions.Sessions {
		require.Fail(t, "it is shown")
	}
	require.True(t, h.sessions.Visit(romeo, func(u *session.User) {
		require.False(t, u.Live())
		require.Nil(t, u.Match("api/phone"))
	}))
	require.False(t, h.sessions.Send(full, &stream.Packet{Stanza: request("x")}), "nobody is there to answer")
	require.Zero(t, h.sessions.Kick(1, nil))
	seen, refusal := h.sessions.Bind(session.Binding{Account: 1, Bare: romeo, Resource: "balcony", Outbox: &proxy{}})
	require.Nil(t, refusal, "the one place is free")
	_, refusal = h.sessions.Bind(session.Binding{Account: 1, Bare: romeo, Resource: "orchard", Outbox: &proxy{}})
	require.NotNil(t, refusal)
	_, err = h.Send(t.Context(), uplink.Caller{Account: 1, Bare: romeo, Device: "tablet"}, message(romeo))
	require.NoError(t, err, "a full account can still be spoken for")
	h.sessions.Unbind(seen)
}

// TestLinger: a session is kept for the next request, and ends when there is none; all end with Run.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(c *Config) { c.Linger = 5 * time.Second })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- h.Run(ctx) }()
		full := jid.MustParse("romeo@montague.lit/api")
		speak := func(c uplink.Caller) {
			t.Helper()
			_, err := h.Send(t.Context(), c, message(romeo))
			require.NoError(t, err)
		}
		speak(uplink.Caller{Account: 1, Bare: romeo})
		first := h.sessions.Lookup(full)
		<-time.After(4 * time.Second) // of the bubble's clock
		speak(uplink.Caller{Account: 1, Bare: romeo})
		require.Same(t, first, h.sessions.Lookup(full))
		<-time.After(4 * time.Second) // of the bubble's clock
		require.Same(t, first, h.sessions.Lookup(full))
		<-time.After(10 * time.Second)
		require.Nil(t, h.sessions.Lookup(full))
		// The same address of another account, or with other powers, is another session.
		speak(uplink.Caller{Account: 1, Bare: romeo})
		first = h.sessions.Lookup(full)
		speak(uplink.Caller{Account: 2, Bare: romeo})
		require.NotSame(t, first, h.sessions.Lookup(full))
		speak(uplink.Caller{Account: 2, Bare: romeo, Admin: true})
		require.True(t, h.sessions.Lookup(jid.MustParse("romeo@montague.lit/api/admin")).Admin())
		speak(uplink.Caller{Account: 2, Bare: romeo})
		require.False(t, h.sessions.Lookup(full).Admin())
		cancel()
		require.NoError(t, <-ended)
		require.Nil(t, h.sessions.Lookup(full))
		require.Nil(t, h.sessions.Lookup(jid.MustParse("romeo@montague.lit/api/admin")))
	})
}

// TestBound: there are only so many callers at once.
func TestBound(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Callers = 1 })
	_, err := h.Send(t.Context(), uplink.Caller{Account: 1, Bare: romeo}, message(romeo))
	require.NoError(t, err)
	_, err = h.Send(t.Context(), uplink.Caller{Account: 1, Bare: romeo, Device: "x"}, message(romeo))
	requireRefusal(t, err, stanza.ResourceConstraint)
	h.sweep(0)
	_, err = h.Send(t.Context(), uplink.Caller{Account: 1, Bare: romeo, Device: "x"}, message(romeo))
	require.NoError(t, err)
}

// TestClosed: when the domain ends a session, requests that wait on it are over, and the next has a new one.
func TestClosed(t *testing.T) {
	h := newHouse(t)
	caller := uplink.Caller{Account: 1, Bare: romeo}
	h.route = func(*stanza.Stanza) *stanza.Error {
		h.callers["romeo@montague.lit/api"].Close(nil)
		return nil
	}
	_, err := h.Ask(t.Context(), caller, request("a"))
	require.True(t, errors.Is(err, errClosed))
	h.route = func(s *stanza.Stanza) *stanza.Error {
		h.sessions.Send(s.From, &stream.Packet{Stanza: s.Reply()})
		return nil
	}
	_, err = h.Ask(t.Context(), caller, request("a"))
	require.NoError(t, err)
}

// TestOvertaken: a caller whose account or device was changed after it was let in gets no session; one that has a
// session loses it.
func TestOvertaken(t *testing.T) {
	changed := int64(5)
	h := newHouse(t)
	h.sessions = session.New(session.Config{
		Overtaken: func(_ context.Context, _ uint64, _ string, basis int64) (bool, error) {
			return basis < changed, nil
		},
	})
	h.Ingress.config.Sessions = h.sessions
	caller := uplink.Caller{Account: 1, Bare: romeo, Device: "phone", Basis: 4}
	_, err := h.Send(t.Context(), caller, message(romeo))
	require.ErrorIs(t, err, uplink.ErrRevoked)
	for _, device := range []string{"", "phone"} {
		caller.Basis = changed
		_, err = h.Send(t.Context(), caller, message(romeo))
		require.NoError(t, err)
		changed++
		h.End(1, "another")
		_, err = h.Send(t.Context(), caller, message(romeo))
		require.NoError(t, err, "it concerned another device")
		h.End(1, device)
		_, err = h.Send(t.Context(), caller, message(romeo))
		require.ErrorIs(t, err, uplink.ErrRevoked)
	}
}

// TestWatch: those who watch an account are told, once for many changes, and others are not.
func TestWatch(t *testing.T) {
	h := newHouse(t)
	h.Changed(1) // nobody watches
	one, stopOne := h.Watch(1)
	again, stopAgain := h.Watch(1)
	other, stopOther := h.Watch(65) // in the same shard
	h.Changed(1)
	h.Changed(1)
	<-one
	<-again
	for _, c := range []<-chan struct{}{one, again, other} {
		select {
		case <-c:
			require.Fail(t, "nothing has changed")
		default:
		}
	}
	stopOne()
	stopOne()
	h.Changed(1)
	<-again
	require.Empty(t, one)
	stopAgain()
	stopOther()
	require.Zero(t, h.watched.count.Load())
	for i := range h.watched.shards {
		require.Empty(t, h.watched.shards[i].by)
	}
}

func BenchmarkChangedUnwatched(b *testing.B) {
	x := &Ingress{}
	for b.Loop() {
		x.Changed(1)
	}
}
