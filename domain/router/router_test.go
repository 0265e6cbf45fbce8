package router

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

var (
	romeo  = jid.MustParse("romeo@a.example/orchard")
	juliet = jid.MustParse("juliet@a.example")
)

// house is a router with one domain, whose stage archive holds messages until a test commits them.
type house struct {
	*Router
	metrics *prometheus.Registry
	resolve func(e *Envelope) (Verdict, *stanza.Error)
	deliver func(e *Envelope) *stanza.Error
	check   func(e *Envelope) *stanza.Error

	mu   sync.Mutex // guards the rest
	held []*Envelope
	did  []string
	sent []*stanza.Stanza // by Route
}

func (h *house) Resolve(_ context.Context, e *Envelope) (Verdict, *stanza.Error) { return h.resolve(e) }
func (h *house) Deliver(_ context.Context, e *Envelope) *stanza.Error            { return h.deliver(e) }

func (h *house) Route(_ context.Context, p *stream.Packet) *stanza.Error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sent = append(h.sent, p.Stanza)
	return nil
}

func (h *house) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.did = append(h.did, fmt.Sprintf(format, args...))
}

// notes returns what was done since the last call, and the conditions that authors were told.
func (h *house) notes() (did, told []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sent {
		for e := range s.Child(stanza.NSClient, "error").Elements {
			told = append(told, e.Local)
		}
	}
	did, h.did, h.sent = h.did, nil, nil
	return did, told
}

func newHouse(t *testing.T) *house {
	h := &house{metrics: prometheus.NewRegistry()}
	h.resolve = func(e *Envelope) (Verdict, *stanza.Error) {
		e.Target = Target{Kind: AnAccount, Account: 2}
		return Continue, nil
	}
	h.deliver = func(e *Envelope) *stanza.Error { h.note("deliver %s", e.Stanza.ID); return nil }
	h.check = func(*Envelope) *stanza.Error { return nil }
	stages := []Stage{
		{Name: "resolve", Run: func(ctx context.Context, e *Envelope) (Verdict,
			*stanza.Error) {
			return h.Router.Resolve(ctx, e)
		}},
		Policy(Rule{Name: "check", Check: func(_ context.Context, e *Envelope) *stanza.Error { return h.check(e) }}),
		{Name: "archive", Run: func(ctx context.Context, e *Envelope) (Verdict, *stanza.Error) {
			if e.Stanza.Kind != stanza.Message {
				return Continue, nil
			}
			if !h.Reserve(ctx, e, 100) {
				return Finish, stanza.Refuse(stanza.ResourceConstraint, "")
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			h.held = append(h.held, e)
			return Hold, nil
		}},
	}
	h.Router = New(Config{
		Chains: map[OriginKind][]Stage{Client: stages, API: stages[:1]},
		Recipient: []Delivery{
			{Name: "note", Run: func(_ context.Context, e *Envelope) { h.note("note %s", e.Stanza.ID) }},
			{Name: "deliver", Run: func(ctx context.Context, e *Envelope) { h.Router.Deliver(ctx, e) }},
		},
		Author: []Delivery{{Name: "copy",
			Run: func(_ context.Context, e *Envelope) { h.note("copy %s", e.Stanza.ID) }}},
		Metrics: h.metrics,
	})
	h.Handle("a.example", h)
	t.Cleanup(func() {
		require.NoError(t, h.Close(context.Background()))
		require.Zero(t, h.delivery.depth(), "every slot was given back")
		require.Zero(t, h.delivery.bytes.Load())
	})
	return h
}

// accept sends something, and notes when it is stored and delivered.
func (h *house) accept(t *testing.T, kind stanza.Kind, id string) *Envelope {
	e := &Envelope{
		Stanza: &stanza.Stanza{Kind: kind, ID: id, From: romeo, To: juliet},
		Origin: &Origin{Kind: Client, Account: 1, Address: romeo},
		Stored: func(e *Envelope) {
			if e.Receipt.Err != nil {
				h.note("refused %s", id)
				return
			}
			h.note("stored %s", id)
		},
		Delivered: func(*Envelope) { h.note("delivered %s", id) },
	}
	h.Accept(t.Context(), e)
	return e
}

// commit does with what is held as the archive does.
func (h *house) commit(t *testing.T) {
	for _, e := range h.held {
		h.Resume(t.Context(), e)
	}
	h.held = nil
}

func (h *house) dropped(t *testing.T, reason string) float64 {
	t.Helper()
	all, err := h.metrics.Gather()
	require.NoError(t, err)
	for _, family := range all {
		for _, m := range family.GetMetric() {
			if family.GetName() == "posthouse_router_dropped_total" && m.GetLabel()[0].GetValue() == reason {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// TestStoredAndDelivered: a message is stored without waiting for its delivery; what else there is, is delivered at
// once.
func TestStoredAndDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		stuck := make(chan struct{})
		h.deliver = func(e *Envelope) *stanza.Error { <-stuck; h.note("deliver %s", e.Stanza.ID); return nil }
		h.accept(t, stanza.Message, "m")
		did, _ := h.notes()
		require.Empty(t, did, "nothing before the commit")
		h.commit(t)
		<-time.After(3 * stuckAfter) // of the bubble's clock
		did, _ = h.notes()
		require.Equal(t, "stored m", did[0])
		require.ElementsMatch(t, []string{"note m", "copy m"}, did[1:],
			"the author's devices do not wait for the recipient's")
		close(stuck)
		synctest.Wait()
		did, _ = h.notes()
		require.Equal(t, []string{"deliver m", "delivered m"}, did)

		h.accept(t, stanza.IQ, "q")
		did, _ = h.notes()
		require.Equal(t, []string{"deliver q", "stored q", "delivered q"}, did)
	})
}

// TestNoteToSelf is one job.
func TestNoteToSelf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.resolve = func(e *Envelope) (Verdict, *stanza.Error) {
			e.Target = Target{Kind: AnAccount, Account: 1}
			return Continue, nil
		}
		h.accept(t, stanza.Message, "m")
		require.Equal(t, 1, h.delivery.depth())
		h.commit(t)
		synctest.Wait()
		did, _ := h.notes()
		require.Equal(t, []string{"stored m", "note m", "deliver m", "delivered m"}, did)
	})
}

