package interop

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/posthouse-im/posthouse/test/clients"
	"github.com/posthouse-im/posthouse/test/flakyproxy"
	"github.com/posthouse-im/posthouse/test/nodetest"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// compiled checks and compiles the client in TypeScript, and returns the program.
func compiled(t *testing.T) string {
	t.Helper()
	folder, err := filepath.Abs(filepath.Join("..", "clients"))
	require.NoError(t, err)
	out := t.TempDir()
	compiler := filepath.Join(folder, "node_modules", "typescript", "bin", "tsc")
	require.FileExists(t, compiler, "this test needs TypeScript: run test/setup.sh")
	cmd := exec.Command("node", compiler, "--strict", "--noEmitOnError", "--target", "es2022",
		"--module", "nodenext", "--types", "node", "--outDir", out, "compact_person.mts")
	cmd.Dir = folder
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", text)
	return filepath.Join(out, "compact_person.mjs")
}

func published(node *nodetest.Node, name string) string {
	return "http://" + node.Endpoints().HTTP + "/v1/compact/" + name + ".json"
}

// connectTS connects a person on the client in TypeScript.
func connectTS(t *testing.T, p *clients.Person, node *nodetest.Node, address, username string) clients.Event {
	t.Helper()
	host, port := split(t, address)
	p.Do("connect", "host", host, "port", port, "domain", "localhost", "username", username, "password", password,
		"device", "8d1e2b3c-"+username, "published", published(node, "dictionary"))
	online := p.Tells("online")
	require.Equal(t, "SCRAM-SHA-256", online["mechanism"])
	return online
}

// TestCompactClient: a client in TypeScript that was written from docs/protocol/compact.md and what it refers to.
func TestCompactClient(t *testing.T) {
	t.Parallel()
	program := compiled(t)
	t.Run("chat", func(t *testing.T) { testChat(t, program) })
	t.Run("vectors", func(t *testing.T) { testVectors(t, program) })
	t.Run("later schema", func(t *testing.T) { testLaterSchema(t, program) })
}

// testChat: it does what a chat client does, with somebody on XMPP.
func testChat(t *testing.T, program string) {
	node := newNode(t, "romeo", "juliet")
	proxy := flakyproxy.New(t, node.Endpoints().Compact)
	romeo, second := clients.New(t, "romeo", "node", program), clients.New(t, "second", "node", program)
	juliet := clients.Slixmpp(t, "juliet")
	first := connectTS(t, romeo, node, proxy.Addr(), "romeo")
	require.Regexp(t, `^romeo@localhost/ts~.{16}$`, first["jid"])
	connectSlix(t, juliet, node.Endpoints().XMPP, "juliet@localhost/balcony")
	connectTS(t, second, node, node.Endpoints().Compact, "juliet")

	// A login with the token, and one whose token is refused, which falls back on the password.
	for _, token := range []string{"", "not-a-token-of-this-server"} {
		romeo.Do("leave")
		romeo.Tells("disconnected")
		want := "HT-SHA-256-NONE"
		if token != "" {
			romeo.Do("forget", "token", token)
			want = "SCRAM-SHA-256"
		}
		romeo.Do("return")
		online := romeo.Tells("online")
		require.Equal(t, want, online["mechanism"])
		require.Equal(t, false, online["resumed"])
	}

	romeo.Do("send", "to", "juliet@localhost", "body", "But soft! 破晓 🌹")
	confirmed := romeo.Tells("confirmed")
	require.Equal(t, "juliet@localhost", confirmed["conversation"])
	require.Equal(t, "1", confirmed["number"])
	juliet.Tells("message", "body", "But soft! 破晓 🌹")
	got := second.Tells("message", "body", "But soft! 破晓 🌹", "number", 1)
	require.Equal(t, confirmed["stanza-id"], got["archived"])
	juliet.Do("send", "to", "romeo@localhost", "body", "Ay me!")
	got = romeo.Tells("message", "body", "Ay me!", "from", "juliet@localhost/balcony", "number", 2)
	second.Do("marker", "to", "romeo@localhost", "kind", "read", "number", 1)
	romeo.Tells("marker", "kind", "read", "number", 1)

	// Its connection is cut: it resumes, and nothing is lost or comes twice.
	proxy.Down()
	romeo.Tells("disconnected")
	juliet.Do("send", "to", "romeo@localhost", "body", "meanwhile")
	juliet.Do("history")
	require.Len(t, juliet.Tells("history")["bodies"], 4, "three messages, and how far she has read")
	romeo.Do("send", "to", "juliet@localhost", "body", "into the void")
	proxy.Up()
	online := romeo.Tells("online", "resumed", true)
	require.Equal(t, "HT-SHA-256-NONE", online["mechanism"])
	romeo.Tells("message", "body", "meanwhile", "number", 3)
	juliet.Tells("message", "body", "into the void")
	romeo.Tells("confirmed", "number", 4)
	require.Zero(t, romeo.Told("Ay me!"), "a message came twice")

	romeo.Do("history", "who", "juliet@localhost", "max", 4)
	require.Equal(t, []any{"Ay me!", nil, "meanwhile", "into the void"}, bodies(romeo.Tells("history")),
		"with her read marker in between")
	romeo.Do("sync")
	synced := romeo.Tells("synced")
	require.Equal(t, []any{"But soft! 破晓 🌹", "Ay me!", "meanwhile", "into the void"}, bodies(synced))
	require.Equal(t, "juliet@localhost", synced["conversations"].([]any)[0].(map[string]any)["with"])
	romeo.Do("sync", "cursor", synced["cursor"])
	require.Empty(t, romeo.Tells("synced")["messages"])
	require.Equal(t, got["archived"], synced["messages"].([]any)[1].(map[string]any)["archived"])
}

