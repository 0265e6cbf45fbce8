package pbstream

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream/pb"
)

var update = flag.Bool("update", false, "write the tables of docs/protocol/compact.md anew from the source")

// page is the specification. What it prints between two marks is what the code does.
const page = "../../../docs/protocol/compact.md"

// vector is something that is said, in XML, and how it begins when it has no XML of its own.
type vector struct {
	name, xml string
	append    func(dst []byte) []byte // nil: xml is a stanza or element
}

// golden are the vectors of the specification. Their bytes, which the page holds, do not change while the schema does
// not.
var golden = []vector{
	{"a client's header", "<stream:stream to='example.org' version='1.0' xml:lang='en'>", func(dst []byte) []byte { return Codec{}.AppendOpen(dst, header) }},
	{"the server's header", "<stream:stream from='example.org' id='s1' version='1.0' xml:lang='en'>", func(dst []byte) []byte {
		return Codec{}.AppendOpen(dst, stream.Header{From: "example.org", ID: "s1", Version: "1.0", HasVersion: true, Lang: "en"})
	}},
	{"stream features", "<features xmlns='http://etherx.jabber.org/streams'><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-256</mechanism></mechanisms></features>", nil},
	{"SASL", "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>biwsbj1qdWxpZXQscj1hYmM=</auth>", nil},
	{"binding", "<iq type='set' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", nil},
	{"stream management on", "<enable xmlns='urn:xmpp:sm:3' resume='true'/>", nil},
	{"question for the roster", "<iq type='get' id='r1'><query xmlns='jabber:iq:roster' ver=''/></iq>", nil},
	{"presence", "<presence><show>away</show><status>At lunch</status><priority>-5</priority></presence>", nil},
	{"message", "<message to='juliet@example.org' type='chat' id='m1'><body>Hello</body></message>", nil},
	{"message of most clients", strings.Replace(sentMessage, text60, "Hello", 1), nil},
	{"message with a stanza-id", "<message from='romeo@example.org/phone' to='juliet@example.org' type='chat' id='m1'><body>Hello</body>" + stanzaIDPayload + "</message>", nil},
	{"typing", composingMessage, nil},
	{"receipt", "<message to='romeo@example.org' type='chat'><received xmlns='urn:xmpp:receipts' id='" + uuid + "'/></message>", nil},
	{"read mark", "<message to='romeo@example.org' type='chat'><displayed xmlns='urn:xmpp:chat-markers:0' id='m1'/></message>", nil},
	{"correction", "<message to='juliet@example.org' type='chat' id='m2'><body>Hello!</body><replace xmlns='urn:xmpp:message-correct:0' id='m1'/></message>", nil},
	{"delayed message", "<message from='romeo@example.org' type='chat'><body>Hello</body><delay xmlns='urn:xmpp:delay' from='example.org' stamp='2026-10-21T08:00:00.123Z'/></message>", nil},
	{"confirmation", confirmMessage, nil},
	{"roster push", rosterPush, nil},
	{"delivered message with its number", "<message from='romeo@example.org/phone' to='juliet@example.org' type='chat' id='m1'><body>Hello</body>" + stanzaIDPayload + "<position xmlns='urn:posthouse:position:1' number='42'/></message>", nil},
	{"carbon", strings.Replace(carbonMessage, text60, "Hello", 1), nil},
	{"archive result", strings.Replace(resultMessage, text60, "Hello", 1), nil},
	{"forwarded message", "<message to='juliet@example.org' type='chat' id='m3'><body>Look</body><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='nurse@example.org' type='chat'><body>Hi</body></message></forwarded></message>", nil},
	{"retraction", "<message to='juliet@example.org' type='chat' id='m4'><retract xmlns='urn:xmpp:message-retract:1' id='m1'/></message>", nil},
	{"reply that mentions somebody", "<message to='romeo@example.org' type='chat' id='m5'><body>&gt; Hello&#10;Hi Romeo</body><reply xmlns='urn:xmpp:reply:0' to='romeo@example.org/phone' id='m1'/>" +
		"<fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'><body start='0' end='8'/></fallback>" +
		"<reference xmlns='urn:xmpp:reference:0' type='mention' begin='11' end='16' uri='xmpp:romeo@example.org'/></message>", nil},
	{"reactions", "<message to='romeo@example.org' type='chat' id='m6'><reactions xmlns='urn:xmpp:reactions:0' id='m1'><reaction>👍</reaction></reactions></message>", nil},
	{"presence with capabilities", "<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://example.org/client' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/></presence>", nil},
	{"question for what is new", "<iq type='get' id='s1'><sync xmlns='urn:posthouse:sync:1' cursor='c41' max='50'/></iq>", nil},
	{"answer", "<iq type='result' id='s1' to='a@b/c'>" + syncResult + "</iq>", nil},
	{"login with a token", tokenLogin()[1].xml, nil},
	{"its success", tokenLogin()[3].xml, nil},
	{"mixed content", "<message><x xmlns='urn:example:x' a='1' xml:lang='en'>one<b/>two</x></message>", nil},
	{"error", "<iq from='example.org' type='error' id='q1'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>", nil},
	{"question for an acknowledgement", "<r xmlns='urn:xmpp:sm:3'/>", nil},
	{"acknowledgement", "<a xmlns='urn:xmpp:sm:3' h='300'/>", nil},
	{"ping", "", func(dst []byte) []byte { return Codec{}.AppendPing(dst) }},
	{"pong", "", func(dst []byte) []byte { return Codec{}.AppendPong(dst) }},
	{"stream error", "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>Replaced</text></stream:error>", func(dst []byte) []byte {
		return Codec{}.AppendError(dst, stream.Fail(stream.Conflict, "Replaced"))
	}},
	{"end", "</stream:stream>", func(dst []byte) []byte { return Codec{}.AppendClose(dst) }},
}

