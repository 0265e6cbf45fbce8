package stanza_test

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// A clone says the same and shares no memory, so that it does not keep alive what it was a piece of.
func TestClone(t *testing.T) {
	text := "chat id-1 juliet@example.org body Hello"
	child := stanza.New(stanza.NSClient, "b", "at", text[:4]).WithText(text[34:])
	s := &stanza.Stanza{
		Kind: stanza.Message, Type: text[:4], ID: text[5:9], To: jid.MustParse(text[10:28]), Lang: text[:2],
		Payload: []stanza.Element{stanza.New(stanza.NSClient, text[29:33]).WithText(text[34:]).With(child)},
	}
	c := s.Clone()
	require.True(t, s.Equal(c))
	inside := func(p string) bool {
		at, from := uintptr(unsafe.Pointer(unsafe.StringData(p))), uintptr(unsafe.Pointer(unsafe.StringData(text)))
		return at >= from && at < from+uintptr(len(text))
	}
	pieces := func(s *stanza.Stanza) []string {
		e := &s.Payload[0]
		inner := e.Nodes[1].Element
		return []string{s.Type, s.ID, s.To.String(), s.Lang, e.Local, e.Nodes[0].Text, inner.Attrs[0].Value,
			inner.Nodes[0].Text}
	}
	for i, p := range pieces(s) {
		require.True(t, inside(p), "piece %d, or the test shows nothing", i)
	}
	for i, p := range pieces(c) {
		require.False(t, inside(p), "piece %d", i)
	}
	require.Empty(t, (&stanza.Stanza{Kind: stanza.IQ}).Clone().Payload)
}

// A size is near what the XML takes.
func TestSize(t *testing.T) {
	s := &stanza.Stanza{Kind: stanza.Message, ID: "x", Payload: []stanza.Element{
		stanza.New(stanza.NSClient, "body").WithText(string(make([]byte, 1000))),
		stanza.New("urn:example:x", "x", "a", "b").With(stanza.New("urn:example:x", "y").WithText("text")),
	}}
	require.InDelta(t, 1250, s.Size(), 150)
}

func TestCheckIQ(t *testing.T) {
	x := stanza.New("urn:example", "x")
	failure := stanza.Refuse(stanza.Conflict, "").Element()
	for _, test := range []struct {
		kind, id string
		payload  []stanza.Element
		ok       bool
	}{
		{stanza.TypeGet, "1", []stanza.Element{x}, true},
		{stanza.TypeSet, "1", []stanza.Element{x}, true},
		{stanza.TypeGet, "", []stanza.Element{x}, false},
		{stanza.TypeGet, "1", nil, false},
		{stanza.TypeSet, "1", []stanza.Element{x, x}, false},
		{stanza.TypeResult, "1", nil, true},
		{stanza.TypeResult, "1", []stanza.Element{x}, true},
		{stanza.TypeResult, "1", []stanza.Element{x, x}, false},
		{stanza.TypeResult, "", nil, false},
		{stanza.TypeError, "1", []stanza.Element{x, failure}, true},
		{stanza.TypeError, "1", []stanza.Element{x}, false},
		{"", "1", []stanza.Element{x}, false},
		{"foo", "1", []stanza.Element{x}, false},
	} {
		s := &stanza.Stanza{Kind: stanza.IQ, Type: test.kind, ID: test.id, Payload: test.payload}
		if refusal := s.CheckIQ(); test.ok {
			require.Nil(t, refusal, "%v", test)
		} else {
			require.Equal(t, stanza.BadRequest, refusal.Condition, "%v", test)
		}
	}
}
