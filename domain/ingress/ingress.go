// Package ingress is the domain's end of the uplink. Stanzas that the public layer sends on behalf of an account enter
// the domain here, through the acceptance chain for requests of the API. Answers are returned to the caller.
//
// It owns the hidden sessions that represent the callers, one for each, and the list of callers that wait for an
// account to change. It starts no goroutine: the node runs Run, which ends sessions that have been unused for a while.
//
// What it never does: authenticate a caller, which the public layer has done; or deliver anything to a caller but
// answers to requests.
package ingress

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/uplink"
)

// Router takes stanzas in: *router.Router.
type Router interface {
	Accept(ctx context.Context, e *router.Envelope)
}

// Config configures an Ingress. Domain, Sessions, Router and StanzaID are required; the rest may be zero.
type Config struct {
	// Domain is the domain served.
	Domain   jid.JID
	Sessions *session.Manager
	Router   Router
	// StanzaID returns the public identity of a stored message (XEP-0359).
	StanzaID func(id uint64) string
	// Audit is told of each message that a service key sends on behalf of an account, before it is accepted; nil keeps
	// no record.
	Audit store.Audit
	// Linger is how long a caller's session is kept for its next request.
	Linger time.Duration `default:"5s"`
	// Callers is how many sessions there are at most. Beyond it, callers are refused with <resource-constraint/>.
	Callers int `default:"20000"`
	// Metrics receives the package's metrics; nil leaves them unregistered.
	Metrics prometheus.Registerer
	// Log receives what an operator can act on; nil discards it.
	Log *slog.Logger `default:"discard"`
	// Now is the clock; nil means time.Now.
	Now func() time.Time `default:"now"`
}

var _ uplink.Domain = (*Ingress)(nil)

// Ingress is the domain's end of the uplink. All methods may be called from any goroutine.
type Ingress struct {
	config  Config
	now     func() time.Time
	log     *slog.Logger
	watched watched

	mu      sync.Mutex        // guards callers, and users and left of each of them
	callers map[string]*proxy // by full address
}

// New returns an ingress without callers.
func New(c Config) (*Ingress, error) {
	if c.Domain.IsZero() || c.Sessions == nil || c.Router == nil || c.StanzaID == nil {
		return nil, errors.New("ingress: Domain, Sessions, Router and StanzaID are required")
	}
	defaults.Fill(&c)
	x := &Ingress{config: c, now: c.Now, log: c.Log, callers: map[string]*proxy{}}
	if c.Metrics != nil {
		c.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "posthouse_ingress_callers",
			Help: "Callers of the public layer that have a session in the domain now.",
		}, func() float64 { return float64(x.count()) }))
	}
	return x, nil
}

func (x *Ingress) count() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.callers)
}

// Run ends the sessions that nobody has used for a while, until ctx ends, and then all of them.
func (x *Ingress) Run(ctx context.Context) error {
	tick := time.NewTicker(x.config.Linger)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			x.sweep(0)
			return nil
		case <-tick.C:
			x.sweep(x.config.Linger)
		}
	}
}

// sweep ends the sessions that have been unused for as long as that.
func (x *Ingress) sweep(unused time.Duration) {
	var ended []*proxy
	x.mu.Lock()
	for key, p := range x.callers {
		if p.users == 0 && x.now().Sub(p.left) >= unused {
			delete(x.callers, key)
			ended = append(ended, p)
		}
	}
	x.mu.Unlock()
	for _, p := range ended {
		x.config.Sessions.Unbind(p.session)
	}
}

// overloaded is the answer to one caller too many.
var overloaded = &stanza.Error{Type: stanza.Wait, Condition: stanza.ResourceConstraint,
	Text: "Too many callers. Try again later."}

// End ends the sessions of an account's callers, of one device when that is not "": what they rely on is not so any
// more. Requests that wait on them are over.
func (x *Ingress) End(account uint64, device string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, p := range x.callers {
		if p.session.Account() == account && (device == "" || p.session.Device() == device) {
			p.Close(nil)
		}
	}
}

// enter returns the caller's session, which is made when there is none. leave must be called afterwards.
func (x *Ingress) enter(c uplink.Caller) (*proxy, error) {
	p, made, err := x.find(c)
	if err != nil {
		return nil, err
	}
	if made {
		x.config.Sessions.Confirm(p.session, c.Basis) // without the lock, since it reads a store
	}
	if p.ended() {
		x.leave(p)
		return nil, uplink.ErrRevoked
	}
	return p, nil
}

