package session

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

func TestBindMakesUnguessableResources(t *testing.T) {
	m := New(Config{})
	a, _ := bind(t, m, "")
	b, _ := bind(t, m, "")
	require.NotEqual(t, a.JID(), b.JID())
	require.GreaterOrEqual(t, len(a.JID().Resource()), 26, "128 bits in base 32")
	require.Equal(t, juliet, a.JID().Bare())
	require.Equal(t, uint64(1), a.Account())
	require.Same(t, a, m.Lookup(a.JID()))
}

func TestBindRefusesAnInvalidResource(t *testing.T) {
	_, refusal := New(Config{}).Bind(Binding{Account: 1, Bare: juliet, Resource: strings.Repeat("x", 1024),
		Outbox: &outbox{}})
	require.NotNil(t, refusal)
	require.Equal(t, stanza.BadRequest, refusal.Condition)
}

func TestBindConflictEndsTheOlder(t *testing.T) {
	var departed []string
	m := New(Config{Departed: func(_ context.Context, s *Session, last *stanza.Stanza) {
		departed = append(departed, fmt.Sprint(s.JID(), " ", last != nil))
	}})
	old, oldBox := bind(t, m, "phone")
	appear(m, old, 0)
	now, box := bind(t, m, "phone")
	require.Equal(t, []string{"conflict"}, oldBox.conditions())
	require.Empty(t, box.conditions())
	require.Equal(t, []string{"juliet@capulet.lit/phone true"}, departed)
	require.Same(t, now, m.Lookup(now.JID()))

	m.Unbind(old) // its connection ends later: nothing of the new one may go
	require.Same(t, now, m.Lookup(now.JID()))
	require.Len(t, departed, 1)
	require.True(t, vanish(m, old).Gone)
	require.True(t, m.Send(now.JID(), chat(0, now.JID())))
	require.Empty(t, oldBox.sent)
	require.Len(t, box.sent, 1)
}

func TestBindEleventhResource(t *testing.T) {
	m := New(Config{})
	for i := range 10 {
		bind(t, m, fmt.Sprint("r", i))
	}
	_, refusal := m.Bind(Binding{Account: 1, Bare: juliet, Resource: "r10", Outbox: &outbox{}})
	require.NotNil(t, refusal)
	require.Equal(t, stanza.ResourceConstraint, refusal.Condition)
	require.Equal(t, "resource-limit-exceeded", refusal.App.Local)
	require.Equal(t, "urn:xmpp:errors", refusal.App.Space)
	_, box := bind(t, m, "r3") // one that is there is replaced all the same
	require.Empty(t, box.conditions())
}

// sleeper is the outbox of a session whose connection is lost.
type sleeper struct{ outbox }

func (*sleeper) Detached() bool { return true }

func TestBindInPlaceOfALostConnection(t *testing.T) {
	m := New(Config{MaxResources: 2})
	bind(t, m, "awake")
	lost := &sleeper{}
	_, refusal := m.Bind(Binding{Account: 1, Bare: juliet, Resource: "lost", Outbox: lost})
	require.Nil(t, refusal)
	bind(t, m, "again")
	require.Equal(t, []string{"conflict"}, lost.conditions())
	_, refusal = m.Bind(Binding{Account: 1, Bare: juliet, Outbox: &outbox{}})
	require.Equal(t, stanza.ResourceConstraint, refusal.Condition)
}

func TestBindNameOfADeletedAccount(t *testing.T) {
	m := New(Config{})
	_, box := bind(t, m, "phone")
	now, refusal := m.Bind(Binding{Account: 2, Bare: juliet, Resource: "laptop", Outbox: &outbox{}})
	require.Nil(t, refusal)
	require.Equal(t, []string{"not-authorized"}, box.conditions())
	require.Equal(t, uint64(2), m.Connected(juliet))
	m.Unbind(now)
	require.Zero(t, m.Connected(juliet))
}

