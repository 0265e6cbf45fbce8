package router

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Config configures a Router. Stages is required; the rest may be zero.
type Config struct {
	// Stages is the acceptance chain, in order.
	Stages []Stage
	// Metrics receives the router's counters; nil leaves them unregistered.
	Metrics prometheus.Registerer
	// Log receives what an operator can act on; nil discards it.
	Log *slog.Logger
}

// Router takes stanzas in and sends them to the domain that their address names.
// All methods may be called from any goroutine; those about one Envelope by its owner only.
type Router struct {
	stages   []Stage
	log      *slog.Logger
	accepted [stanza.IQ + 1]prometheus.Counter
	refused  *prometheus.CounterVec
	bounced  *prometheus.CounterVec
	dropped  *prometheus.CounterVec

	routes atomic.Pointer[map[string]Route] // replaced whole under mu
	mu     sync.Mutex                       // guards the replacement of routes
}

// Reasons for a drop, a closed set: each is a label value of posthouse_router_dropped_total.
const (
	dropUnanswerable = "unanswerable" // refused, and RFC 6120 §8.3.1 forbids an answer
	dropPanic        = "panic"        // a stage or a route panicked
)

// New returns a router with the given chain and no routes.
func New(c Config) *Router {
	r := &Router{stages: c.Stages, log: c.Log}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
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
		c.Metrics.MustRegister(acceptedVec, r.refused, r.bounced, r.dropped)
	}
	return r
}

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

// Accept runs the acceptance chain for a stanza that enters the domain, on the caller's goroutine.
// e.Done is called when it is over, which is after Accept returns when a stage holds the envelope.
func (r *Router) Accept(ctx context.Context, e *Envelope) {
	r.accepted[e.Stanza.Kind].Inc()
	e.next = 0
	r.Resume(ctx, e)
}

// Resume goes on with the stage after the one that held the envelope.
func (r *Router) Resume(ctx context.Context, e *Envelope) {
	for e.next < len(r.stages) {
		stage := &r.stages[e.next]
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
			e.finish()
			return
		}
	}
	p := &stream.Packet{Stanza: e.Stanza, ArchiveID: e.Receipt.ID}
	if refusal := r.route(ctx, p); refusal != nil {
		e.Receipt.Bounced = refusal
		r.bounce(ctx, p.Stanza, refusal)
	}
	e.finish()
}

// Refuse ends the chain: the source is told of the error, where an answer is allowed, and e.Done is called.
func (r *Router) Refuse(ctx context.Context, e *Envelope, refusal *stanza.Error) {
	e.Receipt.Err = refusal
	r.bounce(ctx, e.Stanza, refusal)
	e.finish()
}

// Finish ends the chain without forwarding anything: e.Done is called with the receipt as it stands. It is for a
// stage that held the envelope and then found that nothing is left to do, such as a message that is known already.
func (r *Router) Finish(e *Envelope) { e.finish() }

func (e *Envelope) finish() {
	if e.Done != nil {
		e.Done(e)
	}
}

// run calls one stage and turns a panic into a refusal, so that one bad stanza ends nothing but itself.
func (r *Router) run(ctx context.Context, stage *Stage, e *Envelope) (v Verdict, refusal *stanza.Error) {
	defer func() {
		if p := recover(); p != nil {
			r.panicked("stage "+stage.Name, p)
			v, refusal = Finish, stanza.Refuse(stanza.InternalServerError, "")
		}
	}()
	return stage.Run(ctx, e)
}

// Forward sends a packet to the domain of its address, without the chain: for what the server itself says,
// and for what was accepted before. A refusal is bounced to the stanza's sender.
func (r *Router) Forward(ctx context.Context, p *stream.Packet) {
	if refusal := r.route(ctx, p); refusal != nil {
		r.bounce(ctx, p.Stanza, refusal)
	}
}

func (r *Router) route(ctx context.Context, p *stream.Packet) (refusal *stanza.Error) {
	defer func() {
		if v := recover(); v != nil {
			r.panicked("route", v)
			refusal = stanza.Refuse(stanza.InternalServerError, "")
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
	if e := r.route(ctx, &stream.Packet{Stanza: reply}); e != nil {
		r.dropped.WithLabelValues(dropUnanswerable).Inc()
	}
}

func (r *Router) panicked(where string, v any) {
	r.dropped.WithLabelValues(dropPanic).Inc()
	r.log.Error("a handler panicked; the stanza was refused", "where", where, "panic", fmt.Sprintf("%.200v", v), "stack", stack())
}
