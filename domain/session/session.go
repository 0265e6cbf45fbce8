// Package session owns the table of connected clients: the resources of each account of this domain, their priorities,
// presence and carbons, on this node or on a peer node.
//
// It starts no goroutines. Each user's entry has one mutex. Under it only these are called: Outbox.Send, and the
// Directory's Announce and Withdraw, which never block; and the callback of Visit, which must not block either. Locks
// are taken in this order, and never in another: Session.Broadcasting, the shard of the table of users, the user. The
// package makes no decisions: domain/local says which resource gets what, and domain/roster who may see whose presence.
package session

import (
	"context"
	"sync"

	"github.com/posthouse-im/posthouse/limit"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Outbox is the sending half of a bound session.
type Outbox interface {
	// Send queues a packet. It never blocks; a full queue ends the connection under the outbox's own written policy.
	// It is called under the lock of the user: it must not call back into this package.
	Send(p *stream.Packet)
	// Close ends the stream with the given error after what is queued was written; nil for an orderly close.
	Close(e *stream.Error)
	// WaitRoom returns when the queue is well below its bound, so that many packets in a row, a replay, do not overflow
	// it. It fails when ctx ends or the session has ended.
	WaitRoom(ctx context.Context) error
	// Detached reports whether there is no connection now, and the session waits for its client to resume it (XEP-0198
	// §5). It is called under the lock of the user, as Send is.
	Detached() bool
}

// Binding asks for a resource.
type Binding struct {
	// Account is the account's identity, as in store.AccountID.
	Account uint64
	Bare    jid.JID
	// Resource is the prepared resourcepart that was asked for; "" lets the server make an unguessable one.
	Resource string
	Outbox   Outbox
	// Device is what the session belongs to, as in store.Device.ID; "" when the client has named none.
	Device string
	// Basis is what the login relies on, as store.Basis: see Config.Overtaken.
	Basis int64
	// Hidden makes it a session without a stream; nil for one that has one.
	Hidden *Hidden
}

// Hidden is a session without a stream, for which another system acts. It gets answers to its own requests and nothing
// else: it does not count against the limit of resources, is never live, matches no address of a message and is not
// shown.
type Hidden struct {
	// Admin: it may do what only administrators may.
	Admin bool
	// Actor is who acts, for the audit log; "" for the account itself.
	Actor string
}

// Session is one bound resource. It is a router.Session.
type Session struct {
	// Fixed after Bind.
	address jid.JID
	account uint64
	outbox  Outbox
	user    *User
	bind    uint64 // rises with each binding
	bound   int64  // Unix milliseconds
	basis   int64
	hidden  *Hidden
	// before is closed when the connection of the session that this one replaced has ended; nil when it replaced none.
	before <-chan struct{}

	// Broadcasting is held while this session's presence is told to others, so that what they are told last is what was
	// said last, even when the session is replaced or ended by somebody else meanwhile.
	Broadcasting sync.Mutex
	// Budget limits how often this session may broadcast. It is guarded by Broadcasting.
	Budget limit.Bucket

	// Guarded by user.mu.
	presence    *stanza.Stanza // the last undirected available presence; nil when unavailable
	first, last uint64         // ArchiveIDs given to it since what it is entitled to last changed; see span
	extra       *extra         // what few sessions need; may be nil
	roster      uint64         // the version of the roster that it was told of, while it is interested
	welcomes    uint32         // see BeginWelcome
	priority    int8
	interested  bool
	carbons     bool
	synced      bool
	gone        bool          // unbound or replaced
	left        chan struct{} // made when it was replaced, closed by Unbind
	failed      bool          // its side queue overflowed: it is about to be ended and gets nothing more
}

// extra holds what few sessions need, so that the many do not pay for it. Guarded by user.mu.
type extra struct {
	device   string    // set once, see SetDevice
	directed []jid.JID // who got directed presence (RFC 6121 §4.6), in order; at most Config.MaxDirected
	past     []span    // earlier spans, oldest first; at most maxSpans
	seen     []uint64  // ArchiveIDs that a replay gave to it, rising; at most maxSeen, the newest
	replay   *Replay   // not nil while messages wait aside until a replay is over
}

// span says what a session was entitled to while it was given the messages first … last.
type span struct {
	first, last   uint64
	live, carbons bool
}

const (
	// maxSpans bounds extra.past. What is forgotten may be delivered to the same stream twice after a session went
	// offline and back that often while messages waited for its acknowledgement; it is never lost.
	maxSpans = 8
	// maxSeen bounds extra.seen, with the same consequence.
	maxSeen = 4096
)

// Basis returns what its login relies on, as store.Basis.
func (s *Session) Basis() int64 { return s.basis }

// JID returns the bound full address.
func (s *Session) JID() jid.JID { return s.address }

// Of returns the session that an origin carries, which others know by an interface only; nil for none.
func Of(bound interface {
	JID() jid.JID
	Account() uint64
}) *Session {
	s, _ := bound.(*Session)
	return s
}

// Ended reports whether it was unbound or replaced. It must not be called in the callback of Visit.
func (s *Session) Ended() bool {
	s.user.mu.Lock()
	defer s.user.mu.Unlock()
	return s.gone
}

// Account returns the identity of the account behind it.
func (s *Session) Account() uint64 { return s.account }

// Admin reports whether it may do what only administrators may. It is false for every stream.
func (s *Session) Admin() bool { return s.hidden != nil && s.hidden.Admin }

// Actor says who acts through it, for the audit log: its bare address, but for a hidden session of another system.
func (s *Session) Actor() string {
	if s.hidden != nil && s.hidden.Actor != "" {
		return s.hidden.Actor
	}
	return s.address.Bare().String()
}

// AwaitPredecessor waits until the connection of the session that this one replaced has ended, and has so reported
// everything that it delivered: what waits for the account is only known then. It waits for ctx at most.
func (s *Session) AwaitPredecessor(ctx context.Context) {
	if s.before == nil {
		return
	}
	select {
	case <-s.before:
	case <-ctx.Done():
	}
}

// live reports whether messages to the bare address reach it (RFC 6121 §8.5.2.1.1). Guarded by user.mu.
func (s *Session) live() bool { return s.presence != nil && s.priority >= 0 && !s.gone && !s.failed }

// more returns the session's extra, making it when there is none. Guarded by user.mu.
func (s *Session) more() *extra {
	if s.extra == nil {
		s.extra = &extra{}
	}
	return s.extra
}