func TestUnbindTellsOnce(t *testing.T) {
	departed := 0
	m := New(Config{Departed: func(_ context.Context, s *Session, last *stanza.Stanza) {
		departed++
		require.NotNil(t, last)
		require.False(t, s.Broadcasting.TryLock(), "nothing else is told meanwhile")
	}})
	s, _ := bind(t, m, "phone")
	appear(m, s, 0)
	m.Unbind(s)
	m.Unbind(s)
	require.Equal(t, 1, departed)
	require.False(t, m.Send(s.JID(), chat(0, s.JID())))
	require.Nil(t, m.Lookup(s.JID()))

	quiet, _ := bind(t, m, "quiet")
	m.Unbind(quiet)
	require.Equal(t, 1, departed, "nobody knew that it was there")

	shy, _ := bind(t, m, "shy")
	require.True(t, m.Direct(shy, jid.MustParse("room@muc.capulet.lit/juliet"), true))
	m.config.Departed = func(_ context.Context, s *Session, last *stanza.Stanza) {
		departed++
		require.Nil(t, last)
		require.Len(t, m.TakeDirected(s), 1)
	}
	m.Unbind(shy)
	require.Equal(t, 2, departed, "who got directed presence hears of it")
}

func TestZeroManagerWorks(t *testing.T) {
	m := New(Config{})
	s, refusal := m.Bind(Binding{Account: 1, Bare: juliet, Outbox: &outbox{}})
	require.Nil(t, refusal)
	require.True(t, m.Send(s.JID(), chat(0, s.JID())))
	m.Unbind(s)
	require.Zero(t, m.Connected(juliet))
}

func TestDirectedPresenceIsBounded(t *testing.T) {
	m := New(Config{MaxDirected: 3})
	s, _ := bind(t, m, "phone")
	for i := range 3 {
		require.True(t, m.Direct(s, jid.MustParse(fmt.Sprint("room", i, "@muc.lit/j")), true))
	}
	require.False(t, m.Direct(s, jid.MustParse("room3@muc.lit/j"), true))
	require.True(t, m.Direct(s, jid.MustParse("room0@muc.lit/j"), true), "known already")
	require.True(t, m.Direct(s, jid.MustParse("room0@muc.lit/j"), false))
	require.True(t, m.Direct(s, jid.MustParse("romeo@montague.lit"), true))

	require.True(t, m.DirectedTo(juliet, jid.MustParse("romeo@montague.lit/orchard")))
	require.True(t, m.DirectedTo(juliet, jid.MustParse("room1@muc.lit/j")))
	require.False(t, m.DirectedTo(juliet, jid.MustParse("room1@muc.lit/other")))
	require.False(t, m.DirectedTo(juliet, jid.MustParse("room0@muc.lit/j")))
	require.Len(t, m.TakeDirected(s), 3)
	require.Empty(t, m.TakeDirected(s))
}

func TestKickAndSessions(t *testing.T) {
	m := New(Config{Now: func() time.Time { return time.Unix(1000, 0) }})
	phone, phoneBox := bind(t, m, "phone")
	_, laptopBox := bind(t, m, "laptop")
	romeo := &outbox{}
	_, refusal := m.Bind(Binding{Account: 2, Bare: jid.MustParse("romeo@capulet.lit"), Resource: "x", Outbox: romeo})
	require.Nil(t, refusal)
	appear(m, phone, 7)
	m.SetCarbons(phone, true)
	m.SetInterested(phone, 0)

	infos := map[string]Info{}
	for info := range m.Sessions {
		infos[info.JID.String()] = info
	}
	require.Len(t, infos, 3)
	require.Equal(t, Info{
		JID: phone.JID(), Account: 1, Bound: time.Unix(1000, 0).UTC(), Available: true, Priority: 7, Interested: true,
		Carbons: true,
	}, infos["juliet@capulet.lit/phone"])
	for range m.Sessions {
		break
	}

	require.Equal(t, 2, m.Kick(1, stream.Fail(stream.NotAuthorized, "")))
	require.Equal(t, []string{"not-authorized"}, phoneBox.conditions())
	require.Equal(t, []string{"not-authorized"}, laptopBox.conditions())
	require.Empty(t, romeo.conditions())
	require.True(t, m.KickResource(phone.JID(), stream.Fail(stream.Reset, "")))
	require.Equal(t, []string{"not-authorized", "reset"}, phoneBox.conditions())
	require.False(t, m.KickResource(jid.MustParse("nobody@capulet.lit/x"), nil))
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := New(Config{MaxResources: 2, Metrics: reg})
	a, _ := bind(t, m, "a")
	bind(t, m, "a")
	bind(t, m, "b")
	_, refusal := m.Bind(Binding{Account: 1, Bare: juliet, Outbox: &outbox{}})
	require.NotNil(t, refusal)
	m.Unbind(a)
	m.Unbind(m.Lookup(a.JID()))
	families, err := reg.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, f := range families {
		got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
	}
	require.Equal(t, map[string]float64{
		"posthouse_session_bound": 1, "posthouse_session_bound_total": 3, "posthouse_session_refused_total": 1,
		"posthouse_session_replaced_total": 1, "posthouse_session_replays_total": 0,
		"posthouse_session_held_overflow_total": 0,
	}, got)
}

