package store

import (
	"bytes"
	"context"
	"slices"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// RosterItem is one contact of an account with its subscription state (RFC 6121 §2.1 and Appendix A).
type RosterItem struct {
	// JID is the contact's bare address.
	JID  jid.JID
	Name string
	// To: the account receives the contact's presence. From: the contact receives the account's.
	To, From bool
	// PendingOut: the account has asked and waits (ask='subscribe').
	PendingOut bool
	// PendingIn: the contact has asked and waits; Request then holds the contact's presence stanza as canonical XML.
	PendingIn bool
	Request   []byte
	// Approved: the account has approved the contact in advance (RFC 6121 §3.4).
	Approved bool
	Groups   []string
	// Listed is false for a contact that is known only by a pending request and is not shown in the roster
	// (RFC 6121 §3.1.3: "None + Pending In").
	Listed bool
}

// Shown returns the item as the owner's devices are told of it.
func (i *RosterItem) Shown() stanza.RosterItem {
	return stanza.RosterItem{
		JID: i.JID, Name: i.Name, Subscription: stanza.Subscription(i.To, i.From), Asked: i.PendingOut,
		Approved: i.Approved, Groups: i.Groups,
	}
}

// Equal reports whether all is the same.
func (i *RosterItem) Equal(other *RosterItem) bool {
	return i.JID == other.JID && i.Name == other.Name && i.To == other.To && i.From == other.From &&
		i.PendingOut == other.PendingOut &&
		i.PendingIn == other.PendingIn && i.Approved == other.Approved && i.Listed == other.Listed &&
		bytes.Equal(i.Request, other.Request) && slices.Equal(i.Groups, other.Groups)
}

// RosterReader reads contact lists. Every change raises a roster's version by one.
type RosterReader interface {
	// Roster returns all items, listed or not, and the version: 0 for a roster that was never changed.
	Roster(ctx context.Context, owner AccountID) (items []RosterItem, version uint64, err error)
	// RosterChanges returns what was changed after the given version, once for each contact, in the order of the last
	// changes. ok is false when the store cannot tell, and the whole roster is due.
	RosterChanges(ctx context.Context, owner AccountID, since uint64) (changes []RosterChange, version uint64, ok bool,
		err error)
}

// RosterChange is what has become of an item: one that was removed has nothing but its JID.
type RosterChange struct {
	RosterItem
	// Version is that of the roster with the change.
	Version uint64
}

// Rosters keeps contact lists.
type Rosters interface {
	RosterReader
	// ChangeRosterItem replaces the item of a contact by what change makes of it, in one transaction, so that of two
	// who change it at once the second sees what the first did. change gets an item with nothing but its JID when there
	// is none; one that it leaves with nothing but its JID is removed, and one that it leaves as it was keeps the
	// version. It may be called more than once and must not use the store. An error from change is returned, and
	// nothing is stored.
	//
	// It returns the item as it is then and the version of the roster. ErrLimit when the item would be one more than
	// max of those that are listed or, if it is not, of those that are not. ErrNotFound when the account is gone.
	ChangeRosterItem(ctx context.Context, owner AccountID, contact jid.JID, max int,
		change func(*RosterItem) error) (item RosterItem, version uint64, err error)
}
