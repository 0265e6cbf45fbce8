package pbstream

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream/pb"
)

var update = flag.Bool("update", false, "write the published files and the tables of docs/protocol/compact.md anew")

// command is what writes the published files.
const command = "go test ./wire/stream/pbstream -run TestPublished -update"

// page is the specification. What it prints between two marks is what the code does.
const page = "../../../docs/protocol/compact.md"

// What dictionary.json has.
type (
	published struct {
		GeneratedBy      string               `json:"generated_by"`
		Protocol         string               `json:"protocol"`
		Schema           int                  `json:"schema"`
		Namespaces       []*string            `json:"namespaces"`
		Words            []*string            `json:"words"`
		Types            []*string            `json:"types"`
		StreamConditions []*string            `json:"stream_conditions"`
		Signals          []*element           `json:"signals"`
		Payloads         []*jsonForm          `json:"payloads"`
		Forms            map[string]*jsonForm `json:"forms"`
	}
	element struct {
		Namespace string `json:"namespace"`
		Element   string `json:"element"`
		Text      string `json:"text,omitempty"`
	}
	jsonForm struct {
		Name string `json:"name"`
		As   string `json:"as,omitempty"` // of a payload that is not a message with fields
		*element
		Within  string       `json:"within,omitempty"`
		Implied *jsonImplied `json:"implied,omitempty"`
		Fields  []*jsonField `json:"fields,omitempty"`
	}
	jsonImplied struct {
		Attribute string `json:"attribute"`
		Is        string `json:"is"`
	}
	jsonField struct {
		Number    uint32    `json:"number"`
		As        string    `json:"as"`
		Attribute string    `json:"attribute,omitempty"`
		Namespace string    `json:"namespace,omitempty"`
		Names     []*string `json:"names,omitempty"`
		Child     string    `json:"child,omitempty"`
		Form      string    `json:"form,omitempty"`
		Repeated  bool      `json:"repeated,omitempty"`
	}
)

// listed returns a list by number, of which the first is not used.
func listed[T ~string](list []T) (out []*string) {
	for i, s := range list {
		text := string(s)
		if out = append(out, &text); i == 0 {
			out[0] = nil
		}
	}
	return out
}

var asNames = map[as]string{
	asText: "text", asUUID: "uuid", asKey: "key", asData: "data",
	asNumber: "number", asMillis: "millis", asSeconds: "seconds",
	asName: "name", asOwn: "own", asChild: "child", asForm: "form", asPayload: "payload",
}

func publishForm(f *form, name string, others map[string]*jsonForm) *jsonForm {
	out := &jsonForm{Name: name, element: &element{Namespace: f.space, Element: f.local}, Within: f.within}
	if what := map[implied]string{ofStanza: "stanza-id", ofAccount: "account", sha1: "sha-1"}[f.implied]; what != "" {
		out.Implied = &jsonImplied{Attribute: f.fields[0].name, Is: what}
	}
	for i := range f.fields {
		x := &f.fields[i]
		to := &jsonField{Number: x.number, As: asNames[x.as], Namespace: x.space}
		to.Repeated = x.repeated || x.as == asPayload
		switch {
		case f.text:
			to.As = "content"
		case x.as == asChild:
			to.Child = x.name
		case x.as == asForm:
			to.Form = x.of.name
			if others[x.of.name] == nil {
				others[x.of.name] = publishForm(x.of, x.of.name, others)
			}
		default:
			if to.Attribute = x.name; x.names != nil {
				to.Names = listed(x.names)
			}
		}
		out.Fields = append(out.Fields, to)
	}
	return out
}

func publish() *published {
	out := &published{
		GeneratedBy: command, Protocol: "posthouse-compact-1", Schema: Schema,
		Namespaces: listed(spaces[:]), Words: listed(words[:]),
		Types: listed(types[:]), StreamConditions: listed(conditions[:]),
		Signals: []*element{nil}, Payloads: []*jsonForm{nil}, Forms: make(map[string]*jsonForm),
	}
	for _, s := range signals[1:] {
		out.Signals = append(out.Signals, &element{Namespace: s.space, Element: s.local, Text: s.text})
	}
	kinds := (&pb.Payload{}).ProtoReflect().Descriptor().Fields()
	for i := 1; i < len(forms); i++ {
		name := string(kinds.ByNumber(protoreflect.FieldNumber(i)).Name())
		switch {
		case forms[i] != nil:
			out.Payloads = append(out.Payloads, publishForm(forms[i], name, out.Forms))
		case i == kindPosition:
			position := &element{Namespace: nsPosition, Element: "position"}
			out.Payloads = append(out.Payloads, &jsonForm{Name: name, As: "number", element: position})
		default:
			out.Payloads = append(out.Payloads, &jsonForm{Name: name, As: name})
		}
	}
	return out
}