func TestAfterReply(t *testing.T) {
	var order []string
	ctx, queued := WithReply(context.Background())
	AfterReply(ctx, func() { order = append(order, "first") })
	AfterReply(ctx, func() { order = append(order, "second") })
	order = append(order, "answer")
	queued()
	require.Equal(t, []string{"answer", "first", "second"}, order)
	AfterReply(context.Background(), func() { order = append(order, "at once") })
	require.Equal(t, "at once", order[3])
}

func TestIdleSessionMemory(t *testing.T) {
	if raceEnabled {
		t.Log("measured without the race detector only; here the same code runs on few sessions")
	}
	n := 50_000
	if raceEnabled {
		n = 100
	}
	m := New(Config{})
	box := &outbox{}
	bares := make([]jid.JID, n)
	for i := range bares {
		bares[i] = jid.MustParse(fmt.Sprintf("user%05d@capulet.lit", i))
	}
	heap := func() uint64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	before := heap()
	for i, bare := range bares {
		_, refusal := m.Bind(Binding{Account: uint64(i + 1), Bare: bare, Outbox: box})
		require.Nil(t, refusal)
	}
	each := float64(heap()-before) / float64(n)
	runtime.KeepAlive(m)
	t.Logf("%.0f bytes a session", each)
	if !raceEnabled {
		require.LessOrEqual(t, each, 400.0)
	}
}

// TestComingAndGoing has many goroutines bind, unbind and deliver, for the race detector and for the table: nothing
// stays behind.
func TestComingAndGoing(t *testing.T) {
	var mu sync.Mutex
	available := map[*Session]bool{}
	m := New(Config{Departed: func(_ context.Context, s *Session, _ *stanza.Stanza) {
		mu.Lock()
		defer mu.Unlock()
		if !available[s] {
			t.Error("departed without having been available, or twice")
		}
		delete(available, s)
	}})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 300 {
				s, refusal := m.Bind(Binding{Account: 1, Bare: juliet, Resource: fmt.Sprint("r", (g+i)%5),
					Outbox: &outbox{}})
				if refusal != nil {
					t.Error(refusal)
					return
				}
				s.Broadcasting.Lock()
				c := m.SetPresence(s, &stanza.Stanza{Kind: stanza.Presence, From: s.JID()}, 0)
				if !c.Gone {
					mu.Lock()
					available[s] = true
					mu.Unlock()
				}
				s.Broadcasting.Unlock()
				if c.Replay != nil {
					for r := c.Replay; r != nil; {
						_, r = r.Finish(context.Background())
					}
				}
				deliver(m, chat(uint64(g*1000+i+1), juliet))
				m.Unbind(s)
			}
		}()
	}
	wg.Wait()
	require.Zero(t, m.Connected(juliet))
	require.Empty(t, available)
	for i := range m.shards {
		require.Empty(t, m.shards[i].users)
	}
}

func BenchmarkSendLive(b *testing.B) {
	m := New(Config{})
	s, refusal := m.Bind(Binding{Account: 1, Bare: juliet, Outbox: discard{}})
	if refusal != nil {
		b.Fatal(refusal)
	}
	appear(m, s, 0).Replay.Finish(context.Background())
	p := chat(1, juliet)
	b.ReportAllocs()
	for b.Loop() {
		m.Visit(juliet, func(u *User) { u.SendLive(p) })
	}
}

type discard struct{}

func (discard) Send(*stream.Packet) {}
func (discard) Close(*stream.Error) {}

func (discard) WaitRoom(context.Context) error { return nil }
func (discard) Detached() bool                 { return false }

func TestPredecessorIsAwaited(t *testing.T) {
	m := New(Config{})
	old, _ := bind(t, m, "phone")
	s, _ := bind(t, m, "phone")
	old.AwaitPredecessor(t.Context()) // it replaced none
	require.False(t, old.Replaced())
	over, cancel := context.WithCancel(t.Context())
	cancel()
	require.True(t, s.Replaced())
	s.AwaitPredecessor(over) // not for longer than it is asked to
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.AwaitPredecessor(t.Context())
	}()
	select {
	case <-done:
		t.Fatal("the old connection may still tell of a delivery")
	default:
	}
	m.Unbind(old)
	<-done
	m.Unbind(old)
	require.NotNil(t, m.Lookup(s.JID()), "the new session stays")
}