func bodies(e clients.Event) (out []any) {
	for _, m := range e["messages"].([]any) {
		out = append(out, m.(map[string]any)["body"])
	}
	return out
}

// testVectors: it reads each frame of the test vectors as the XML beside it says.
func testVectors(t *testing.T, program string) {
	node := newNode(t)
	romeo := clients.New(t, "romeo", "node", program)
	var file struct {
		Exchanges []struct {
			Steps []struct {
				Says     string
				XML, Hex []string // in pieces
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(pbstream.Vectors()), &file))
	var frames, want []string
	for _, x := range file.Exchanges {
		for _, s := range x.Steps {
			xml := strings.Join(s.XML, "")
			if strings.HasPrefix(xml, "<stream:") || strings.HasPrefix(xml, "</") || xml == "" {
				continue // no element
			}
			frames = append(frames, withoutLength(t, strings.Join(s.Hex, "")))
			e, err := xmlstream.UnmarshalElement([]byte(inClient(xml)))
			require.NoError(t, err)
			want = append(want, canonical(e))
		}
	}
	romeo.Do("read", "published", published(node, "dictionary"), "frames", frames)
	for i, got := range romeo.Tells("read")["frames"].([]any) {
		require.Equal(t, want[i], told(got), frames[i])
	}
}

// testLaterSchema: it survives what a later schema may have.
func testLaterSchema(t *testing.T, program string) {
	node := newNode(t)
	romeo := clients.New(t, "romeo", "node", program)
	part := func(number protowire.Number, data ...byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), data)
	}
	numbered := func(number protowire.Number, n uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), n)
	}
	message := func(parts ...[]byte) string { return hex.EncodeToString(part(1, bytes.Join(parts, nil)...)) }
	body := part(9, 'a')
	const withBody = "({jabber:client}body[](a))"
	for name, test := range map[string]struct{ frame, want string }{
		"kind of frame":   {hex.EncodeToString(part(99, 'a')), ""},
		"field":           {message(part(99, 'a'), body, numbered(98, 1)), "{jabber:client}message[]" + withBody},
		"kind of payload": {message(part(10, part(99, 'a')...), body), "{jabber:client}message[]" + withBody},
		"signal":          {message(part(10, numbered(2, 999)...), body), "{jabber:client}message[]" + withBody},
		"type":            {message(numbered(6, 99), body), "{jabber:client}message[type=unknown-99]" + withBody},
		"field of a form": {message(part(10, part(8, append(numbered(1, 42), part(99, 'x')...)...)...)),
			"{jabber:client}message[]({urn:posthouse:marker:1}read[number=42]())"},
		"names": {message(part(10, part(1, append(numbered(1, 999), numbered(3, 9999)...)...)...)),
			"{jabber:client}message[]({unknown-999}unknown-9999[]())"},
	} {
		romeo.Do("read", "published", published(node, "dictionary"), "frames", []string{test.frame})
		got := romeo.Tells("read")["frames"].([]any)[0]
		if test.want == "" {
			require.Nil(t, got, name)
		} else {
			require.Equal(t, test.want, told(got), name)
		}
	}
}

// withoutLength cuts the length off a frame.
func withoutLength(t *testing.T, text string) string {
	wire, err := hex.DecodeString(text)
	require.NoError(t, err)
	_, n := binary.Uvarint(wire)
	return hex.EncodeToString(wire[n:])
}

// inClient puts a stanza into its namespace.
func inClient(xml string) string {
	for _, name := range []string{"<message", "<presence", "<iq"} {
		if rest, ok := strings.CutPrefix(xml, name); ok {
			return name + " xmlns='" + stanza.NSClient + "'" + rest
		}
	}
	return xml
}

// canonical is an element as a text that does not depend on the order of attributes.
func canonical(e *stanza.Element) string {
	attrs := make(map[string]string)
	for _, a := range e.Attrs {
		name := a.Local
		if a.Space != "" {
			name = "{" + a.Space + "}" + name
		}
		attrs[name] = a.Value
	}
	inside := e.Text()
	for child := range e.Elements {
		inside += canonical(child)
	}
	return written(e.Space, e.Local, attrs, inside)
}

// told is the same of an element that the client tells.
func told(v any) string {
	e := v.(map[string]any)
	attrs := make(map[string]string)
	for name, value := range e["attrs"].(map[string]any) {
		attrs[name] = value.(string)
	}
	inside := e["text"].(string)
	for _, child := range e["children"].([]any) {
		inside += told(child)
	}
	return written(e["space"].(string), e["name"].(string), attrs, inside)
}

func written(space, local string, attrs map[string]string, inside string) string {
	var list []string
	for name, value := range attrs {
		list = append(list, name+"="+value)
	}
	sort.Strings(list)
	return fmt.Sprintf("{%s}%s[%s](%s)", space, local, strings.Join(list, " "), inside)
}
