package store

import (
	"context"

	"github.com/posthouse-im/posthouse/wire/jid"
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

// Rosters keeps contact lists. Every change raises the roster's version by one.
type Rosters interface {
	// Roster returns all items, listed or not, and the version: 0 for a roster that was never changed.
	Roster(ctx context.Context, owner AccountID) (items []RosterItem, version uint64, err error)
	// RosterChanges returns the items changed after the given version, with addresses removed since then.
	// ok is false when the store cannot tell, and the whole roster is due.
	RosterChanges(ctx context.Context, owner AccountID, since uint64) (items []RosterItem, removed []jid.JID, version uint64, ok bool, err error)
	// SetRosterItem stores the item and returns the new version. ErrLimit when a new item would exceed max items.
	SetRosterItem(ctx context.Context, owner AccountID, item RosterItem, max int) (version uint64, err error)
	// RemoveRosterItem removes the item and returns the new version, or ErrNotFound.
	RemoveRosterItem(ctx context.Context, owner AccountID, contact jid.JID) (version uint64, err error)
}
