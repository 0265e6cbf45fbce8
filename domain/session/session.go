// Package session owns who is connected: the resources of each account of this domain, their priorities,
// presence and carbons, on this node or on a peer node.
//
// It starts no goroutines. Each user's entry has one mutex; nothing is called under it but Outbox.Send, which never blocks.
package session

import (
	"sync"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Outbox is the sending half of a bound connection.
type Outbox interface {
	// Send queues a packet. It never blocks; a full queue ends the connection under the outbox's own written policy.
	Send(p *stream.Packet)
	// Close ends the stream with the given error after what is queued was written; nil for an orderly close.
	Close(e *stream.Error)
}

// Binding asks for a resource.
type Binding struct {
	// Account is the account's identity, as in store.AccountID.
	Account uint64
	Bare    jid.JID
	// Resource is the prepared resourcepart that was asked for; "" lets the server make an unguessable one.
	Resource string
	Outbox   Outbox
}

// Session is one bound resource. It is a router.Source. The fields below mu are guarded by the mutex of its user.
type Session struct {
	address jid.JID
	account uint64
	outbox  Outbox
}

// JID returns the bound full address.
func (s *Session) JID() jid.JID { return s.address }

// Account returns the identity of the account behind it.
func (s *Session) Account() uint64 { return s.account }

// Manager knows every session of this node.
type Manager struct {
	mu sync.Mutex // guards users
}

// Bind makes a session. An older one with the same address is ended with <conflict/> (RFC 6120 §7.7.2.2, the newest wins);
// too many resources are refused with resource-constraint.
func (m *Manager) Bind(b Binding) (*Session, *stanza.Error) { panic("being written") }

// Unbind ends a session: its contacts are told that it is unavailable, and nothing is delivered to it any more.
// It does nothing for a session that was replaced or ended before.
func (m *Manager) Unbind(s *Session) {}
