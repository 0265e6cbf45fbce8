package abuse

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/posthouse-im/posthouse/test/script"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream/pb"
)

const (
	badFormat     = pb.StreamCondition_STREAM_CONDITION_BAD_FORMAT
	violation     = pb.StreamCondition_STREAM_CONDITION_POLICY_VIOLATION
	notWellFormed = pb.StreamCondition_STREAM_CONDITION_NOT_WELL_FORMED
)

// A144: a frame's length is checked before its content is read.
func TestA144Lengths(t *testing.T) {
	s := open(t)
	on(t, s, compactEverywhere, func(t *testing.T, s *fixture, how script.Transport) {
		for state, begin := range s.boxes(how) {
			for name, row := range map[string]struct {
				in        []byte
				condition pb.StreamCondition
			}{
				"2^31":                {[]byte{0x80, 0x80, 0x80, 0x80, 0x08}, violation},
				"2^63":                {[]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}, badFormat},
				"minus one":           {protowire.AppendVarint(nil, 1<<64-1), violation},
				"eleven bytes":        {append([]byte(strings.Repeat("\xff", 10)), 1), violation},
				"eleven bytes for 1":  {append([]byte("\x81"+strings.Repeat("\x80", 9)), 0), badFormat},
				"nothing":             {[]byte{0}, badFormat},
				"one above the limit": {protowire.AppendVarint(nil, 256<<10+1), violation},
			} {
				about := name + ", " + state
				b := begin()
				b.send(row.in)
				e := b.fails(about, row.condition)
				if row.condition == violation {
					require.Equal(t, "stanza-too-big", wordOf(t, e.App), about)
				}
			}
		}
		for state, b := range map[string]*box{"before the header": s.box(how), "unauthenticated": s.box(how).open()} {
			b.send(protowire.AppendVarint(nil, 10_001))
			b.fails("before the login, "+state, violation)
		}
	})
}

// wordOf is the name of an element that has no number, or is the word of the test.
func wordOf(t *testing.T, e *pb.Element) string {
	t.Helper()
	require.NotNil(t, e)
	return e.LocalName
}

// bytesField is a field of a message: its number, and what is in it.
func bytesField(number protowire.Number, inner []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), inner)
}

// inMessage is a frame with a message that has one payload, given by its fields.
func inMessage(payload []byte) []byte { return withLength(bytesField(1, bytesField(10, payload))) }

// A145: frames that are small on the wire and large in memory, or deeply nested, end the stream. Unknown fields are
// skipped and cost nothing.
func TestA145Bombs(t *testing.T) {
	s := open(t)
	juliet := s.available(script.TCP, "juliet", "balcony")
	on(t, s, compactEverywhere, func(t *testing.T, s *fixture, how script.Transport) {
		nested := []byte(nil)
		for range 10_000 {
			nested = append(bytesField(4, []byte("a")), bytesField(7, nested)...)
		}
		name := bytesField(4, []byte("a"))
		for about, row := range map[string]struct {
			in        []byte
			condition pb.StreamCondition
		}{
			"nested": {inMessage(bytesField(1, nested)), violation},
			"many empty children": {inMessage(bytesField(1,
				append(name, strings.Repeat("\x3a\x00", 100_000)...))), violation},
			"many children": {inMessage(bytesField(1,
				append(name, strings.Repeat("\x3a\x03\x22\x01a", 40_000)...))), violation},
			"many empty payloads": {withLength(bytesField(1, bytes.Repeat([]byte("\x52\x00"), 100_000))),
				violation},
			"many attributes": {inMessage(bytesField(1,
				append(name, times(70, "\x2a\x05\x22\x03a%02d")...))), violation},
			"a field twice": {withLength(bytesField(1,
				append(bytesField(9, []byte("one")), bytesField(9, []byte("two"))...))), badFormat},
			"a group":                    {withLength(bytesField(1, []byte{0x4b, 0x4c})), badFormat},
			"a field beyond its message": {withLength([]byte{0x0a, 0x7f, 0x4a}), badFormat},
			"two kinds of frame":         {withLength(append(bytesField(1, nil), bytesField(2, nil)...)), badFormat},
			"an empty frame of no kind": {withLength([]byte{0x60, 0x00}),
				pb.StreamCondition_STREAM_CONDITION_UNSUPPORTED_STANZA_TYPE},
			"a number not in the table":   {inMessage(bytesField(1, []byte{0x18, 0xff, 0x7f})), badFormat},
			"a signal that there is none": {inMessage([]byte{0x20, 0x7f}), badFormat},
		} {
			b := s.box(how).login("romeo").bind("box")
			b.send(row.in)
			b.fails(about, row.condition)
		}
		b := s.box(how).login("romeo").bind("box")
		known, err := proto.Marshal(message("juliet@localhost", "after much").GetMessage())
		require.NoError(t, err)
		b.send(withLength(bytesField(1, append(bytesField(99, make([]byte, 200<<10)), known...))))
		require.Equal(t, "after much", body(next(t, juliet)))
		b.conn.Close()
	})
	nothing(t, juliet)
}

