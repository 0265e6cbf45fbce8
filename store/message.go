package store

import (
	"context"
	"time"

	"github.com/posthouse-im/posthouse/wire/jid"
)

// Party is one side of a conversation: a bare address, with the account behind it when it is one of this domain.
// A conversation belongs to the pair of parties, so that a deleted and recreated account begins new ones.
// A party of this domain is known by its account, whatever its address is spelled like now; any other by its address.
type Party struct {
	JID     jid.JID
	Account AccountID
}

// MessageID is a message's position in the log: unique, rising in commit order, never reused.
// Its upper 43 bits are the time of acceptance in Unix milliseconds, its lower 20 bits a counter,
// so that a point in time is also a point in the log. Zero is no message.
type MessageID uint64

// idCounterBits is how many low bits of a MessageID count within a millisecond.
const idCounterBits = 20

// Time returns when the message was accepted, to the millisecond, in UTC.
func (id MessageID) Time() time.Time { return time.UnixMilli(int64(id >> idCounterBits)).UTC() }

// FirstMessageID returns the smallest identity that a message accepted at t or later can have.
func FirstMessageID(t time.Time) MessageID {
	ms := t.UnixMilli()
	if t.After(time.UnixMilli(ms)) {
		ms++
	}
	if ms <= 0 {
		return 0
	}
	return MessageID(ms) << idCounterBits
}

// NextMessageID returns the identity for a message accepted now that follows last: it rises even when the clock does not.
func NextMessageID(last MessageID, now time.Time) MessageID {
	return max(last+1, MessageID(now.UnixMilli())<<idCounterBits)
}

// ConversationID names a conversation inside one store. Zero is none.
type ConversationID uint64

// MessageFlags say in whose archive a stored message is seen.
type MessageFlags uint8

const (
	// InSenderArchive: seen in the history of the account that sent it.
	InSenderArchive MessageFlags = 1 << iota
	// InRecipientArchive: seen in the history of the account that it was sent to.
	InRecipientArchive
	// ForOffline: to be replayed to the recipient when it was not delivered to any device (XEP-0160).
	ForOffline
	// Unread: it says something of its own, so that it counts as unread for its recipient: text, a file and the like, and
	// not a read marker, an edit or a retraction.
	Unread
	// Retracted: its content was taken out; Stanza holds what is left. Set by the store.
	Retracted
)

// Message is a stored message. It is kept once for both parties.
type Message struct {
	ID           MessageID
	Conversation ConversationID
	// Seq is the message's number in its conversation: 1, 2, 3, … without holes.
	Seq   uint64
	Flags MessageFlags
	// Sender and Recipient are the two parties; for a note to oneself they are equal.
	Sender, Recipient Party
	// OriginID is the globally unique identity that the sender's device gave it (XEP-0359 origin-id), "" for none.
	OriginID string
	// Stanza is the whole stanza as canonical XML.
	Stanza []byte
}

// Append asks for one message to be stored. The store fills the result fields.
type Append struct {
	Message // ID, Conversation and Seq are results

	// Duplicate: the sender's OriginID is known with the same content; ID, Conversation and Seq are those of the first.
	Duplicate bool
	// Conflict: the sender's OriginID is known with another content; nothing was stored.
	Conflict bool
	// ContentHash identifies the content for the comparison of duplicates; computed by the caller, stored with the message.
	ContentHash [16]byte

	// Retract is a stored message whose content is taken out in the same transaction; 0 for none. Its identity, number,
	// parties and time stay; its Stanza becomes Remains, its flag Retracted is set and Unread cleared. One that is not there, is
	// damaged or was retracted before is left as it is.
	Retract MessageID
	Remains []byte
	// AlsoRetract are further messages whose content is taken out with it in the same way, such as its edits.
	AlsoRetract []Retraction
	// ReadMarkers moves one party's markers in the conversation forward in the same transaction; nil for none. When none of its
	// numbers is beyond what is known of that device, Stale is set and nothing of this entry is stored. Of a device that is
	// not remembered, while as many as can be are, what is known of the account is taken for known.
	// A number beyond the conversation's last is taken for the last.
	ReadMarkers *ReadMarkers
	// Stale is a result: see ReadMarkers.
	Stale bool
}

// Retraction takes the content out of one message, see Append.Retract.
type Retraction struct {
	ID      MessageID
	Remains []byte
}

// ReadMarkers is how far one party of a conversation has come, as numbers of the conversation. Markers only move forward.
type ReadMarkers struct {
	// Account is whose markers they are.
	Account AccountID
	// Device is which of its devices said so: the resource of its address, "" when it is not known. The store remembers
	// the 16 devices that said something last.
	Device string
	// Delivered and Read are numbers; 0 means nothing was said. What is read is delivered too.
	Delivered, Read uint64
}

