package store

import (
	"context"
	"time"
)

// MessageID is a position in the log, of a message or of a change of a marker: unique, rising in commit order, never
// reused. Its upper 43 bits are the time of acceptance in Unix milliseconds, its lower 20 bits a counter, so that a
// point in time is also a point in the log. Zero is none.
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

// NextMessageID returns the identity for a message accepted now that follows last: it rises even when the clock does
// not.
func NextMessageID(last MessageID, now time.Time) MessageID {
	return max(last+1, MessageID(now.UnixMilli())<<idCounterBits)
}

// MessageFlags say who sees a stored message, and what it is.
type MessageFlags uint8

const (
	// InAuthorArchive: seen in the history of the account that sent it. Like the next two it is for direct
	// conversations; in a room every member sees what lies in its Access.
	InAuthorArchive MessageFlags = 1 << iota
	// InRecipientArchive: seen in the history of the other party's account.
	InRecipientArchive
	// ForOffline: to be replayed to the other party when it was not delivered to any device (XEP-0160).
	ForOffline
	// Unread: it says something of its own, so that it counts as unread for others: text, a file and the like, and
	// not an edit or a retraction.
	Unread
	// Retracted: its content was taken out; Stanza holds what is left. Set by the store.
	Retracted
	// Rights: it changes members or rights, so that its number becomes the conversation's rights number. Set by the
	// store when Append.Members are given.
	Rights
)

// Message is a stored message, kept once for all who see it, or the current state of a marker.
type Message struct {
	ID           MessageID
	Conversation ConversationID
	// Seq is the message's number in its conversation: 1, 2, 3, … without holes.
	Seq   uint64
	Flags MessageFlags
	// Author is who said it. In a direct conversation it is one of the two parties.
	Author Party
	// OriginID is the globally unique identity that the author's device gave it (XEP-0359 origin-id), "" for none.
	OriginID string
	// StanzaID is the id attribute that the author gave the stanza, "" for none.
	StanzaID string
	// Stanza is the whole stanza as canonical XML.
	Stanza []byte
	// Marker is nil for a message. Otherwise this is a marker at the identity of its last change: Seq is 0, there are
	// no flags and no Stanza, and Author is the member, in a room without an address.
	Marker *Marker
}

// Append asks for one message to be stored or, with a Marker, for a marker to be moved. The store sets what is called a
// result, whatever was there before, so that a refused entry can be appended again.
type Append struct {
	// Of a message ID and Seq are results. Of a marker change Conversation and Marker's Account, Kind and Through are
	// given, Marker is left as it is, and ID is the result. A Through beyond the conversation's last number is taken
	// for the last.
	Message

	// Duplicate is a result: the author's OriginID is known with the same content. ID, Conversation and Seq are those
	// of the first.
	Duplicate bool
	// Conflict is a result: the author's OriginID is known with another content, or in another conversation. Nothing
	// was stored.
	Conflict bool
	// ContentHash identifies the content for the comparison of duplicates; computed by the caller, stored with the
	// message.
	ContentHash [16]byte

	// Retract is a stored message whose content is taken out in the same transaction; 0 for none. Its identity, number,
	// author and time stay; its Stanza becomes Remains, its flag Retracted is set and Unread cleared. One that is not
	// there, is damaged or was retracted before is left as it is.
	Retract MessageID
	Remains []byte
	// AlsoRetract are further messages whose content is taken out with it in the same way, such as its edits.
	AlsoRetract []Retraction

	// Basis is the last number of the conversation that a decision about earlier messages rests on, such as which edits
	// a retraction takes out; 0 for none. When the conversation is beyond it the entry is Overtaken.
	Basis uint64
	// RightsBasis, when Judged is set, is the rights number of the conversation that the author was judged by. When the
	// conversation's is greater the entry is Overtaken.
	RightsBasis uint64
	Judged      bool
	// Overtaken is a result: nothing of the entry was stored, and it is to be decided anew. A duplicate is found
	// before.
	Overtaken bool

	// Members of a room as they are from this entry on: those who join, leave, or get another role. It gets the flag
	// Rights.
	Members []Member

	// Markers are changes of markers, of the same conversation, that the message makes. They are stored with it, at
	// lower identities, so that who knows the message's has missed none of them; or not at all: they are Stale when the
	// message is a Duplicate, a Conflict or Overtaken.
	Markers []*Append

	// Stale is a result for a marker: it would not move forward. Nothing was stored.
	Stale bool
	// Merged is a result for a marker: a later entry of the same batch has moved it further. ID is that one's.
	Merged bool
}

// Reset sets the results to those of an entry of which nothing is stored yet. It is for implementations of the log.
func (a *Append) Reset() {
	a.ID, a.Seq = 0, 0
	a.Duplicate, a.Conflict, a.Overtaken, a.Stale, a.Merged = false, false, false, false, false
	for _, m := range a.Markers {
		m.Reset()
		m.Stale = true
	}
}

// Retraction takes the content out of one message, see Append.Retract.
type Retraction struct {
	ID      MessageID
	Remains []byte
}

// Batch is what is stored in one transaction.
type Batch struct {
	// Now is the time of acceptance, for a log without a clock of its own.
	Now time.Time
	// Entries are stored in this order, and later ones see earlier ones as stored.
	Entries []*Append
	// Number is a result: 1, 2, 3, … without holes for each batch of which anything was stored, 0 when nothing was.
	Number uint64
}

// DeliveryCursor is how far an account's messages, and markers of others, were delivered to at least one of its
// devices.
type DeliveryCursor struct {
	Account AccountID
	// Through: everything up to and including it was delivered, but for Missed.
	Through MessageID
	// Missed lists earlier ones that nobody has reported, oldest first, at most MaxMissed.
	Missed []MessageID
}