// asJSON writes a document.
func asJSON(t testing.TB, v any) string {
	var all bytes.Buffer
	e := json.NewEncoder(&all)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	require.NoError(t, e.Encode(v))
	return all.String()
}

// hexOf returns the frame of a step.
func hexOf(t testing.TB, s *step) pieces {
	var wire []byte
	xml := string(s.XML)
	switch {
	case s.Says == sayOpen:
		wire = Codec{}.AppendOpen(nil, headers[s.From])
	case s.Says == sayPing:
		wire = Codec{}.AppendPing(nil)
	case s.Says == sayPong:
		wire = Codec{}.AppendPong(nil)
	case s.Says == sayClose:
		wire = Codec{}.AppendClose(nil)
	case s.Says == sayError:
		wire = Codec{}.AppendError(nil, streamError(t, xml))
	case isStanza(xml):
		wire = Codec{}.AppendStanza(nil, fromXML(t, xml))
	default:
		wire = Codec{}.AppendElement(nil, elementXML(t, xml))
	}
	return pieces(hex.EncodeToString(wire))
}

func isStanza(xml string) bool {
	return strings.HasPrefix(xml, "<message") || strings.HasPrefix(xml, "<presence") || strings.HasPrefix(xml, "<iq")
}

// streamError reads the XML of a stream error.
func streamError(t testing.TB, xml string) *stream.Error {
	const declared = "<stream:error xmlns:stream='" + stanza.NSStream + "'>"
	e := elementXML(t, strings.Replace(xml, "<stream:error>", declared, 1))
	out := &stream.Error{}
	for child := range e.Elements {
		switch {
		case child.Space != stream.NSErrors:
			out.App = child
		case child.Local == "text":
			out.Text = child.Text()
		default:
			out.Condition = stream.Condition(child.Local)
		}
	}
	return out
}

// protocolMessages cuts the messages out of compact.proto that the page prints.
func protocolMessages(t testing.TB) string {
	in, err := os.ReadFile("pb/compact.proto")
	require.NoError(t, err)
	var out []string
	for _, name := range []string{
		"Frame", "Open", "Close", "Ping", "Pong", "Ack", "AckRequest", "StreamError", "Stanza", "Element", "Attr",
		"Node",
	} {
		_, rest, ok := strings.Cut(string(in), "\nmessage "+name+" {")
		require.True(t, ok, name)
		end := "\n}\n"
		if strings.HasPrefix(rest, "}") {
			end = "}\n"
		}
		body, _, ok := strings.Cut(rest, end)
		require.True(t, ok, name)
		out = append(out, "message "+name+" {"+body+end)
	}
	return "```proto\n" + strings.Join(out, "\n") + "```\n"
}

// tables are what the page prints between marks.
func tables(t testing.TB) map[string]string {
	var kinds, size strings.Builder
	kinds.WriteString("| number | kind | element | namespace | attributes, and children in order |\n")
	kinds.WriteString("|---|---|---|---|---|\n")
	p := publish()
	for i, k := range p.Payloads[1:] {
		switch {
		case k.As == "element" || k.As == "signal":
			what := map[string]string{"element": "any", "signal": "one of `signals`"}[k.As]
			fmt.Fprintf(&kinds, "| %d | `%s` | %s | | |\n", i+1, k.Name, what)
		default:
			attributes := "`number`, which is the value of the field"
			if k.As == "" {
				attributes = k.describe()
			}
			fmt.Fprintf(&kinds, "| %d | `%s` | `%s` | `%s` | %s |\n", i+1, k.Name, k.Element, k.Namespace, attributes)
		}
	}
	size.WriteString("| what | XML | compact | |\n|---|---|---|---|\n")
	for _, s := range sizes {
		xml, compact := lengths(t, s.xml)
		percent := float64(100*len(compact)) / float64(xml)
		fmt.Fprintf(&size, "| %s | %d | %d | %.1f %% |\n", s.name, xml, len(compact), percent)
	}
	for _, s := range loginSizes(t) {
		percent := float64(100*s.compact) / float64(s.xml)
		fmt.Fprintf(&size, "| %s | %d | %d | %.1f %% |\n", s.name, s.xml, s.compact, percent)
	}
	return map[string]string{"messages": protocolMessages(t), "payloads": kinds.String(), "sizes": size.String()}
}