// TestNobody: what goes to nobody is accepted all the same, and nobody is shown it.
func TestNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.resolve = func(*Envelope) (Verdict, *stanza.Error) { return Continue, nil }
		h.accept(t, stanza.Message, "m")
		h.accept(t, stanza.IQ, "q")
		h.commit(t)
		synctest.Wait()
		did, told := h.notes()
		require.ElementsMatch(t, []string{"stored q", "delivered q", "stored m", "delivered m"}, did)
		require.Empty(t, told)
	})
}

// TestRefusals: each ends the chain, tells the author, and is the receipt; one that the committer gives waits for
// nothing.
func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		resolve := h.resolve
		for _, c := range []struct {
			what string
			set  func()
			want stanza.Condition
		}{
			{"by the route", func() {
				h.resolve = func(*Envelope) (Verdict, *stanza.Error) {
					return Finish,
						stanza.Refuse(stanza.ServiceUnavailable, "")
				}
			}, stanza.ServiceUnavailable},
			{"by a rule", func() {
				h.resolve = resolve
				h.check = func(*Envelope) *stanza.Error { return stanza.Refuse(stanza.Forbidden, "") }
			}, stanza.Forbidden},
			{"no such domain", func() { h.Handle("a.example", nil) }, stanza.RemoteServerNotFound},
		} {
			c.set()
			e := h.accept(t, stanza.Message, "m")
			require.Equal(t, c.want, e.Receipt.Err.Condition, c.what)
			h.Handle("a.example", h)
			did, told := h.notes()
			require.Equal(t, []string{"refused m", "delivered m"}, did, c.what)
			if c.want != stanza.RemoteServerNotFound { // its sender is of that domain too
				require.Equal(t, []string{string(c.want)}, told, c.what)
			}
			require.Empty(t, h.held, "nothing is stored")
		}
		h.check = func(*Envelope) *stanza.Error { return nil }
		e := h.accept(t, stanza.Message, "m")
		h.held = nil
		h.Refuse(t.Context(), e, stanza.Refuse(stanza.Conflict, ""))
		synctest.Wait()
		did, told := h.notes()
		require.Equal(t, []string{"refused m", "delivered m"}, did)
		require.Equal(t, []string{string(stanza.Conflict)}, told)

		e = h.accept(t, stanza.Message, "again")
		h.held = nil
		e.Receipt.Duplicate = true
		h.Finish(e)
		synctest.Wait()
		did, told = h.notes()
		require.Equal(t, []string{"stored again", "delivered again"}, did, "and nobody gets it again")
		require.Empty(t, told)
	})
}

