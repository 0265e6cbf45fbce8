package session

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/stream"
)

// fleet is a directory and peers that remember.
type fleet struct {
	Alone
	entries   map[string]Entry // of this node
	elsewhere []Entry
	err       error
	live      []Node
	sent      map[uint32]int
}

func (f *fleet) Announce(e Entry) { f.entries[e.Resource] = e }

func (f *fleet) Withdraw(e Entry) {
	if f.entries[e.Resource].Bind == e.Bind {
		delete(f.entries, e.Resource)
	}
}

func (f *fleet) Lookup(context.Context, uint64) ([]Entry, error) { return f.elsewhere, f.err }

func (f *fleet) Live() []Node { return f.live }

func (f *fleet) Send(node uint32, _ Frame) bool {
	for _, n := range f.live {
		if n.ID == node && node != 1 { // which is this one
			f.sent[node]++
			return true
		}
	}
	return false
}

func TestAnnounced(t *testing.T) {
	f := &fleet{entries: map[string]Entry{}}
	m := New(Config{Directory: f})
	first, _ := bind(t, m, "phone")
	require.Equal(t, Entry{Account: 1, Resource: "phone", Bind: 1}, f.entries["phone"])
	appear(m, first, 5)
	require.True(t, m.SetCarbons(first, true))
	m.SetInterested(first, 0)
	require.Equal(t, Entry{Account: 1, Resource: "phone", Bind: 1, Priority: 5, Available: true, Carbons: true,
		Interested: true}, f.entries["phone"])
	live := f.entries["phone"]
	require.True(t, live.Live())
	vanish(m, first)
	live = f.entries["phone"]
	require.False(t, live.Live())

	second, _ := bind(t, m, "phone")
	require.EqualValues(t, 2, f.entries["phone"].Bind, "the end of the first does not withdraw the second")
	m.Unbind(first)
	require.EqualValues(t, 2, f.entries["phone"].Bind)
	m.Unbind(second)
	require.Empty(t, f.entries)

	_, refusal := m.Bind(Binding{Account: 1, Bare: juliet, Resource: "api", Outbox: &outbox{}, Hidden: &Hidden{}})
	require.Nil(t, refusal)
	require.Empty(t, f.entries, "what has no stream is nobody else's business")
}

func TestElsewhere(t *testing.T) {
	f := &fleet{live: []Node{{ID: 1}, {ID: 2}, {ID: 3}}, sent: map[uint32]int{}}
	m := New(Config{Directory: f, Peers: f})
	live := func(e *Entry) bool { return e.Live() }
	frame := Frame{Account: 1, Packet: &stream.Packet{}}
	require.False(t, m.Elsewhere(t.Context(), frame, live))
	f.elsewhere = []Entry{
		{Node: Node{ID: 2}, Available: true}, {Node: Node{ID: 3}, Available: true, Priority: -1},
		{Node: Node{ID: 2}, Available: true}, {Node: Node{ID: 9}, Available: true},
	}
	require.True(t, m.Elsewhere(t.Context(), frame, live))
	require.Equal(t, map[uint32]int{2: 1}, f.sent, "once for each node that is alive and has who wants it")
	f.err = ErrUnsure
	require.False(t, m.Elsewhere(t.Context(), frame, live), "it is asked, and kept")
	require.Equal(t, map[uint32]int{2: 2, 3: 1}, f.sent)
	require.False(t, New(Config{}).Elsewhere(t.Context(), frame, live), "alone")
}
