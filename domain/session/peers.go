package session

import (
	"context"
	"errors"
	"slices"

	"github.com/posthouse-im/posthouse/wire/stream"
)

// Node is a process that serves the domain beside others.
type Node struct {
	ID uint32
	// Incarnation is random, made at the start of each process: what an earlier one has announced is not believed any
	// more.
	Incarnation uint64
}

// Entry is a session as the nodes of a domain tell each other of it. It is a hint: the node that it names knows better.
type Entry struct {
	Account  uint64
	Resource string
	// Bind rises with every binding. Of two sessions with one address the one with the greater number stands.
	Bind uint64
	// Node is filled by the directory of the node that announces.
	Node Node
	// What the session is to get, as of the last announcement.
	Priority                       int8
	Available, Carbons, Interested bool
}

// Live reports whether messages to the bare address are for the session.
func (e *Entry) Live() bool { return e.Available && e.Priority >= 0 }

// ErrUnsure says that a directory cannot tell who is connected elsewhere: every node is to be asked.
var ErrUnsure = errors.New("the directory of sessions does not answer")

// Directory knows which sessions of an account other nodes have. Announce and Withdraw never block; of what waits to be
// announced about a session the last counts. They are called under the lock of the user.
type Directory interface {
	// Announce tells of a session of this node, or of a change of one.
	Announce(e Entry)
	// Withdraw takes a session of this node away. It does nothing when another one was bound to the address since: the
	// numbers differ.
	Withdraw(e Entry)
	// Lookup returns the account's sessions at other nodes that are alive, or ErrUnsure. It answers from memory where
	// it can.
	Lookup(ctx context.Context, account uint64) ([]Entry, error)
}

// Frame is what one node gives another one for the sessions of an account there.
type Frame struct {
	Account uint64
	// Packet is delivered there by the same table as here.
	Packet *stream.Packet
}

// Peers are the other nodes of the domain.
type Peers interface {
	// Send queues a frame for a node. It never blocks, and reports false when that node is not alive or is this one.
	// What is lost on the way is found in the log.
	Send(node uint32, f Frame) bool
	// Handle has f called for each frame of another node, in the order in which that node sent them. It is called once,
	// before the first frame.
	Handle(f func(from uint32, frame Frame))
	// Live returns the nodes that are alive, this one included.
	Live() []Node
}

// Alone is the Directory and the Peers of a domain that has one process: there is nobody else.
type Alone struct{}

// Announce does nothing.
func (Alone) Announce(Entry) {}

// Withdraw does nothing.
func (Alone) Withdraw(Entry) {}

// Lookup finds nobody.
func (Alone) Lookup(context.Context, uint64) ([]Entry, error) { return nil, nil }

// Send reports that there is no such node.
func (Alone) Send(uint32, Frame) bool { return false }

// Handle does nothing: no frame comes.
func (Alone) Handle(func(uint32, Frame)) {}

// Live returns this node.
func (Alone) Live() []Node { return []Node{{}} }

// entry is what the directory is told of a session. The caller holds the lock of the user.
func (s *Session) entry() Entry {
	return Entry{
		Account: s.account, Resource: s.address.Resource(), Bind: s.bind,
		Priority: s.priority, Available: s.presence != nil, Carbons: s.carbons, Interested: s.interested,
	}
}

// announce tells the directory of a session, unless it is one without a stream. The caller holds the lock of the user.
func (m *Manager) announce(s *Session) {
	if s.hidden == nil && !s.gone {
		m.config.Directory.Announce(s.entry())
	}
}

// withdraw takes a session that has ended out of the directory.
func (m *Manager) withdraw(s *Session) {
	if s.hidden == nil {
		m.config.Directory.Withdraw(s.entry())
	}
}

// Elsewhere gives a packet for an account to the nodes that have sessions of it which wanted says are to get it, and
// reports whether there are any. When the directory does not answer, all nodes get it.
func (m *Manager) Elsewhere(ctx context.Context, f Frame, wanted func(*Entry) bool) (sent bool) {
	found, err := m.config.Directory.Lookup(ctx, f.Account)
	if err != nil {
		for _, node := range m.config.Peers.Live() {
			m.config.Peers.Send(node.ID, f)
		}
		return false // nobody is known to take it
	}
	var given []uint32
	for i := range found {
		e := &found[i]
		if node := e.Node.ID; wanted(e) && !slices.Contains(given, node) && m.config.Peers.Send(node, f) {
			given = append(given, node)
		}
	}
	return len(given) > 0
}
