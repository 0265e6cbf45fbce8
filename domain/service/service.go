// Package service is the hub for IQ requests and service discovery (XEP-0030) of the domain, its accounts, and services
// with an address of their own, such as rooms. Other packages register their handlers as lists, which are visible in
// one place in the wiring. The hub finds the handler for a request, and gives it the requester and the requester's
// relation to the account that is addressed. It announces the features of all handlers.
//
// It starts no goroutine: everything runs on the goroutine of the requester. It sends nothing: its caller sends the
// answer.
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Accounts knows the accounts of the domain.
type Accounts interface {
	// Lookup returns the identity of the account with that prepared localpart, ok false when there is none.
	Lookup(ctx context.Context, name string) (account store.AccountID, ok bool, err error)
}

// Contacts knows who may see whose presence.
type Contacts interface {
	// Sees reports whether the address is subscribed to the account's presence.
	Sees(ctx context.Context, account uint64, peer jid.JID) (bool, error)
}

// Config configures a Hub. Domain is required; the rest may be zero.
type Config struct {
	// Domain is the domain served, as an address without localpart.
	Domain jid.JID `yaml:"-"`
	// Accounts and Contacts tell what a requester is to an account; nil knows nobody.
	Accounts Accounts `yaml:"-"`
	Contacts Contacts `yaml:"-"`
	// Available returns the addresses of an account's available resources; nil knows none.
	Available func(account jid.JID) []jid.JID `yaml:"-"`
	// Turn bounds how many large answers are made for an account at a time: it waits for a turn, and leave ends it. ok
	// is false when there was none for too long. nil bounds nothing.
	Turn func(ctx context.Context, account uint64) (leave func(), ok bool) `yaml:"-"`
	// Features are announced by the domain beside those of its handlers, AccountFeatures by every account.
	Features        []string `yaml:"-"`
	AccountFeatures []string `yaml:"-"`
	// Version of the software, shown by XEP-0092; "" shows none.
	Version string `yaml:"-"`
	// Now is the clock; nil means time.Now.
	Now func() time.Time `yaml:"-"`
	// Log receives what an operator can act on; nil discards it.
	Log *slog.Logger `yaml:"-"`

	// Contact has addresses of the operators of the domain, by field of XEP-0157 ("abuse-addresses", …). They are
	// shown in service discovery.
	Contact map[string][]string `yaml:"contact"`
	// HideVersion answers XEP-0092 without the version.
	HideVersion bool `yaml:"hide_version"`
}

// At says where a request may be addressed.
type At uint8

// The values of At, of which a Handler has a set.
const (
	// AtDomain: the domain itself.
	AtDomain At = 1 << iota
	// AtAccount: the bare address of an account, or no address, which is the requester's own account (RFC 6120
	// §10.3.3).
	AtAccount
)

// Handler is one line of the table of who answers which request.
type Handler struct {
	// At is where the request is answered: a set. Zero in a Service with an address of its own.
	At At
	// Type is get or set; "" means both.
	Type string
	// Space and Local name the payload element.
	Space, Local string
	// From is what the requester must be to the account addressed, at least; others get the answer of an account that
	// does not exist, and forbidden where it is Self. It makes no difference where no account is addressed.
	From Relation
	// Feature is announced in service discovery (XEP-0030 §3); "" announces Space, "-" nothing.
	Feature string
	// Announced is where: a set; zero means At.
	Announced At
	// Heavy: the answer may be large, so that it waits for one of the requester's turns (Config.Turn).
	Heavy  bool
	Handle Handle
}

// Handle answers a request with the payload of the result, or a refusal. It runs on the requester's goroutine and may
// take as long as the requester can be made to wait.
type Handle func(ctx context.Context, r *Request) ([]stanza.Element, *stanza.Error)

// Identity says what a service is (XEP-0030 §3.1). Lang and Name may be "".
type Identity struct{ Category, Type, Lang, Name string }

// Item is something that belongs to a service (XEP-0030 §4.1). Name and Node may be "".
type Item struct {
	JID        jid.JID
	Name, Node string
}

