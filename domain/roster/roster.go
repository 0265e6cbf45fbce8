// Package roster owns contact lists and subscriptions (RFC 6121 §2, §3) and tells presence to those who may see it (§4).
//
// It starts no goroutines: everything runs on the goroutine of the client whose stanza it is, or of whoever delivers to
// an account. It owns a bounded cache of rosters, of which it is the only writer. An account's roster is changed under
// a lock that many accounts share; nothing is forwarded and no other roster is looked at under it, so two accounts that
// change each other's rosters never wait for each other in a circle.
//
// What it never does: show presence to whom the owner did not approve, in the owner's roster as it is now; change a
// roster by what a stranger sends, other than by noting a request; keep anything but the last available presence, which
// package session keeps.
package roster

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/posthouse-im/posthouse/cache"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/limit"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Config configures Contacts. Domain, Sessions, Store and Forward are required; the rest may be zero.
type Config struct {
	// Domain is the domain of the accounts.
	Domain   jid.JID          `yaml:"-"`
	Sessions *session.Manager `yaml:"-"`
	Store    store.Rosters    `yaml:"-"`
	// Forward sends a packet to the domain of its address: router.Forward.
	Forward func(ctx context.Context, p *stream.Packet) `yaml:"-"`
	// Activity is told when an account goes offline (XEP-0012); nil keeps no record.
	Activity store.LastActivity `yaml:"-"`
	// Changed is told of an account whose roster has changed; nil tells nobody. It must not block.
	Changed func(account uint64) `yaml:"-"`
	// Metrics receives the package's metrics; nil leaves them unregistered.
	Metrics prometheus.Registerer `yaml:"-"`
	// Log receives what an operator can act on; nil discards it.
	Log *slog.Logger `yaml:"-"`
	// Now is the clock; nil means time.Now.
	Now func() time.Time `yaml:"-"`

	// MaxItems is how many contacts a roster may have; default 5,000. Beyond it: <resource-constraint/>.
	MaxItems int `yaml:"max_items" default:"5000" min:"1"`
	// MaxName is how many bytes a contact's name, and that of a group, may have; default 1,024. Beyond it: <not-acceptable/>.
	MaxName int `yaml:"max_name" default:"1024" min:"1"`
	// MaxGroups is how many groups a contact may be in; default 50. Beyond it: <not-acceptable/>.
	MaxGroups int `yaml:"max_groups" default:"50" min:"1"`
	// MaxRequests is how many requests from people not in the roster wait for an answer; default 200. Further ones are ignored.
	MaxRequests int `yaml:"max_requests" default:"200" min:"1"`
	// RequestsPerDay is how many subscriptions an account may ask for at once, and how many more in each day after that;
	// default 200. Beyond it: <policy-violation/>.
	RequestsPerDay int `yaml:"requests_per_day" default:"200" min:"1"`
	// CacheItems is how many contacts, of all rosters, are kept in memory; default 200,000, about 150 bytes each.
	CacheItems int `yaml:"cache_items" default:"200000" min:"1"`
}