func (v *vector) wire(t testing.TB) []byte {
	switch {
	case v.append != nil:
		return v.append(nil)
	case strings.HasPrefix(v.xml, "<message") || strings.HasPrefix(v.xml, "<presence") || strings.HasPrefix(v.xml, "<iq"):
		return Codec{}.AppendStanza(nil, fromXML(t, v.xml))
	}
	return Codec{}.AppendElement(nil, elementXML(t, v.xml))
}

// tables are what the page prints between marks.
func tables(t testing.TB) map[string]string {
	var vectors, namespaces, names, signal, size strings.Builder
	for _, v := range golden {
		fmt.Fprintf(&vectors, "%s\n", v.name)
		if v.xml != "" {
			fmt.Fprintf(&vectors, "    %s\n", v.xml)
		}
		for rest := hex.EncodeToString(v.wire(t)); rest != ""; {
			n := min(len(rest), 96)
			fmt.Fprintf(&vectors, "    = %s\n", rest[:n])
			rest = rest[n:]
		}
	}
	namespaces.WriteString("| number | namespace |\n|---|---|\n")
	for i, s := range spaces[1:] {
		if s == "" {
			s = "(none)"
		}
		fmt.Fprintf(&namespaces, "| %d | `%s` |\n", i+1, s)
	}
	for i, w := range words[1:] {
		fmt.Fprintf(&names, "%d %s", i+1, w)
		switch {
		case i == len(words)-2:
			names.WriteString("\n")
		case i%6 == 5:
			names.WriteString(",\n")
		default:
			names.WriteString(", ")
		}
	}
	signal.WriteString("| number | element | namespace |\n|---|---|---|\n")
	for i, s := range signals[1:] {
		fmt.Fprintf(&signal, "| %d | `%s` | `%s` |\n", i+1, s.local, s.space)
	}
	size.WriteString("| what | XML | compact | |\n|---|---|---|---|\n")
	for _, s := range sizes {
		xml, compact := lengths(t, s.xml)
		fmt.Fprintf(&size, "| %s | %d | %d | %.1f %% |\n", s.name, xml, len(compact), float64(100*len(compact))/float64(xml))
	}
	for _, s := range loginSizes(t) {
		fmt.Fprintf(&size, "| %s | %d | %d | %.1f %% |\n", s.name, s.xml, s.compact, float64(100*s.compact)/float64(s.xml))
	}
	return map[string]string{
		"vectors": "```\n" + vectors.String() + "```\n", "namespaces": namespaces.String(),
		"words": "```\n" + names.String() + "```\n", "signals": signal.String(), "sizes": size.String(),
	}
}