// A146: characters that XML does not allow are not accepted on a compact stream either.
func TestA146Text(t *testing.T) {
	s := open(t)
	juliet := s.available(script.TCP, "juliet", "balcony")
	on(t, s, compactEverywhere, func(t *testing.T, s *fixture, how script.Transport) {
		to := bytesField(1, []byte("juliet@localhost"))
		attr := func(name, value string) []byte {
			return bytesField(5, append(bytesField(4, []byte(name)), bytesField(5, []byte(value))...))
		}
		for _, bad := range []string{"\x00", "a\x01", "\x1f", "\x7f\xff", "\xc0\x80", "\xed\xa0\x80",
			"\xf4\x90\x80\x80", "\xe2\x82", "\ufffe", "\uffff", "\x0b"} {
			for about, payload := range map[string][]byte{
				"body":     bytesField(9, []byte(bad)),
				"id":       bytesField(3, []byte(bad)),
				"type":     bytesField(7, []byte(bad)),
				"language": bytesField(8, []byte(bad)),
				"subject":  bytesField(10, bytesField(17, bytesField(1, []byte(bad)))),
				"text": bytesField(10, bytesField(1,
					append(bytesField(4, []byte("a")), bytesField(6, []byte(bad))...))),
				"attribute": bytesField(10, bytesField(1, append(bytesField(4, []byte("a")), attr("b", bad)...))),
				"name":      bytesField(10, bytesField(1, bytesField(4, []byte("a"+bad)))),
				"namespace": bytesField(10, bytesField(1,
					append(bytesField(2, []byte("u"+bad)), bytesField(4, []byte("a"))...))),
			} {
				b := s.box(how).login("romeo").bind("box")
				b.send(withLength(bytesField(1, append(to, payload...))))
				b.fails(fmt.Sprintf("%q as %s", bad, about), notWellFormed)
			}
		}
		b := s.box(how).login("romeo").bind("box")
		b.frame(message("not an address@@", "x"))
		refused := b.next().GetMessage()
		require.Equal(t, pb.Type_TYPE_ERROR, refused.GetType(), "the stream goes on")
		b.frame(message("juliet@localhost", "sound"))
		require.Equal(t, "sound", body(next(t, juliet)))
		b.conn.Close()
	})
	nothing(t, juliet)
}

// A147: text that looks like XML stays text in every field, and names that would inject markup are refused.
func TestA147Injection(t *testing.T) {
	s := open(t)
	inXML := []*script.Client{s.available(script.TCP, "juliet", "balcony"),
		s.available(script.WebSocket, "juliet", "garden")}
	on(t, s, compactEverywhere, func(t *testing.T, s *fixture, how script.Transport) {
		b := s.box(how).login("romeo").bind("box")
		const evil = `</body></message><message from='admin@localhost' to="juliet@localhost"><body>&lt;&#0;<![CDATA[ ]]> --> ?>`
		m := message("juliet@localhost", evil).GetMessage()
		m.Identity = &pb.Stanza_Id{Id: evil}
		e := pbElement("urn:"+evil, "a", evil, "b", evil)
		m.Payload = []*pb.Payload{{Kind: &pb.Payload_Element{Element: e}},
			{Kind: &pb.Payload_Caps{Caps: &pb.Caps{Node: evil, Hash: evil}}}}
		b.frame(&pb.Frame{Kind: &pb.Frame_Message{Message: m}})
		for _, a := range inXML {
			n, _, err := a.Until(func(n *script.Element) bool { return n.Name.Local == "message" })
			require.NoError(t, err)
			require.Equal(t, evil, body(n))
			require.Equal(t, evil, n.Attr("id"))
			require.True(t, strings.HasPrefix(n.Attr("from"), "romeo@localhost/"))
			inner := n.Child("urn:"+evil, "a")
			require.NotNil(t, inner, "%v", n)
			require.Equal(t, evil, inner.Text)
			require.Equal(t, evil, inner.Attr("b"))
			require.Equal(t, evil, n.Child("http://jabber.org/protocol/caps", "c").Attr("node"))
		}
		b.conn.Close()
		for _, name := range []string{"a b", "a>", "a/", "<a", "", "1a", "a:b", "xmlns:a", "a='1'"} {
			b := s.box(how).login("romeo").bind("box")
			m.Payload = []*pb.Payload{{Kind: &pb.Payload_Element{Element: pbElement("u", name, "")}}}
			b.frame(&pb.Frame{Kind: &pb.Frame_Message{Message: m}})
			b.fails(fmt.Sprintf("name %q", name), notWellFormed)
		}
	})
	for _, a := range inXML {
		nothing(t, a)
	}
}

