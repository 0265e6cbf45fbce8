package xmlstream

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/stream"
)

const (
	openTCP = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' " +
		"xmlns:stream='http://etherx.jabber.org/streams' " +
		"to='example.org' version='1.0' xml:lang='en'>"

	// benchMessage is an ordinary chat message of 336 bytes: six attributes, a body with an escape, three more
	// payloads.
	benchMessage = "<message from='alice@example.org/phone-3f2a' to='bob@example.org/desk' type='chat' " +
		"id='a1b2c3d4e5f67' xml:lang='en'>" +
		"<body>Hello Bob, lunch &amp; coffee at noon by the river?</body>" +
		"<active xmlns='http://jabber.org/protocol/chatstates'/>" +
		"<request xmlns='urn:xmpp:receipts'/>" +
		"<origin-id xmlns='urn:xmpp:sid:0' id='f81d4fae-7dec4'/>" +
		"</message>"
)

func BenchmarkDecodeMessage(b *testing.B) {
	d := NewDecoder(stream.Limits{})
	d.Feed([]byte(openTCP))
	_, err := d.Next()
	require.NoError(b, err)
	in := []byte(benchMessage)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		d.Feed(in)
		if _, err := d.Next(); err != nil {
			b.Fatal(err)
		}
		if _, err := d.Next(); err != stream.ErrMore {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeMessage(b *testing.B) {
	s, err := Unmarshal([]byte("<message xmlns='jabber:client'" + benchMessage[len("<message"):]))
	require.NoError(b, err)
	dst := make([]byte, 0, 1024)
	b.SetBytes(int64(len(benchMessage)))
	b.ReportAllocs()
	for b.Loop() {
		dst = XML{}.AppendStanza(dst[:0], s)
	}
	require.Equal(b, len(benchMessage), len(dst))
}
