// Package roster owns contact lists and subscriptions (RFC 6121 §2, §3), and sends presence to the accounts that may
// see it (§4).
//
// It starts no goroutines: everything runs on the goroutine of the client that sent the stanza, or of the caller that
// delivers to an account. It owns a bounded cache of rosters. Other processes may change rosters too, so a roster is
// changed inside the store. A device is told what it does not know yet, by the version that it was told last.
//
// What it never does: show presence to an account that the owner has not approved in the current roster; change a
// roster because of a sender without a subscription, except to record its request; keep any presence. The last
// available presence is kept by package session.
package roster

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/posthouse-im/posthouse/cache"
	"github.com/posthouse-im/posthouse/defaults"
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
	// Epoch is store.Identity.Epoch: versions that were told in another one are not known.
	Epoch uint64 `yaml:"-"`
	// Metrics receives the package's metrics; nil leaves them unregistered.
	Metrics prometheus.Registerer `yaml:"-"`
	// Log receives what an operator can act on; nil discards it.
	Log *slog.Logger `yaml:"-" default:"discard"`
	// Now is the clock; nil means time.Now.
	Now func() time.Time `yaml:"-" default:"now"`

	// MaxItems is how many contacts a roster may have. Beyond it: <resource-constraint/>.
	MaxItems int `yaml:"max_items" default:"5000" min:"1"`
	// MaxName is how many bytes a contact's name, and that of a group, may have. Beyond it: <not-acceptable/>.
	MaxName int `yaml:"max_name" default:"1024" min:"1"`
	// MaxGroups is how many groups a contact may be in. Beyond it: <not-acceptable/>.
	MaxGroups int `yaml:"max_groups" default:"50" min:"1"`
	// MaxRequests is how many subscription requests from accounts that are not in the roster may wait for an answer.
	// More are ignored.
	MaxRequests int `yaml:"max_requests" default:"200" min:"1"`
	// RequestsPerDay is how many subscriptions an account may ask for at once, and how many more in each day after
	// that. Beyond it: <policy-violation/>.
	RequestsPerDay int `yaml:"requests_per_day" default:"200" min:"1"`
	// MaxBytes is how many bytes the addresses, names and groups in a roster may have in all. Beyond it:
	// <resource-constraint/>. It bounds what the roster takes in one answer.
	MaxBytes int `yaml:"max_bytes" default:"1048576" min:"1"`
	// CacheBytes is about how many bytes of rosters are kept in memory.
	CacheBytes int `yaml:"cache_bytes" default:"33554432" min:"1"`
}

// Contacts knows the rosters of the accounts of a domain. All methods may be called from any goroutine.
type Contacts struct {
	config   Config
	sessions *session.Manager
	store    store.Rosters
	log      *slog.Logger
	metrics  *metrics

	known  *cache.Cache[uint64, *roster]
	asked  *limit.Table[uint64] // subscriptions, by account
	pushes atomic.Uint64        // makes ids
}

// New returns the contacts of a domain.
func New(c Config) (*Contacts, error) {
	if c.Domain.IsZero() || c.Sessions == nil || c.Store == nil || c.Forward == nil {
		return nil, errors.New("roster: Domain, Sessions, Store and Forward are required")
	}
	defaults.Fill(&c)
	k := &Contacts{
		config: c, sessions: c.Sessions, store: c.Store, log: c.Log,
		known: newCache(c.CacheBytes),
		asked: limit.NewTable[uint64](limit.Per(float64(c.RequestsPerDay), 24*time.Hour, float64(c.RequestsPerDay)), 0,
			c.Now),
	}
	k.metrics = newMetrics(c.Metrics, k.known.Size)
	return k, nil
}

// owner is an account and its address.
type owner struct {
	id   uint64
	bare jid.JID
}

// load returns the account's roster as it is now.
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

// change changes the item of a contact in the store. It returns the item as it was, and what pushes the change, when
// the item is listed, to the devices that are interested (RFC 6121 §2.1.6): the caller runs it, after the presence that
// has to come before it. apply may be called more than once; of its error, only a refusal is told as it is.
func (k *Contacts) change(ctx context.Context, o owner, contact jid.JID, limit int,
	apply func(*store.RosterItem) error) (before store.RosterItem, push func(), refusal *stanza.Error) {
	item, version, err := k.store.ChangeRosterItem(ctx, store.AccountID(o.id), contact, limit,
		func(it *store.RosterItem) error {
			before = *it
			return apply(it)
		})
	push = func() {}
	switch {
	case errors.Is(err, store.ErrLimit):
		return before, push,
			stanza.Refuse(stanza.ResourceConstraint, "The roster has as many contacts as it may have.")
	case errors.As(err, &refusal):
		return before, push, refusal
	case err != nil:
		return before, push, k.broken(o, err)
	case item.Equal(&before):
		return before, push, nil
	}
	k.known.Invalidate(o.id)
	var told []change
	switch {
	case !item.Listed && before.Listed:
		told = append(told, change{removedElement(contact), version})
	case item.Listed && !sameShown(item, before): // nothing is pushed for a request that waits (§3.1.3)
		told = append(told, change{itemElement(&item), version})
	}
	return before, func() {
		k.push(ctx, o, version-1, version, told)
		k.changed(o)
	}, nil
}