// A148: a message is the same for every reader, whichever transports it was sent and received on.
func TestA148OneForm(t *testing.T) {
	s := open(t)
	readers := map[script.Transport]*script.Client{}
	for _, how := range script.Transports() {
		readers[how] = s.available(how, "juliet", string(how))
	}
	var forms []string
	for _, how := range script.Transports() {
		romeo := s.connect(how, "romeo", "phone")
		tell(
			t, romeo,
			`<message xmlns='jabber:client' to='juliet@localhost' type='chat' id='f81d4fae-7dec-11d0-a765-00a0c91e6bf6' xml:lang='en'>
			<body>Soft! what light &lt;through&gt; yonder window 破晓?</body><active xmlns='http://jabber.org/protocol/chatstates'/>
			<request xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/><subject xml:lang='de'>Licht</subject>
			<x xmlns='urn:example:x' a='1' b=''><y>&amp; text</y><z xmlns='urn:example:z'/></x></message>`)
		var delivered []string
		for _, reader := range readers {
			n, _, err := reader.Until(func(n *script.Element) bool { return n.Child("jabber:client", "body") != nil })
			require.NoError(t, err)
			delivered = append(delivered, n.String())
		}
		for _, form := range delivered {
			require.Equal(t, delivered[0], form, "sent by %s", how)
		}
		n := ask(t, romeo, "h", "<iq xmlns='jabber:client' type='set' id='h'><query xmlns='urn:xmpp:mam:2'/></iq>")
		require.Equal(t, "result", n.Attr("type"))
		require.NoError(t, romeo.Leave())
	}
	for how, reader := range readers {
		tell(t, reader, "<iq xmlns='jabber:client' type='set' id='h'><query xmlns='urn:xmpp:mam:2'/></iq>")
		_, history, err := reader.Until(func(n *script.Element) bool { return n.Attr("id") == "h" })
		require.NoError(t, err)
		var seen []string
		for _, n := range history {
			if m := n.Find("jabber:client", "message"); m != nil {
				seen = append(seen, withoutIdentity(m))
			}
		}
		require.Len(t, seen, len(script.Transports()), how)
		forms = append(forms, seen...)
	}
	for _, form := range forms {
		require.Equal(t, forms[0], form)
	}
}

// withoutIdentity is a stored message without what differs from one to the next.
func withoutIdentity(n *script.Element) string {
	kept := n.Children[:0:0]
	for _, c := range n.Children {
		if c.Name.Local != "stanza-id" && c.Name.Local != "position" {
			kept = append(kept, c)
		}
	}
	n.Children = kept
	return n.String()
}

