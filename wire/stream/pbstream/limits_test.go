package pbstream

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream/pb"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// part returns one field with a length.
func part(num uint32, data ...byte) []byte { return appendRaw(nil, num, string(data)) }

func number(num uint32, n uint64) []byte { return appendNumber(nil, num, n) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// message returns a frame with a message of the given fields.
func message(fields ...[]byte) []byte { return frameOf(part(frameMessage, join(fields...)...)) }

// payload returns a message with one payload of the given fields.
func payload(fields ...[]byte) []byte { return message(part(stanzaPayload, join(fields...)...)) }

// inside returns a message with a message of the given fields inside.
func inside(fields ...[]byte) []byte {
	return payload(part(kindForwarded, part(2, join(fields...)...)...))
}

// tree returns a message with an element of the given fields.
func tree(fields ...[]byte) []byte { return payload(part(kindElement, join(fields...)...)) }

func name(s string) []byte { return part(elementLocalName, []byte(s)...) }

// nested returns elements nested to the given depth, the stanza being 1.
func nested(depth int) []byte {
	e := name("x")
	for range depth - 2 {
		e = join(name("x"), part(elementChildren, e...))
	}
	return tree(e)
}

// refused are inputs that must end the stream. They cover A144 to A147.
var refused = []struct {
	name string
	in   []byte
	want stream.Condition
}{
	// A144: framing.
	{"length 0", []byte{0}, stream.BadFormat},
	{"length 0 in two bytes", []byte{0x80, 0}, stream.BadFormat},
	{"length 2^31", binary.AppendUvarint(nil, 1<<31), stream.PolicyViolation},
	{"length -1", binary.AppendUvarint(nil, 1<<64-1), stream.PolicyViolation},
	{"length of 11 bytes", bytes.Repeat([]byte{0x80}, 11), stream.BadFormat},
	{"length of 11 bytes, not 0", append(bytes.Repeat([]byte{0xFF}, 10), 1), stream.PolicyViolation},
	{"length one above the limit", binary.AppendUvarint(nil, 256<<10+1), stream.PolicyViolation},

	// A144: fields.
	{"field longer than its frame", frameOf([]byte{0x0A, 5, 1}), stream.BadFormat},
	{"field of 2^63 bytes", frameOf(append([]byte{0x0A}, binary.AppendUvarint(nil, 1<<63)...)), stream.BadFormat},
	{"field of 2^64-1 bytes", frameOf(append([]byte{0x0A}, binary.AppendUvarint(nil, 1<<64-1)...)), stream.BadFormat},
	{"unfinished tag", frameOf([]byte{0x80}), stream.BadFormat},
	{"unfinished number", frameOf([]byte{0x78, 0xFF}), stream.BadFormat},
	{"number of 11 bytes", frameOf(append([]byte{0x78}, append(bytes.Repeat([]byte{0x80}, 10), 1)...)),
		stream.BadFormat},
	{"number of more than 64 bits", frameOf(append([]byte{0x78}, append(bytes.Repeat([]byte{0xFF}, 9), 2)...)),
		stream.BadFormat},
	{"field 0", frameOf([]byte{0x02, 0}), stream.BadFormat},
	{"field number of more than 29 bits", frameOf(append(binary.AppendUvarint(nil, 1<<32|2), 0)), stream.BadFormat},
	{"group", frameOf([]byte{0x7B, 0x7C}), stream.BadFormat},
	{"wire type 7", frameOf([]byte{0x7F}), stream.BadFormat},
	{"unfinished fixed32", frameOf([]byte{0x7D, 1, 2, 3}), stream.BadFormat},
	{"unfinished fixed64", frameOf([]byte{0x79, 1, 2, 3, 4, 5, 6, 7}), stream.BadFormat},
	{"two kinds in a frame", frameOf([]byte{frameMessage<<3 | 2, 0, framePing<<3 | 2, 0}), stream.BadFormat},
	{"one kind twice", frameOf([]byte{frameMessage<<3 | 2, 0, frameMessage<<3 | 2, 0}), stream.BadFormat},
	{"no kind known", frameOf([]byte{0x7A, 0}), stream.UnsupportedStanzaType},
	{"kind of another wire type", frameOf([]byte{frameMessage << 3, 1}), stream.BadFormat},
	{"to twice", message(part(stanzaTo, 'a'), part(stanzaTo, 'a')), stream.BadFormat},
	{"id in two forms", message(part(stanzaID, 'a'), part(stanzaUUID, make([]byte, 16)...)), stream.BadFormat},
	{"type in two forms", message(number(stanzaType, 2), part(stanzaTypeName, 'a')), stream.BadFormat},
	{"type out of range", message(number(stanzaType, uint64(len(types)))), stream.BadFormat},
	{"type of a number that wraps", message(number(stanzaType, 1<<32+1)), stream.BadFormat},
	{"UUID of 15 bytes", message(part(stanzaUUID, make([]byte, 15)...)), stream.BadFormat},
	{"UUID of no bytes", message(part(stanzaUUID)), stream.BadFormat},
	{"key of 17 bytes", message(part(stanzaKey, make([]byte, 17)...)), stream.BadFormat},
	{"acknowledgement beyond 32 bits", frameOf(part(frameAck, number(1, 1<<32)...)), stream.BadFormat},

	// Payloads.
	{"payload of no kind", payload(), stream.BadFormat},
	{"payload of an unknown kind", payload(part(99, 'x')), stream.BadFormat},
	{"payload of two kinds", payload(number(kindSignal, 1), number(kindPosition, 1)), stream.BadFormat},
	{"signal 0", payload(number(kindSignal, 0)), stream.BadFormat},
	{"signal that wraps", payload(number(kindSignal, 1<<64-1)), stream.BadFormat},
	{"position of another wire type", payload(part(kindPosition, 1)), stream.BadFormat},
	{"form of another wire type", payload(number(kindRead, 1)), stream.BadFormat},
	{"attribute of another wire type", payload(part(kindRead, part(1, 1)...)), stream.BadFormat},
	{"marker with two ids", payload(part(kindRead, join(part(2, 'x'), part(4, make([]byte, 16)...))...)),
		stream.BadFormat},
	{"marker with two numbers", payload(part(kindRead, join(number(1, 1), number(1, 1))...)), stream.BadFormat},
	{"two messages inside", payload(part(kindForwarded, join(part(2), part(2))...)), stream.BadFormat},
	{"two bodies, inside", inside(part(stanzaBody, 'x'), part(stanzaBody, 'x')), stream.BadFormat},
	{"signal out of range", payload(number(kindSignal, uint64(len(signals)))), stream.BadFormat},
	{"delay beyond the year 9999", payload(part(kindDelay, number(2, maxSeconds+1)...)), stream.BadFormat},
	{"delay beyond the year 9999 in milliseconds", payload(part(kindDelay, number(1, maxMillis+1)...)),
		stream.BadFormat},
	{"duplicate that is 2", payload(part(kindConfirmed, join(part(7, 'a'), number(10, 2))...)), stream.BadFormat},
	{"subscription out of range", payload(part(kindRoster, part(2, number(3, 6)...)...)), stream.BadFormat},

	// What is around others, and about them.
	{"own address of nobody", message(part(stanzaOwnTo)), stream.BadFormat},
	{"to in two forms", message(part(stanzaFrom, 'a'), part(stanzaTo, 'a'), part(stanzaOwnTo)), stream.BadFormat},
	{"own from at the top", message(part(stanzaTo, 'a'), part(stanzaOwnFrom)), stream.BadFormat},
	{"own address in a message to nobody", inside(part(stanzaOwnTo)), stream.BadFormat},
	{"from in two forms, inside", message(part(stanzaTo, 'a'),
		part(stanzaPayload, part(kindForwarded, part(2, join(part(stanzaFrom, 'a'), part(stanzaOwnFrom))...)...)...)),
		stream.BadFormat},
	{"type in two forms, inside", inside(number(stanzaType, 2), part(stanzaTypeName, 'a')), stream.BadFormat},
	{"UUID of 15 bytes, inside", inside(part(stanzaUUID, make([]byte, 15)...)), stream.BadFormat},
	{"payload of no kind, inside", inside(part(stanzaPayload)), stream.BadFormat},
	{"sync of no kind", payload(part(kindSync, part(5)...)), stream.BadFormat},
	{"sync with more that is 2", payload(part(kindSync, number(3, 2)...)), stream.BadFormat},
	{"conversation muted in two forms",
		payload(part(kindConversation, join(part(1, 'a'), number(11, 1), number(12, 1))...)), stream.BadFormat},
	{"contact with two names", payload(part(kindContacts, part(2, join(part(2, 'a'), part(2, 'a'))...)...)),
		stream.BadFormat},
	{"NUL in own address", message(part(stanzaFrom, 'a'), part(stanzaOwnTo, 0)), stream.NotWellFormed},
	{"NUL in own address, inside",
		message(part(stanzaTo, 'a'), part(stanzaPayload,
			part(kindForwarded, part(2, part(stanzaOwnFrom, 0)...)...)...)), stream.NotWellFormed},
	{"NUL in from, inside", inside(part(stanzaFrom, 0)), stream.NotWellFormed},
	{"NUL in type, inside", inside(part(stanzaTypeName, 0)), stream.NotWellFormed},
	{"NUL in body, inside", inside(part(stanzaBody, 0)), stream.NotWellFormed},
	{"NUL in query", payload(part(kindResult, join(part(3, 'a'), part(6, 0), part(2))...)), stream.NotWellFormed},
	{"no data", payload(part(kindCaps, part(2)...)), stream.BadFormat},
	{"NUL in cursor", payload(part(kindSync, part(1, 0)...)), stream.NotWellFormed},
	{"NUL in conversation of a sync", payload(part(kindConversation, part(1, 0)...)), stream.NotWellFormed},

	// Elements.
	{"text in two forms", tree(name("x"), part(elementText, 'a'), number(elementTextWord, 1)), stream.BadFormat},
	{"text of a word out of the dictionary", tree(name("x"), number(elementTextWord, uint64(len(words)))),
		stream.BadFormat},
	{"empty data", tree(name("x"), part(elementData)), stream.BadFormat},
	{"data and children", tree(name("x"), part(elementData, 'a'), part(elementChildren, name("y")...)),
		stream.BadFormat},
	{"empty data of an attribute", tree(name("x"), part(elementAttrs, join(name("a"), part(attrURLData))...)),
		stream.BadFormat},
	{"time beyond the year 9999", tree(name("x"),
		part(elementAttrs, join(name("a"), number(attrSeconds, maxSeconds+1))...)), stream.BadFormat},
	{"element without a name", tree(), stream.NotWellFormed},
	{"namespace out of the dictionary", tree(number(elementSpace, uint64(len(spaces))), name("x")), stream.BadFormat},
	{"word out of the dictionary", tree(number(elementLocal, uint64(len(words)))), stream.BadFormat},
	{"word of 2^32", tree(number(elementLocal, 1<<32)), stream.BadFormat},
	{"namespace in two forms", tree(number(elementSpace, 1), part(elementSpaceName, 'u'), name("x")), stream.BadFormat},
	{"name in two forms", tree(number(elementLocal, 1), name("x")), stream.BadFormat},
	{"text and children", tree(name("x"), part(elementText, 'a'), part(elementChildren, name("y")...)),
		stream.BadFormat},
	{"children and nodes", tree(name("x"), part(elementChildren, name("y")...), part(elementNodes, part(1, 'a')...)),
		stream.BadFormat},
	{"node that is nothing", tree(name("x"), part(elementNodes)), stream.BadFormat},
	{"node that is two things", tree(name("x"), part(elementNodes, join(part(1, 'a'), part(2, name("y")...))...)),
		stream.BadFormat},
	{"node of empty text", tree(name("x"), part(elementNodes, part(1)...)), stream.BadFormat},
	{"text beside text", tree(name("x"), part(elementNodes, part(1, 'a')...), part(elementNodes, part(1, 'b')...)),
		stream.BadFormat},
	{"attribute there twice", tree(name("x"), part(elementAttrs, name("a")...), part(elementAttrs, name("a")...)),
		stream.NotWellFormed},
	{"attribute without a name", tree(name("x"), part(elementAttrs)), stream.NotWellFormed},
	{"attribute xmlns", tree(name("x"), part(elementAttrs, name("xmlns")...)), stream.NotWellFormed},
	{"attribute with two values", tree(name("x"),
		part(elementAttrs, join(name("a"), part(attrValue, 'x'), number(attrWord, 1))...)), stream.BadFormat},
	{"stanza in the form of an element", frameOf(part(frameElement, join(number(elementSpace, 2), name("message"))...)),
		stream.UnsupportedStanzaType},
	{"unknown stanza", frameOf(part(frameElement, join(number(elementSpace, 2), name("x"))...)),
		stream.UnsupportedStanzaType},
	{"stream header in the form of an element",
		frameOf(part(frameElement, join(number(elementSpace, 3), name("stream"))...)), stream.PolicyViolation},
	{"stream error out of range", frameOf(part(frameError, number(1, uint64(len(conditions)))...)), stream.BadFormat},

	// A145: budgets.
	{"nesting one above the limit", nested(65), stream.PolicyViolation},
	{"nesting of 10,000", nested(10000), stream.PolicyViolation},
	{"5,000 payloads", message(bytes.Repeat(part(stanzaPayload, number(kindSignal, 1)...), 5000)),
		stream.PolicyViolation},
	{"100,000 empty payloads", message(bytes.Repeat(part(stanzaPayload), 100_000)), stream.PolicyViolation},
	{"100,000 empty children", tree(bytes.Repeat(part(elementChildren), 100_000)), stream.PolicyViolation},
	{"5,000 roster items", payload(part(kindRoster, bytes.Repeat(part(2), 5000)...)), stream.PolicyViolation},
	{"5,000 groups", payload(part(kindRoster, part(2, bytes.Repeat(part(6), 5000)...)...)), stream.PolicyViolation},
	{"65 attributes", tree(name("x"), bytes.Repeat(part(elementAttrs, name("a")...), 65)), stream.PolicyViolation},
	{"33 namespaces of attributes",
		tree(name("x"), bytes.Repeat(part(elementAttrs, join(part(elementSpaceName, 'u'), name("a"))...), 33)),
		stream.PolicyViolation},
	{"long name", tree(name(strings.Repeat("x", 257))), stream.PolicyViolation},
	{"long namespace", tree(name("x"), part(elementSpaceName, bytes.Repeat([]byte{'u'}, 257)...)),
		stream.PolicyViolation},
	{"long name of an attribute", tree(name("x"), part(elementAttrs, name(strings.Repeat("x", 257))...)),
		stream.PolicyViolation},

	// A146: what XML cannot carry, in every field that is text.
	{"NUL in body", message(part(stanzaBody, 0)), stream.NotWellFormed},
	{"U+FFFE in body", message(part(stanzaBody, []byte("a\ufffe")...)), stream.NotWellFormed},
	{"bytes that are not UTF-8 in body", message(part(stanzaBody, 'a', 0xFF)), stream.NotWellFormed},
	{"surrogate in body", message(part(stanzaBody, 0xED, 0xA0, 0x80)), stream.NotWellFormed},
	{"escape in body beyond eight bytes", message(part(stanzaBody, []byte("12345678\x1b1234567")...)),
		stream.NotWellFormed},
	{"NUL in id", message(part(stanzaID, 0)), stream.NotWellFormed},
	{"NUL in type", message(part(stanzaTypeName, 0)), stream.NotWellFormed},
	{"NUL in lang", message(part(stanzaLang, 0)), stream.NotWellFormed},
	{"NUL in to", message(part(stanzaTo, 0)), stream.NotWellFormed},
	{"NUL in from", message(part(stanzaFrom, 0)), stream.NotWellFormed},
	{"NUL in identifier", payload(part(kindRead, part(2, 0)...)), stream.NotWellFormed},
	{"NUL in by", payload(part(kindStanzaID, join(part(1, 'a'), part(4, 0))...)), stream.NotWellFormed},
	{"NUL in stamp", payload(part(kindDelay, part(3, 0)...)), stream.NotWellFormed},
	{"NUL in from of a delay", payload(part(kindDelay, join(number(1, 1), part(4, 0))...)), stream.NotWellFormed},
	{"NUL in conversation", payload(part(kindConfirmed, part(7, 0)...)), stream.NotWellFormed},
	{"NUL in version of roster", payload(part(kindRoster, part(1, 0)...)), stream.NotWellFormed},
	{"NUL in group", payload(part(kindRoster, part(2, part(6, 0)...)...)), stream.NotWellFormed},
	{"NUL in name of a contact", payload(part(kindRoster, part(2, part(2, 0)...)...)), stream.NotWellFormed},
	{"NUL in element", tree(name("x"), part(elementText, 0)), stream.NotWellFormed},
	{"NUL in node", tree(name("x"), part(elementNodes, part(1, 0)...)), stream.NotWellFormed},
	{"NUL in value", tree(name("x"), part(elementAttrs, join(name("a"), part(attrValue, 0))...)), stream.NotWellFormed},
	{"control character in namespace", tree(name("x"), part(elementSpaceName, '\n')), stream.NotWellFormed},
	{"namespace of declarations", tree(name("x"), part(elementSpaceName, []byte(stanza.NSXMLNS)...)),
		stream.NotWellFormed},
	{"NUL in header", frameOf(part(frameOpen, join(part(2, 0), number(6, 1))...)), stream.NotWellFormed},
	{"NUL in text of stream error", frameOf(part(frameError, part(2, 0)...)), stream.NotWellFormed},
	{"NUL in application condition", frameOf(part(frameError, part(3, join(name("x"), part(elementText, 0))...)...)),
		stream.NotWellFormed},

	// A147: markup in names.
	{"markup in name of element", tree(name("x><iq/")), stream.NotWellFormed},
	{"prefix in name of element", tree(name("p:x")), stream.NotWellFormed},
	{"markup in name of attribute", tree(name("x"), part(elementAttrs, name("a='' b")...)), stream.NotWellFormed},
}

func TestRefused(t *testing.T) {
	for _, test := range refused {
		for name, cut := range chunkings {
			t.Run(test.name+", "+name, func(t *testing.T) {
				// Neither a header nor the end of a stream says less than a stanza does about its own form.
				d := openedDecoder(t, stream.Limits{})
				if test.name == "NUL in header" {
					d.Restart()
				}
				items, err := drain(d, test.in, cut)
				require.Empty(t, items)
				require.NotNil(t, err, "accepted")
				require.Equal(t, test.want, err.Condition, err.Text)
				require.Zero(t, d.Buffered())
				_, again := d.Next()
				require.Equal(t, err, again)
			})
		}
	}
}

// TestInjection covers A147: markup in text stays text.
func TestInjection(t *testing.T) {
	const evil = "</body></message><iq type='set' id='x'><query xmlns='jabber:iq:roster'/></iq><!-- ]]> &lt;"
	for _, in := range [][]byte{
		message(part(stanzaBody, []byte(evil)...)), message(part(stanzaID, []byte(evil)...)),
		message(part(stanzaTypeName, []byte(evil)...)),
		message(part(stanzaLang, []byte(evil)...)), payload(part(kindSync, part(1, []byte(evil)...)...)),
		payload(part(kindRead, part(2, []byte(evil)...)...)), tree(name("x"), part(elementText, []byte(evil)...)),
		tree(name("x"), part(elementAttrs, join(name("a"), part(attrValue, []byte(evil)...))...)),
		tree(name("x"), part(elementSpaceName, []byte(evil)...)),
	} {
		item := one(t, in)
		checkAccepted(t, in, item)
	}
}

// TestMalformedAddresses: the stream goes on, and the sender is told.
func TestMalformedAddresses(t *testing.T) {
	d := openedDecoder(t, stream.Limits{})
	for _, test := range []struct{ to, from, text string }{
		{"@", "", "the to address is malformed"}, {"a@b", "b@", "the from address is malformed"},
		{"@", "b@", "the from address is malformed"}, {"a b@c", "", "the to address is malformed"},
	} {
		in := message(part(stanzaTo, []byte(test.to)...), part(stanzaFrom, []byte(test.from)...), part(stanzaID, '1'))
		items, err := drain(d, in, every(1))
		require.Nil(t, err)
		require.Len(t, items, 1)
		require.Equal(t, stanza.Refuse(stanza.JIDMalformed, test.text), items[0].Malformed)
		require.Equal(t, "1", items[0].Stanza.ID)
	}
	items, err := drain(d, message(part(stanzaTo, []byte("B@Example.ORG")...)), whole)
	require.Nil(t, err)
	require.Nil(t, items[0].Malformed)
	require.Equal(t, "b@example.org", items[0].Stanza.To.String())
}

// TestAtTheLimit: what is just within the limits is accepted.
func TestAtTheLimit(t *testing.T) {
	attrs := func(n int) (out []byte) {
		for i := range n {
			out = append(out, part(elementAttrs, name("a"+strings.Repeat("x", i))...)...)
		}
		return out
	}
	body := strings.Repeat("x", 256<<10-2*4-1)
	for len(body) > 0 && len(message(part(stanzaBody, []byte(body)...))) > 256<<10+3 {
		body = body[1:]
	}
	for name, in := range map[string][]byte{
		"bytes":      message(part(stanzaBody, []byte(body)...)),
		"depth":      nested(64),
		"elements":   message(bytes.Repeat(part(stanzaPayload, number(kindSignal, 1)...), 4999)),
		"attributes": tree(name("x"), attrs(64)),
		"name":       tree(name(strings.Repeat("x", 248))),
		"namespace":  tree(name("x"), part(elementSpaceName, bytes.Repeat([]byte{'u'}, 256)...)),
	} {
		t.Run(name, func(t *testing.T) {
			items, err := drain(openedDecoder(t, stream.Limits{}), in, every(1000))
			require.Nil(t, err)
			require.Len(t, items, 1)
			checkAccepted(t, in, items[0])
		})
	}
}

// TestNestedLimits: messages inside messages are held to what XML is held to, whatever is in the innermost.
func TestNestedLimits(t *testing.T) {
	leaves := map[string]string{
		"body": "<body>x</body>", "two bodies": "<body>x</body><body>y</body>", "nothing": "",
		"receipt":   "<request xmlns='urn:xmpp:receipts'/>",
		"position":  "<position xmlns='urn:posthouse:position:1' number='1'/>",
		"roster":    "<query xmlns='jabber:iq:roster'><item jid='a'><group>g</group></item></query>",
		"items":     "<query xmlns='jabber:iq:roster'><item jid='a'/></query>",
		"element":   "<x xmlns='u'><y xmlns='v'/></x>",
		"reactions": "<reactions xmlns='urn:xmpp:reactions:0' id='1'><reaction>x</reaction></reactions>",
		"fallback":  "<fallback xmlns='urn:xmpp:fallback:0'><body/></fallback>",
		"sync": "<sync xmlns='urn:posthouse:sync:1'><conversation with='a'/><profile " +
			"xmlns='urn:posthouse:profile:1'/></sync>",
		"conversation": "<sync xmlns='urn:posthouse:sync:1'><conversation with='a'/></sync>",
		"synced roster": "<sync xmlns='urn:posthouse:sync:1'><roster><item xmlns='jabber:iq:roster' " +
			"jid='a'><group>x</group></item></roster></sync>",
	}
	for name, leaf := range leaves {
		inner := map[string]string{"bare": leaf, "carbon": leaf, "delayed": leaf}
		levels := 8
		if name == "body" || name == "roster" {
			levels = 25 // to the usual limits
		}
		for range levels {
			for wrap, xml := range inner {
				forwarded := "<forwarded xmlns='urn:xmpp:forward:0'>"
				if wrap == "delayed" {
					forwarded += "<delay xmlns='urn:xmpp:delay' stamp='2026-10-21T08:00:00Z'/>"
				}
				forwarded += "<message xmlns='jabber:client'>" + xml + "</message></forwarded>"
				if wrap == "carbon" {
					forwarded = "<sent xmlns='urn:xmpp:carbons:2'>" + forwarded + "</sent>"
				}
				inner[wrap] = forwarded
				// as in a WebSocket, where XML declares it too
				xml := "<message xmlns='jabber:client'>" + forwarded + "</message>"
				for _, limits := range []stream.Limits{{}, {Depth: 12}, {Namespaces: 9}, {Elements: 30}} {
					spoken := xmlstream.NewDecoder(limits)
					spoken.Feed(append(xmlstream.XML{}.AppendOpen(nil, header), xml...))
					_, err := spoken.Next()
					require.NoError(t, err)
					_, refused := spoken.Next()
					loose := fromXMLUnlimited(t, xml)
					items, failed := drain(openedDecoder(t, limits), Codec{}.AppendStanza(nil, loose), whole)
					require.Equal(t, refused == nil, failed == nil, "%s in %s, %+v: XML %v, compact %v: %s", name, wrap,
						limits, refused, failed, xml)
					if failed == nil {
						require.True(t, loose.Equal(items[0].Stanza))
					}
				}
			}
		}
	}
}

// fromXMLUnlimited reads a stanza however deep it is.
func fromXMLUnlimited(t testing.TB, xml string) *stanza.Stanza {
	d := xmlstream.NewDecoder(unlimited)
	d.Feed(append(xmlstream.XML{}.AppendOpen(nil, header), xml...))
	_, err := d.Next()
	require.NoError(t, err)
	item, err := d.Next()
	require.NoError(t, err)
	return item.Stanza
}

// TestUnknownFields covers A145: what is not known is skipped, everywhere, and costs no more than its own bytes.
func TestUnknownFields(t *testing.T) {
	unknown := join(number(500, 7), part(501, bytes.Repeat([]byte{0xFF}, 200<<10)...), []byte{0xF5, 0x1F, 1, 2, 3, 4},
		[]byte{0xF1, 0x1F, 1, 2, 3, 4, 5, 6, 7, 8})
	few := join(number(500, 7), part(501, 0xFF))
	in := frameOf(join(few, part(frameMessage,
		join(unknown, part(stanzaBody, 'x'), part(stanzaPayload, join(few, number(kindSignal, 1))...),
			part(stanzaPayload, join(few, part(kindElement,
				join(few, name("x"), part(elementAttrs, join(few, name("a"))...))...))...))...), few))
	item := one(t, in)
	want := fromXML(t, "<message><body>x</body><request xmlns='urn:xmpp:receipts'/><x a=''/></message>")
	require.True(t, want.Equal(item.Stanza), "%+v", item.Stanza)
	checkOracle(t, in, item)
}

// TestOrderOfFields: Protocol Buffers do not promise one.
func TestOrderOfFields(t *testing.T) {
	in := message(
		part(stanzaPayload, part(kindOriginID)...), part(stanzaBody, 'x'), part(stanzaID, '7'),
		part(stanzaPayload, part(kindElement, join(
			part(elementChildren, join(name("z"), part(elementAttrs, name("q")...))...),
			part(elementAttrs, join(part(attrValue, 'v'), name("a"))...),
			name("y"), part(elementChildren, number(elementLocal, 1)...), part(elementSpaceName, 'u'),
			part(elementAttrs, name("b")...))...)...),
		part(stanzaTo, []byte("a@b")...))
	item := one(t, in)
	want := fromXML(
		t,
		"<message to='a@b' id='7'><body>x</body><origin-id xmlns='urn:xmpp:sid:0' id='7'/><y xmlns='u' a='v' b=''><z "+
			"q=''/><body/></y></message>")
	require.True(t, want.Equal(item.Stanza), "%+v", item.Stanza)
	checkOracle(t, in, item)
}

// TestMemoryAsBytesArrive covers A144: the length alone makes nobody hold anything.
func TestMemoryAsBytesArrive(t *testing.T) {
	const n = 1000
	decoders := make([]*Decoder, n)
	for i := range decoders {
		decoders[i] = openedDecoder(t, stream.Limits{})
	}
	in := append(binary.AppendUvarint(nil, 256<<10), make([]byte, 100)...)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, d := range decoders {
		for i := range in {
			d.Feed(in[i : i+1])
			_, err := d.Next()
			require.Equal(t, stream.ErrMore, err)
		}
		require.Equal(t, len(in), d.Buffered())
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(n*1024), "held for 103 bytes each")
	runtime.KeepAlive(decoders)
}

// TestIdleHoldsNothing: between frames a decoder has no buffer, whatever has gone through it.
func TestIdleHoldsNothing(t *testing.T) {
	d := openedDecoder(t, stream.Limits{})
	s := &stanza.Stanza{Kind: stanza.Message,
		Payload: []stanza.Element{stanza.New(stanza.NSClient, "body").WithText(strings.Repeat("x", 100_000))}}
	_, err := drain(d, Codec{}.AppendStanza(nil, s), every(1000))
	require.Nil(t, err)
	require.Nil(t, d.part)
	require.Empty(t, d.fed)
}

// TestSetLimits: they hold from the next frame on.
func TestSetLimits(t *testing.T) {
	d := openedDecoder(t, stream.Limits{})
	in := message(part(stanzaBody, bytes.Repeat([]byte{'x'}, 100)...))
	_, err := drain(d, in[:10], whole)
	require.Nil(t, err)
	d.SetLimits(stream.Limits{Bytes: 50})
	items, err := drain(d, in[10:], whole)
	require.Nil(t, err)
	require.Len(t, items, 1)
	_, err = drain(d, in, whole)
	require.NotNil(t, err)
	require.Equal(t, stream.PolicyViolation, err.Condition)
	require.Equal(t, "stanza-too-big", err.App.Local)
}

func TestFedTwice(t *testing.T) {
	d := openedDecoder(t, stream.Limits{})
	in := Codec{}.AppendPing(Codec{}.AppendPing(nil))
	d.Feed(in[:1])
	d.Feed(in[1:4])
	d.Feed(in[4:])
	require.Equal(t, len(in), d.Buffered())
	for range 2 {
		item, err := d.Next()
		require.NoError(t, err)
		require.Equal(t, stream.Keepalive, item.Kind)
	}
	_, err := d.Next()
	require.Equal(t, stream.ErrMore, err)
}

// TestOrder: what may come when.
func TestOrder(t *testing.T) {
	open, stop, ping := Codec{}.AppendOpen(nil, header), Codec{}.AppendClose(nil), Codec{}.AppendPing(nil)
	for _, test := range []struct {
		name string
		in   []byte
		want stream.Condition
	}{
		{"header and end", join(open, stop), ""},
		{"end at once", stop, ""},
		{"stanza before the header", message(), stream.BadFormat},
		{"ping before the header", ping, stream.BadFormat},
		{"element before the header", Codec{}.AppendElement(nil, &stanza.Element{Space: "u", Local: "x"}),
			stream.BadFormat},
		{"header twice", join(open, open), stream.PolicyViolation},
		{"stanza after the end", join(open, stop, message()), stream.BadFormat},
		{"header after the end", join(open, stop, open), stream.BadFormat},
		{"header without a schema", frameOf(part(frameOpen, part(2, []byte("example.org")...)...)),
			stream.UnsupportedVersion},
		{"header of a later schema", frameOf(part(frameOpen, number(6, 900)...)), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := drain(NewDecoder(stream.Limits{}), test.in, every(1))
			if test.want == "" {
				require.Nil(t, err)
				return
			}
			require.NotNil(t, err)
			require.Equal(t, test.want, err.Condition, err.Text)
		})
	}
	d := openedDecoder(t, stream.Limits{})
	d.Restart()
	items, err := drain(d, open, whole)
	require.Nil(t, err)
	require.Equal(t, stream.Open, items[0].Kind)
}

