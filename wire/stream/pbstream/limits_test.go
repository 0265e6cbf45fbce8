package pbstream

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream/pb"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// field returns one field with a length.
func field(num uint32, data ...byte) []byte { return appendRaw(nil, num, string(data)) }

func number(num uint32, n uint64) []byte { return appendNumber(nil, num, n) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// message returns a frame with a message of the given fields.
func message(fields ...[]byte) []byte { return frameOf(field(frameMessage, join(fields...)...)) }

// payload returns a message with one payload of the given fields.
func payload(fields ...[]byte) []byte { return message(field(stanzaPayload, join(fields...)...)) }

// forwarded returns a message with a message of the given fields inside.
func forwarded(fields ...[]byte) []byte {
	return payload(field(kindForwarded, field(forwardedMessage, join(fields...)...)...))
}

// tree returns a message with an element of the given fields.
func tree(fields ...[]byte) []byte { return payload(field(kindElement, join(fields...)...)) }

func name(s string) []byte { return field(elementLocalName, []byte(s)...) }

// nested returns elements nested to the given depth, the stanza being 1.
func nested(depth int) []byte {
	e := name("x")
	for range depth - 2 {
		e = join(name("x"), field(elementChildren, e...))
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
	{"number of 11 bytes", frameOf(append([]byte{0x78}, append(bytes.Repeat([]byte{0x80}, 10), 1)...)), stream.BadFormat},
	{"number of more than 64 bits", frameOf(append([]byte{0x78}, append(bytes.Repeat([]byte{0xFF}, 9), 2)...)), stream.BadFormat},
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
	{"to twice", message(field(stanzaTo, 'a'), field(stanzaTo, 'a')), stream.BadFormat},
	{"id in two forms", message(field(stanzaID, 'a'), field(stanzaUUID, make([]byte, 16)...)), stream.BadFormat},
	{"type in two forms", message(number(stanzaType, 2), field(stanzaTypeName, 'a')), stream.BadFormat},
	{"type out of range", message(number(stanzaType, uint64(len(types)))), stream.BadFormat},
	{"type of a number that wraps", message(number(stanzaType, 1<<32+1)), stream.BadFormat},
	{"UUID of 15 bytes", message(field(stanzaUUID, make([]byte, 15)...)), stream.BadFormat},
	{"UUID of no bytes", message(field(stanzaUUID)), stream.BadFormat},
	{"key of 17 bytes", message(field(stanzaKey, make([]byte, 17)...)), stream.BadFormat},
	{"acknowledgement beyond 32 bits", frameOf(field(frameAck, number(1, 1<<32)...)), stream.BadFormat},

	// Payloads.
	{"payload of no kind", payload(), stream.BadFormat},
	{"payload of an unknown kind", payload(field(99, 'x')), stream.BadFormat},
	{"payload of two kinds", payload(number(kindSignal, 1), number(kindShow, 1)), stream.BadFormat},
	{"chat state 0", payload(number(kindChatState, 0)), stream.BadFormat},
	{"chat state out of range", payload(number(kindChatState, 6)), stream.BadFormat},
	{"signal out of range", payload(number(kindSignal, uint64(len(signals)))), stream.BadFormat},
	{"show out of range", payload(number(kindShow, 5)), stream.BadFormat},
	{"origin-id of a stanza without id", payload(field(kindOriginID)), stream.BadFormat},
	{"receipt without id", payload(field(kindReceived)), stream.BadFormat},
	{"stanza-id without id", message(field(stanzaTo, 'a'), field(stanzaPayload, field(kindStanzaID)...)), stream.BadFormat},
	{"stanza-id by nobody", payload(field(kindStanzaID, field(1, 'x')...)), stream.BadFormat},
	{"marker without kind", payload(field(kindMarker, field(1, 'x')...)), stream.BadFormat},
	{"marker without id", payload(field(kindMarker, number(4, 1)...)), stream.BadFormat},
	{"delay without stamp", payload(field(kindDelay)), stream.BadFormat},
	{"delay beyond the year 9999", payload(field(kindDelay, number(2, maxSeconds+1)...)), stream.BadFormat},
	{"delay beyond the year 9999 in milliseconds", payload(field(kindDelay, number(1, maxMillis+1)...)), stream.BadFormat},
	{"confirmation without conversation", payload(field(kindConfirmed)), stream.BadFormat},
	{"confirmation with an empty id", payload(field(kindConfirmed, join(field(1), field(3, 'a'))...)), stream.BadFormat},
	{"duplicate that is 2", payload(field(kindConfirmed, join(field(3, 'a'), number(6, 2))...)), stream.BadFormat},
	{"subscription out of range", payload(field(kindRoster, field(2, number(3, 6)...)...)), stream.BadFormat},

	// What is around others, and about them.
	{"own address of nobody", message(field(stanzaOwnTo)), stream.BadFormat},
	{"to in two forms", message(field(stanzaFrom, 'a'), field(stanzaTo, 'a'), field(stanzaOwnTo)), stream.BadFormat},
	{"own from at the top", message(field(stanzaTo, 'a'), field(stanzaOwnFrom)), stream.BadFormat},
	{"own address in a message to nobody", forwarded(field(stanzaOwnTo)), stream.BadFormat},
	{"from in two forms, inside", message(field(stanzaTo, 'a'), field(stanzaPayload, field(kindForwarded, field(forwardedMessage, join(field(stanzaFrom, 'a'), field(stanzaOwnFrom))...)...)...)), stream.BadFormat},
	{"forwarded nothing", payload(field(kindForwarded)), stream.BadFormat},
	{"wrapper out of range", payload(field(kindForwarded, join(number(forwardedWrapper, 4), field(forwardedMessage))...)), stream.BadFormat},
	{"result without id", payload(field(kindForwarded, join(number(forwardedWrapper, wrapperResult), field(forwardedMessage))...)), stream.BadFormat},
	{"carbon with id", payload(field(kindForwarded, join(field(forwardedID, 'a'), number(forwardedWrapper, 1), field(forwardedMessage))...)), stream.BadFormat},
	{"query of no result", payload(field(kindForwarded, join(field(forwardedQuery, 'a'), field(forwardedMessage))...)), stream.BadFormat},
	{"delay without stamp, inside", payload(field(kindForwarded, join(field(forwardedDelay), field(forwardedMessage))...)), stream.BadFormat},
	{"type in two forms, inside", forwarded(number(stanzaType, 2), field(stanzaTypeName, 'a')), stream.BadFormat},
	{"UUID of 15 bytes, inside", forwarded(field(stanzaUUID, make([]byte, 15)...)), stream.BadFormat},
	{"payload of no kind, inside", forwarded(field(stanzaPayload)), stream.BadFormat},
	{"origin-id of a message without id, inside", message(field(stanzaID, 'a'), field(stanzaPayload, field(kindForwarded, field(forwardedMessage, field(stanzaPayload, field(kindOriginID)...)...)...)...)), stream.BadFormat},
	{"retraction without id", payload(field(kindRetract)), stream.BadFormat},
	{"reply without id", payload(field(kindReply, field(4, 'a')...)), stream.BadFormat},
	{"reactions without id", payload(field(kindReactions, field(4, 'a')...)), stream.BadFormat},
	{"fallback for a namespace out of the dictionary", payload(field(kindFallback, number(1, uint64(len(spaces)))...)), stream.BadFormat},
	{"fallback for two namespaces", payload(field(kindFallback, join(number(1, 2), field(2, 'a'))...)), stream.BadFormat},
	{"region beyond 32 bits", payload(field(kindFallback, field(3, number(1, 1<<32)...)...)), stream.BadFormat},
	{"mention beyond 32 bits", payload(field(kindMention, number(2, 1<<32)...)), stream.BadFormat},
	{"capabilities without a version", payload(field(kindCaps)), stream.BadFormat},
	{"SHA-1 of 19 bytes", payload(field(kindCaps, field(2, make([]byte, 19)...)...)), stream.BadFormat},
	{"version in two forms", payload(field(kindCaps, join(field(2, make([]byte, 20)...), field(3, 'a'))...)), stream.BadFormat},
	{"sync of no kind", payload(field(kindSync, field(syncItems)...)), stream.BadFormat},
	{"sync with more that is 2", payload(field(kindSync, number(syncMore, 2)...)), stream.BadFormat},
	{"conversation with nobody", payload(field(kindConversation, number(conversationNumber, 1)...)), stream.BadFormat},
	{"conversation muted in two forms", payload(field(kindConversation, join(field(1, 'a'), number(9, 1), number(10, 1))...)), stream.BadFormat},
	{"contact with two names", payload(field(kindContacts, field(2, join(field(2, 'a'), field(2, 'a'))...)...)), stream.BadFormat},
	{"NUL in own address", message(field(stanzaFrom, 'a'), field(stanzaOwnTo, 0)), stream.NotWellFormed},
	{"NUL in own address, inside", message(field(stanzaTo, 'a'), field(stanzaPayload, field(kindForwarded, field(forwardedMessage, field(stanzaOwnFrom, 0)...)...)...)), stream.NotWellFormed},
	{"NUL in from, inside", forwarded(field(stanzaFrom, 0)), stream.NotWellFormed},
	{"NUL in type, inside", forwarded(field(stanzaTypeName, 0)), stream.NotWellFormed},
	{"NUL in body, inside", forwarded(field(stanzaBody, 0)), stream.NotWellFormed},
	{"NUL in query", payload(field(kindForwarded, join(field(forwardedID, 'a'), number(forwardedWrapper, wrapperResult), field(forwardedQuery, 0), field(forwardedMessage))...)), stream.NotWellFormed},
	{"NUL in reply", payload(field(kindReply, join(field(1, 'a'), field(4, 0))...)), stream.NotWellFormed},
	{"NUL in fallback", payload(field(kindFallback, field(2, 0)...)), stream.NotWellFormed},
	{"NUL in reaction", payload(field(kindReactions, join(field(1, 'a'), field(4, 0))...)), stream.NotWellFormed},
	{"NUL in mention", payload(field(kindMention, field(1, 0)...)), stream.NotWellFormed},
	{"NUL in hash", payload(field(kindCaps, join(field(3, 'a'), field(4, 0))...)), stream.NotWellFormed},
	{"NUL in cursor", payload(field(kindSync, field(syncCursor, 0)...)), stream.NotWellFormed},
	{"NUL in conversation of a sync", payload(field(kindConversation, field(1, 0)...)), stream.NotWellFormed},
	{"NUL in profile", payload(field(kindProfile, field(3, 0)...)), stream.NotWellFormed},

	// Elements.
	{"text in two forms", tree(name("x"), field(elementText, 'a'), number(elementTextWord, 1)), stream.BadFormat},
	{"text of a word out of the dictionary", tree(name("x"), number(elementTextWord, uint64(len(words)))), stream.BadFormat},
	{"empty data", tree(name("x"), field(elementData)), stream.BadFormat},
	{"data and children", tree(name("x"), field(elementData, 'a'), field(elementChildren, name("y")...)), stream.BadFormat},
	{"empty data of an attribute", tree(name("x"), field(elementAttrs, join(name("a"), field(attrURLData))...)), stream.BadFormat},
	{"time beyond the year 9999", tree(name("x"), field(elementAttrs, join(name("a"), number(attrSeconds, maxSeconds+1))...)), stream.BadFormat},
	{"element without a name", tree(), stream.NotWellFormed},
	{"namespace out of the dictionary", tree(number(elementSpace, uint64(len(spaces))), name("x")), stream.BadFormat},
	{"word out of the dictionary", tree(number(elementLocal, uint64(len(words)))), stream.BadFormat},
	{"word of 2^32", tree(number(elementLocal, 1<<32)), stream.BadFormat},
	{"namespace in two forms", tree(number(elementSpace, 1), field(elementSpaceName, 'u'), name("x")), stream.BadFormat},
	{"name in two forms", tree(number(elementLocal, 1), name("x")), stream.BadFormat},
	{"text and children", tree(name("x"), field(elementText, 'a'), field(elementChildren, name("y")...)), stream.BadFormat},
	{"children and nodes", tree(name("x"), field(elementChildren, name("y")...), field(elementNodes, field(1, 'a')...)), stream.BadFormat},
	{"node that is nothing", tree(name("x"), field(elementNodes)), stream.BadFormat},
	{"node that is two things", tree(name("x"), field(elementNodes, join(field(1, 'a'), field(2, name("y")...))...)), stream.BadFormat},
	{"node of empty text", tree(name("x"), field(elementNodes, field(1)...)), stream.BadFormat},
	{"text beside text", tree(name("x"), field(elementNodes, field(1, 'a')...), field(elementNodes, field(1, 'b')...)), stream.BadFormat},
	{"attribute there twice", tree(name("x"), field(elementAttrs, name("a")...), field(elementAttrs, name("a")...)), stream.NotWellFormed},
	{"attribute without a name", tree(name("x"), field(elementAttrs)), stream.NotWellFormed},
	{"attribute xmlns", tree(name("x"), field(elementAttrs, name("xmlns")...)), stream.NotWellFormed},
	{"attribute with two values", tree(name("x"), field(elementAttrs, join(name("a"), field(attrValue, 'x'), number(attrWord, 1))...)), stream.BadFormat},
	{"stanza in the form of an element", frameOf(field(frameElement, join(number(elementSpace, 2), name("message"))...)), stream.UnsupportedStanzaType},
	{"unknown stanza", frameOf(field(frameElement, join(number(elementSpace, 2), name("x"))...)), stream.UnsupportedStanzaType},
	{"stream header in the form of an element", frameOf(field(frameElement, join(number(elementSpace, 3), name("stream"))...)), stream.PolicyViolation},
	{"stream error out of range", frameOf(field(frameError, number(1, uint64(len(conditions)))...)), stream.BadFormat},

	// A145: budgets.
	{"nesting one above the limit", nested(65), stream.PolicyViolation},
	{"nesting of 10,000", nested(10000), stream.PolicyViolation},
	{"5,000 payloads", message(bytes.Repeat(field(stanzaPayload, number(kindSignal, 1)...), 5000)), stream.PolicyViolation},
	{"100,000 empty payloads", message(bytes.Repeat(field(stanzaPayload), 100_000)), stream.PolicyViolation},
	{"100,000 empty children", tree(bytes.Repeat(field(elementChildren), 100_000)), stream.PolicyViolation},
	{"5,000 roster items", payload(field(kindRoster, bytes.Repeat(field(2), 5000)...)), stream.PolicyViolation},
	{"5,000 groups", payload(field(kindRoster, field(2, bytes.Repeat(field(6), 5000)...)...)), stream.PolicyViolation},
	{"65 attributes", tree(name("x"), bytes.Repeat(field(elementAttrs, name("a")...), 65)), stream.PolicyViolation},
	{"33 namespaces of attributes", tree(name("x"), bytes.Repeat(field(elementAttrs, join(field(elementSpaceName, 'u'), name("a"))...), 33)), stream.PolicyViolation},
	{"long name", tree(name(strings.Repeat("x", 257))), stream.PolicyViolation},
	{"long namespace", tree(name("x"), field(elementSpaceName, bytes.Repeat([]byte{'u'}, 257)...)), stream.PolicyViolation},
	{"long name of an attribute", tree(name("x"), field(elementAttrs, name(strings.Repeat("x", 257))...)), stream.PolicyViolation},

	// A146: what XML cannot carry, in every field that is text.
	{"NUL in body", message(field(stanzaBody, 0)), stream.NotWellFormed},
	{"U+FFFE in body", message(field(stanzaBody, []byte("a\ufffe")...)), stream.NotWellFormed},
	{"bytes that are not UTF-8 in body", message(field(stanzaBody, 'a', 0xFF)), stream.NotWellFormed},
	{"surrogate in body", message(field(stanzaBody, 0xED, 0xA0, 0x80)), stream.NotWellFormed},
	{"escape in body beyond eight bytes", message(field(stanzaBody, []byte("12345678\x1b1234567")...)), stream.NotWellFormed},
	{"NUL in id", message(field(stanzaID, 0)), stream.NotWellFormed},
	{"NUL in type", message(field(stanzaTypeName, 0)), stream.NotWellFormed},
	{"NUL in lang", message(field(stanzaLang, 0)), stream.NotWellFormed},
	{"NUL in to", message(field(stanzaTo, 0)), stream.NotWellFormed},
	{"NUL in from", message(field(stanzaFrom, 0)), stream.NotWellFormed},
	{"NUL in text", payload(field(kindSubject, field(1, 0)...)), stream.NotWellFormed},
	{"NUL in language of text", payload(field(kindBody, field(2, 0)...)), stream.NotWellFormed},
	{"NUL in thread", payload(field(kindThread, field(2, 0)...)), stream.NotWellFormed},
	{"NUL in identifier", payload(field(kindReceived, field(1, 0)...)), stream.NotWellFormed},
	{"NUL in by", payload(field(kindStanzaID, join(field(1, 'a'), field(4, 0))...)), stream.NotWellFormed},
	{"NUL in stamp", payload(field(kindDelay, field(3, 0)...)), stream.NotWellFormed},
	{"NUL in reason", payload(field(kindDelay, join(number(1, 1), field(5, 0))...)), stream.NotWellFormed},
	{"NUL in conversation", payload(field(kindConfirmed, field(3, 0)...)), stream.NotWellFormed},
	{"NUL in version of roster", payload(field(kindRoster, field(1, 0)...)), stream.NotWellFormed},
	{"NUL in group", payload(field(kindRoster, field(2, field(6, 0)...)...)), stream.NotWellFormed},
	{"NUL in name of a contact", payload(field(kindRoster, field(2, field(2, 0)...)...)), stream.NotWellFormed},
	{"NUL in element", tree(name("x"), field(elementText, 0)), stream.NotWellFormed},
	{"NUL in node", tree(name("x"), field(elementNodes, field(1, 0)...)), stream.NotWellFormed},
	{"NUL in value", tree(name("x"), field(elementAttrs, join(name("a"), field(attrValue, 0))...)), stream.NotWellFormed},
	{"control character in namespace", tree(name("x"), field(elementSpaceName, '\n')), stream.NotWellFormed},
	{"namespace of declarations", tree(name("x"), field(elementSpaceName, []byte(stanza.NSXMLNS)...)), stream.NotWellFormed},
	{"NUL in header", frameOf(field(frameOpen, join(field(2, 0), number(6, 1))...)), stream.NotWellFormed},
	{"NUL in text of stream error", frameOf(field(frameError, field(2, 0)...)), stream.NotWellFormed},
	{"NUL in application condition", frameOf(field(frameError, field(3, join(name("x"), field(elementText, 0))...)...)), stream.NotWellFormed},

	// A147: markup in names.
	{"markup in name of element", tree(name("x><iq/")), stream.NotWellFormed},
	{"prefix in name of element", tree(name("p:x")), stream.NotWellFormed},
	{"markup in name of attribute", tree(name("x"), field(elementAttrs, name("a='' b")...)), stream.NotWellFormed},
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
		message(field(stanzaBody, []byte(evil)...)), message(field(stanzaID, []byte(evil)...)), message(field(stanzaTypeName, []byte(evil)...)),
		message(field(stanzaLang, []byte(evil)...)), payload(field(kindSubject, field(1, []byte(evil)...)...)),
		payload(field(kindReceived, field(1, []byte(evil)...)...)), tree(name("x"), field(elementText, []byte(evil)...)),
		tree(name("x"), field(elementAttrs, join(name("a"), field(attrValue, []byte(evil)...))...)),
		tree(name("x"), field(elementSpaceName, []byte(evil)...)),
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
		in := message(field(stanzaTo, []byte(test.to)...), field(stanzaFrom, []byte(test.from)...), field(stanzaID, '1'))
		items, err := drain(d, in, every(1))
		require.Nil(t, err)
		require.Len(t, items, 1)
		require.Equal(t, stanza.Refuse(stanza.JIDMalformed, test.text), items[0].Malformed)
		require.Equal(t, "1", items[0].Stanza.ID)
	}
	items, err := drain(d, message(field(stanzaTo, []byte("B@Example.ORG")...)), whole)
	require.Nil(t, err)
	require.Nil(t, items[0].Malformed)
	require.Equal(t, "b@example.org", items[0].Stanza.To.String())
}

// TestAtTheLimit: what is just within the limits is accepted.
func TestAtTheLimit(t *testing.T) {
	attrs := func(n int) (out []byte) {
		for i := range n {
			out = append(out, field(elementAttrs, name("a"+strings.Repeat("x", i))...)...)
		}
		return out
	}
	body := strings.Repeat("x", 256<<10-2*4-1)
	for len(body) > 0 && len(message(field(stanzaBody, []byte(body)...))) > 256<<10+3 {
		body = body[1:]
	}
	for name, in := range map[string][]byte{
		"bytes":      message(field(stanzaBody, []byte(body)...)),
		"depth":      nested(64),
		"elements":   message(bytes.Repeat(field(stanzaPayload, number(kindSignal, 1)...), 4999)),
		"attributes": tree(name("x"), attrs(64)),
		"name":       tree(name(strings.Repeat("x", 248))),
		"namespace":  tree(name("x"), field(elementSpaceName, bytes.Repeat([]byte{'u'}, 256)...)),
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
		"body": "<body>x</body>", "two bodies": "<body>x</body><body>y</body>", "nothing": "", "receipt": "<request xmlns='urn:xmpp:receipts'/>", "position": "<position xmlns='urn:posthouse:position:1' number='1'/>",
		"roster":  "<query xmlns='jabber:iq:roster'><item jid='a'><group>g</group></item></query>",
		"items":   "<query xmlns='jabber:iq:roster'><item jid='a'/></query>",
		"element": "<x xmlns='u'><y xmlns='v'/></x>", "reactions": "<reactions xmlns='urn:xmpp:reactions:0' id='1'><reaction>x</reaction></reactions>",
		"fallback": "<fallback xmlns='urn:xmpp:fallback:0'><body/></fallback>",
		"sync":     "<sync xmlns='urn:posthouse:sync:1'><conversation with='a'/><profile xmlns='urn:posthouse:profile:1'/></sync>", "conversation": "<sync xmlns='urn:posthouse:sync:1'><conversation with='a'/></sync>",
		"synced roster": "<sync xmlns='urn:posthouse:sync:1'><roster><item xmlns='jabber:iq:roster' jid='a'><group>x</group></item></roster></sync>",
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
				xml := "<message xmlns='jabber:client'>" + forwarded + "</message>" // as in a WebSocket, where XML declares it too
				for _, limits := range []stream.Limits{{}, {Depth: 12}, {Namespaces: 9}, {Elements: 30}} {
					spoken := xmlstream.NewDecoder(limits)
					spoken.Feed(append(xmlstream.XML{}.AppendOpen(nil, header), xml...))
					_, err := spoken.Next()
					require.NoError(t, err)
					_, refused := spoken.Next()
					loose := fromXMLUnlimited(t, xml)
					items, failed := drain(openedDecoder(t, limits), Codec{}.AppendStanza(nil, loose), whole)
					require.Equal(t, refused == nil, failed == nil, "%s in %s, %+v: XML %v, compact %v: %s", name, wrap, limits, refused, failed, xml)
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
	unknown := join(number(500, 7), field(501, bytes.Repeat([]byte{0xFF}, 200<<10)...), []byte{0xF5, 0x1F, 1, 2, 3, 4}, []byte{0xF1, 0x1F, 1, 2, 3, 4, 5, 6, 7, 8})
	few := join(number(500, 7), field(501, 0xFF))
	in := frameOf(join(few, field(frameMessage, join(unknown, field(stanzaBody, 'x'), field(stanzaPayload, join(few, number(kindSignal, 1))...),
		field(stanzaPayload, join(few, field(kindElement, join(few, name("x"), field(elementAttrs, join(few, name("a"))...))...))...))...), few))
	item := one(t, in)
	want := fromXML(t, "<message><body>x</body><request xmlns='urn:xmpp:receipts'/><x a=''/></message>")
	require.True(t, want.Equal(item.Stanza), "%+v", item.Stanza)
	checkOracle(t, in, item)
}

// TestOrderOfFields: Protocol Buffers do not promise one.
func TestOrderOfFields(t *testing.T) {
	in := message(
		field(stanzaPayload, field(kindOriginID)...), field(stanzaBody, 'x'), field(stanzaID, '7'),
		field(stanzaPayload, field(kindElement, join(
			field(elementChildren, join(name("z"), field(elementAttrs, name("q")...))...), field(elementAttrs, join(field(attrValue, 'v'), name("a"))...),
			name("y"), field(elementChildren, number(elementLocal, 1)...), field(elementSpaceName, 'u'), field(elementAttrs, name("b")...))...)...),
		field(stanzaTo, []byte("a@b")...))
	item := one(t, in)
	want := fromXML(t, "<message to='a@b' id='7'><body>x</body><origin-id xmlns='urn:xmpp:sid:0' id='7'/><y xmlns='u' a='v' b=''><z q=''/><body/></y></message>")
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
	s := &stanza.Stanza{Kind: stanza.Message, Payload: []stanza.Element{stanza.New(stanza.NSClient, "body").WithText(strings.Repeat("x", 100_000))}}
	_, err := drain(d, Codec{}.AppendStanza(nil, s), every(1000))
	require.Nil(t, err)
	require.Nil(t, d.part)
	require.Empty(t, d.fed)
}

// TestSetLimits: they hold from the next frame on.
func TestSetLimits(t *testing.T) {
	d := openedDecoder(t, stream.Limits{})
	in := message(field(stanzaBody, bytes.Repeat([]byte{'x'}, 100)...))
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
		{"element before the header", Codec{}.AppendElement(nil, &stanza.Element{Space: "u", Local: "x"}), stream.BadFormat},
		{"header twice", join(open, open), stream.PolicyViolation},
		{"stanza after the end", join(open, stop, message()), stream.BadFormat},
		{"header after the end", join(open, stop, open), stream.BadFormat},
		{"header without a schema", frameOf(field(frameOpen, field(2, []byte("example.org")...)...)), stream.UnsupportedVersion},
		{"header of a later schema", frameOf(field(frameOpen, number(6, 900)...)), ""},
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
	one := message(field(stanzaBody, 'x'))
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

// TestFieldNumbers holds the numbers that the code uses to those of compact.proto.
func TestFieldNumbers(t *testing.T) {
	for _, test := range []struct {
		message proto.Message
		field   string
		want    int
	}{
		{&pb.Frame{}, "message", frameMessage}, {&pb.Frame{}, "presence", framePresence}, {&pb.Frame{}, "iq", frameIQ}, {&pb.Frame{}, "error", frameError},
		{&pb.Stanza{}, "to", stanzaTo}, {&pb.Stanza{}, "payload", stanzaPayload}, {&pb.Payload{}, "roster", kindRoster}, {&pb.Payload{}, "position", kindPosition},
		{&pb.Payload{}, "profile", kindProfile}, {&pb.Stanza{}, "own_from", stanzaOwnFrom}, {&pb.Forwarded{}, "wrapper", forwardedWrapper}, {&pb.Forwarded{}, "query", forwardedQuery},
		{&pb.Sync{}, "items", syncItems}, {&pb.Conversation{}, "unread", conversationNumber + len(conversationNumbers) - 1},
		{&pb.Conversation{}, "last", conversationLast}, {&pb.Conversation{}, "millis", conversationMuted}, {&pb.Conversation{}, "pinned", conversationPinned},
		{&pb.Element{}, "data", elementData}, {&pb.Attr{}, "millis", attrMillis}, {&pb.Attr{}, "url_data", attrURLData},
		{&pb.Element{}, "nodes", elementNodes}, {&pb.Attr{}, "uri", attrURI}, {&pb.Attr{}, "local_name", elementLocalName},
	} {
		f := test.message.ProtoReflect().Descriptor().Fields()
		got := -1
		for i := range f.Len() {
			if string(f.Get(i).Name()) == test.field {
				got = int(f.Get(i).Number())
			}
		}
		require.Equal(t, test.want, got, test.field)
	}
	require.Len(t, types, len(pb.Type_name))
	require.Len(t, chatStates, len(pb.ChatState_name))
	require.Len(t, shows, len(pb.Show_name))
	require.Len(t, markers, len(pb.MarkerKind_name))
	require.Len(t, subscriptions, len(pb.Subscription_name))
	require.Len(t, wrappers, len(pb.Wrapper_name))
	require.Len(t, signals, len(pb.Signal_name))
	require.Len(t, conditions, len(pb.StreamCondition_name))
	upper := strings.NewReplacer("-", "_")
	for i, c := range conditions[1:] {
		require.Equal(t, "STREAM_CONDITION_"+strings.ToUpper(upper.Replace(string(c))), pb.StreamCondition(i+1).String())
	}
	for i, s := range types[1:] {
		require.Equal(t, "TYPE_"+strings.ToUpper(s), pb.Type(i+1).String())
	}
	for i, s := range chatStates[1:] {
		require.Equal(t, "CHAT_STATE_"+strings.ToUpper(s), pb.ChatState(i+1).String())
	}
	for i, s := range shows[1:] {
		require.Equal(t, "SHOW_"+strings.ToUpper(s), pb.Show(i+1).String())
	}
	for i, s := range markers[1:] {
		require.Equal(t, "MARKER_KIND_"+strings.ToUpper(s), pb.MarkerKind(i+1).String())
	}
	for i, s := range subscriptions[1:] {
		require.Equal(t, "SUBSCRIPTION_"+strings.ToUpper(s), pb.Subscription(i+1).String())
	}
}
