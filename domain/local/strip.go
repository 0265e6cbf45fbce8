package local

import (
	"context"
	"slices"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

const (
	nsStanzaID   = "urn:xmpp:sid:0"
	nsMAM        = "urn:xmpp:mam:2"
	nsOccupantID = "urn:xmpp:occupant-id:0"
	nsMUCUser    = "http://jabber.org/protocol/muc#user"
	nsAddresses  = "http://jabber.org/protocol/address"
	nsRetract    = "urn:xmpp:message-retract:1"
	nsModerate   = "urn:xmpp:message-moderate:1"
)

// Strip is the stage that removes from a client's message or presence what only servers may assert.
func (d *Domain) Strip() router.Stage {
	return router.Stage{
		Name: "strip",
		Why:  "before anything is stored, copied or sent on, so that whatever it says there was said by a server",
		Run: func(_ context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
			s := e.Stanza
			if s.Kind == stanza.IQ {
				return router.Continue, nil // its one child is the request itself
			}
			for i := range s.Payload {
				if d.asserted(s, &s.Payload[i]) {
					s.Remove(func(el *stanza.Element) bool { return d.asserted(s, el) })
					// What is left is a piece of what came, and would keep all of it alive wherever it waits.
					*s = *s.Clone()
					break
				}
			}
			return router.Continue, nil
		},
	}
}

// asserted reports whether a child element is one that a client may not send.
func (d *Domain) asserted(s *stanza.Stanza, e *stanza.Element) bool {
	switch e.Space {
	case stanza.NSClient:
		return false // body, subject, thread, show, status, priority, error: the most frequent ones first
	case nsStanzaID: // XEP-0359 §4: only who is named by "by" may have added it; origin-id is the client's own
		return e.Local == "stanza-id" && d.claimsOurs(e.Attr("by"), jid.JID{})
	case nsDelay: // XEP-0203: a client may say how long it kept a message itself, not that the server did
		return d.claimsOurs(e.Attr("from"), s.From)
	case nsCarbons: // XEP-0280 §11: only the account's own server wraps
		return e.Local == "received" || e.Local == "sent"
	case nsMAM: // XEP-0313 §4.2: results come from an archive
		return true
	case nsOccupantID: // XEP-0421: set by the room
		return true
	case nsMUCUser: // XEP-0045: a client says it only to a room, to invite, to decline, or in a private message
		return d.ours(s.To) || !clientMUC(e)
	case nsRetract: // XEP-0424 §5: what is left of a message is said by an archive; who moderated it, by the server
		return e.Local == "retracted" || e.Child(nsModerate, "moderated") != nil
	case nsModerate: // XEP-0425
		return e.Local == "moderated"
	case nsAddresses: // XEP-0033: set by a multicast service, of which there is none here
		return true
	}
	if isPosthouse(e.Space) {
		return !slices.Contains(d.config.ClientElements, e.Local)
	}
	return slices.Contains(d.config.Assertions, Name{e.Space, e.Local})
}

// claimsOurs reports whether the text names an address of this domain other than the sender's own. A text that is no
// address names nobody.
func (d *Domain) claimsOurs(text string, sender jid.JID) bool {
	if text == "" {
		return false
	}
	j, err := jid.Parse(text)
	if err != nil {
		return false
	}
	return d.ours(j) && (sender.IsZero() || j.Bare() != sender.Bare())
}

// clientMUC reports whether the element holds only what a client says to a room (XEP-0045 §7.5, §7.8.2).
func clientMUC(e *stanza.Element) bool {
	for child := range e.Elements {
		if child.Local != "invite" && child.Local != "decline" && child.Local != "password" {
			return false
		}
	}
	return true
}