// find is enter without the look at what has changed.
func (x *Ingress) find(c uplink.Caller) (p *proxy, made bool, err error) {
	resource := "api"
	if c.Admin { // a session of its own, so that nothing else is done with that power
		resource += "/admin"
	}
	if c.Device != "" {
		resource += "/" + c.Device
	}
	full, err := c.Bare.WithResource(resource)
	if err != nil {
		return nil, false, stanza.Refuse(stanza.BadRequest, "The device has no valid name.")
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if p := x.callers[full.String()]; p != nil && p.fits(c) {
		p.users++
		return p, false, nil
	}
	if len(x.callers) >= x.config.Callers {
		return nil, false, overloaded
	}
	// Binding under the lock keeps two requests of one caller from ending each other's session.
	p = &proxy{asked: map[string]chan answer{}}
	var refusal *stanza.Error
	p.session, refusal = x.config.Sessions.Bind(session.Binding{
		Account: c.Account, Bare: c.Bare, Resource: full.Resource(), Outbox: p, Device: c.Device,
		Basis: c.Basis, Hidden: &session.Hidden{Admin: c.Admin, Actor: c.Actor},
	})
	if refusal != nil {
		return nil, false, refusal
	}
	p.origin = router.Origin{
		Kind: router.API, Account: c.Account, Address: p.session.JID(), Session: p.session, Admin: p.session.Admin(),
		Actor: c.Actor,
	}
	p.users = 1
	x.callers[full.String()] = p
	return p, true, nil
}

func (x *Ingress) leave(p *proxy) {
	x.mu.Lock()
	p.users--
	p.left = x.now()
	replaced := p.users == 0 && x.callers[p.session.JID().String()] != p
	x.mu.Unlock()
	if replaced {
		x.config.Sessions.Unbind(p.session)
	}
}

// Send implements uplink.Domain.
func (x *Ingress) Send(ctx context.Context, c uplink.Caller, s *stanza.Stanza) (uplink.Receipt, error) {
	if s.Kind == stanza.IQ {
		return uplink.Receipt{}, errors.New("ingress: Send is not for an IQ")
	}
	done := make(chan router.Receipt, 1)
	e := &router.Envelope{Stanza: s, Stored: func(e *router.Envelope) { done <- e.Receipt }}
	if c.Account == 0 { // the domain itself, without a session
		e.Origin = &router.Origin{Kind: router.API, Address: x.config.Domain, Admin: c.Admin, Actor: c.Actor}
	} else {
		p, err := x.enter(c)
		if err != nil {
			return uplink.Receipt{}, err
		}
		defer x.leave(p)
		e.Origin = &p.origin
		if c.Actor != "" && s.Kind == stanza.Message {
			if err := x.note(ctx, c, s); err != nil {
				return uplink.Receipt{}, err
			}
		}
	}
	x.config.Router.Accept(ctx, e)
	select {
	case r := <-done:
		return x.receipt(r)
	case <-ctx.Done():
		return uplink.Receipt{}, fmt.Errorf("waiting until the stanza is durable: %w", ctx.Err())
	}
}

// note writes that an actor speaks for somebody else. What cannot be written down is not said.
func (x *Ingress) note(ctx context.Context, c uplink.Caller, s *stanza.Stanza) error {
	if x.config.Audit == nil {
		return nil
	}
	detail, err := json.Marshal(map[string]string{"to": s.To.String(), "client_id": s.ID})
	if err != nil {
		return fmt.Errorf("write to the audit log: %w", err)
	}
	_, err = x.config.Audit.AppendAudit(ctx, store.AuditEntry{
		At: x.config.Now(), Actor: c.Actor, Action: "message.send_as", Target: c.Bare.String(), Detail: string(detail),
	})
	if err != nil {
		return fmt.Errorf("write to the audit log: %w", err)
	}
	return nil
}

func (x *Ingress) receipt(r router.Receipt) (uplink.Receipt, error) {
	switch {
	case r.Err != nil:
		return uplink.Receipt{}, r.Err
	case r.ID != 0:
		return uplink.Receipt{StanzaID: x.config.StanzaID(r.ID), Number: r.Seq, Time: r.Time, Duplicate: r.Duplicate},
			nil
	}
	return uplink.Receipt{}, nil
}

// Ask implements uplink.Domain.
func (x *Ingress) Ask(ctx context.Context, c uplink.Caller, iq *stanza.Stanza) ([]stanza.Element, error) {
	if !iq.IsRequest() {
		return nil, errors.New("ingress: Ask is for IQ requests")
	}
	if refusal := iq.CheckIQ(); refusal != nil {
		return nil, refusal
	}
	p, err := x.enter(c)
	if err != nil {
		return nil, err
	}
	defer x.leave(p)
	answered, ok := p.expect(iq.ID)
	if !ok {
		return nil, errors.New("ingress: the id is in use")
	}
	defer p.forget(iq.ID)
	x.config.Router.Accept(ctx, &router.Envelope{Stanza: iq, Origin: &p.origin})
	select {
	case a := <-answered:
		return a.payload, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for an answer: %w", ctx.Err())
	}
}