// TestFrames: a WebSocket message is exactly one frame.
func TestFrames(t *testing.T) {
	one := message(part(stanzaBody, 'x'))
	for _, test := range []struct {
		name   string
		frames [][]byte
		items  int
		want   stream.Condition
	}{
		{"one", [][]byte{one}, 1, ""},
		{"two messages", [][]byte{one, one}, 2, ""},
		{"nothing", [][]byte{nil}, 0, stream.BadFormat},
		{"two frames", [][]byte{join(one, one)}, 1, stream.BadFormat},
		{"unfinished", [][]byte{one[:len(one)-1]}, 0, stream.BadFormat},
		{"rest in the next message", [][]byte{one[:3], one[3:]}, 0, stream.BadFormat},
		{"byte too many", [][]byte{append(bytes.Clone(one), 1)}, 1, stream.BadFormat},
	} {
		for name, cut := range chunkings {
			t.Run(test.name+", "+name, func(t *testing.T) {
				d := NewFramedDecoder(stream.Limits{})
				_, err := drain(d, Codec{}.AppendOpen(nil, header), cut)
				require.Nil(t, err)
				require.NoError(t, d.EndFrame())
				var items []stream.Item
				var failed error
				for _, f := range test.frames {
					got, err := drain(d, f, cut)
					items = append(items, got...)
					if err != nil {
						failed = err
						require.Equal(t, err, d.EndFrame())
						break
					}
					if failed = d.EndFrame(); failed != nil {
						break
					}
				}
				require.Len(t, items, test.items)
				if test.want == "" {
					require.NoError(t, failed)
					return
				}
				require.Error(t, failed)
				require.Equal(t, test.want, failed.(*stream.Error).Condition)
			})
		}
	}
}