// Conversation is a conversation as one of its parties sees it.
type Conversation struct {
	ID ConversationID
	// With is the other party, or the owner for notes to oneself.
	With Party
	// Last is the newest message that is in the owner's archive, and LastSeq its number.
	Last    MessageID
	LastSeq uint64
	// Own and Peer are the markers of the owner and of the other party, over all their devices.
	Own, Peer ReadMarkers
	// Unread is how many messages with the flag Unread the other party has sent after the later of the owner's read marker and the owner's own last
	// message with that flag, as far as they are in the owner's archive. It is counted up to MaxUnread.
	Unread int
}

// MaxUnread is the most that Conversation.Unread says; it stands for "as many or more".
const MaxUnread = 1000

// ConversationReader reads the log by conversation. What is said of MessageReader holds for it too.
type ConversationReader interface {
	// Conversations returns the owner's conversations that have something in the owner's archive, newest message first.
	// Those whose Last is before the given identity come; 0 means from the newest on. It costs as much as the owner has
	// conversations, not messages. more tells whether there are others beyond the limit.
	Conversations(ctx context.Context, owner AccountID, before MessageID, limit int) (found []Conversation, more bool, err error)
	// ConversationWith returns one of them, or ErrNotFound when the owner has none with that party.
	ConversationWith(ctx context.Context, owner AccountID, with Party) (Conversation, error)
	// ReadMarkersOf returns the markers of an account in a conversation for each device, the one that said something last first, and none
	// when nothing was ever said.
	ReadMarkersOf(ctx context.Context, conversation ConversationID, account AccountID) ([]ReadMarkers, error)
	// Origin finds a message by the OriginID that its sender gave it, or returns ErrNotFound.
	Origin(ctx context.Context, sender Party, originID string) (id MessageID, conversation ConversationID, seq uint64, err error)
	// Last returns the newest message of the whole log, 0 when it is empty.
	Last(ctx context.Context) (MessageID, error)
}

// DeliveryCursor is how far an account's messages were delivered to at least one of its devices.
type DeliveryCursor struct {
	Account AccountID
	// Through: everything up to and including it was delivered, but for Missed.
	Through MessageID
	// Missed lists earlier messages that a device lost, oldest first.
	Missed []MessageID
}

// MessageWriter is the writing half of the log. It has one caller at a time: the committer.
type MessageWriter interface {
	// Append stores all messages of the batch, and the delivery cursors, in one transaction, and returns after it was
	// flushed to disk. Within the batch, order is kept and later entries see earlier ones as stored.
	// Any error means that it is not known what was stored: the caller must stop for good.
	// ErrFull is the one exception: nothing was stored, and a later call may succeed.
	Append(ctx context.Context, now time.Time, batch []*Append, cursors []DeliveryCursor) error
}

// HistoryQuery selects messages of one account's history (XEP-0313 §4.1).
type HistoryQuery struct {
	Owner AccountID
	// With limits the answer to the conversation with that party; the zero Party means all conversations.
	With Party
	// After and Before are exclusive bounds; 0 means unbounded.
	After, Before MessageID
	// Backward returns the last Limit messages of the range instead of the first. The answer is in rising order either way.
	Backward bool
	// Limit is at least 1.
	Limit int
}

// MessageReader is the reading half of the log. It may be called from any goroutine, during Append too.
// Every call costs as much in a large archive as in a small one. Nothing is seen before it is as durable as
// Append promises, so that what was read once cannot be gone after a crash.
//
// A record that does not match its checksum is not served: the calls that return several messages leave it out and
// return the others together with a *DamagedError; Message returns only the error.
type MessageReader interface {
	// Message returns one message, or ErrNotFound.
	Message(ctx context.Context, id MessageID) (Message, error)
	// History returns the messages that are in the owner's archive and match, in rising order of ID.
	// more tells whether the range holds others beyond the limit.
	History(ctx context.Context, q HistoryQuery) (found []Message, more bool, err error)
	// InHistory reports whether the message is in the owner's archive.
	InHistory(ctx context.Context, owner AccountID, id MessageID) (bool, error)
	// Undelivered returns messages to the owner with ForOffline set that come after its delivery cursor, or were missed,
	// in rising order of ID, beginning after the given one.
	Undelivered(ctx context.Context, owner AccountID, after MessageID, limit int) ([]Message, error)
	// Conversation returns the identity of the conversation between two parties and its last number, or ErrNotFound.
	Conversation(ctx context.Context, a, b Party) (id ConversationID, last uint64, err error)
	// Numbered returns up to limit messages of a conversation from number first on, in order, whatever their flags.
	Numbered(ctx context.Context, conversation ConversationID, first uint64, limit int) ([]Message, error)
	// Bounds returns the oldest and newest message of the owner's archive, or ErrNotFound when it is empty.
	Bounds(ctx context.Context, owner AccountID) (first, last MessageID, err error)
	// Since returns messages of the whole log in commit order after the given one: the feed's source.
	Since(ctx context.Context, after MessageID, limit int) ([]Message, error)
	// DeliveryCursor returns the account's cursor, the zero DeliveryCursor when it never had one.
	DeliveryCursor(ctx context.Context, owner AccountID) (DeliveryCursor, error)
}

// MessageLog is both halves, the reading one by time and by conversation.
type MessageLog interface {
	MessageWriter
	MessageReader
	ConversationReader
}
