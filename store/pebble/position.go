package pebble

import "github.com/posthouse-im/posthouse/store"

// position is what the indexes need to know of a message.
type position struct {
	id           store.MessageID
	conversation store.ConversationID
	seq          uint64
	// from is the author's account, and to that of the other party in whose index of received messages it is; 0 for
	// none.
	from, to store.AccountID
	// name is what the message is found by, when views has viewNamed.
	name name
	// flags are the bits of the entry in the conversation, views those of the entries of the accounts.
	flags, views byte
}

// Bits of an entry in a conversation are the message's flags and two more.
const (
	// inRoom: the author is given by its account.
	inRoom = 1 << 6
	// fromSecond: the message was sent by the second party of a direct conversation.
	fromSecond = 1 << 7
)

// Bits of position.views. The lower ones are the bits of an entry of a received block, viewSent those of a sent one.
const (
	viewArchive = 1 << 0 // in the account's archive
	viewOffline = 1 << 1 // to be replayed to the account
	viewSent    = 1 << 2 // in the archive of the account that sent it
	viewNamed   = 1 << 3 // to be found by its stanza id

	viewReceived = viewArchive | viewOffline
)

// newPosition returns the position of a stored message. A note to oneself has one entry in the indexes of the account,
// as received.
func newPosition(m *store.Message, key *store.ConversationKey) position {
	p := position{id: m.ID, conversation: m.Conversation, seq: m.Seq, flags: byte(m.Flags), from: m.Author.Account}
	if m.StanzaID != "" && m.StanzaID != m.OriginID {
		p.views |= viewNamed
		p.name = nameOf(m.Conversation, m.Author, m.StanzaID)
	}
	if key.Kind == store.Room {
		p.flags |= inRoom
		return p
	}
	note := key.A.Is(key.B)
	other := key.B
	if !note && !key.A.Is(m.Author) {
		p.flags |= fromSecond
		other = key.A
	}
	if other.Account != 0 {
		if m.Flags&store.InRecipientArchive != 0 || note && m.Flags&store.InAuthorArchive != 0 {
			p.views |= viewArchive
		}
		if m.Flags&store.ForOffline != 0 {
			p.views |= viewOffline
		}
		if p.views&viewReceived != 0 {
			p.to = other.Account
		}
	}
	if m.Author.Account != 0 && !note && m.Flags&store.InAuthorArchive != 0 {
		p.views |= viewSent
	}
	return p
}

// seenByAuthor and seenByOther return the accounts in whose archives a direct message is, 0 for none.
func (p *position) seenByAuthor() store.AccountID {
	if p.views&viewSent == 0 {
		return 0
	}
	return p.from
}

func (p *position) seenByOther() store.AccountID {
	if p.views&viewArchive == 0 {
		return 0
	}
	return p.to
}

// origin is an origin-id with what was sent under it.
type origin struct {
	key   [originKeySize]byte
	entry originEntry
}
