package router

import (
	"github.com/posthouse-im/posthouse/wire/jid"
)

// OriginKind says by which way a stanza enters the domain. Each has an acceptance chain of its own, see Config.Chains.
// The zero kind has none: what comes from there is refused.
type OriginKind uint8

// The kinds of origin.
const (
	// Client: a bound stream of an account of this domain.
	Client OriginKind = iota + 1
	// API: the public layer, on behalf of an account or of the domain itself.
	API
	// Server: this server itself, when it retracts a message. It has no chain: the archive decides.
	Server

	origins
)

// String returns the kind as a word for logs.
func (k OriginKind) String() string {
	return [...]string{"none", "client", "api", "server"}[k]
}

// Session is a bound session as the stages know it. What they do with it they ask of package session.
type Session interface {
	// JID returns the bound full address.
	JID() jid.JID
	// Account returns the identity of the account, as in store.AccountID.
	Account() uint64
}

// Origin is who a stanza enters from. It is made once for a session or a caller, shared by all that is said there, and
// not changed.
type Origin struct {
	Kind OriginKind
	// Account is the account of this domain behind it, as in store.AccountID; 0 for none.
	Account uint64
	// Address is who speaks, and the sender of each stanza (RFC 6120 §8.1.2.1): the bound full address of a client or
	// of a caller's hidden session, the domain for a caller without an account, or the author whose message this server
	// retracts.
	Address jid.JID
	// Session is the bound session that answers go to; nil for none.
	Session Session
	// Admin: it may do what only administrators may.
	Admin bool
	// Actor is who acts, for the audit log; "" for the account itself.
	Actor string
}

// TargetKind says what a stanza is addressed to.
type TargetKind uint8

// The kinds of target.
const (
	// Nobody: nothing is delivered, and nobody is told. It is the zero value, and what a stanza has before the stage
	// resolve.
	Nobody TargetKind = iota
	// TheServer: the domain itself.
	TheServer
	// AnAccount: an account of this domain or one of its resources.
	AnAccount
	// AService: a service of this domain, such as a room.
	AService
	// Remote: an address of another domain.
	Remote
)

// Target is what a stanza is about. The stage resolve finds it once, on the sender's goroutine, so that nothing behind
// that stage looks anything up.
type Target struct {
	Kind TargetKind
	// Account is the account addressed, as in store.AccountID; 0 for none of this domain.
	Account uint64
	// Conversation is the conversation that a stored message belongs to, as in store.ConversationID; 0 for none. Set by
	// the archive.
	Conversation uint64
	// ID is the identity in the log of what the account's devices are given, 0 when that is not stored; Also are those
	// of markers that come with it, which are lower. Set by the archive.
	ID   uint64
	Also []uint64
	// Archived: the archive of that account has the message, so that its devices are told its identity there. Set by
	// the archive.
	Archived bool
	// Own: only the author's own devices are told, such as how far somebody has read who keeps that from others. Set by
	// the archive.
	Own bool
}

// Add says that what the account's devices are given has one more identity in the log, which is the highest so far.
func (t *Target) Add(id uint64) {
	if t.ID != 0 {
		t.Also = append(t.Also, t.ID)
	}
	t.ID = id
}

// told reports whether the stanza is given to whom it is addressed.
func (t *Target) told() bool { return t.Kind != Nobody && !t.Own }
