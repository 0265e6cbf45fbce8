package stream_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// codecs are all there are.
var codecs = map[string]stream.Codec{
	"XML": xmlstream.XML{}, "WebSocket": xmlstream.Framed{}, "compact": pbstream.Codec{},
}

func parse(t testing.TB, text string) *stanza.Stanza {
	s, err := xmlstream.Unmarshal([]byte(strings.Replace(text, " ", " xmlns='jabber:client' ", 1)))
	require.NoError(t, err, text)
	return s
}

const (
	balcony  = "juliet@capulet.lit/balcony"
	request  = "<request xmlns='urn:xmpp:receipts'/>"
	originID = "<origin-id xmlns='urn:xmpp:sid:0' id='o1'/>"
	// What a compact stream shortens for one recipient alone.
	personal = "<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@capulet.lit' id='x'/>"
	nested   = "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' " +
		"from='juliet@capulet.lit/balcony' to='nurse@capulet.lit' id='n'><body>nested</body></message></forwarded>"
)

// contents are what messages have in them.
var contents = []string{
	"", "<body>hi</body>", "<body>hi</body>" + request + originID, request + "<body>late</body>", "<body/>",
	"<body xml:lang='de'>hallo</body>", "<body>a</body><body>b</body>", personal, nested,
	"<body>&lt;&amp;</body>" + nested,
	"<x xmlns='urn:test:x' y='z'><deep>text<y/>text</deep></x>", "<body>" + strings.Repeat("long ", 5000) + "</body>",
}

// owned returns what the server says to one recipient.
func owned() []stanza.Element {
	return []stanza.Element{
		stanza.New("urn:xmpp:sid:0", "stanza-id", "by", "juliet@capulet.lit", "id", "AAECAwQFBgcICQoLDA0ODw"),
		stanza.New("urn:posthouse:position:1", "position", "number", "12"),
		stanza.New("urn:xmpp:delay", "delay", "from", "capulet.lit", "stamp", "2002-09-10T23:08:25.000Z"),
	}
}

// packets calls f with each combination of what a packet has.
func packets(t *testing.T, f func(name string, p *stream.Packet)) {
	for _, head := range []string{
		"<message from='romeo@montague.lit/orchard' to='juliet@capulet.lit' type='chat' id='o1' xml:lang='en'>",
		"<message from='juliet@capulet.lit/chamber' to='juliet@capulet.lit/balcony' id='o1'>",
		"<message to='juliet@capulet.lit' type='what' id='123e4567-e89b-12d3-a456-426614174000'>",
	} {
		for _, content := range contents {
			for _, own := range [][]stanza.Element{nil, owned()[:1], owned()} {
				s := parse(t, head+content+"</message>")
				p := &stream.Packet{Stanza: s, Own: own, Content: new(stream.Content)}
				name := fmt.Sprintf("%.150s + %d", head+content, len(own))
				f(name, p)
				for _, to := range []string{balcony, "romeo@montague.lit/phone", "nurse@capulet.lit"} {
					for _, sent := range []bool{true, false} {
						copied := fmt.Sprintf("%s, copied to %s, sent %t", name, to, sent)
						f(copied, p.Carbon(jid.MustParse(to), sent))
					}
				}
			}
		}
	}
	for _, other := range []string{
		"<presence from='romeo@montague.lit/orchard' to='juliet@capulet.lit'><show>away</show></presence>",
		"<iq from='capulet.lit' to='" + balcony + "' type='result' id='1'/>",
	} {
		f(other, &stream.Packet{Stanza: parse(t, other)})
	}
}

// joined appends all segments of a packet.
func joined(p *stream.Packet, c stream.Codec, dst []byte) []byte {
	out, at, content := p.Encode(c, dst)
	return slices.Insert(out, at, content...)
}

// TestPacketIsWhole: what a packet's segments come to is what the whole stanza is, byte for byte, whatever was sent
// before with the same content.
func TestPacketIsWhole(t *testing.T) {
	packets(t, func(name string, p *stream.Packet) {
		for codec, c := range codecs {
			want := string(c.AppendStanza(nil, p.Whole()))
			require.Equal(t, "ahead"+want, string(joined(p, c, []byte("ahead"))), "%s: %s", codec, name)
			require.Equal(t, want, string(joined(p, c, nil)), "%s again: %s", codec, name)
			require.GreaterOrEqual(t, p.Size(), p.Whole().Size()*3/4, name)
		}
	})
}