// Service is an address that answers for itself, such as that of the rooms of the domain.
type Service struct {
	Address jid.JID
	// Identities has at least one, whose name is that of the domain's item.
	Identities []Identity
	// Features are announced beside those of the handlers.
	Features []string
	// Forms tell more (XEP-0128).
	Forms []stanza.Element
	// Items returns what belongs to the service, as far as the requester may know; nil means nothing.
	Items func(ctx context.Context, r *Request) ([]Item, *stanza.Error)
	// Handlers answer requests. One for disco#info or disco#items takes the place of what the hub would answer.
	Handlers []Handler
}

// Hub answers requests. Serve and Add come before the first one; after that, all methods may be called from any
// goroutine.
type Hub struct {
	config   Config
	log      *slog.Logger
	domain   *service
	accounts *service
	others   map[jid.JID]*service
	ver      string // XEP-0115 verification string of the domain
}

// service is a Service made ready for looking up.
type service struct {
	Service
	table map[name][]Handler
	info  []stanza.Element // children of <query/> of disco#info
}

// name is the name of a payload element.
type name struct{ space, local string }

// New returns a hub that answers nothing yet: see Serve.
func New(c Config) (*Hub, error) {
	if c.Domain.IsZero() || c.Domain != c.Domain.DomainJID() {
		return nil, errors.New("service: Domain must be the address of a domain")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Hub{config: c, log: c.Log, others: map[jid.JID]*service{}}, nil
}

// Serve sets who answers which request to the domain and to its accounts. It is called once. It fails when two handlers
// claim the same request.
func (h *Hub) Serve(lists ...[]Handler) error {
	all := slices.Concat(lists...)
	domain := Service{
		Address: h.config.Domain, Identities: []Identity{{Category: "server", Type: "im", Name: softwareName}},
		Features: append(slices.Clone(h.config.Features), nsCaps), Items: h.domainItems, Handlers: at(AtDomain, all),
	}
	if form, ok := contactForm(h.config.Contact); ok {
		domain.Forms = append(domain.Forms, form)
	}
	accounts := Service{
		Identities: []Identity{{Category: "account", Type: "registered"}},
		Features:   slices.Clone(h.config.AccountFeatures), Items: h.accountItems, Handlers: at(AtAccount, all),
	}
	for i := range all {
		r := &all[i]
		if r.At == 0 {
			return fmt.Errorf("service: a handler of %s %s is nowhere", r.Space, r.Local)
		}
		if r.Announced&AtDomain != 0 {
			domain.Features = append(domain.Features, r.feature()...)
		}
		if r.Announced&AtAccount != 0 {
			accounts.Features = append(accounts.Features, r.feature()...)
		}
	}
	var err, err2 error
	h.domain, err = h.make(domain)
	h.accounts, err2 = h.make(accounts)
	if err = errors.Join(err, err2); err == nil {
		h.ver = capsVersion(h.domain.info)
	}
	return err
}

// at returns the handlers of one place.
func at(where At, all []Handler) (list []Handler) {
	for _, r := range all {
		if r.At&where != 0 {
			list = append(list, r)
		}
	}
	return list
}

// Add adds a service with an address of its own, which the domain shows as an item. It fails when two handlers claim
// the same request, or the address is taken.
func (h *Hub) Add(s Service) error {
	made, err := h.make(s)
	switch {
	case err != nil:
		return err
	case s.Address.IsZero() || s.Address != s.Address.Bare() || s.Address.Domain() == h.config.Domain.Domain() ||
		h.others[s.Address] != nil:
		return fmt.Errorf("service: %q is not free for a service", s.Address)
	case len(s.Identities) == 0:
		return fmt.Errorf("service: %s has no identity", s.Address)
	}
	h.others[s.Address] = made
	return nil
}

// make makes a service ready, with the handlers that every service has.
func (h *Hub) make(s Service) (*service, error) {
	made := &service{Service: s, table: map[name][]Handler{}}
	for _, r := range s.Handlers {
		for _, other := range made.table[name{r.Space, r.Local}] {
			if other.Type == r.Type || other.Type == "" || r.Type == "" {
				return nil, fmt.Errorf("service: two handlers for %s %s", r.Space, r.Local)
			}
		}
		made.table[name{r.Space, r.Local}] = append(made.table[name{r.Space, r.Local}], r)
	}
	features := map[string]bool{}
	for _, r := range discovery {
		if len(made.table[name{r.Space, r.Local}]) == 0 {
			made.table[name{r.Space, r.Local}] = []Handler{r}
		}
		features[r.Space] = true
	}
	for _, f := range s.Features {
		features[f] = true
	}
	for i := range s.Handlers {
		if r := &s.Handlers[i]; r.Announced == 0 {
			for _, f := range r.feature() {
				features[f] = true
			}
		}
	}
	made.info = info(s.Identities, slices.Sorted(maps.Keys(features)), s.Forms)
	return made, nil
}

// feature returns what a handler has announced, as a list of one or none.
func (r *Handler) feature() []string {
	switch r.Feature {
	case "":
		return []string{r.Space}
	case "-":
		return nil
	}
	return []string{r.Feature}
}

// unavailable is the answer when nobody understands a request (RFC 6120 §8.4), or the account does not exist, or it
// does not show itself to the requester.
var unavailable = stanza.Refuse(stanza.ServiceUnavailable, "")

// tooMany is the answer when as many of the account's large answers are being made as may.
var tooMany = &stanza.Error{Type: stanza.Wait, Condition: stanza.ResourceConstraint,
	Text: "Too many large answers at once. Try again later."}

// forbidden is the answer to who asks of another account what only the owner may (RFC 6121 §2.3.3, XEP-0313 §8.1). It
// does not depend on whether there is such an account.
var forbidden = stanza.Refuse(stanza.Forbidden, "Only the account itself may ask this.")

// broken is the answer when the store does not answer.
var broken = stanza.Refuse(stanza.InternalServerError, "")

// Answer answers a request to the domain, to the bare address of an account or to a service.
func (h *Hub) Answer(ctx context.Context, origin Origin, iq *stanza.Stanza) ([]stanza.Element, *stanza.Error) {
	if refusal := iq.CheckIQ(); refusal != nil {
		return nil, refusal
	}
	r := &Request{From: iq.From, Origin: origin, IQ: iq, hub: h, service: h.at(iq.To)}
	if r.service == nil {
		return nil, unavailable
	}
	if r.Self() && r.Account == 0 {
		return nil, unavailable // it is no account
	}
	payload := r.Payload()
	for i := range r.service.table[name{payload.Space, payload.Local}] {
		line := &r.service.table[name{payload.Space, payload.Local}][i]
		if line.Type != "" && line.Type != iq.Type {
			continue
		}
		switch {
		case line.From == NotSubscribed || r.service != h.accounts:
		case line.From == Self && !r.Self():
			return nil, forbidden
		default:
			if relation, refusal := r.Relation(ctx); refusal != nil || relation < line.From {
				return nil, orUnavailable(refusal)
			}
		}
		if line.Heavy && h.config.Turn != nil {
			leave, ok := h.config.Turn(ctx, r.Account)
			if !ok {
				return nil, tooMany
			}
			defer leave()
		}
		return line.Handle(ctx, r)
	}
	return nil, unavailable
}

func orUnavailable(refusal *stanza.Error) *stanza.Error {
	if refusal == nil {
		return unavailable
	}
	return refusal
}

// at returns the service of an address, nil when there is none.
func (h *Hub) at(to jid.JID) *service {
	switch {
	case to == h.config.Domain:
		return h.domain
	case to.Domain() == h.config.Domain.Domain() && to.IsBare() && to.Local() != "":
		return h.accounts
	}
	return h.others[to]
}

// Has reports whether the address is that of a service other than the domain and its accounts.
func (h *Hub) Has(address jid.JID) bool { return h.others[address] != nil }

// domainItems shows the services of the domain.
func (h *Hub) domainItems(context.Context, *Request) (items []Item, _ *stanza.Error) {
	for address, s := range h.others {
		items = append(items, Item{JID: address, Name: s.Identities[0].Name})
	}
	slices.SortFunc(items, func(a, b Item) int { return strings.Compare(a.JID.String(), b.JID.String()) })
	return items, nil
}
