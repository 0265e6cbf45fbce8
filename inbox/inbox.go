// Package inbox is what an account sees of the store: its conversations with their read markers and settings, and
// everything that has changed for it since a cursor. The HTTP API and the streams use the same code, so their answers
// agree.
//
// It only reads, owns no goroutine, and keeps no state between two calls.
package inbox

import (
	"context"
	"errors"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// The ways in which a cursor is refused.
var (
	// ErrCursor: the text is no cursor of this account. It is the caller's mistake.
	ErrCursor = errors.New("not a cursor of this account")
	// ErrStartOver: what the cursor refers to is not there any more, such as after a backup was restored: begin without
	// a cursor.
	ErrStartOver = errors.New("the cursor is too old: start over without one")
)

// Owner is whose view it is.
type Owner struct {
	Account store.AccountID
	// JID is the bare address.
	JID jid.JID
}

func (o Owner) party() store.Party { return store.Party{JID: o.JID, Account: o.Account} }

// Conversation is a conversation with what the owner has chosen for it. One that nobody has said anything in yet, or
// that was never opened, has no Last; it has no ID when it was never opened, and is direct.
type Conversation struct {
	store.Conversation
	Settings store.ConversationSettings
	// LastMessage is the newest message, nil where there is none and where it was not asked for.
	LastMessage *store.Message
}

// Address is what a conversation is known by: the other party's bare address, the owner's for notes to oneself, or that
// of a room.
func (c *Conversation) Address() jid.JID { return address(&c.Conversation) }

func address(c *store.Conversation) jid.JID {
	if c.Kind == store.Room {
		return c.Room
	}
	return c.With.JID
}

// AddressOf is Conversation.Address for a conversation that the owner is in.
func AddressOf(key *store.ConversationKey, o Owner) jid.JID {
	if key.Kind == store.Room {
		return key.Room
	}
	return key.Other(o.party()).JID
}

// Page is an answer of Sync: what has changed, as far as it fits.
type Page struct {
	// Cursor is where the next call goes on. It is a text that only this store understands.
	Cursor string
	// More tells that the next call may have something at once.
	More bool
	// First tells that this begins a first sync: what the client holds of conversations, roster and settings is to be
	// thrown away.
	First bool
	// Messages are in the order of the log, which is also that of numbers within each conversation. In a first sync
	// they are the newest of each of the conversations of the page. Markers are not among them.
	Messages []store.Message
	// Conversations are those that Messages belong to, or whose markers or settings have changed, as they are now.
	Conversations []Conversation
	// Roster: items that are new or have changed; RosterAll says that these are all there are. Removed are addresses
	// that are gone.
	Roster    []store.RosterItem
	Removed   []jid.JID
	RosterAll bool
	// Profiles of the owner, contacts and parties of conversations that have changed; in a first sync all of them.
	Profiles []store.Profile
}

// Empty reports whether the page tells nothing new.
func (p *Page) Empty() bool {
	return len(p.Messages)+len(p.Conversations)+len(p.Roster)+len(p.Removed)+len(p.Profiles) == 0 && !p.First &&
		!p.RosterAll
}

// Log is the part of the message log that is read here.
type Log interface {
	store.MessageReader
	store.ConversationReader
}

// Accounts finds accounts by name.
type Accounts interface {
	// Lookup returns the identity of the account with that prepared localpart, ok false when there is none.
	Lookup(ctx context.Context, name string) (account store.AccountID, ok bool, err error)
}

// Rooms finds rooms by address.
type Rooms interface {
	// Lookup returns which of the rooms that ever had a bare address has it now, ok false when none has.
	Lookup(ctx context.Context, address jid.JID) (incarnation uint64, ok bool, err error)
}
