package session

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// outbox remembers what it was sent.
type outbox struct {
	mu     sync.Mutex // guards the rest
	sent   []*stream.Packet
	closed []*stream.Error
}

func (o *outbox) Send(p *stream.Packet) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent = append(o.sent, p)
}

func (o *outbox) Close(e *stream.Error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = append(o.closed, e)
}

func (*outbox) WaitRoom(context.Context) error { return nil }
func (*outbox) Detached() bool                 { return false }

// ids returns the ArchiveIDs of the messages that were sent, in order.
func (o *outbox) ids() []uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := []uint64{}
	for _, p := range o.sent {
		if p.ArchiveID != 0 {
			out = append(out, p.ArchiveID)
		}
	}
	return out
}

func (o *outbox) conditions() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := []string{}
	for _, e := range o.closed {
		out = append(out, string(e.Condition))
	}
	return out
}

// gate is an outbox that has room only when it is let.
type gate struct {
	outbox
	room chan struct{}
}

func (g *gate) WaitRoom(ctx context.Context) error {
	select {
	case <-g.room:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var juliet = jid.MustParse("juliet@capulet.lit")

func bind(t testing.TB, m *Manager, resource string) (*Session, *outbox) {
	t.Helper()
	o := &outbox{}
	s, refusal := m.Bind(Binding{Account: 1, Bare: juliet, Resource: resource, Outbox: o})
	require.Nil(t, refusal)
	return s, o
}

// appear makes a session available.
func appear(m *Manager, s *Session, priority int8) Change {
	s.Broadcasting.Lock()
	defer s.Broadcasting.Unlock()
	return m.SetPresence(s, &stanza.Stanza{Kind: stanza.Presence, From: s.JID()}, priority)
}

func vanish(m *Manager, s *Session) Change {
	s.Broadcasting.Lock()
	defer s.Broadcasting.Unlock()
	return m.SetPresence(s, &stanza.Stanza{Kind: stanza.Presence, Type: stanza.TypeUnavailable, From: s.JID()}, 0)
}

// chat returns a stored message to the address.
func chat(id uint64, to jid.JID) *stream.Packet {
	return &stream.Packet{ArchiveID: id, Stanza: &stanza.Stanza{
		Kind: stanza.Message, Type: stanza.TypeChat, ID: strconv.FormatUint(id, 10), To: to,
		From: jid.MustParse("romeo@montague.lit/orchard"),
	}}
}

// deliver is what the rules do with a message to the bare address.
func deliver(m *Manager, p *stream.Packet) (n int) {
	m.Visit(p.Stanza.To, func(u *User) { n = u.SendLive(p) })
	return n
}
