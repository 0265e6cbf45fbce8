package client

import (
	"strconv"
	"time"

	"github.com/posthouse-im/posthouse/wire/content"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Namespaces of messages.
const (
	nsSID      = "urn:xmpp:sid:0"
	nsPosition = "urn:posthouse:position:1"
	nsDelay    = "urn:xmpp:delay"
	nsForward  = "urn:xmpp:forward:0"
	nsMAM      = "urn:xmpp:mam:2"
)

// Message is one message of one conversation: something said, an edit, a retraction, a mark, or a signal such as typing.
type Message struct {
	// Conversation is the bare address of the other party, or one's own for notes to oneself.
	Conversation jid.JID
	From, To     jid.JID
	// Outgoing: the account itself sent it, mostly from another device.
	Outgoing bool
	// ID is the sender's own id: what edits, retractions, reactions and marks name.
	ID string
	// StanzaID names the message in the archive; "" for what is not stored.
	StanzaID string
	// Number counts the messages of the conversation: 1, 2, 3, … without holes, the same for both parties. 0 for what is not stored.
	Number uint64
	// Time is when the server accepted it; when it came, for what comes as it happens.
	Time time.Time
	// Fetched: it was fetched from the archive, and did not come as it happened.
	Fetched bool
	Content content.Content
	// Stanza is the whole message.
	Stanza *stanza.Stanza
}

// Presence is news of somebody's presence, or of a subscription (RFC 6121 §3 and §4).
type Presence struct {
	From jid.JID
	// Type is "" for available, or one of unavailable, subscribe, subscribed, unsubscribe, unsubscribed and error.
	Type string
	// Show is "", away, chat, dnd or xa.
	Show, Status string
}

// Contact is an entry of the contact list (RFC 6121 §2).
type Contact struct {
	JID  jid.JID
	Name string
	// Subscription is none, to, from or both.
	Subscription string
	// Asked: the contact has not answered yet whether its presence may be seen.
	Asked  bool
	Groups []string
}

// RosterChange is a change of the contact list.
type RosterChange struct {
	Contact
	// Removed: the contact is gone.
	Removed bool
}

// readMessage reads a message of an account. From is the zero address for what comes from the account itself.
func readMessage(s *stanza.Stanza, self jid.JID) Message {
	m := Message{From: s.From, To: s.To, ID: s.ID, Stanza: s, Time: time.Now()}
	if m.From.IsZero() {
		m.From = self
	}
	m.Outgoing = m.From.Bare() == self
	if m.Conversation = m.From.Bare(); m.Outgoing {
		m.Conversation = m.To.Bare()
		if m.To.IsZero() {
			m.Conversation = self
		}
	}
	for i := range s.Payload {
		switch e := &s.Payload[i]; {
		case e.Space == nsSID && e.Local == "origin-id":
			if id := e.Attr("id"); id != "" {
				m.ID = id
			}
		case e.Space == nsSID && e.Local == "stanza-id" && e.Attr("by") == self.String():
			m.StanzaID = e.Attr("id")
		case e.Space == nsPosition && e.Local == "position":
			m.Number = positionNumber(e)
		case e.Space == nsDelay && e.Local == "delay" && e.Attr("from") == self.Domain():
			if t, err := time.Parse(time.RFC3339, e.Attr("stamp")); err == nil {
				m.Time = t
			}
		}
	}
	m.Content = content.Parse(s)
	return m
}

func positionNumber(e *stanza.Element) uint64 {
	n, err := strconv.ParseUint(e.Attr("number"), 10, 63)
	if err != nil {
		return 0
	}
	return n
}

// forwarded reads the message in the <forwarded/> of an element (XEP-0297), ok false when there is none.
func forwarded(around *stanza.Element, self jid.JID) (m Message, ok bool) {
	f := around.Child(nsForward, "forwarded")
	if f == nil {
		return m, false
	}
	return readForwarded(f, self)
}

func readForwarded(f *stanza.Element, self jid.JID) (m Message, ok bool) {
	e := f.Child(stanza.NSClient, "message")
	if e == nil {
		return m, false
	}
	s := &stanza.Stanza{Kind: stanza.Message, Type: e.Attr("type"), ID: e.Attr("id")}
	var err error
	if from := e.Attr("from"); from != "" {
		if s.From, err = jid.Parse(from); err != nil {
			return m, false
		}
	}
	if to := e.Attr("to"); to != "" {
		if s.To, err = jid.Parse(to); err != nil {
			return m, false
		}
	}
	for child := range e.Elements {
		s.Payload = append(s.Payload, *child)
	}
	m = readMessage(s, self)
	if d := f.Child(nsDelay, "delay"); d != nil {
		if t, err := time.Parse(time.RFC3339, d.Attr("stamp")); err == nil {
			m.Time = t
		}
	}
	return m, true
}

// result reads a message of the archive (XEP-0313 §5).
func result(e *stanza.Element, self jid.JID) (Message, bool) {
	m, ok := forwarded(e, self)
	if !ok {
		return m, false
	}
	m.StanzaID, m.Fetched = e.Attr("id"), true
	if p := e.Child(nsPosition, "position"); p != nil {
		m.Number = positionNumber(p)
	}
	return m, true
}
