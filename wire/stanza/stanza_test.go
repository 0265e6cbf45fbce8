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
		return []string{s.Type, s.ID, s.To.String(), s.Lang, e.Local, e.Nodes[0].Text, inner.Attrs[0].Value, inner.Nodes[0].Text}
	}
	for i, p := range pieces(s) {
		require.True(t, inside(p), "piece %d, or the test shows nothing", i)
	}
	for i, p := range pieces(c) {
		require.False(t, inside(p), "piece %d", i)
	}
	require.Empty(t, (&stanza.Stanza{Kind: stanza.IQ}).Clone().Payload)
}