// counting is a codec that counts how often a content is encoded, and how many bytes that were.
type counting struct {
	stream.Codec
	calls, bytes *int
}

func (c counting) AppendContent(dst []byte, p *stream.Packet) ([]byte, bool) {
	*c.calls++
	out, shared := c.Codec.AppendContent(dst, p)
	*c.bytes += len(out) - len(dst)
	return out, shared
}

// recipients makes a fan-out: a packet for each of n accounts, with a header and stamps of its own.
func recipients(t testing.TB, n int, content string) []*stream.Packet {
	accepted := parse(t, "<message from='ball@rooms.capulet.lit/romeo' to='ball@rooms.capulet.lit' type='groupchat' "+
		"id='o1'>"+content+"</message>")
	shared := new(stream.Content)
	out := make([]*stream.Packet, n)
	for i := range out {
		s := *accepted
		s.To = jid.MustParse(fmt.Sprintf("guest%d@capulet.lit/hall", i))
		out[i] = &stream.Packet{Stanza: &s, Own: owned(), Content: shared, ArchiveID: 1}
	}
	return out
}

// TestFanOut: what goes to a hundred sessions of two codecs is encoded twice.
func TestFanOut(t *testing.T) {
	calls, bytes := 0, 0
	const body = "<body>Did my heart love till now?</body>" + request + originID
	for i, p := range recipients(t, 100, body) {
		var c stream.Codec = xmlstream.XML{}
		switch i % 4 {
		case 1, 3:
			c = pbstream.Codec{}
		case 2:
			c = xmlstream.Framed{} // as XML, but for its start tags
		}
		want := c.AppendStanza(nil, p.Whole())
		require.Equal(t, string(want), string(joined(p, counting{c, &calls, &bytes}, nil)))
	}
	require.Equal(t, 2, calls)
	require.Less(t, bytes, 2*len(body))
}

// TestPersonalContent: what is written otherwise for one of the recipients is not what the others get.
func TestPersonalContent(t *testing.T) {
	var c pbstream.Codec
	const juliet, nurse = "juliet@capulet.lit", "nurse@capulet.lit"
	for _, order := range [][]string{{juliet, nurse}, {nurse, juliet}} {
		accepted := parse(t, "<message from='romeo@montague.lit/x' to='a@b.lit'><body>hi</body>"+personal+nested+
			"</message>")
		shared := new(stream.Content)
		for _, to := range order {
			s := *accepted
			s.To = jid.MustParse(to)
			p := &stream.Packet{Stanza: &s, Content: shared}
			require.Equal(t, string(c.AppendStanza(nil, p.Whole())), string(joined(p, c, nil)), to)
		}
	}
}

// TestPacketAllocations: a recipient more costs its packet, and nothing to encode.
func TestPacketAllocations(t *testing.T) {
	list := recipients(t, 2, "<body>hi</body>"+request)
	for name, c := range codecs {
		joined(list[0], c, nil)
		dst := make([]byte, 0, 4096)
		require.Zero(t, testing.AllocsPerRun(100, func() { dst, _, _ = list[1].Encode(c, dst[:0]) }), name)
		carbon := list[1].Carbon(jid.MustParse(balcony), true)
		require.Zero(t, testing.AllocsPerRun(100, func() { dst, _, _ = carbon.Encode(c, dst[:0]) }), name)
	}
}

// BenchmarkFanOut is a message of 1,000 characters for many sessions, half of them compact: what is made for each of
// them, and written to memory that is used again.
func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			list := recipients(b, n, "<body>"+strings.Repeat("word ", 200)+"</body>"+request+originID)
			dst := make([]byte, 0, 8192)
			b.ReportAllocs()
			for b.Loop() {
				shared := new(stream.Content)
				for i, p := range list {
					q := &stream.Packet{Stanza: p.Stanza, Own: p.Own, Content: shared}
					var c stream.Codec = xmlstream.XML{}
					if i%2 == 1 {
						c = pbstream.Codec{}
					}
					dst, _, _ = q.Encode(c, dst[:0])
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/session")
		})
	}
}