// sameShown reports whether a device is shown two items as the same.
func sameShown(a, b store.RosterItem) bool {
	a.PendingIn, a.Request = b.PendingIn, b.Request
	return a.Equal(&b)
}

// within holds a change that the owner makes to the bytes that a roster may have. Those who change it at the same
// moment may pass the bound together.
func (k *Contacts) within(ctx context.Context, o owner,
	change func(*store.RosterItem) error) func(*store.RosterItem) error {
	r, failed := k.load(ctx, o.id)
	return func(it *store.RosterItem) error {
		before := listedText(it)
		if err := cmp.Or(failed, change(it)); err != nil {
			return err
		}
		if more := listedText(it) - before; more > 0 && r.text+more > k.config.MaxBytes {
			return stanza.Refuse(stanza.ResourceConstraint, "The roster has as much text as it may have.")
		}
		return nil
	}
}

func (k *Contacts) changed(o owner) {
	if k.config.Changed != nil {
		k.config.Changed(o.id)
	}
}

// broken is the answer when the store does not answer; what was cached is forgotten, since it is not known what was
// stored.
func (k *Contacts) broken(o owner, err error) *stanza.Error {
	k.known.Invalidate(o.id)
	k.log.Warn("a roster could not be read or written", "account", store.AccountID(o.id), "err", err)
	return stanza.Refuse(stanza.InternalServerError, "")
}

// push tells each interested session of the account that was told of all up to the version since what has changed from
// then to a version. One that lacks more is told of all that it lacks; one that was told of this version is not told
// again.
func (k *Contacts) push(ctx context.Context, o owner, since, version uint64, changes []change) {
	behind := version
	k.sessions.Visit(o.bare, func(u *session.User) {
		for s := range u.All {
			switch told := u.Roster(s); {
			case !u.Interested(s) || told >= version:
			case told < since:
				behind = min(behind, told)
			default:
				k.tellChanges(o, u, s, version, changes)
			}
		}
	})
	if behind < version {
		k.catchUp(ctx, o, behind)
	}
}

// change is what a device is told of one contact. version is that of the roster with it, and 0 when that is not known.
type change struct {
	item    stanza.Element
	version uint64
}

// tellChanges pushes what a session lacks of changes up to a version, in order, each with the version of the roster
// with it (RFC 6121 §2.6.3): a device that is cut off in between asks for those after the last that it got. Changes
// whose version is not known have the one that it was told before.
func (k *Contacts) tellChanges(o owner, u *session.User, s *session.Session, version uint64, changes []change) {
	told := u.Roster(s)
	for _, c := range changes {
		if c.version == 0 || c.version > told {
			u.Send(s, k.pushTo(o, s, c.item, k.versionText(cmp.Or(c.version, told))))
		}
	}
	u.SetRoster(s, version)
}

// catchUp tells the account's interested sessions what has changed since a version.
func (k *Contacts) catchUp(ctx context.Context, o owner, since uint64) {
	changes, version, ok, err := k.changes(ctx, o, since)
	if err == nil && !ok { // what was removed is not known any more; what there is can be told
		var r *roster
		if r, err = k.load(ctx, o.id); err == nil {
			changes, version = nil, r.version
			for _, item := range listed(r.items) {
				changes = append(changes, change{item: item})
			}
			if n := len(changes); n > 0 {
				changes[n-1].version = version
			}
		}
	}
	if err != nil {
		k.broken(o, err) // whoever lacks something is told with the next change
		return
	}
	k.sessions.Visit(o.bare, func(u *session.User) {
		for s := range u.All {
			if told := u.Roster(s); u.Interested(s) && told >= since && told < version {
				k.tellChanges(o, u, s, version, changes)
			}
		}
	})
}

func (k *Contacts) pushTo(o owner, s *session.Session, item stanza.Element, ver string) *stream.Packet {
	k.metrics.pushes.Inc()
	return &stream.Packet{Stanza: &stanza.Stanza{
		Kind: stanza.IQ, Type: stanza.TypeSet, ID: "push" + strconv.FormatUint(k.pushes.Add(1), 36),
		From: o.bare, To: s.JID(),
		Payload: []stanza.Element{stanza.New(stanza.NSRoster, "query", "ver", ver).With(item)},
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

// Changed is told that another process has changed the roster of an account: its devices here hear of it.
func (k *Contacts) Changed(ctx context.Context, account uint64, name string) {
	k.known.Invalidate(account)
	bare, err := jid.New(name, k.config.Domain.Domain(), "")
	if err != nil || k.sessions.Connected(bare) != account {
		return
	}
	o := owner{account, bare}
	r, err := k.load(ctx, account)
	if err != nil {
		k.broken(o, err)
		return
	}
	k.push(ctx, o, r.version, r.version, nil)
}

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
		reg.MustRegister(m.reads, m.pushes, m.probes, m.broadcasts, m.subscriptions,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "posthouse_roster_cached_bytes", Help: "What the rosters held in memory take, about.",
			}, func() float64 { return float64(cached()) }))
	}
	return m
}
