package archive

import (
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/payload"
)

// Namespaces of what the archive itself reads and writes.
const (
	nsStanzaID = payload.NSStanzaID
	nsCorrect  = payload.NSCorrect
	nsRetract  = payload.NSRetract
	nsModerate = payload.NSModerate
	nsDelay    = payload.NSDelay
	nsMAM      = payload.NSMAM
	nsForm     = payload.NSForms
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
	// edits are those of the message that is retracted: what it said goes with it.
	edits []store.Retraction
}

// changes reports whether it edits or retracts a message.
func (r *refs) changes() bool { return r.edit+r.retract != "" }

// refsOf returns what a message says about earlier ones, nil for nothing, which is nearly always.
func refsOf(m *payload.Meaning) *refs {
	if m.Delivered+m.Read+m.Edits+m.Retracts == "" {
		return nil
	}
	return &refs{delivered: m.Delivered, read: m.Read, edit: m.Edits, retract: m.Retracts, essential: m.Says}
}