// A149: replayed frames are stored as one message, and impossible counters end the stream.
func TestA149Replay(t *testing.T) {
	s := open(t)
	juliet := s.available(script.TCP, "juliet", "balcony")
	on(t, s, compactEverywhere, func(t *testing.T, s *fixture, how script.Transport) {
		m := message("juliet@localhost", "once, "+string(how)).GetMessage()
		m.Payload = []*pb.Payload{{Kind: &pb.Payload_OriginId{OriginId: &pb.Id{Form: &pb.Id_Id{Id: "origin of " +
			string(how)}}}}}
		for range 3 {
			b := s.box(how).login("romeo").bind("box")
			for range 3 {
				b.frame(&pb.Frame{Kind: &pb.Frame_Message{Message: m}})
			}
			b.frame(&pb.Frame{Kind: &pb.Frame_Close{Close: &pb.Close{}}})
			for f := b.next(); f != nil; f = b.next() {
				require.Nil(t, f.GetError())
			}
		}
		require.Equal(t, "once, "+string(how), body(next(t, juliet)))
		nothing(t, juliet)

		b := s.box(how).login("romeo").bind("box")
		b.element(pbElement("urn:xmpp:sm:3", "enable", ""))
		require.NotNil(t, b.next().GetElement())
		b.frame(&pb.Frame{Kind: &pb.Frame_Ack{Ack: &pb.Ack{H: 7}}})
		b.fails("more acknowledged than sent", pb.StreamCondition_STREAM_CONDITION_UNDEFINED_CONDITION)
		for about, row := range map[string]struct {
			state     string
			frame     *pb.Frame
			condition pb.StreamCondition
		}{
			"a header again":             {"unauthenticated", header1(), violation},
			"a header on a bound stream": {"bound", header1(), violation},
			"a stanza first":             {"before the header", message("juliet@localhost", "too early"), badFormat},
			"a ping first": {"before the header", &pb.Frame{Kind: &pb.Frame_Ping{Ping: &pb.Ping{}}},
				badFormat},
			"a stanza before the login": {"unauthenticated", message("juliet@localhost", "too early"),
				pb.StreamCondition_STREAM_CONDITION_NOT_AUTHORIZED},
			"an error of the client's": {"bound", &pb.Frame{Kind: &pb.Frame_Error{Error: &pb.StreamError{}}},
				pb.StreamCondition_STREAM_CONDITION_UNSUPPORTED_STANZA_TYPE},
			"no schema": {"before the header",
				&pb.Frame{Kind: &pb.Frame_Open{Open: &pb.Open{To: proto.String("localhost"),
					Version: proto.String("1.0")}}},
				pb.StreamCondition_STREAM_CONDITION_UNSUPPORTED_VERSION},
		} {
			b := s.boxes(how)[row.state]()
			b.frame(row.frame)
			b.fails(about, row.condition)
		}
	})
	nothing(t, juliet)
}

// A1, A2: the login deadline of a compact stream is absolute: neither silence nor slow input nor pings extend it, in
// any state before a resource is bound.
func TestA1CompactSilence(t *testing.T) {
	t.Parallel()
	s := open(t, "c2s.login_timeout=2s")
	conns, drops := map[string]net.Conn{}, map[string]<-chan int{}
	conns["said nothing"] = s.box(script.CompactTCP).conn
	conns["in TLS"] = s.box(script.CompactTLS).conn
	conns["on a WebSocket"] = s.box(script.CompactWebSocket).conn
	conns["opened"] = s.box(script.CompactTCP).open().conn
	conns["logged in"] = s.box(script.CompactTCP).login("romeo").conn
	slow := func(about string, b *box, text string) { conns[about], drops[about] = b.conn, drip(b.conn, text) }
	slow("length", s.box(script.CompactTCP), "\x80")
	slow("frame", s.box(script.CompactTLS).open(), "\x90\x4e"+strings.Repeat("\x0a", 9999))
	slow("pings", s.box(script.CompactTCP).open(), "\x02\x32\x00")
	texts := endings(t, conns)
	for about := range drops {
		require.Positive(t, <-drops[about], about)
	}
	for _, about := range []string{"opened", "logged in", "pings"} {
		require.Contains(t, texts[about], "The login took too long.", about)
	}
	require.Empty(t, texts["said nothing"])
}

// A5: the listener of compact streams has no limit of its own for unauthenticated connections.
func TestA5CompactUnauthenticated(t *testing.T) {
	s := open(t, "auth.connections.unauthenticated=10")
	for range 10 {
		s.box(script.CompactTCP).open()
	}
	greeting, err := proto.Marshal(header1())
	require.NoError(t, err)
	for address, greeting := range map[string]string{s.Endpoints().Compact: string(withLength(greeting)),
		s.Endpoints().XMPP: header} {
		require.True(t, refused(t, "127.0.9.1", address, greeting))
	}
}

