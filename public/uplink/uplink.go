// Package uplink is the public layer's way into the domain. It passes stanzas to the domain on behalf of a caller, and
// waits for the result. The public layer makes every change through it, so the acceptance chain applies to its requests
// as to those of clients.
//
// It owns deadlines, the identities of requests, and the bound on requests in flight. It starts no goroutine.
package uplink

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	calls "github.com/posthouse-im/posthouse/wire/uplink"
)

// ErrBusy: too many requests are on their way. The request was not handed over.
var ErrBusy = errors.New("too many requests are on their way to the domain")

// Config configures an Uplink. Domain is required; the rest may be zero.
type Config struct {
	Domain calls.Domain `yaml:"-"`
	// Metrics receives the package's metrics; nil leaves them unregistered.
	Metrics prometheus.Registerer `yaml:"-"`

	// Timeout bounds waiting for the domain.
	Timeout time.Duration `yaml:"timeout" default:"15s" min:"1ms"`
	// InFlight is how many stanzas may be in flight. More are refused at once.
	InFlight int `yaml:"in_flight" default:"1000" min:"1"`
}

// Uplink hands over stanzas. All methods may be called from any goroutine.
type Uplink struct {
	domain  calls.Domain
	timeout time.Duration
	slots   chan struct{} // one for each stanza on its way
	asked   *prometheus.CounterVec
	seconds prometheus.Histogram
}

// New returns an uplink.
func New(c Config) (*Uplink, error) {
	if c.Domain == nil {
		return nil, errors.New("uplink: Domain is required")
	}
	defaults.Fill(&c)
	u := &Uplink{
		domain: c.Domain, timeout: c.Timeout, slots: make(chan struct{}, c.InFlight),
		asked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "posthouse_uplink_stanzas_total",
			Help: "Stanzas that the public layer handed to the domain, by what became of them.",
		}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "posthouse_uplink_seconds", Help: "How long the domain took for a stanza of the public layer.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10},
		}),
	}
	if c.Metrics != nil {
		c.Metrics.MustRegister(u.asked, u.seconds)
	}
	return u, nil
}

// Send hands over a message or presence for the caller: see wire/uplink.Domain.Send. A message without an id gets one.
func (u *Uplink) Send(ctx context.Context, c calls.Caller, s *stanza.Stanza) (r calls.Receipt, err error) {
	if s.ID == "" {
		s.ID = rand.Text()
	}
	err = u.run(ctx, func(ctx context.Context) (err error) {
		r, err = u.domain.Send(ctx, c, s)
		return err
	})
	return r, err
}

// Ask sends an IQ request of type get or set and returns the payload of the result: see wire/uplink.Domain.Ask.
func (u *Uplink) Ask(ctx context.Context, c calls.Caller, to jid.JID, kind string,
	payload stanza.Element) (result []stanza.Element, err error) {
	iq := &stanza.Stanza{Kind: stanza.IQ, Type: kind, ID: rand.Text(), To: to, Payload: []stanza.Element{payload}}
	err = u.run(ctx, func(ctx context.Context) (err error) {
		result, err = u.domain.Ask(ctx, c, iq)
		return err
	})
	return result, err
}

// Watch tells when what the account can read has changed: see wire/uplink.Domain.Watch.
func (u *Uplink) Watch(account uint64) (changed <-chan struct{}, stop func()) {
	return u.domain.Watch(account)
}

// run calls the domain within the bounds on number and time.
func (u *Uplink) run(ctx context.Context, call func(context.Context) error) error {
	select {
	case u.slots <- struct{}{}:
		defer func() { <-u.slots }()
	default:
		u.asked.WithLabelValues("busy").Inc()
		return ErrBusy
	}
	ctx, cancel := context.WithTimeout(ctx, u.timeout)
	defer cancel()
	began := time.Now()
	err := call(ctx)
	u.seconds.Observe(time.Since(began).Seconds())
	var refusal *stanza.Error
	switch {
	case err == nil:
		u.asked.WithLabelValues("done").Inc()
	case errors.As(err, &refusal):
		u.asked.WithLabelValues("refused").Inc()
		return refusal
	default:
		u.asked.WithLabelValues("unknown").Inc()
		return fmt.Errorf("asking the domain: %w", err)
	}
	return nil
}