func (c *Config) defaults() {
	for _, d := range []struct {
		field *int
		value int
	}{
		{&c.MaxItems, 5000}, {&c.MaxName, 1024}, {&c.MaxGroups, 50}, {&c.MaxRequests, 200}, {&c.RequestsPerDay, 200},
		{&c.CacheItems, 200_000},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// maxLimited bounds how many accounts' requests are counted at once.
const maxLimited = 1 << 16

// accountLocks is how many locks the accounts share.
const accountLocks = 256

// Contacts knows the rosters of the accounts of a domain. All methods may be called from any goroutine.
type Contacts struct {
	config   Config
	sessions *session.Manager
	store    store.Rosters
	log      *slog.Logger
	metrics  *metrics

	locks  [accountLocks]sync.Mutex // each guards the stored rosters of its accounts against two writers
	known  *cache.Cache[uint64, *roster]
	asked  *limit.Table[uint64] // subscriptions, by account
	pushes atomic.Uint64        // makes ids
}

// New returns the contacts of a domain.
func New(c Config) (*Contacts, error) {
	if c.Domain.IsZero() || c.Sessions == nil || c.Store == nil || c.Forward == nil {
		return nil, errors.New("roster: Domain, Sessions, Store and Forward are required")
	}
	c.defaults()
	k := &Contacts{
		config: c, sessions: c.Sessions, store: c.Store, log: c.Log,
		known: newCache(c.CacheItems), asked: limit.NewTable[uint64](limit.Per(float64(c.RequestsPerDay), 24*time.Hour, float64(c.RequestsPerDay)), maxLimited, c.Now),
	}
	k.metrics = newMetrics(c.Metrics, k.known.Size)
	return k, nil
}

// owner is an account and its address.
type owner struct {
	id   uint64
	bare jid.JID
}

func (k *Contacts) lock(account uint64) *sync.Mutex { return &k.locks[account%accountLocks] }

// load returns the account's roster as it is now. While the account's lock is held, nobody changes it after that.
func (k *Contacts) load(ctx context.Context, account uint64) (*roster, error) {
	return k.known.Load(ctx, account, func(ctx context.Context) (*roster, time.Duration, error) {
		items, version, err := k.store.Roster(ctx, store.AccountID(account))
		if err != nil {
			return nil, 0, err
		}
		k.metrics.reads.Inc()
		return newRoster(items, version), cache.Forever, nil
	})
}

// save stores an item and pushes it, when it is listed, to the devices that are interested (RFC 6121 §2.1.6).
// The caller holds the account's lock, so pushes go out in the order of versions.
func (k *Contacts) save(ctx context.Context, o owner, r *roster, item store.RosterItem) *stanza.Error {
	limit := k.config.MaxItems + r.unlisted() // requests of strangers take no place from contacts
	if !item.Listed {
		limit = k.config.MaxItems + k.config.MaxRequests
	}
	version, err := k.store.SetRosterItem(ctx, store.AccountID(o.id), item, limit)
	switch {
	case errors.Is(err, store.ErrLimit):
		return stanza.Refuse(stanza.ResourceConstraint, "The roster has as many contacts as it may have.")
	case err != nil:
		return k.broken(o, err)
	}
	k.known.Set(o.id, r.with(detached(item), version), cache.Forever)
	if item.Listed {
		k.push(o, itemElement(&item), version)
	}
	k.changed(o)
	return nil
}

// detached returns the item with memory of its own: what a client set is a piece of its stanza, which the cache must not keep alive.
func detached(item store.RosterItem) store.RosterItem {
	item.JID, item.Name = item.JID.Clone(), strings.Clone(item.Name)
	item.Groups = slices.Clone(item.Groups)
	for i, g := range item.Groups {
		item.Groups[i] = strings.Clone(g)
	}
	return item
}

// remove removes an item. The caller holds the account's lock.
func (k *Contacts) remove(ctx context.Context, o owner, r *roster, item *store.RosterItem) *stanza.Error {
	version, err := k.store.RemoveRosterItem(ctx, store.AccountID(o.id), item.JID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return k.broken(o, err)
	}
	if err != nil {
		version = r.version
	}
	k.known.Set(o.id, r.without(item.JID, version), cache.Forever)
	if item.Listed {
		k.push(o, removedElement(item.JID), version)
	}
	k.changed(o)
	return nil
}

func (k *Contacts) changed(o owner) {
	if k.config.Changed != nil {
		k.config.Changed(o.id)
	}
}

// broken is the answer when the store does not answer; what was cached is forgotten, since it is not known what was stored.
func (k *Contacts) broken(o owner, err error) *stanza.Error {
	k.known.Invalidate(o.id)
	k.log.Warn("a roster could not be read or written", "account", o.id, "err", err)
	return stanza.Refuse(stanza.InternalServerError, "")
}

// push sends a roster push to every interested session of the account.
func (k *Contacts) push(o owner, item stanza.Element, version uint64) {
	k.sessions.Visit(o.bare, func(u *session.User) {
		for s := range u.All {
			if u.Interested(s) {
				u.Send(s, k.pushTo(o, s, item, strconv.FormatUint(version, 10)))
			}
		}
	})
}

func (k *Contacts) pushTo(o owner, s *session.Session, item stanza.Element, ver string) *stream.Packet {
	k.metrics.pushes.Inc()
	return &stream.Packet{Stanza: &stanza.Stanza{
		Kind: stanza.IQ, Type: stanza.TypeSet, ID: "push" + strconv.FormatUint(k.pushes.Add(1), 36),
		From: o.bare, To: s.JID(),
		Payload: []stanza.Element{stanza.New(nsRoster, "query", "ver", ver).With(item)},
	}}
}

// Sees reports whether the bare address is subscribed to the account's presence.
func (k *Contacts) Sees(ctx context.Context, account uint64, peer jid.JID) (bool, error) {
	r, err := k.load(ctx, account)
	if err != nil {
		return false, err
	}
	it := r.find(peer.Bare())
	return it != nil && it.From, nil
}

// Contact reports whether the bare address is in the account's roster.
func (k *Contacts) Contact(ctx context.Context, account store.AccountID, contact jid.JID) (bool, error) {
	r, err := k.load(ctx, uint64(account))
	if err != nil {
		return false, err
	}
	it := r.find(contact.Bare())
	return it != nil && it.Listed, nil
}

// Forget drops what is cached of an account, after it was deleted.
func (k *Contacts) Forget(account uint64) { k.known.Invalidate(account) }

func (k *Contacts) ours(j jid.JID) bool {
	return j.Domain() == k.config.Domain.Domain() && j.Local() != ""
}

type metrics struct {
	reads, pushes, probes, broadcasts prometheus.Counter
	subscriptions                     *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, cached func() int) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "posthouse_roster_" + name, Help: help})
	}
	m := &metrics{
		reads:      counter("reads_total", "Rosters read from the store because they were not in memory."),
		pushes:     counter("pushes_total", "Roster pushes sent to devices."),
		probes:     counter("probes_total", "Presence probes answered or sent."),
		broadcasts: counter("presences_total", "Presence stanzas sent to contacts."),
		subscriptions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "posthouse_roster_subscriptions_total", Help: "Subscription stanzas by direction and type.",
		}, []string{"direction", "type"}),
	}
	if reg != nil {
		reg.MustRegister(m.reads, m.pushes, m.probes, m.broadcasts, m.subscriptions, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "posthouse_roster_cached_items", Help: "Contacts held in memory.",
		}, func() float64 { return float64(cached()) }))
	}
	return m
}