// A10 for the compact stream: the negotiated protocol is used, and bytes of the other codec end the stream.
func TestA10CompactMismatch(t *testing.T) {
	s := open(t)
	shakeWith := func(offer ...string) (*tls.Conn, error) {
		c := tls.Client(dial(t, "", s.Endpoints().XMPPTLS), &tls.Config{InsecureSkipVerify: true, NextProtos: offer})
		return c, c.Handshake()
	}
	for _, offer := range []string{"posthouse-compact-2", "posthouse-compact", "POSTHOUSE-COMPACT-1"} {
		_, err := shakeWith(offer)
		require.ErrorContains(t, err, "no application protocol", offer)
	}
	c, err := shakeWith("h2", compactName, "xmpp-client")
	require.NoError(t, err)
	require.Equal(t, compactName, c.ConnectionState().NegotiatedProtocol)

	v := s.visit(script.TCP)
	v.open()
	v.send(starttls)
	v.expect("<proceed", ">")
	err = tls.Client(v.conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{compactName}}).Handshake()
	require.ErrorContains(t, err, "no application protocol", "what began in XML goes on in XML")

	b := s.box(script.CompactTLS)
	b.send([]byte(header))
	b.fails("XML where compact was agreed on", badFormat)
	b = s.box(script.CompactTCP)
	b.send([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X: y\r\n", 20) + "\r\n"))
	b.fails("HTTP", badFormat)

	opened, err := proto.Marshal(header1())
	require.NoError(t, err)
	for name, offer := range map[string][]string{"no ALPN": nil, "XML's ALPN": {"xmpp-client"}} {
		c, err := shakeWith(offer...)
		require.NoError(t, err)
		v := &visitor{t: t, conn: c, in: c}
		v.send(string(withLength(opened)))
		require.Contains(t, v.rest(), "not-well-formed", name)
	}

	socket := s.box(script.CompactWebSocket)
	require.NoError(t, wsutil.WriteClientText(socket.conn, []byte(opening)))
	require.Nil(t, socket.next())
	require.EqualValues(t, 1003, socket.code)
	socket = s.box(script.CompactWebSocket)
	socket.send(append(withLength(opened), withLength(opened)...))
	socket.fails("two frames in a message", badFormat)
	socket = s.box(script.CompactWebSocket)
	socket.send(withLength(opened)[:5])
	socket.fails("half a frame in a message", badFormat)
}

// A8, A14, A16 for the compact stream: it has no STARTTLS. A proxy may terminate TLS, and no client can pretend to be
// it.
func TestA16CompactBehindProxy(t *testing.T) {
	const line = "PROXY TCP4 192.0.2.7 127.0.0.1 1234 5225\r\n"
	s := open(t)
	conn := dial(t, "", s.Endpoints().Compact)
	_, err := io.WriteString(conn, line)
	require.NoError(t, err)
	require.Empty(t, endings(t, map[string]net.Conn{"": conn})[""], "nobody is a proxy here")
	b := s.box(script.CompactTCP).open()
	b.element(pbElement(nsTLS, "starttls", ""))
	require.NotNil(t, b.next().GetElement())
	require.NotNil(t, b.next().GetClose())
	require.Nil(t, b.next())

	s = open(t, "listen.compact.proxy_from=127.0.0.1/32")
	b = s.box(script.CompactTCP)
	greeting, err := proto.Marshal(header1())
	require.NoError(t, err)
	b.send(withLength(greeting))
	require.Nil(t, b.next(), "from a proxy, without its header")
	b = s.box(script.CompactTCP)
	b.send([]byte(line))
	b.login("romeo").bind("far")
}

// A16 and A8: behind a proxy that terminates HTTPS, clients can log in on a WebSocket. Without it, remote clients
// cannot.
func TestA16WebSocketBehindProxy(t *testing.T) {
	for network, offered := range map[string]bool{"127.0.0.1/32": true, "192.0.2.1/32": false} {
		s := open(t, "listen.http.proxy_from="+network, "auth.plain_without_tls=false")
		conn := dial(t, "", s.Endpoints().HTTP)
		_, err := io.WriteString(conn, upgrade("X-Forwarded-For: 198.51.100.7"))
		require.NoError(t, err)
		v := &visitor{t: t, conn: conn, in: conn}
		v.expect("\r\n\r\n")
		v.framed = true
		require.Equal(t, offered, strings.Contains(v.open(), "<mechanism>PLAIN</mechanism>"), network)
	}
}