// MaxMissed is how many exceptions a DeliveryCursor has.
const MaxMissed = 64

// Delivered reports what has reached a device of an account.
type Delivered struct {
	Account AccountID
	// IDs are of messages and markers, in any order.
	IDs []MessageID
}

// MessageWriter is the writing half of the log. Any number of goroutines may call it at once.
type MessageWriter interface {
	ConversationOpener
	// Append stores all entries of the batch in one transaction, and returns after it was flushed to disk. Each entry's
	// results say what became of it. Outcomes: nil, it is stored; ErrFull and ErrNotStored, nothing is, and the batch
	// may be appended again; ErrNotFound and ErrLimit, nothing is, since an entry is of a conversation that nobody has
	// opened, is by somebody who is no party of it, or has members that CheckMembers refuses: a mistake of the caller;
	// any other error, it is not known what was stored, and the caller must stop for good.
	Append(ctx context.Context, b *Batch) error
	// Deliver merges reports into the accounts' delivery cursors: what is reported counts as delivered from then on,
	// whoever else reports what. A cursor moves through the highest identity reported, and misses what lies before and
	// nobody has reported: messages with ForOffline and current markers of others. When that is more than MaxMissed it
	// moves less far, so that what was delivered is repeated and not lost. Who is reported a MarkDelivered of the other
	// party was told of it (Marker.Told): the current one, or a former one that the log has in memory still. It is not
	// flushed by itself, but durable with the next Append at the latest, and may run beside one. ErrFull and
	// ErrNotStored are as for Append.
	Deliver(ctx context.Context, reports []Delivered) error
}

// HistoryQuery selects what an account sees (XEP-0313 §4.1).
type HistoryQuery struct {
	Owner AccountID
	// Conversation limits the answer to one; 0 means all that the owner is in, and then Kind, unless it is zero, to
	// those of a kind.
	Conversation ConversationID
	Kind         ConversationKind
	// After and Before are exclusive bounds; 0 means unbounded. Any position will do: it need not be of anything that
	// is there.
	After, Before MessageID
	// Backward returns the last Limit results of the range instead of the first. The answer is in rising order either
	// way.
	Backward bool
	// Limit is at least 1.
	Limit int
	// Bytes ends the answer early, with more, once the stanzas read are longer than that; 0 does not. There is one
	// result in any case.
	Bytes int
	// Markers: the current markers are results too: the owner's, and those of others that are not private and, in a
	// room, name a message that the owner may read.
	Markers bool
}

// Reached says how far somebody knows what there is for an account.
type Reached struct {
	Account AccountID
	Through MessageID
}

// MessageReader is the reading half of the log. It may be called from any goroutine, during Append too.
// Every call costs as much in a large archive as in a small one. Nothing is seen before it is as durable as
// Append promises, so that what was read once cannot be gone after a crash; and what is seen at a position was
// seen with everything before it, so that who goes on after the last result misses nothing.
//
// A record that does not match its checksum is not served: the calls that return several messages leave it out and
// return the others together with a *DamagedError; Message returns only the error.
type MessageReader interface {
	// Message returns one message, or ErrNotFound. Markers are no messages.
	Message(ctx context.Context, id MessageID) (Message, error)
	// History returns the messages that the owner sees and that match, in rising order of ID.
	// more tells whether the range holds others beyond the limits.
	History(ctx context.Context, q HistoryQuery) (found []Message, more bool, err error)
	// InHistory reports whether the message is one that the owner sees.
	InHistory(ctx context.Context, owner AccountID, id MessageID) (bool, error)
	// Undelivered returns messages with ForOffline set to the owner, and current markers of others, of direct
	// conversations, that come after its delivery cursor or were missed, in rising order of ID, beginning after the
	// given one.
	Undelivered(ctx context.Context, owner AccountID, after MessageID, limit int) ([]Message, error)
	// Numbered returns up to limit messages of a conversation from number first on, in order, whatever their flags.
	Numbered(ctx context.Context, conversation ConversationID, first uint64, limit int) ([]Message, error)
	// Bounds returns the oldest and newest message of the owner's direct conversations that the owner sees, or
	// ErrNotFound when there is none.
	Bounds(ctx context.Context, owner AccountID) (first, last MessageID, err error)
	// Since returns messages and current markers of the whole log in commit order after the given position: the feed's
	// source.
	Since(ctx context.Context, after MessageID, limit int) ([]Message, error)
	// Cursor returns the account's delivery cursor; Through is 0 when it never had one.
	Cursor(ctx context.Context, owner AccountID) (DeliveryCursor, error)
	// Behind returns the accounts for which there is something beyond what they have reached: what History with Markers
	// or Undelivered would return.
	Behind(ctx context.Context, reached []Reached) ([]AccountID, error)

	// Last returns the newest position of the log, 0 when it is empty.
	Last(ctx context.Context) (MessageID, error)
	// Epoch returns the random number that the log has noted for the time in which the position was given out. There is
	// a new one each time that a log is opened for writing. It is 0 for position 0, and ErrNotFound for one that was
	// not given out.
	Epoch(ctx context.Context, id MessageID) (uint64, error)
	// Holds reports whether the log has given out the position in that epoch. It has not when it was restored from a
	// backup that was made before, even when it has grown since. Position 0 is held by every log.
	Holds(ctx context.Context, id MessageID, epoch uint64) (bool, error)
}

// MessageLog is both halves, the reading one by time and by conversation.
type MessageLog interface {
	MessageWriter
	MessageReader
	ConversationReader
}