// TestNumbers holds the enumerations and the fields that are read without a form to compact.proto.
func TestNumbers(t *testing.T) {
	for _, test := range []struct {
		message proto.Message
		field   string
		want    int
	}{
		{&pb.Frame{}, "message", frameMessage}, {&pb.Frame{}, "presence", framePresence}, {&pb.Frame{}, "iq", frameIQ},
		{&pb.Frame{}, "error", frameError}, {&pb.Stanza{}, "to", stanzaTo}, {&pb.Stanza{}, "payload", stanzaPayload},
		{&pb.Stanza{}, "own_from", stanzaOwnFrom}, {&pb.Element{}, "data", elementData},
		{&pb.Attr{}, "millis", attrMillis},
		{&pb.Attr{}, "url_data", attrURLData}, {&pb.Element{}, "nodes", elementNodes}, {&pb.Attr{}, "uri", attrURI},
		{&pb.Attr{}, "local_name", elementLocalName}, {&pb.Payload{}, "signal", kindSignal},
		{&pb.Payload{}, "position", kindPosition},
	} {
		f := test.message.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(test.field))
		require.NotNil(t, f, test.field)
		require.Equal(t, test.want, int(f.Number()), test.field)
	}
	require.Len(t, signals, len(pb.Signal_name))
	for i, s := range signals[1:] {
		require.Equal(t, protoName("SIGNAL", strings.TrimSuffix(s.local+"_"+s.text, "_")), pb.Signal(i+1).String())
	}
	require.Len(t, conditions, len(pb.StreamCondition_name))
	for i, c := range conditions[1:] {
		require.Equal(t, protoName("STREAM_CONDITION", string(c)), pb.StreamCondition(i+1).String())
	}
	require.Len(t, types, len(pb.Type_name))
	for i, s := range types[1:] {
		require.Equal(t, protoName("TYPE", s), pb.Type(i+1).String())
	}
	require.Len(t, subscriptions, len(pb.Subscription_name))
	for i, s := range subscriptions[1:] {
		require.Equal(t, protoName("SUBSCRIPTION", s), pb.Subscription(i+1).String())
	}
}

