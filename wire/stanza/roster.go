package stanza

import "github.com/posthouse-im/posthouse/wire/jid"

// NSRoster is the namespace of contact lists (RFC 6121 §2).
const NSRoster = "jabber:iq:roster"

// RosterItem is a contact as its owner's devices and the server tell each other of it (RFC 6121 §2.1.2).
type RosterItem struct {
	JID  jid.JID
	Name string
	// Subscription is "none", "to", "from" or "both", or "remove" for a contact that goes; a device that sets an item
	// leaves it "".
	Subscription string
	// Asked: the owner has asked to see the contact's presence and waits. Approved: the contact was approved in advance
	// (§3.4).
	Asked, Approved bool
	Groups          []string
}

// Subscription returns the subscription of an owner who sees the contact's presence (to), or whose own the contact sees
// (from).
func Subscription(to, from bool) string {
	switch {
	case to && from:
		return "both"
	case to:
		return "to"
	case from:
		return "from"
	}
	return "none"
}

// Element returns the item as an element.
func (i *RosterItem) Element() Element {
	e := New(NSRoster, "item", "jid", i.JID.String())
	add := func(name, value string, is bool) {
		if is {
			e.Attrs = append(e.Attrs, Attr{Local: name, Value: value})
		}
	}
	add("subscription", i.Subscription, i.Subscription != "")
	add("name", i.Name, i.Name != "")
	add("ask", "subscribe", i.Asked)
	add("approved", "true", i.Approved)
	for _, g := range i.Groups {
		e = e.With(New(NSRoster, "group").WithText(g))
	}
	return e
}

// ReadRosterItem reads an item; ok is false for an element that is none, or has no address.
func ReadRosterItem(e *Element) (i RosterItem, ok bool) {
	j, err := jid.Parse(e.Attr("jid"))
	if err != nil || e.Space != NSRoster || e.Local != "item" {
		return i, false
	}
	approved := e.Attr("approved")
	i = RosterItem{
		JID: j, Name: e.Attr("name"), Subscription: e.Attr("subscription"),
		Asked: e.Attr("ask") == "subscribe", Approved: approved == "true" || approved == "1",
	}
	for g := range e.Elements {
		if g.Space == NSRoster && g.Local == "group" {
			i.Groups = append(i.Groups, g.Text())
		}
	}
	return i, true
}
