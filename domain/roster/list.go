package roster

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// maxDelta is how many changes are told one by one to a device that knows an older version; beyond it, it gets the
// whole roster.
const maxDelta = 100

// Handlers answers for the roster (RFC 6121 §2), to its owner alone.
func (k *Contacts) Handlers() []service.Handler {
	return []service.Handler{
		{At: service.AtAccount, Type: stanza.TypeGet, Space: stanza.NSRoster, Local: "query", From: service.Self,
			Heavy: true, Handle: k.get},
		{At: service.AtAccount, Type: stanza.TypeSet, Space: stanza.NSRoster, Local: "query", From: service.Self,
			Handle: k.set},
	}
}

// itemElement returns a contact as shown to its owner's devices (RFC 6121 §2.1.2).
func itemElement(it *store.RosterItem) stanza.Element {
	shown := it.Shown()
	return shown.Element()
}

func removedElement(contact jid.JID) stanza.Element {
	gone := stanza.RosterItem{JID: contact, Subscription: "remove"}
	return gone.Element()
}

// get answers a request for the roster (RFC 6121 §2.1.3, §2.1.4, §2.6). The device gets pushes from now on.
func (k *Contacts) get(ctx context.Context, req *service.Request) ([]stanza.Element, *stanza.Error) {
	request := req.Payload()
	if request.Child(stanza.NSRoster, "item") != nil {
		return nil, stanza.Refuse(stanza.BadRequest, "A request for the roster has no items.")
	}
	s := session.Of(req.Session)
	o := owner{req.Account, req.From.Bare()}
	r, err := k.load(ctx, req.Account)
	if err != nil {
		return nil, k.broken(o, err)
	}
	told := r.version
	known, ok := k.parseVersion(request)
	if ok = ok && s != nil && known <= told; ok && known < told {
		changes, _, all, err := k.changes(ctx, o, known)
		ok = err == nil && all && len(changes) <= maxDelta
	}
	var answer []stanza.Element
	if ok {
		told = known // what has changed since follows the empty answer (§2.6.3)
	} else {
		q := stanza.New(stanza.NSRoster, "query")
		if request.HasAttr("ver") {
			q = stanza.New(stanza.NSRoster, "query", "ver", k.versionText(told))
		}
		answer = append(answer, q.With(listed(r.items)...))
	}
	if s != nil {
		session.AfterReply(ctx, func() {
			k.sessions.SetInterested(s, told)
			if now, err := k.load(ctx, req.Account); err == nil && now.version > told {
				k.catchUp(ctx, o, told)
			}
		})
	}
	return answer, nil
}

// listed returns the items that are shown in the roster.
func listed(items []store.RosterItem) []stanza.Element {
	shown := make([]stanza.Element, 0, len(items))
	for i := range items {
		if items[i].Listed {
			shown = append(shown, itemElement(&items[i]))
		}
	}
	return shown
}

// versionText writes a version as devices are told it (RFC 6121 §2.6: opaque to them). It names the epoch, because
// numbers are given again after a backup was restored.
func (k *Contacts) versionText(version uint64) string {
	text := strconv.FormatUint(version, 10)
	if k.config.Epoch != 0 {
		text += "-" + strconv.FormatUint(k.config.Epoch, 36)
	}
	return text
}

// parseVersion returns the version that a device says it has; ok is false when it says none or one of another making.
func (k *Contacts) parseVersion(query *stanza.Element) (version uint64, ok bool) {
	ver := query.Attr("ver")
	text, _, _ := strings.Cut(ver, "-")
	version, err := strconv.ParseUint(text, 10, 64)
	return version, err == nil && k.versionText(version) == ver
}

// changes returns what changed since a version, in order, and the version now; ok is false when the store cannot tell.
// A contact that is not listed may have been before: its device is told that it is removed.
func (k *Contacts) changes(ctx context.Context, o owner, since uint64) (changes []change, version uint64, ok bool,
	err error) {
	found, version, ok, err := k.store.RosterChanges(ctx, store.AccountID(o.id), since)
	if err != nil || !ok {
		return nil, 0, false, err
	}
	for i := range found {
		item := removedElement(found[i].JID)
		if found[i].Listed {
			item = itemElement(&found[i].RosterItem)
		}
		changes = append(changes, change{item, found[i].Version})
	}
	return changes, version, true, nil
}

// set adds, changes or removes a contact (RFC 6121 §2.1.5, §2.3, §2.4, §2.5).
func (k *Contacts) set(ctx context.Context, req *service.Request) ([]stanza.Element, *stanza.Error) {
	wanted, remove, refusal := k.parseSet(req)
	if refusal != nil {
		return nil, refusal
	}
	o := owner{req.Account, req.From.Bare()}
	if remove {
		return nil, k.removeContact(ctx, o, wanted.JID)
	}
	_, push, refusal := k.change(ctx, o, wanted.JID, k.config.MaxItems,
		k.within(ctx, o, func(it *store.RosterItem) error {
			// the subscription is not the device's to set (§2.1.2.5)
			it.Name, it.Groups, it.Listed = wanted.Name, wanted.Groups, true
			return nil
		}))
	push()
	return nil, refusal
}

// parseSet reads a roster set and holds it to RFC 6121 §2.1.5, §2.3.3 and the limits.
func (k *Contacts) parseSet(req *service.Request) (item store.RosterItem, remove bool, refusal *stanza.Error) {
	var found *stanza.Element
	for e := range req.Payload().Elements {
		if e.Space != stanza.NSRoster || e.Local != "item" || found != nil {
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
	case contact == req.From.Bare():
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
		if g.Space != stanza.NSRoster || g.Local != "group" {
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
	item, push, refusal := k.change(ctx, o, contact, 0, func(it *store.RosterItem) error {
		if !it.Listed {
			return stanza.Refuse(stanza.ItemNotFound, "")
		}
		*it = store.RosterItem{}
		return nil
	})
	push()
	if refusal == nil {
		k.endSubscriptions(ctx, o, &item)
	}
	return refusal
}

// endSubscriptions tells a contact that the subscriptions are over that there were: first that the devices are
// unavailable, while it may see that (§3.2.2).
func (k *Contacts) endSubscriptions(ctx context.Context, o owner, item *store.RosterItem) {
	if item.From {
		k.showUnavailable(ctx, o, item.JID)
	}
	if item.To || item.PendingOut {
		k.forward(ctx, o, item.JID, stanza.TypeUnsubscribe)
	}
	if item.From || item.PendingIn {
		k.forward(ctx, o, item.JID, stanza.TypeUnsubscribed)
	}
}