// protoName is the name of a value of an enumeration.
func protoName(enum, text string) string {
	return enum + "_" + strings.ToUpper(strings.ReplaceAll(text, "-", "_"))
}

// TestForms holds the table of typed forms to compact.proto: the kinds, their messages, and each field's number, type,
// presence and oneof.
func TestForms(t *testing.T) {
	kinds := (&pb.Payload{}).ProtoReflect().Descriptor().Fields()
	require.Equal(t, kinds.Len(), len(forms)-1)
	for number := 1; number < len(forms); number++ {
		kind := kinds.ByNumber(protoreflect.FieldNumber(number))
		require.NotNil(t, kind, number)
		if f := forms[number]; f != nil {
			checkForm(t, f, kind.Message())
		} else {
			require.Contains(t, []string{"element", "signal", "position"}, string(kind.Name()))
		}
	}
}

func checkForm(t *testing.T, f *form, message protoreflect.MessageDescriptor) {
	require.Equal(t, f.name, string(message.Name()))
	require.Equal(t, message.Fields().Len(), len(f.fields), f.name)
	children := false
	for i := range f.fields {
		x := &f.fields[i]
		d := message.Fields().ByNumber(protoreflect.FieldNumber(x.number))
		require.NotNil(t, d, "%s %d", f.name, x.number)
		at := f.name + "." + string(d.Name())
		kind, ok := map[as]protoreflect.Kind{
			asText: protoreflect.StringKind, asUUID: protoreflect.BytesKind, asKey: protoreflect.BytesKind,
			asData: protoreflect.BytesKind, asNumber: protoreflect.Uint64Kind,
			asMillis: protoreflect.Uint64Kind, asSeconds: protoreflect.Uint64Kind, asOwn: protoreflect.StringKind,
			asChild: protoreflect.StringKind, asForm: protoreflect.MessageKind, asPayload: protoreflect.MessageKind,
		}[x.as]
		if ok {
			require.Equal(t, kind, d.Kind(), at)
		} else if len(x.names) == 2 {
			require.Equal(t, protoreflect.BoolKind, d.Kind(), at)
		} else {
			require.Equal(t, len(x.names), d.Enum().Values().Len(), at)
		}
		require.Equal(t, x.repeated || x.as == asPayload, d.Cardinality() == protoreflect.Repeated, at)
		require.Equal(t, x.as == asNumber || x.as == asMillis || x.as == asSeconds || x.as == asOwn ||
			d.ContainingOneof() != nil || x.as == asForm && !x.repeated, d.HasPresence(), at)
		if one := d.ContainingOneof(); one != nil && !d.HasOptionalKeyword() {
			var same uint64
			for j := range one.Fields().Len() {
				same |= 1 << one.Fields().Get(j).Number()
			}
			require.Equal(t, same, x.one, at)
		}
		require.False(t, children && x.as < asChild, "%s: children come last", at)
		if children = x.as >= asChild; x.as == asForm {
			checkForm(t, x.of, d.Message())
		}
	}
}
