package router

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Config configures a Router. Chains is required; the rest may be zero.
type Config struct {
	// Chains are the acceptance chains, by the kind of origin. What comes from an origin without one is refused.
	Chains map[OriginKind][]Stage `yaml:"-"`
	// Recipient is what is done for the recipient of an accepted message, in order; nil means Router.Deliver alone.
	// Author is what is done for the author's account, when it is one of this domain and not the recipient.
	Recipient []Delivery `yaml:"-"`
	Author    []Delivery `yaml:"-"`
	// Metrics receives the router's metrics; nil leaves them unregistered.
	Metrics prometheus.Registerer `yaml:"-"`
	// Log receives what an operator can act on; nil discards it.
	Log *slog.Logger `yaml:"-"`

	// KeyMessages and KeyBytes bound what waits to be delivered to one account; defaults 4,096 and 4 MiB. When they
	// are reached, senders to that account are not read from.
	KeyMessages int `yaml:"key_messages" default:"4096" min:"1"`
	KeyBytes    int `yaml:"key_bytes" default:"4194304" min:"1"`
	// Bytes bounds what waits to be delivered to all accounts; default 128 MiB. Beyond it, nobody who sends is read
	// from.
	Bytes int `yaml:"bytes" default:"134217728" min:"1"`
}

// Router takes stanzas in and sends them to the domain that their address names.
// All methods may be called from any goroutine; those about one Envelope by its owner only.
type Router struct {
	chains    [origins][]Stage
	recipient []Delivery
	author    []Delivery
	delivery  *delivery
	seed      maphash.Seed
	log       *slog.Logger
	accepted  [stanza.IQ + 1]prometheus.Counter
	refused   *prometheus.CounterVec
	bounced   *prometheus.CounterVec
	dropped   *prometheus.CounterVec

	routes atomic.Pointer[map[string]Route] // replaced whole under mu
	mu     sync.Mutex                       // guards the replacement of routes
}

// Reasons for a drop, a closed set: each is a label value of posthouse_router_dropped_total.
const (
	dropUnanswerable = "unanswerable" // refused, and RFC 6120 §8.3.1 forbids an answer
	dropPanic        = "panic"        // a stage, a route or a step of delivery panicked
	dropLate         = "late"         // a route refused a message after it had been accepted
)

// New returns a router with the given chains and no routes.
func New(c Config) *Router {
	defaults.Fill(&c)
	r := &Router{recipient: c.Recipient, author: c.Author, seed: maphash.MakeSeed(), log: c.Log}
	for kind, chain := range c.Chains {
		r.chains[kind] = chain
	}
	if r.recipient == nil {
		r.recipient = []Delivery{{Name: "route", Run: r.Deliver}}
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	bounds := deliveryBounds{jobs: c.KeyMessages, bytes: c.KeyBytes, total: int64(c.Bytes)}
	waits := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "posthouse_router_delivery_wait_seconds",
		Help: "Time from the commit of a message until its delivery to an account began, measured for one " +
			"account in 32.",
		Buckets: prometheus.ExponentialBuckets(10e-6, 4, 12),
	})
	r.delivery = newDelivery(bounds, waits, r.do)
	r.routes.Store(&map[string]Route{})
	acceptedVec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "posthouse_router_accepted_total", Help: "Stanzas that entered the acceptance chain, by kind.",
	}, []string{"kind"})
	for k := stanza.Message; k <= stanza.IQ; k++ {
		r.accepted[k] = acceptedVec.WithLabelValues(k.String())
	}
	r.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "posthouse_router_refused_total", Help: "Stanzas refused by a stage of the acceptance chain.",
	}, []string{"stage"})
	r.bounced = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "posthouse_router_bounced_total", Help: "Stanzas answered with an error, by condition.",
	}, []string{"condition"})
	r.dropped = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "posthouse_router_dropped_total", Help: "Stanzas that went nowhere, by reason.",
	}, []string{"reason"})
	if c.Metrics != nil {
		slots := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "posthouse_router_delivery_slots",
			Help: "Slots that are reserved for deliveries: one or two for each message that is not delivered yet.",
		}, func() float64 { return float64(r.delivery.depth()) })
		c.Metrics.MustRegister(acceptedVec, r.refused, r.bounced, r.dropped, waits, slots)
	}
	return r
}

// Close waits until everything that was stored is delivered, or ctx ends, and then ends the workers. Nothing may be
// accepted any more.
func (r *Router) Close(ctx context.Context) error { return r.delivery.close(ctx) }

// Handle makes route answer for a domain, in canonical form. A nil route removes the domain.
func (r *Router) Handle(domain string, route Route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := map[string]Route{}
	for d, old := range *r.routes.Load() {
		next[d] = old
	}
	if route == nil {
		delete(next, domain)
	} else {
		next[domain] = route
	}
	r.routes.Store(&next)
}

// Accept runs the acceptance chain of the stanza's origin, on the caller's goroutine. e.Stored is called when it is
// over, which is after Accept returns when a stage holds the envelope.
func (r *Router) Accept(ctx context.Context, e *Envelope) {
	r.accepted[e.Stanza.Kind].Inc()
	e.next = 0
	if len(r.chains[e.Origin.Kind]) == 0 {
		r.log.Error("a stanza came from where none is expected",
			"origin", e.Origin.Kind.String(), "address", e.Origin.Address.String())
		r.Refuse(ctx, e, stanza.Refuse(stanza.NotAllowed, ""))
		return
	}
	r.Resume(ctx, e)
}

