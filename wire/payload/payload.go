// Package payload says what the elements in a stanza mean to a server: whether the message is stored, counts as unread,
// and is copied to other devices; who may send the element; and which elements refer to an earlier message. All of it
// is one table (table.go), which docs/payloads.md shows. Archive, carbons, stripping and content use it. The package
// also wraps messages in each other (XEP-0297, forward.go).
//
// Values are pure: no I/O, clocks or goroutines.
package payload

import (
	"strconv"
	"strings"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Of returns the row of an element. It is never nil, and must not be changed.
func Of(e *stanza.Element) *Row {
	if e.Local == "body" && e.Space == stanza.NSClient { // nearly every message has one
		return &table[0]
	}
	for at := slot(e.Space); ; at++ {
		g := &index[at]
		if g.space == e.Space {
			for i := range g.rows {
				if r := &g.rows[i]; len(r.Local) == 0 || r.Local == e.Local {
					return r
				}
			}
		}
		if len(g.rows) == 0 {
			break
		}
	}
	if strings.HasPrefix(e.Space, NSOwn) {
		return &own
	}
	return &unknown
}

// group holds the rows of one namespace, in the order of the table.
type group struct {
	space string
	rows  []Row
}

// index finds the group of a namespace: it is in its slot, or in the next free one after it. It is made from the table,
// and constant; most slots are empty.
var index = func() (index [256]group) {
	for i := range table {
		r := &table[i]
		at := slot(r.Space)
		for len(index[at].rows) > 0 && index[at].space != r.Space {
			at++
		}
		index[at].space = r.Space
		index[at].rows = append(index[at].rows, *r)
	}
	return index
}()

// slot spreads namespaces by their length and letters near the end, where they differ.
func slot(space string) uint8 {
	n := len(space)
	if n < 5 {
		return 0
	}
	return uint8(n)*5 + space[n-1]*3 + space[n-3]*11 + space[n-5]
}

// Meaning is what the elements of a message come to.
type Meaning struct {
	// Storage is Transient, Offline or Archived.
	Storage Storage
	// Unread: the message is archived, and waits to be read.
	Unread bool
	// Marks: the message marks how far its sender has come, and Says: it says or changes something beside that.
	Marks, Says bool
	// Delivered, Read, Edits and Retracts are the ids of earlier messages, as the message names them; "" for none. A
	// message that retracts edits nothing.
	Delivered, Read, Edits, Retracts string
	// DeliveredNumber and ReadNumber are numbers of earlier messages, of an element that has a number; 0 for none.
	DeliveredNumber, ReadNumber uint64
}

// MeaningOf returns what a message comes to.
func MeaningOf(s *stanza.Stanza) (m Meaning) {
	storage, counts, cancelled, refused, retracts := Transient, false, false, false, false
	for i := range s.Payload {
		e := &s.Payload[i]
		row := Of(e)
		switch row.Storage {
		case AskNoStore:
			refused = true
			continue
		case Offline, Archived:
			m.Says = m.Says || row.Relation != Delivered && row.Relation != Read
		}
		storage = max(storage, row.Storage)
		counts = counts || row.Unread == Counts
		cancelled = cancelled || row.Unread == Cancels
		switch row.Relation {
		case Delivered:
			m.Marks = true
			m.Delivered, m.DeliveredNumber = named(e)
		case Read:
			m.Marks = true
			m.Read, m.ReadNumber = named(e)
		case Edits:
			m.Edits = e.Attr("id")
		case Retracts:
			m.Retracts, retracts = e.Attr("id"), true
		}
	}
	if m.Retracts != "" {
		m.Edits = ""
	}
	m.Storage = min(storage, Archived)
	switch s.Type {
	case stanza.TypeError, stanza.TypeHeadline, stanza.TypeGroupchat:
		// XEP-0160 §3. A room archives what it accepts itself; an error is about a message and not one.
		m.Storage = Transient
	default:
		if refused && !retracts { // what is to be taken out is in the log, so its retraction has to come there
			m.Storage = Transient
		}
	}
	m.Unread = counts && !cancelled && m.Storage == Archived
	return m
}

// Passing reports whether an element says something by itself that matters only now, such as that somebody types. Other
// elements of transient messages say something about what is beside them.
func Passing(e *stanza.Element) bool {
	switch e.Space {
	case NSChatStates, nsEvent, nsRTT, nsIBB, NSAttention:
		return true
	}
	return false
}

// named returns the message that a marker names, by its number when it has one and else by its id.
func named(e *stanza.Element) (id string, number uint64) {
	if e.Space == NSMarker {
		if n, err := strconv.ParseUint(e.Attr("number"), 10, 64); err == nil && n != 0 {
			return "", n
		}
	}
	return e.Attr("id"), 0
}

// Eligible reports whether a message is one of those that all devices of an account should see (XEP-0280 §6).
func Eligible(s *stanza.Stanza) bool {
	kind := s.MessageType()
	if s.Kind != stanza.Message || kind != stanza.TypeChat && kind != stanza.TypeNormal {
		return false // groupchat comes to each device that joined; errors cannot be told to belong to what was copied
	}
	copied := kind == stanza.TypeChat
	for i := range s.Payload {
		switch e := &s.Payload[i]; Of(e).Carbon {
		case Copied:
			copied = true
		case CopiedInvite:
			if e.Child(NSMUCUser, "invite") == nil {
				return false
			}
			copied = true
		case NotCopied:
			return false
		}
	}
	return copied
}

// MaySay reports whether a client of the domain may say an element in s, which is its own.
func MaySay(s *stanza.Stanza, e *stanza.Element, domain string) bool {
	switch Of(e).Sender {
	case ServersOnly:
		return false
	case NotByUs:
		return !names(e.Attr("by"), domain, jid.JID{})
	case NotFromUs:
		return !names(e.Attr("from"), domain, s.From)
	case NotModerated:
		return e.Child(NSModerate, "moderated") == nil
	case OnlyToRooms:
		return s.To.Domain() != domain && toRoom(e)
	}
	return true
}

// names reports whether the text names an address of the domain other than the sender's own. A text that is no address
// names nobody.
func names(text, domain string, sender jid.JID) bool {
	if text == "" {
		return false
	}
	j, err := jid.Parse(text)
	if err != nil {
		return false
	}
	return j.Domain() == domain && (sender.IsZero() || j.Bare() != sender.Bare())
}

// toRoom reports whether the element holds only what a client says to a room (XEP-0045 §7.5, §7.8.2).
func toRoom(e *stanza.Element) bool {
	for child := range e.Elements {
		if child.Local != "invite" && child.Local != "decline" && child.Local != "password" {
			return false
		}
	}
	return true
}

// About returns the first element that stands in the relation to an earlier message and names it, and the id; nil for
// none.
func About(elements []stanza.Element, r Relation) (e *stanza.Element, id string) {
	for i := range elements {
		if e := &elements[i]; Of(e).Relation == r {
			if id := e.Attr("id"); id != "" {
				return e, id
			}
		}
	}
	return nil, ""
}
