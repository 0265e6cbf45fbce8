package c2s

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// XEP-0198 §4: both counts go on at zero after 2^32-1.
func TestCountersWrap(t *testing.T) {
	b := newBound(&Server{})
	b.sm = &management{acked: math.MaxUint32 - 1}
	b.handled = math.MaxUint32 - 1
	for range 5 {
		b.queue.push(entry{packet: &stream.Packet{Stanza: &stanza.Stanza{}}})
	}
	b.sent = 4
	for h, want := range map[uint32]int{math.MaxUint32 - 1: 0, math.MaxUint32: 1, 0: 2, 2: 4} {
		n, below, failure := b.newlyAcked(h)
		require.Nil(t, failure)
		require.False(t, below)
		require.Equal(t, want, n)
	}
	for _, h := range []uint32{math.MaxUint32 - 2, math.MaxUint32/2 + 2} { // said before
		_, below, failure := b.newlyAcked(h)
		require.Nil(t, failure)
		require.True(t, below)
	}
	b.sm.acked += 1 << 32
	_, below, failure := b.newlyAcked(math.MaxUint32 - 2)
	require.Nil(t, failure)
	require.True(t, below)
	b.sm.acked -= 1 << 32
	for _, h := range []uint32{3, math.MaxUint32 / 4} {
		_, _, failure := b.newlyAcked(h)
		require.NotNil(t, failure, h)
		require.Equal(t, stream.UndefinedCondition, failure.Condition)
	}
	fresh := newBound(&Server{})
	fresh.sm = &management{}
	require.NotNil(t, failureOf(fresh, math.MaxUint32), "not below what was never acknowledged")
	require.Equal(t, "2", failureOf(b, 3).App.Attr("send-count"))

	b.asks = []ask{{at: math.MaxUint32, count: 1}, {at: 1, count: 2}, {at: 5, count: 4}}
	b.land(1)
	require.Equal(t, 1, b.acksOwed)
	b.land(2)
	require.Equal(t, uint32(1), b.handled)
	require.Equal(t, 3, b.acksOwed)
	require.Len(t, b.asks, 1)
}

func failureOf(b *bound, h uint32) *stream.Error {
	_, _, failure := b.newlyAcked(h)
	return failure
}

// Stanzas that are done out of turn count when those before them are done.
func TestHandledIsAPrefix(t *testing.T) {
	srv := &Server{metrics: newMetrics(nil)}
	b := newBound(srv)
	b.sm = &management{}
	var envelopes []*router.Envelope
	for range 6 {
		e := &router.Envelope{Stanza: &stanza.Stanza{Kind: stanza.Message}}
		envelopes = append(envelopes, e)
		b.flight.push(flying{envelope: e})
	}
	for _, step := range []struct {
		done    int
		handled uint32
	}{{2, 0}, {1, 0}, {0, 3}, {5, 3}, {4, 3}, {3, 6}} {
		b.stored(envelopes[step.done])
		require.Equal(t, step.handled, b.handled)
	}
	require.Zero(t, b.flight.len())
}

func TestFIFO(t *testing.T) {
	var q fifo[int]
	next, first := 0, 0
	for i := range 10_000 {
		for range i % 7 {
			q.push(next)
			next++
		}
		n := min(q.len(), i%5)
		for k := range n {
			require.Equal(t, first+k, *q.at(k))
		}
		if n > 0 {
			q.pop(n)
			first += n
		}
	}
	require.LessOrEqual(t, cap(q.items), 4*q.len()+16, "the queue does not keep what it has given out")
	q.pop(q.len())
	require.Zero(t, q.len())
	require.Nil(t, q.items)
}

func TestStreamIDs(t *testing.T) {
	id := newStreamID()
	back, ok := parseStreamID(id.String())
	require.True(t, ok)
	require.Equal(t, id, back)
	for _, bad := range []string{"", "x", id.String() + "A", id.String()[:21], id.String()[:21] + "=",
		"AAAAAAAAAAAAAAAAAAAAA\n", "AAAAAAAAAAAAAAAAAAAAAB"} {
		_, ok := parseStreamID(bad)
		require.False(t, ok, bad)
	}
}
