package pbstream

import (
	"bytes"
	"compress/flate"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

const (
	text60 = "Shall we meet at the river at noon? I will bring some bread."
	han60  = "明天中午我们在河边见面好吗？我会带一些面包和水果，你可以带上你的朋友们一起来，大家好久没有见面了，希望天气会很好，不下雨"
	uuid   = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"

	// sentMessage is what a client sends: the usual clients add the four payloads to every message.
	sentMessage = "<message to='juliet@example.org' type='chat' id='" + uuid + "' xml:lang='en'><body>" + text60 +
		"</body>" + clientPayload + "</message>"
	// deliveredMessage is what the recipient gets.
	deliveredMessage = "<message from='romeo@example.org/phone-3f2a' to='juliet@example.org' type='chat' id='" + uuid +
		"' xml:lang='en'><body>" + text60 + "</body>" +
		clientPayload + stanzaIDPayload + "</message>"
	numberedMessage = "<message from='romeo@example.org/phone-3f2a' to='juliet@example.org' type='chat' id='" + uuid +
		"' xml:lang='en'><body>" + text60 + "</body>" +
		clientPayload + stanzaIDPayload + "<position xmlns='urn:posthouse:position:1' number='1234'/></message>"
	hanMessage = "<message to='juliet@example.org' type='chat' id='" + uuid + "' xml:lang='zh'><body>" + han60 +
		"</body>" + clientPayload + "</message>"

	clientPayload = "<active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/>" +
		"<markable xmlns='urn:xmpp:chat-markers:0'/><origin-id xmlns='urn:xmpp:sid:0' id='" + uuid + "'/>"
	stanzaIDPayload = "<stanza-id xmlns='urn:xmpp:sid:0' id='q0ZbHkq1SyCoV7Xb3mJ6tw' by='juliet@example.org'/>"

	// bareMessage and bareDelivered have nothing but what must be: here the text alone is a third of the XML.
	bareMessage = "<message to='juliet@example.org' type='chat' id='" + uuid + "'><body>" + text60 +
		"</body></message>"
	bareDelivered = "<message from='romeo@example.org/phone-3f2a' to='juliet@example.org' type='chat' id='" + uuid +
		"'><body>" + text60 + "</body>" + stanzaIDPayload + "</message>"

	carbonMessage = "<message from='romeo@example.org' to='romeo@example.org/desk' type='chat'><sent " +
		"xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>" +
		"<message xmlns='jabber:client' from='romeo@example.org/phone-3f2a' to='juliet@example.org' type='chat' id='" +
		uuid + "'><body>" + text60 + "</body></message></forwarded></sent></message>"
	resultMessage = "<message from='romeo@example.org' to='romeo@example.org/desk'><result xmlns='urn:xmpp:mam:2' " +
		"queryid='q1' id='q0ZbHkq1SyCoV7Xb3mJ6tw'><forwarded xmlns='urn:xmpp:forward:0'>" +
		"<delay xmlns='urn:xmpp:delay' stamp='2026-10-21T08:00:00.123Z'/><message xmlns='jabber:client' " +
		"from='juliet@example.org/desk' to='romeo@example.org' type='chat' id='" + uuid + "'><body>" + text60 +
		"</body></message></forwarded></result></message>"
	composingMessage = "<message to='juliet@example.org' type='chat'><composing " +
		"xmlns='http://jabber.org/protocol/chatstates'/><no-store xmlns='urn:xmpp:hints'/></message>"
	displayedMessage = "<message to='romeo@example.org' type='chat' id='" + uuid +
		"'><displayed xmlns='urn:xmpp:chat-markers:0' id='" + uuid + "'/><store xmlns='urn:xmpp:hints'/></message>"
	readMessage = "<message to='romeo@example.org' type='chat'><read xmlns='urn:posthouse:marker:1' " +
		"number='1234'/></message>"
	confirmMessage = "<message from='romeo@example.org' to='romeo@example.org/phone-3f2a' type='headline'><confirmed " +
		"xmlns='urn:posthouse:confirm:1' id='" + uuid +
		"' stanza-id='q0ZbHkq1SyCoV7Xb3mJ6tw' conversation='juliet@example.org' number='1234' " +
		"stamp='2026-10-21T08:00:00.123Z'/></message>"
	syncPage = "<iq type='result' id='s1' from='romeo@example.org' to='romeo@example.org/phone-3f2a'><sync " +
		"xmlns='urn:posthouse:sync:1' cursor='q0ZbHkq1SyCoV7Xb3mJ6tw'>" +
		"<forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2026-10-21T08:00:00.123Z'/>" +
		"<message xmlns='jabber:client' from='juliet@example.org/desk' to='romeo@example.org' type='chat' id='" + uuid +
		"'><body>" + text60 +
		"</body><stanza-id xmlns='urn:xmpp:sid:0' id='q0ZbHkq1SyCoV7Xb3mJ6tw' by='romeo@example.org'/><position " +
		"xmlns='urn:posthouse:position:1' number='1234'/></message></forwarded>" +
		"<conversation with='juliet@example.org' number='1234' read='1230' delivered='1234' peer-read='1228' " +
		"peer-delivered='1233' unread='4' last='q0ZbHkq1SyCoV7Xb3mJ6tw'/></sync></iq>"
	encryptedMessage = "<message to='juliet@example.org' type='chat' id='" + uuid +
		"'><encrypted xmlns='eu.siacs.conversations.axolotl'><header sid='1234567890'><key rid='987654321'>" +
		"NAohBd2Uq0tq7Oo5Q0vq3bYlN6bpV3nPp2LZ0cO1v1BrEAAYACIwq7Vf1zE0Yw3n0Q9cY4h6bHqk3v1mC8rC1l9S0nUO6q3b2W7p" +
		"Qm5yq1t8Zb0Kq9xYc1pX</key><iv>q0ZbHkq1SyCoV7Xb</iv></header>" +
		"<payload>" + "m0TUz9v3W5yq1t8Zb0Kq9xYc1pXq0tq7Oo5Q0vq3bYlN6bpV3nPp2LZ0cO1v1BrEAAYACIwq7Vf1zE0Y" +
		"</payload></encrypted><store xmlns='urn:xmpp:hints'/></message>"
	presenceStanza = "<presence from='romeo@example.org/phone-3f2a' to='juliet@example.org'><show>away</show><status>" +
		"At lunch</status><priority>5</priority><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' " +
		"node='https://example.org/client' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/></presence>"
	rosterPush = "<iq type='set' id='p1' to='romeo@example.org/phone-3f2a'><query xmlns='jabber:iq:roster' " +
		"ver='ver14'><item jid='juliet@example.org' name='Juliet' subscription='both'><group>Friends</group></item>" +
		"</query></iq>"
)

// sizes are the stanzas of docs/protocol/compact.md's table.
var sizes = []struct {
	name, xml string
	most      int // percent of the XML form
}{
	{"message as clients send it", sentMessage, 35},
	{"the same, delivered", deliveredMessage, 35},
	{"the same with its number", numberedMessage, 33},
	{"message as clients send it, 60 Chinese characters", hanMessage, 49},
	{"message with nothing but id, to, type and body", bareMessage, 62},
	{"the same, delivered with from and stanza-id", bareDelivered, 55},
	{"carbon of it", carbonMessage, 39},
	{"history result with it", resultMessage, 37},
	{"typing", composingMessage, 25},
	{"read marker", readMessage, 35},
	{"read marker of XEP-0333", displayedMessage, 36},
	{"confirmation", confirmMessage, 38},
	{"presence", presenceStanza, 50},
	{"roster push", rosterPush, 45},
	{"page of a sync", syncPage, 37},
	{"encrypted message", encryptedMessage, 58},
}

// lengths returns the bytes on the wire of a stanza, in XML and compact.
func lengths(t testing.TB, xml string) (int, []byte) {
	s := fromXML(t, xml)
	require.Len(t, xmlstream.XML{}.AppendStanza(nil, s), len(xml), "the form is not the one that is sent")
	return len(xml), Codec{}.AppendStanza(nil, s)
}

// TestSizes holds a chat message of 60 characters to 35 percent of its XML form, and the rest to what is known.
func TestSizes(t *testing.T) {
	require.Len(t, text60, 60)
	require.Len(t, []rune(han60), 60)
	for _, test := range sizes {
		xml, compact := lengths(t, test.xml)
		percent := float64(100*len(compact)) / float64(xml)
		t.Logf("%-50s XML %4d compact %4d = %.1f %%", test.name, xml, len(compact), percent)
		require.LessOrEqual(t, percent, float64(test.most), test.name)
	}
	for _, e := range []string{"<r xmlns='urn:xmpp:sm:3'/>", "<a xmlns='urn:xmpp:sm:3' h='1234'/>"} {
		compact := Codec{}.AppendElement(nil, elementXML(t, e))
		t.Logf("%-50s XML %4d compact %4d", e, len(e), len(compact))
		require.LessOrEqual(t, len(compact), 6)
	}
}

// deflateDictionary holds what the wire repeats and the dictionary of numbers does not have: words of people.
const deflateDictionary = "Thank you very much. Yes, that is fine. Are you there? I am on my way. See you tomorrow. " +
	"What do you think about it? Let me know when you have time. " +
	"Good morning, how are you? Sorry, I will be late. OK, no problem. Could you please send me the https://www. " +
	".com/ .org/ file again?"

// TestCompression shows what a static dictionary in front of the wire would bring: each frame compressed by itself, as
// it must be when frames are encoded once and sent to many.
func TestCompression(t *testing.T) {
	for _, test := range sizes {
		xml, compact := lengths(t, test.xml)
		dictionary := deflateDictionary + "example.org"
		var out bytes.Buffer
		w, err := flate.NewWriterDict(&out, flate.BestCompression, []byte(dictionary))
		require.NoError(t, err)
		_, err = w.Write(compact)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		back, err := io.ReadAll(flate.NewReaderDict(&out, []byte(dictionary)))
		require.NoError(t, err)
		require.Equal(t, compact, back)
		t.Logf("%-50s XML %4d compact %4d deflated %4d", test.name, xml, len(compact), deflated(t, compact, dictionary))
	}
}

func deflated(t testing.TB, in []byte, dictionary string) int {
	var out bytes.Buffer
	w, err := flate.NewWriterDict(&out, flate.BestCompression, []byte(dictionary))
	require.NoError(t, err)
	_, err = w.Write(in)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Len()
}

// TestAllocations counts what a message costs.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		return // the race detector allocates
	}
	for _, test := range []struct {
		name, xml string
		most      float64
	}{
		{"bare", strings.Replace(bareMessage, uuid, "a1b2c3d4", 1), 2},
		{"bare with UUID", bareMessage, 2},
		{"sent", sentMessage, 2},
		{"delivered", deliveredMessage, 3},
		{"with its number", numberedMessage, 7},
		{"carbon", carbonMessage, 7},
	} {
		s := fromXML(t, test.xml)
		wire := Codec{}.AppendStanza(nil, s)
		d := openedDecoder(t, stream.Limits{})
		require.LessOrEqual(t, testing.AllocsPerRun(200, func() { decodeOne(t, d, wire) }), test.most, test.name)
		dst := make([]byte, 0, 1024)
		require.Zero(t, testing.AllocsPerRun(200, func() { dst = Codec{}.AppendStanza(dst[:0], s) }), test.name)
	}
}

func decodeOne(t testing.TB, d *Decoder, wire []byte) {
	d.Feed(wire)
	if _, err := d.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Next(); err != stream.ErrMore {
		t.Fatal(err)
	}
}
