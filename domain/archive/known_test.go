package archive

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/router"
)

// What was stored under an origin-id is known with the same content from the same author, and nothing else is.
func TestKnown(t *testing.T) {
	h := newHouse(t, memory())
	h.run(t)
	first := h.say(t, orchard, named("m1", chat("juliet@verona.example", "one", origin("o1"))))
	known := func(who, body, id string) (router.Receipt, bool) {
		e := &router.Envelope{Stanza: named("again", chat("juliet@verona.example", body)), Origin: from(who)}
		e.Stanza.From = e.Origin.Address
		if id != "" {
			e.Stanza.Payload = append(e.Stanza.Payload, origin(id))
		}
		ok := h.Known(t.Context(), e)
		return e.Receipt, ok
	}
	got, ok := known("romeo@verona.example/street", "one", "o1")
	require.True(t, ok)
	require.Equal(t, router.Receipt{ID: first.ID, Seq: 1, Time: first.Time, Duplicate: true}, got)
	for _, no := range [][3]string{{orchard, "other", "o1"}, {orchard, "one", "o2"}, {balcony, "one", "o1"},
		{orchard, "one", ""}} {
		got, ok = known(no[0], no[1], no[2])
		require.False(t, ok, no)
		require.Zero(t, got, no)
	}
}
