package store

import (
	"cmp"
	"context"
	"time"

	"github.com/posthouse-im/posthouse/wire/jid"
)

// ConversationID names a conversation inside one store. Zero is none.
type ConversationID uint64

// ConversationKind says what a conversation is between. Zero is none.
type ConversationKind uint8

const (
	// Direct is between two parties, or a party's notes to itself.
	Direct ConversationKind = 1
	// Room is between the members of a room.
	Room ConversationKind = 2
)

// Party is one side of a direct conversation: a bare address, with the account behind it when it is one of this domain.
// A party of this domain is known by its account, whatever its address is spelled like now, so that a deleted and
// recreated account begins new conversations; any other is known by its address.
type Party struct {
	JID     jid.JID
	Account AccountID
}

// Is reports whether p and q are the same party.
func (p Party) Is(q Party) bool { return p.compare(q) == 0 }

func (p Party) compare(q Party) int {
	if c := cmp.Compare(p.Account, q.Account); c != 0 || p.Account != 0 {
		return c
	}
	return cmp.Compare(p.JID.String(), q.JID.String())
}

// ConversationKey says which conversation is meant: one key, one conversation. DirectKey and RoomKey make them.
type ConversationKey struct {
	Kind ConversationKind
	// A and B are the parties of a direct conversation, the lesser one first, equal for notes to oneself.
	A, B Party
	// Room is a room's bare address, and Incarnation tells it from others that had the address before.
	Room        jid.JID
	Incarnation uint64
}

// DirectKey is the key of the direct conversation of two parties, in whichever order they are given.
func DirectKey(a, b Party) ConversationKey {
	if a.compare(b) > 0 {
		a, b = b, a
	}
	return ConversationKey{Kind: Direct, A: a, B: b}
}

// RoomKey is the key of a room's conversation.
func RoomKey(room jid.JID, incarnation uint64) ConversationKey {
	return ConversationKey{Kind: Room, Room: room, Incarnation: incarnation}
}

// Has reports whether p is one of the two parties of a direct conversation.
func (k *ConversationKey) Has(p Party) bool { return k.Kind == Direct && (k.A.Is(p) || k.B.Is(p)) }

// Other returns the other party of a direct conversation than p, which is one of them: for notes to oneself the same.
func (k *ConversationKey) Other(p Party) Party {
	if k.A.Is(p) {
		return k.B
	}
	return k.A
}

// PartyOf returns the party with that account, 0 for the one without; ok is false when there is none.
func (k *ConversationKey) PartyOf(account AccountID) (p Party, ok bool) {
	switch {
	case k.Kind != Direct:
		return Party{}, false
	case k.A.Account == account:
		return k.A, true
	case k.B.Account == account:
		return k.B, true
	}
	return Party{}, false
}

// Opened is what a sender needs to know of a conversation.
type Opened struct {
	ID ConversationID
	// Key is as it was when the conversation was made, with the addresses of then.
	Key ConversationKey
	// Last is the number of the last message, 0 when there is none yet.
	Last uint64
	// Rights is the number of the last entry that changed members or rights, 0 when there is none.
	Rights uint64
}

// ConversationOpener makes conversations.
type ConversationOpener interface {
	// OpenConversation finds the conversation with that key or makes it, empty. Of several calls with one key, at the
	// same time or later, all get the same. The members of a room are those that it is made with; they are not looked
	// at when it is there. Those of a direct conversation are its parties of this domain. What was made is durable with
	// the first entry that is appended to it, or sooner. Members are refused as by CheckMembers.
	OpenConversation(ctx context.Context, now time.Time, key ConversationKey, members []Member) (Opened, error)
}

// ReadMarkers are how far somebody has received and read, as numbers of the conversation; 0 is nothing. What was read
// was received too.
type ReadMarkers struct {
	Delivered, Read uint64
}

// Conversation is a conversation as one of its members sees it.
type Conversation struct {
	ID   ConversationID
	Kind ConversationKind
	// With is the other party of a direct conversation, or the owner for notes to oneself.
	With Party
	// Room is the address of a room.
	Room jid.JID
	// Last is the newest message that the owner may see, and LastSeq its number; 0 when there is none. Markers are no
	// messages.
	Last    MessageID
	LastSeq uint64
	// Own are the owner's markers, MarkReadPrivate among them, and Peer those that the other party shows; zero in a
	// room.
	Own, Peer ReadMarkers
	// Unread is how many messages with the flag Unread others have sent after the later of Own.Read and the owner's own
	// last message with that flag, as far as the owner may see them. It is counted up to MaxUnread.
	Unread int
	// Member is the owner's membership.
	Member Member
}

// MaxUnread is the most that Conversation.Unread says; it stands for "as many or more".
const MaxUnread = 1000

// Sent is what is known of a message by its OriginID, whatever became of its content since.
type Sent struct {
	ID           MessageID
	Conversation ConversationID
	Seq          uint64
	ContentHash  [16]byte // as in Append
}

// ConversationReader reads the log by conversation. What is said of MessageReader holds for it too.
type ConversationReader interface {
	// FindConversation returns the conversation with that key, or ErrNotFound when nobody has opened it.
	FindConversation(ctx context.Context, key ConversationKey) (Opened, error)
	// ConversationByID returns the conversation of that identity, or ErrNotFound.
	ConversationByID(ctx context.Context, id ConversationID) (Opened, error)
	// Members returns up to limit members, those who have left among them, by account, beginning after the given one.
	// more tells whether there are others.
	Members(ctx context.Context, id ConversationID, after AccountID, limit int) (found []Member, more bool, err error)
	// Member returns one of them, or ErrNotFound.
	Member(ctx context.Context, id ConversationID, account AccountID) (Member, error)

	// Conversations returns the owner's conversations in which there is a message that the owner may see, newest
	// message first. Those whose Last is before the given identity come; 0 means from the newest on. A page of direct
	// conversations costs the same however many there are; each room that the owner is in costs a look. more tells
	// whether there are others beyond the limit.
	Conversations(
		ctx context.Context, owner AccountID, before MessageID, limit int,
	) (found []Conversation, more bool, err error)
	// ConversationOf returns one of them, also one without a message, or ErrNotFound when the owner was never in it.
	ConversationOf(ctx context.Context, owner AccountID, id ConversationID) (Conversation, error)
	// Markers returns the current markers of up to limit members from the given account on, by account and kind, those
	// that only their owners may see among them. The foreign party of a direct conversation is account 0. more tells
	// whether there are those of others.
	Markers(ctx context.Context, id ConversationID, from AccountID, limit int) (found []Marker, more bool, err error)
	// Origin finds a message by the OriginID that its author gave it, or returns ErrNotFound.
	Origin(ctx context.Context, author Party, originID string) (Sent, error)
	// Named returns the newest message of an author in a conversation that has the name as its OriginID or, when there
	// is none, as its StanzaID; or ErrNotFound. It is a look-up in an index, whether there is one or not.
	Named(ctx context.Context, id ConversationID, author Party, name string) (seq uint64, message MessageID, err error)
}
