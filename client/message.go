package client

import (
	"strconv"
	"time"

	"github.com/posthouse-im/posthouse/wire/content"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// nsPosition qualifies the number of a message in its conversation.
const nsPosition = "urn:posthouse:position:1"

// Message is one message of one conversation: something said, an edit, a retraction, a read marker, or a signal such as
// typing.
type Message struct {
	// Conversation is the bare address of the other party, or one's own for notes to oneself.
	Conversation jid.JID
	From, To     jid.JID
	// Outgoing: the account itself sent it, mostly from another device.
	Outgoing bool
	// ID is the sender's own id: what edits, retractions, reactions and read markers name.
	ID string
	// StanzaID names the message in the archive; "" for what is not stored.
	StanzaID string
	// Number counts the messages of the conversation: 1, 2, 3, … without holes, the same for both parties. 0 for what
	// is not stored.
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
		case e.Space == payload.NSStanzaID && e.Local == "origin-id":
			if id := e.Attr("id"); id != "" {
				m.ID = id
			}
		case e.Space == payload.NSStanzaID && e.Local == "stanza-id" && e.Attr("by") == self.String():
			m.StanzaID = e.Attr("id")
		case e.Space == nsPosition && e.Local == "position":
			m.Number = positionNumber(e)
		case e.Space == payload.NSDelay && e.Local == "delay" && e.Attr("from") == self.Domain():
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

// forwarded reads the message in <forwarded/>, or in an element around it (XEP-0297), ok false when there is none.
func forwarded(e *stanza.Element, self jid.JID) (m Message, ok bool) {
	s, received := payload.Forwarded(e)
	if s == nil {
		return m, false
	}
	m = readMessage(s, self)
	if !received.IsZero() {
		m.Time = received
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