// TestPage holds the specification to the code: vectors, dictionary and sizes.
func TestPage(t *testing.T) {
	in, err := os.ReadFile(page)
	require.NoError(t, err)
	text := string(in)
	for name, want := range tables(t) {
		begin, finish := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->\n"
		before, rest, ok := strings.Cut(text, begin)
		require.True(t, ok, begin)
		have, after, ok := strings.Cut(rest, finish)
		require.True(t, ok, finish)
		if *update {
			text = before + begin + want + finish + after
			continue
		}
		require.Equal(t, want, have, "docs/protocol/compact.md differs from the code; a schema that is published must not change")
	}
	if *update && text != string(in) {
		require.NoError(t, os.WriteFile(page, []byte(text), 0o644))
	}
}

// TestVectors decodes the vectors as the page prints them.
func TestVectors(t *testing.T) {
	in, err := os.ReadFile(page)
	require.NoError(t, err)
	printed := make(map[string][]byte)
	var at string
	for line := range strings.Lines(string(in)) {
		line = strings.TrimSuffix(line, "\n")
		if digits, ok := strings.CutPrefix(line, "    = "); ok {
			b, err := hex.DecodeString(digits)
			require.NoError(t, err, line)
			printed[at] = append(printed[at], b...)
		} else if !strings.HasPrefix(line, " ") {
			at = line
		}
	}
	require.Len(t, printed, len(golden))
	for _, v := range golden {
		wire := printed[v.name]
		d := openedDecoder(t, stream.Limits{})
		if v.name == "a client's header" || v.name == "the server's header" {
			d.Restart()
		}
		items, failed := drain(d, wire, whole)
		require.Nil(t, failed, v.name)
		require.Len(t, items, 1, v.name)
		checkOracle(t, wire, items[0])
		if v.append == nil && items[0].Stanza != nil {
			require.True(t, fromXML(t, v.xml).Equal(items[0].Stanza), v.name)
		} else if v.append == nil {
			require.True(t, elementXML(t, v.xml).Equal(items[0].Element), v.name)
		}
	}
}

// TestSameLength: the generated marshaller needs as many bytes as we do; it puts the fields of a oneof last.
func TestSameLength(t *testing.T) {
	for _, v := range golden {
		wire := v.wire(t)
		prefix, _, failed := length(wire, 1<<20)
		require.Nil(t, failed)
		var f pb.Frame
		require.NoError(t, proto.Unmarshal(wire[prefix:], &f))
		again, err := proto.Marshal(&f)
		require.NoError(t, err)
		require.Len(t, again, len(wire)-prefix, "%s: %x, generated %x", v.name, wire[prefix:], again)
	}
}

// TestDictionary: every entry is there once, and can be what it stands for.
func TestDictionary(t *testing.T) {
	require.Len(t, spaceNumbers, len(spaces)-1)
	require.Len(t, wordNumbers, len(words)-1)
	for _, s := range spaces[1:] {
		require.True(t, stanza.ValidSpace(s), s)
	}
	longest := 0
	for _, w := range words[1:] {
		require.True(t, stanza.ValidName(w), w)
		longest = max(longest, len(w))
	}
	require.Equal(t, longest, longestWord)
	for _, s := range signals[1:] {
		require.NotZero(t, spaceNumbers[s.space], s.space)
	}
	require.Less(t, len(spaces), 128, "a namespace takes one byte")
}
