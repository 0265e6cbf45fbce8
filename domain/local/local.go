// Package local owns the addresses of this domain: what happens to a stanza that is addressed to the domain itself, to
// an account or to one of its resources (RFC 6121 §8), and the small extensions that need no state of their own.
//
// The delivery rules are one table (rules.go); docs/delivery.md repeats it line by line. The rest of the package looks
// up what the table asks for, and does what it says. The package also provides the stages of the acceptance chain that
// concern the sender: addressing, stripping and presence. It finds the targets of stanzas to the domain.
//
// Goroutines: one for each replay of waiting messages. At most Config.Replays of them read at once. They are owned by
// the Domain and ended by Close. Everything else runs on the caller's goroutine.
//
// What it never does: change a stanza that was passed on; store a message; or deliver to a session other than through
// package session.
package local

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/limit"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Accounts knows the accounts of this domain. It answers from memory where it can.
type Accounts interface {
	// Lookup returns the identity of the account with that prepared localpart, ok false when there is none.
	Lookup(ctx context.Context, name string) (account store.AccountID, ok bool, err error)
}

// Contacts knows rosters and tells presence to those who may see it. Package roster implements it.
type Contacts interface {
	// Announce tells the change of a session's undirected presence to all who are due it. s.Broadcasting is held.
	Announce(ctx context.Context, s *session.Session, c *session.Change) (rest func(context.Context))
	// Subscribe takes a presence stanza of type subscribe, subscribed, unsubscribe or unsubscribed that a session sent.
	Subscribe(ctx context.Context, s *session.Session, p *stanza.Stanza) *stanza.Error
	// Receive takes one that was sent to an account of this domain, and probes.
	Receive(ctx context.Context, account uint64, p *stanza.Stanza)
	// Sees reports whether the address is subscribed to the account's presence.
	Sees(ctx context.Context, account uint64, peer jid.JID) (bool, error)
}

// Offline is where messages wait for an account that has no device to take them. The archive implements it.
type Offline interface {
	// Kept says that no session of the account was given the stored message. It must not block, nor call the Domain.
	Kept(account, id uint64)
	// Replay yields the messages that no device of the account is known to have got, in order, until yield returns
	// false.
	Replay(ctx context.Context, account uint64, yield func(*stream.Packet) bool) error
}

// Config configures a Domain. The fields of the first group are required.
type Config struct {
	// Domain is the domain served, as an address without localpart.
	Domain   jid.JID          `yaml:"-"`
	Sessions *session.Manager `yaml:"-"`
	Accounts Accounts         `yaml:"-"`
	Contacts Contacts         `yaml:"-"`
	// Services answers IQ requests to the domain and its accounts.
	Services *service.Hub `yaml:"-"`
	// Forward sends a packet to the domain of its address: router.Forward.
	Forward func(ctx context.Context, p *stream.Packet) `yaml:"-"`

	// Offline keeps messages for accounts without a device; nil refuses them with <service-unavailable/>.
	Offline Offline `yaml:"-"`
	// Stamp adds to a packet that is being made, of a stored message, what the owner of the archive by is told of it:
	// its number in the conversation and, when it is in that archive, its identity there (XEP-0359). nil adds nothing.
	Stamp func(p *stream.Packet, by jid.JID, seq uint64, archived bool) `yaml:"-"`
	// Known reports whether a message that is about to be refused was stored before, and then fills the envelope's
	// receipt with the first answer; nil knows none.
	Known func(ctx context.Context, e *router.Envelope) bool `yaml:"-"`
	// Activity answers when an account was last online (XEP-0012); nil answers only for those that are online.
	Activity store.LastActivity `yaml:"-"`
	// Now is the clock; nil means time.Now.
	Now func() time.Time `yaml:"-" default:"now"`
	// Metrics receives the package's metrics; nil leaves them unregistered.
	Metrics prometheus.Registerer `yaml:"-"`
	// Log receives what an operator can act on; nil discards it.
	Log *slog.Logger `yaml:"-" default:"discard"`

	// OpenRequests delivers IQ requests to a resource also when its account shares no presence with the sender. The
	// default follows RFC 6121 §8.5.3.1: they are answered as if the resource did not exist.
	OpenRequests bool `yaml:"open_requests"`
	// PresenceRate and PresenceBurst limit how often a session may change its broadcast presence: so many a second, and
	// so many at once. Beyond them it is refused with <policy-violation/>, and a session that goes on regardless, 200
	// times, is ended.
	PresenceRate  float64 `yaml:"presence_rate" default:"0.5" min:"0"`
	PresenceBurst int     `yaml:"presence_burst" default:"20" min:"1"`
	// Replays is how many accounts' waiting messages are read at once. Others wait their turn.
	Replays int `yaml:"replays" default:"64" min:"1"`
}

// Domain delivers to the addresses of one domain. It is a router.Route. All methods may be called from any goroutine.
type Domain struct {
	config    Config
	domain    string
	sessions  *session.Manager
	accounts  Accounts
	contacts  Contacts
	offline   Offline // may be nil
	log       *slog.Logger
	metrics   *metrics
	started   time.Time
	presences limit.Rate // of a session

	keeping [keepLocks]sync.RWMutex // see keep

	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	replaying chan struct{} // a slot for each replay that reads at once
	replays   sync.WaitGroup
	mu        sync.Mutex // guards closed
	closed    bool       // no replay starts any more
}

// New returns a domain.
func New(c Config) (*Domain, error) {
	if c.Domain.IsZero() || c.Domain.Local() != "" || c.Domain.IsFull() {
		return nil, errors.New("local: Domain must be the address of a domain")
	}
	if c.Sessions == nil || c.Accounts == nil || c.Contacts == nil || c.Services == nil || c.Forward == nil {
		return nil, errors.New("local: Sessions, Accounts, Contacts, Services and Forward are required")
	}
	defaults.Fill(&c)
	d := &Domain{
		config: c, domain: c.Domain.Domain(), sessions: c.Sessions, accounts: c.Accounts, contacts: c.Contacts,
		offline: c.Offline, log: c.Log, metrics: newMetrics(c.Metrics), started: c.Now(),
		replaying: make(chan struct{}, c.Replays),
		presences: limit.Per(c.PresenceRate, time.Second, float64(c.PresenceBurst)),
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d, nil
}

// Close stops the replays that run and waits for them, or for ctx. Sessions should have ended before.
func (d *Domain) Close(ctx context.Context) error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.cancel()
	done := make(chan struct{})
	go func() { // ends with the last replay, each of which ends by the cancellation
		d.replays.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ours reports whether the address belongs to this domain.
func (d *Domain) ours(j jid.JID) bool { return j.Domain() == d.domain }

// metrics counts what the table decided, by action.
type metrics struct {
	actions [actionCount]prometheus.Counter
	replays prometheus.Counter
	failed  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	actions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "posthouse_local_stanzas_total", Help: "Stanzas to addresses of this domain, by what was done with them.",
	}, []string{"action"})
	m := &metrics{
		replays: prometheus.NewCounter(prometheus.CounterOpts{Name: "posthouse_local_replayed_total",
			Help: "Waiting messages that were replayed."}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{Name: "posthouse_local_replay_failures_total",
			Help: "Replays that ended because the archive could not be read."}),
	}
	for a := range m.actions {
		m.actions[a] = actions.WithLabelValues(Action(a).label())
	}
	if reg != nil {
		reg.MustRegister(actions, m.replays, m.failed)
	}
	return m
}
