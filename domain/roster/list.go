package roster

import (
	"context"
	"slices"
	"strconv"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

const nsRoster = "jabber:iq:roster"

// maxDelta is how many changes are told one by one to a device that knows an older version; beyond it, it gets the whole roster.
const maxDelta = 100

// Routes answers for the roster (RFC 6121 §2), to its owner alone: a request to another account is answered as one that
// nobody understands.
func (k *Contacts) Routes() []router.IQRoute {
	return []router.IQRoute{
		{Target: router.ToOwnAccount, Type: stanza.TypeGet, Space: nsRoster, Local: "query", Handle: k.get},
		{Target: router.ToOwnAccount, Type: stanza.TypeSet, Space: nsRoster, Local: "query", Handle: k.set},
	}
}

// itemElement returns a contact as shown to its owner's devices (RFC 6121 §2.1.2).
func itemElement(it *store.RosterItem) stanza.Element {
	subscription := "none"
	switch {
	case it.To && it.From:
		subscription = "both"
	case it.To:
		subscription = "to"
	case it.From:
		subscription = "from"
	}
	e := stanza.New(nsRoster, "item", "jid", it.JID.String(), "subscription", subscription)
	if it.Name != "" {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "name", Value: it.Name})
	}
	if it.PendingOut {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "ask", Value: "subscribe"})
	}
	if it.Approved {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "approved", Value: "true"})
	}
	for _, g := range it.Groups {
		e = e.With(stanza.New(nsRoster, "group").WithText(g))
	}
	return e
}

func removedElement(contact jid.JID) stanza.Element {
	return stanza.New(nsRoster, "item", "jid", contact.String(), "subscription", "remove")
}

// get answers a request for the roster (RFC 6121 §2.1.3, §2.1.4, §2.6). The device gets pushes from now on.
func (k *Contacts) get(ctx context.Context, account uint64, iq *stanza.Stanza) ([]stanza.Element, *stanza.Error) {
	request := &iq.Payload[0]
	if request.Child(nsRoster, "item") != nil {
		return nil, stanza.Refuse(stanza.BadRequest, "A request for the roster has no items.")
	}
	s := k.sessions.Lookup(iq.From)
	o := owner{account, iq.From.Bare()}
	// Under the lock no push can fall between the version that is answered and the moment from which pushes are sent.
	mu := k.lock(account)
	mu.Lock()
	defer mu.Unlock()
	r, err := k.load(ctx, account)
	if err != nil {
		return nil, k.broken(o, err)
	}
	if known, ok := parseVersion(request); ok && s != nil && k.delta(ctx, o, s, r, known) {
		return nil, nil
	}
	if s != nil {
		k.sessions.SetInterested(s)
	}
	q := stanza.New(nsRoster, "query")
	if request.HasAttr("ver") {
		q = stanza.New(nsRoster, "query", "ver", strconv.FormatUint(r.version, 10))
	}
	q.Nodes = make([]stanza.Node, 0, len(r.items))
	for i := range r.items {
		if r.items[i].Listed {
			e := itemElement(&r.items[i])
			q.Nodes = append(q.Nodes, stanza.Node{Element: &e})
		}
	}
	return []stanza.Element{q}, nil
}

// parseVersion returns the version that a device says it has; ok is false when it says none or one of another making.
func parseVersion(query *stanza.Element) (version uint64, ok bool) {
	version, err := strconv.ParseUint(query.Attr("ver"), 10, 64)
	return version, err == nil
}

// delta arranges for the device to be told what changed since the version it knows, after the empty answer
// (RFC 6121 §2.6.3), and reports false when it has to get the whole roster. The account's lock is held.
func (k *Contacts) delta(ctx context.Context, o owner, s *session.Session, r *roster, known uint64) bool {
	if known == r.version {
		k.sessions.SetInterested(s)
		return true
	}
	if known > r.version {
		return false
	}
	changes, version, ok := k.changes(ctx, o, known)
	if !ok || version != r.version {
		return false
	}
	session.AfterReply(ctx, func() {
		// What changed between the answer and now is told too, under the lock: a push of an older state of a contact must
		// not follow one of a newer.
		mu := k.lock(o.id)
		mu.Lock()
		defer mu.Unlock()
		if later, v, ok := k.changes(ctx, o, known); ok {
			changes, version = later, v
		}
		k.sessions.SetInterested(s)
		ver := strconv.FormatUint(known, 10) // kept by all but the last: a device that is cut off in between asks for all again
		k.sessions.Visit(o.bare, func(u *session.User) {
			for i, change := range changes {
				if i == len(changes)-1 {
					ver = strconv.FormatUint(version, 10)
				}
				u.Send(s, k.pushTo(o, s, change, ver))
			}
		})
	})
	return true
}