// TestPanics: one in a stage is a refusal, one in a route too, and one in a delivery is logged; the message counts as
// delivered, and the next goes on.
func TestPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.check = func(*Envelope) *stanza.Error { panic("a stage's fault") }
		e := h.accept(t, stanza.Message, "m")
		require.Equal(t, stanza.InternalServerError, e.Receipt.Err.Condition)
		_, told := h.notes()
		require.Equal(t, []string{"internal-server-error"}, told)

		h.check = func(*Envelope) *stanza.Error { return nil }
		deliver := h.deliver
		h.deliver = func(*Envelope) *stanza.Error { panic("a route's fault") }
		e = h.accept(t, stanza.IQ, "q")
		require.Equal(t, stanza.InternalServerError, e.Receipt.Err.Condition)
		h.notes()
		h.accept(t, stanza.Message, "m1")
		h.commit(t)
		synctest.Wait()
		did, told := h.notes()
		require.Empty(t, told, "it was accepted")
		require.ElementsMatch(t, []string{"stored m1", "note m1", "copy m1", "delivered m1"}, did)
		require.EqualValues(t, 3, h.dropped(t, dropPanic))
		h.deliver = deliver
		h.accept(t, stanza.Message, "m2")
		h.commit(t)
		synctest.Wait()
		did, _ = h.notes()
		require.Contains(t, did, "deliver m2")
	})
}

// TestOrigins: each kind has its own chain, and one without a chain enters nowhere.
func TestOrigins(t *testing.T) {
	h := newHouse(t)
	for kind := OriginKind(0); kind < origins; kind++ {
		e := &Envelope{Stanza: &stanza.Stanza{Kind: stanza.IQ, ID: "q", To: juliet}, Origin: &Origin{Kind: kind}}
		h.Accept(t.Context(), e)
		if kind == Client || kind == API {
			require.Nil(t, e.Receipt.Err, kind)
		} else {
			require.Equal(t, stanza.NotAllowed, e.Receipt.Err.Condition, kind)
		}
		require.NotEmpty(t, kind.String())
	}
	did, _ := h.notes()
	require.Equal(t, []string{"deliver q", "deliver q"}, did)
}

// TestOrderAcrossAuthors: what several authors send to one account arrives in the order of the commits, and each
// author's devices see theirs in that order too.
func TestOrderAcrossAuthors(t *testing.T) {
	const authors, each = 6, 500
	var committed atomic.Uint64
	var mu sync.Mutex // guards last
	last := map[uint64]uint64{}
	arrive := func(account, id uint64) {
		mu.Lock()
		defer mu.Unlock()
		if id <= last[account] {
			t.Errorf("account %d: %d after %d", account, id, last[account])
		}
		last[account] = id
	}
	h := newHouse(t)
	h.deliver = func(e *Envelope) *stanza.Error { arrive(2, e.Receipt.ID); return nil }
	h.Router.author = []Delivery{{Name: "copy",
		Run: func(_ context.Context, e *Envelope) { arrive(e.Origin.Account, e.Receipt.ID) }}}
	var all, delivered sync.WaitGroup
	delivered.Add(authors * each)
	queue := make(chan *Envelope, 100)
	for author := range uint64(authors) {
		all.Go(func() {
			for range each {
				e := &Envelope{
					Stanza: &stanza.Stanza{Kind: stanza.Message, From: romeo, To: juliet},
					Origin: &Origin{Kind: Client, Account: 10 + author},
					Target: Target{Kind: AnAccount, Account: 2}, Delivered: func(*Envelope) { delivered.Done() },
				}
				e.next, e.route = len(h.chains[Client]), h
				if !h.Reserve(t.Context(), e, 10) {
					t.Error("no slot")
					return
				}
				queue <- e
			}
		})
	}
	for range authors * each {
		e := <-queue
		e.Receipt.ID = committed.Add(1)
		h.Resume(t.Context(), e)
	}
	all.Wait()
	delivered.Wait()
}
