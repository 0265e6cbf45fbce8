package archive

import (
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Namespaces of what messages say about earlier ones.
const (
	nsReceipts  = "urn:xmpp:receipts"          // XEP-0184
	nsMarkers   = "urn:xmpp:chat-markers:0"    // XEP-0333
	nsCorrect   = "urn:xmpp:message-correct:0" // XEP-0308
	nsRetract   = "urn:xmpp:message-retract:1" // XEP-0424
	nsModerate  = "urn:xmpp:message-moderate:1"
	nsReactions = "urn:xmpp:reactions:0" // XEP-0444
)

// refs is what a message says about earlier ones of its conversation, each named as the message names it; "" for nothing.
type refs struct {
	// delivered and read are read markers: up to that message of the other party's.
	delivered, read string
	// edit and retract name a message of the sender's own.
	edit, retract string
	// essential: the message says something beside its markers, and so is stored also when they move nothing.
	essential bool
	// admin: the sender may retract at any time. by is the administrator who retracts in the sender's name, zero for the sender.
	admin bool
	by    jid.JID

	// What the search has found so far: the messages that the markers name, 0 for none, and the one that is edited or retracted.
	deliveredAt, readAt uint64
	target              *store.Message
	// foreign: the message to be edited or retracted was found, and is not the sender's, or not of this conversation.
	foreign bool
	// edits are those of the message that is retracted: what it said goes with it. They were looked for up to the number edited.
	edits     []store.Retraction
	edited    uint64
	editBytes int // of what they say
	// searched is the last number of the conversation that was looked at.
	searched uint64
	done     bool
}

// classifyRefs returns whether a message that is to be stored counts as unread (store.Unread), and what it says about earlier
// messages, nil for nothing, which is nearly always.
func classifyRefs(s *stanza.Stanza) (unread bool, said *refs) {
	var r refs
	content, change := false, false
	for i := range s.Payload {
		e := &s.Payload[i]
		switch e.Space {
		case stanza.NSClient:
			if e.Local == "body" || e.Local == "subject" {
				content = true
			}
		case nsStanzaID, nsHints: // nearly always
		case nsReceipts: // XEP-0184 §5.3
			if e.Local == "received" {
				r.delivered = e.Attr("id")
			}
		case nsMarkers: // XEP-0333 §6, in order of significance
			switch e.Local {
			case "received":
				r.delivered = e.Attr("id")
			case "displayed", "acknowledged":
				r.read = e.Attr("id")
			}
		case nsCorrect: // XEP-0308 §3
			if e.Local == "replace" {
				r.edit, change = e.Attr("id"), true
			}
		case nsRetract:
			if e.Local == "retract" {
				r.retract = e.Attr("id")
			}
			change = true
		case nsReactions, "urn:xmpp:message-retract:0", "urn:xmpp:fasten:0", nsModerate, "urn:xmpp:jingle-message:0":
			change = true
		default:
			switch meaningOf(e) {
			case archived:
				content = true
			case offline:
				r.essential = true
			}
		}
	}
	if r.retract != "" {
		r.edit = ""
	}
	if r.delivered+r.read+r.edit+r.retract != "" {
		said = new(refs)
		*said = r
		said.essential = r.essential || content || change
	}
	return content && !change, said
}
