package archive

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestContentHashOrder: what says the same is the same message, over whichever codec it comes.
func TestContentHashOrder(t *testing.T) {
	const first = "<message xmlns='jabber:client' to='juliet@example.org' id='1'><body>x</body><reply " +
		"xmlns='urn:xmpp:reply:0' to='a@b' id='1'/><x xmlns='u'><y b='1' a='2' xml:lang='en'/></x></message>"
	for _, test := range []struct {
		xml  string
		same bool
	}{
		{first, true},
		{"<message xmlns='jabber:client' id='2' to='juliet@example.org/desk'><body>x</body><reply " +
			"xmlns='urn:xmpp:reply:0' id='1' to='a@b'/><x xmlns='u'><y xml:lang='en' a='2' b='1'/></x><delay " +
			"xmlns='urn:xmpp:delay' stamp='2026-10-21T08:00:00Z'/></message>", true},
		{"<message xmlns='jabber:client' to='juliet@example.org'><body>y</body><reply xmlns='urn:xmpp:reply:0' " +
			"to='a@b' id='1'/><x xmlns='u'><y b='1' a='2' xml:lang='en'/></x></message>", false},
		{"<message xmlns='jabber:client' to='juliet@example.org'><body>x</body><reply xmlns='urn:xmpp:reply:0' " +
			"to='1' id='a@b'/><x xmlns='u'><y b='1' a='2' xml:lang='en'/></x></message>", false},
		{"<message xmlns='jabber:client' to='nurse@example.org'><body>x</body><reply xmlns='urn:xmpp:reply:0' " +
			"to='a@b' id='1'/><x xmlns='u'><y b='1' a='2' xml:lang='en'/></x></message>", false},
	} {
		s := parse(t, test.xml)
		before := s.Clone()
		require.Equal(t, test.same, contentHash(parse(t, first)) == contentHash(s), test.xml)
		require.True(t, before.Equal(s))
		require.Equal(t, before.Payload[1].Attrs, s.Payload[1].Attrs, "what is hashed is not what is changed")
	}
}