// changes returns what changed since a version; ok is false when the whole roster is due.
func (k *Contacts) changes(ctx context.Context, o owner, since uint64) (changes []stanza.Element, version uint64, ok bool) {
	items, removed, version, ok, err := k.store.RosterChanges(ctx, store.AccountID(o.id), since)
	if err != nil || !ok || len(items)+len(removed) > maxDelta {
		return nil, 0, false
	}
	for _, contact := range removed {
		changes = append(changes, removedElement(contact))
	}
	for i := range items {
		if items[i].Listed {
			changes = append(changes, itemElement(&items[i]))
		}
	}
	return changes, version, true
}

// set adds, changes or removes a contact (RFC 6121 §2.1.5, §2.3, §2.4, §2.5).
func (k *Contacts) set(ctx context.Context, account uint64, iq *stanza.Stanza) ([]stanza.Element, *stanza.Error) {
	wanted, remove, refusal := k.parseSet(iq)
	if refusal != nil {
		return nil, refusal
	}
	o := owner{account, iq.From.Bare()}
	if remove {
		return nil, k.removeContact(ctx, o, wanted.JID)
	}
	mu := k.lock(account)
	mu.Lock()
	defer mu.Unlock()
	r, err := k.load(ctx, account)
	if err != nil {
		return nil, k.broken(o, err)
	}
	item := wanted
	if have := r.find(wanted.JID); have != nil {
		item = *have // the state of the subscription is not the device's to set (§2.1.2.5)
		item.Name, item.Groups = wanted.Name, wanted.Groups
	}
	item.Listed = true
	return nil, k.save(ctx, o, r, item)
}

// parseSet reads a roster set and holds it to RFC 6121 §2.1.5, §2.3.3 and the limits.
func (k *Contacts) parseSet(iq *stanza.Stanza) (item store.RosterItem, remove bool, refusal *stanza.Error) {
	var found *stanza.Element
	for e := range iq.Payload[0].Elements {
		if e.Space != nsRoster || e.Local != "item" || found != nil {
			return item, false, stanza.Refuse(stanza.BadRequest, "A roster set has exactly one item.")
		}
		found = e
	}
	if found == nil {
		return item, false, stanza.Refuse(stanza.BadRequest, "A roster set has exactly one item.")
	}
	contact, err := jid.Parse(found.Attr("jid"))
	switch {
	case err != nil:
		return item, false, stanza.Refuse(stanza.BadRequest, "The item's address is not valid.")
	case contact.IsFull():
		return item, false, stanza.Refuse(stanza.BadRequest, "A contact is a bare address.")
	case contact == iq.From.Bare():
		return item, false, stanza.Refuse(stanza.NotAllowed, "Nobody is a contact of himself.")
	}
	item.JID = contact
	if found.Attr("subscription") == "remove" {
		return item, true, nil
	}
	if item.Name = found.Attr("name"); len(item.Name) > k.config.MaxName {
		return item, false, stanza.Refuse(stanza.NotAcceptable, "The name is too long.")
	}
	for g := range found.Elements {
		if g.Space != nsRoster || g.Local != "group" {
			continue
		}
		name := g.Text()
		switch {
		case name == "" || len(name) > k.config.MaxName:
			return item, false, stanza.Refuse(stanza.NotAcceptable, "The name of a group is empty or too long.")
		case len(item.Groups) >= k.config.MaxGroups:
			return item, false, stanza.Refuse(stanza.NotAcceptable, "The contact is in too many groups.")
		case slices.Contains(item.Groups, name):
			return item, false, stanza.Refuse(stanza.BadRequest, "A group is named twice.")
		}
		item.Groups = append(item.Groups, name)
	}
	return item, false, nil
}

// removeContact removes a contact and ends the subscriptions both ways (RFC 6121 §2.5.2).
func (k *Contacts) removeContact(ctx context.Context, o owner, contact jid.JID) *stanza.Error {
	item, refusal := k.removeItem(ctx, o, contact)
	if refusal != nil {
		return refusal
	}
	if item.To || item.PendingOut {
		k.forward(ctx, o, contact, stanza.TypeUnsubscribe)
	}
	if item.From || item.PendingIn {
		k.forward(ctx, o, contact, stanza.TypeUnsubscribed)
	}
	if item.From {
		k.showUnavailable(ctx, o, contact)
	}
	return nil
}

func (k *Contacts) removeItem(ctx context.Context, o owner, contact jid.JID) (store.RosterItem, *stanza.Error) {
	mu := k.lock(o.id)
	mu.Lock()
	defer mu.Unlock()
	r, err := k.load(ctx, o.id)
	if err != nil {
		return store.RosterItem{}, k.broken(o, err)
	}
	item := r.find(contact)
	if item == nil || !item.Listed {
		return store.RosterItem{}, stanza.Refuse(stanza.ItemNotFound, "")
	}
	return *item, k.remove(ctx, o, r, item)
}
