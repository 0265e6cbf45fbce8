package payload

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

func TestForward(t *testing.T) {
	at := time.Date(2026, 12, 1, 9, 30, 0, 5e6, time.UTC)
	s := &stanza.Stanza{
		Kind: stanza.Message, Type: stanza.TypeChat, ID: "1", From: jid.MustParse("romeo@a.lit/x"),
		To: jid.MustParse("juliet@b.lit"), Lang: "de",
		Payload: []stanza.Element{stanza.New(stanza.NSClient, "body").WithText("hi"), stanza.New("urn:example", "x")},
	}
	around := stanza.New(NSMAM, "result")
	for _, e := range []stanza.Element{Forward(s, at), around.With(Forward(s, at))} {
		back, received := Forwarded(&e)
		require.True(t, s.Equal(back), "%v", back)
		require.Equal(t, at, received)
	}
	e := Forward(s, time.Time{})
	require.Len(t, e.Nodes, 1, "no time, no delay")
	_, received := Forwarded(&e)
	require.True(t, received.IsZero())
	require.Same(t, &s.Payload[0], e.Nodes[0].Element.Nodes[0].Element, "elements are shared")
}

func TestForwardedOfNonsense(t *testing.T) {
	forwarded := stanza.New(NSForward, "forwarded")
	for _, e := range []stanza.Element{
		stanza.New(NSCarbons, "received"), forwarded, stanza.New(NSCarbons, "received").With(forwarded),
		Empty(time.Now()),
		forwarded.With(stanza.New(stanza.NSClient, "presence")), forwarded.With(stanza.New(NSForward, "message")),
		forwarded.With(stanza.New(stanza.NSClient, "message", "to", "@")),
		forwarded.With(stanza.New(stanza.NSClient, "message", "from", "a@")),
	} {
		s, _ := Forwarded(&e)
		require.Nil(t, s, "%v", e)
	}
}