// Resume goes on with the stage after the one that held the envelope. After the last one the stanza is accepted:
// e.Stored is called and it is delivered, by a worker when slots were reserved and otherwise before Resume returns.
func (r *Router) Resume(ctx context.Context, e *Envelope) {
	chain := r.chains[e.Origin.Kind]
	for e.next < len(chain) {
		stage := &chain[e.next]
		e.next++
		verdict, refusal := r.run(ctx, stage, e)
		switch {
		case refusal != nil:
			r.refused.WithLabelValues(stage.Name).Inc()
			r.Refuse(ctx, e, refusal)
			return
		case verdict == Hold:
			return
		case verdict == Finish:
			r.Finish(e)
			return
		}
	}
	switch {
	case e.author != nil:
		r.hand(e)
	case e.Stanza.Kind == stanza.Message:
		if e.Target.told() {
			r.steps(ctx, r.recipient, e)
		}
		if r.copies(e) {
			r.steps(ctx, r.author, e)
		}
		e.over()
	default:
		if refusal := r.deliver(ctx, e); refusal != nil {
			r.Refuse(ctx, e, refusal)
			return
		}
		e.over()
	}
}

// Refuse ends the chain: the author is told of the error, where an answer is allowed, and e.Stored is called. When
// slots were reserved, a worker tells the author, so that whoever calls this waits for nothing.
func (r *Router) Refuse(ctx context.Context, e *Envelope, refusal *stanza.Error) {
	e.Receipt.Err = refusal
	if e.author == nil {
		r.bounce(ctx, e.Stanza, refusal)
		e.over()
		return
	}
	author := e.author
	if e.recipient != author {
		r.delivery.release(e.recipient, e.bytes)
	}
	e.jobs.Store(1)
	e.stored()
	r.delivery.push(author, job{envelope: e, part: bounced, bytes: e.bytes})
}

// Finish ends the chain without delivering anything: e.Stored is called with the receipt as it stands. It is for a
// stage that held the envelope and then found that nothing is left to do, such as a message that is known already.
func (r *Router) Finish(e *Envelope) {
	r.Release(e)
	e.over()
}

// Resolve is the stage that finds what a stanza is about: it asks the route of the domain that the stanza is addressed
// to.
func (r *Router) Resolve(ctx context.Context, e *Envelope) (Verdict, *stanza.Error) {
	if e.route = (*r.routes.Load())[e.Stanza.To.Domain()]; e.route == nil {
		return Finish, unknownDomain
	}
	return e.route.Resolve(ctx, e)
}

// run calls one stage and turns a panic into a refusal, so that one bad stanza ends nothing but itself.
func (r *Router) run(ctx context.Context, stage *Stage, e *Envelope) (v Verdict, refusal *stanza.Error) {
	defer func() {
		if p := recover(); p != nil {
			r.panicked("stage "+stage.Name, p)
			v, refusal = Finish, broken
		}
	}()
	return stage.Run(ctx, e)
}

// broken is the answer when something panicked.
var broken = stanza.Refuse(stanza.InternalServerError, "")

// Forward sends a packet to the domain of its address, without the chain: for what the server itself says,
// and for what was accepted before. A refusal is bounced to the stanza's sender.
func (r *Router) Forward(ctx context.Context, p *stream.Packet) {
	if refusal := r.forward(ctx, p); refusal != nil {
		r.bounce(ctx, p.Stanza, refusal)
	}
}

func (r *Router) forward(ctx context.Context, p *stream.Packet) (refusal *stanza.Error) {
	defer func() {
		if v := recover(); v != nil {
			r.panicked("route", v)
			refusal = broken
		}
	}()
	route := (*r.routes.Load())[p.Stanza.To.Domain()]
	if route == nil {
		return unknownDomain
	}
	return route.Route(ctx, p)
}

// unknownDomain is the answer of RFC 6120 §8.3.3.16 where no way to the domain is known.
var unknownDomain = stanza.Refuse(stanza.RemoteServerNotFound, "This server knows no way to that domain.")

// bounce tells the sender of s. An error that cannot be delivered is not answered again, so there is no loop.
func (r *Router) bounce(ctx context.Context, s *stanza.Stanza, refusal *stanza.Error) {
	reply := s.ErrorReply(refusal)
	if reply == nil || reply.To.IsZero() {
		r.dropped.WithLabelValues(dropUnanswerable).Inc()
		return
	}
	r.bounced.WithLabelValues(string(refusal.Condition)).Inc()
	if e := r.forward(ctx, &stream.Packet{Stanza: reply}); e != nil {
		r.dropped.WithLabelValues(dropUnanswerable).Inc()
	}
}

func (r *Router) panicked(where string, v any) {
	r.dropped.WithLabelValues(dropPanic).Inc()
	r.log.Error("a handler panicked; the stanza was given up",
		"where", where, "panic", fmt.Sprintf("%.200v", v), "stack", stack())
}