// describe names attributes and children for people.
func (f *jsonForm) describe() string {
	var parts []string
	for _, x := range f.Fields {
		part := ""
		switch {
		case x.As == "content":
			part = "text"
		case x.As == "payload":
			part = "payloads"
		case x.Child != "":
			part = "`<" + x.Child + "/>`"
		case x.Form == "Stanza":
			part = "`<message/>`"
		case x.Form == "Delay":
			part = "`<delay/>`"
		case x.Form != "":
			part = "`<item/>`"
		default:
			part = "`" + x.Attribute + "`"
		}
		if !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	if f.Within != "" {
		parts = append(parts, "these in `<"+f.Within+"/>`")
	}
	return strings.Join(parts, ", ")
}

// TestPublished holds the published files and the page to the code.
func TestPublished(t *testing.T) {
	examples := map[string]any{"generated_by": command, "schema": Schema, "exchanges": exchanges(t)}
	for name, want := range map[string]string{
		"dictionary.json": asJSON(t, publish()),
		"vectors.json":    asJSON(t, examples),
	} {
		have, err := os.ReadFile(name)
		if *update {
			require.NoError(t, os.WriteFile(name, []byte(want), 0o644))
			continue
		}
		require.NoError(t, err)
		require.Equal(t, want, string(have),
			"%s differs from the code; a schema that is published must not change. To write it anew: %s", name, command)
	}
	in, err := os.ReadFile(page)
	require.NoError(t, err)
	text := string(in)
	all := tables(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		begin, finish := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->\n"
		before, rest, ok := strings.Cut(text, begin)
		require.True(t, ok, begin)
		have, after, ok := strings.Cut(rest, finish)
		require.True(t, ok, finish)
		if *update {
			text = before + begin + all[name] + finish + after
			continue
		}
		require.Equal(t, all[name], have, "%s differs from the code. To write it anew: %s", page, command)
	}
	if *update && text != string(in) {
		require.NoError(t, os.WriteFile(page, []byte(text), 0o644))
	}
}

// TestVectors decodes the vectors as they are published.
func TestVectors(t *testing.T) {
	var file struct{ Exchanges []exchange }
	require.NoError(t, json.Unmarshal([]byte(Vectors()), &file))
	names := make(map[string]bool)
	for _, x := range file.Exchanges {
		require.False(t, names[x.Name], x.Name)
		names[x.Name] = true
		for _, s := range x.Steps {
			wire, err := hex.DecodeString(string(s.Hex))
			require.NoError(t, err)
			d := openedDecoder(t, stream.Limits{})
			if s.Says == sayOpen {
				d.Restart()
			}
			items, failed := drain(d, wire, whole)
			require.Nil(t, failed, "%s: %s", x.Name, s.Says)
			require.Len(t, items, 1)
			checkOracle(t, wire, items[0])
			xml := string(s.XML)
			switch {
			case s.Says == sayOpen:
				require.Equal(t, headers[s.From], items[0].Header)
			case s.Says == sayError:
				want := streamError(t, xml).Element()
				require.True(t, want.Equal(items[0].Element), "%s: %s", x.Name, s.Says)
			case isStanza(xml):
				require.True(t, fromXML(t, xml).Equal(items[0].Stanza), "%s: %s", x.Name, s.Says)
			case xml != "" && s.Says != sayClose:
				require.True(t, elementXML(t, xml).Equal(items[0].Element), "%s: %s", x.Name, s.Says)
			}
			// The generated marshaller needs as many bytes as we do; it puts the fields of a oneof last.
			prefix, _, failed := length(wire, 1<<20)
			require.Nil(t, failed)
			var f pb.Frame
			require.NoError(t, proto.Unmarshal(wire[prefix:], &f))
			again, err := proto.Marshal(&f)
			require.NoError(t, err)
			require.Len(t, again, len(wire)-prefix, "%s: %s: generated %x", x.Name, s.Says, again)
		}
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
	for _, f := range forms {
		require.True(t, f == nil || spaceNumbers[f.space] != 0)
	}
	require.Less(t, len(spaces), 128, "a namespace takes one byte")
}
