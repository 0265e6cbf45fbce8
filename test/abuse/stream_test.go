package abuse

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/script"
)

// nasty is content that must end a stream wherever it occurs, with the condition. The parser's own tests have about a
// hundred more; these are tried on every transport and in every state.
var nasty = []struct{ row, name, in, condition string }{
	{"A17", "mismatched tag", "<a></b>", "not-well-formed"},
	{"A17", "duplicate attribute", "<a x='1' x='2'/>", "not-well-formed"},
	{"A17", "duplicate by namespace", "<a xmlns:p='u' xmlns:q='u' p:x='1' q:x='2'/>", "not-well-formed"},
	{"A17", "undeclared prefix", "<p:a/>", "not-well-formed"},
	{"A17", "prefix xmlns bound", "<a xmlns:xmlns='u'/>", "not-well-formed"},
	{"A17", "two minuses", "<--a/>", "not-well-formed"},
	{"A17", "reference to NUL", "<a>&#0;</a>", "not-well-formed"},
	{"A17", "reference to half a character", "<a>&#xD800;</a>", "not-well-formed"},
	{"A17", "raw NUL", "<a>\x00</a>", "not-well-formed"},
	{"A17", "end of a section without one", "<a>]]></a>", "not-well-formed"},
	{"A17", "newline in a namespace", "<a xmlns='jabber:client&#10;'/>", "not-well-formed"},
	{"A18", "comment", "<!-- x -->", "restricted-xml"},
	{"A18", "processing instruction", "<?php x?>", "restricted-xml"},
	{"A18", "document type", "<!DOCTYPE a [<!ENTITY b 'c'>]>", "restricted-xml"},
	{"A18", "entity", "<a>&nbsp;</a>", "restricted-xml"},
	{"A19", "overlong", "<a>\xc0\xaf</a>", "unsupported-encoding"},
	{"A19", "overlong NUL", "<a>\xc0\x80</a>", "unsupported-encoding"},
	{"A19", "surrogates", "<a>\xed\xa0\xbd\xed\xb8\x80</a>", "unsupported-encoding"},
	{"A19", "cut off", "<a x='\xe2\x82'/>", "unsupported-encoding"},
	{"A22", "too deep", strings.Repeat("<a>", 100), "policy-violation"},
	{"A22", "too many attributes", "<a" + times(70, " a%d=''") + "/>", "policy-violation"},
	{"A22", "too many namespaces", "<a" + times(40, " xmlns:n%d='u'") + "/>", "policy-violation"},
	{"A22", "too long a name", "<" + strings.Repeat("a", 300) + "/>", "policy-violation"},
}

func times(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// A17, A18, A19, A22, and rows 3, 10, 12 and 40 of the advisories: XML that XMPP does not allow ends the stream, on
// every transport, before and after the login, and is not delivered to anybody.
func TestA17MalformedXML(t *testing.T) {
	s := open(t)
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		for _, row := range nasty {
			about := row.row + " " + row.name
			v := s.visit(how)
			v.open()
			v.sendStanza("<iq type='get' id='1'>" + row.in + "</iq>")
			requireRefused(t, v, row.condition, about+", unauthenticated")

			v = s.visit(how).login("romeo")
			v.bind("phone")
			v.sendStanza("<message to='juliet@localhost'><body>x</body>" + row.in + "</message>")
			requireRefused(t, v, row.condition, about+", logged in")
		}
	})
	nothing(t, s.available(script.TCP, "juliet", "balcony"))
}

// requireFails is fails with a description of what was tried.
func requireFails(t *testing.T, v *visitor, condition, about string) {
	t.Helper()
	ok := t.Run(about, func(t *testing.T) {
		inner := v.t
		v.t = t
		defer func() { v.t = inner }()
		v.fails(condition)
	})
	require.True(t, ok)
}

// requireRefused is requireFails for what the WebSocket itself may have to refuse: bad UTF-8 (RFC 6455 §8.1).
func requireRefused(t *testing.T, v *visitor, condition, about string) {
	t.Helper()
	if v.framed && condition == "unsupported-encoding" {
		v.rest()
		require.Equal(t, ws.StatusInvalidFramePayloadData, v.code, about)
		return
	}
	requireFails(t, v, condition, about)
}

// streamHeader is a header with one thing changed.
func streamHeader(old, new string) string { return strings.Replace(header, old, new, 1) }

func openElement(old, new string) string { return strings.Replace(opening, old, new, 1) }

// A17 to A19, A25 to A31, A33: what can be wrong with the stream itself.
func TestA25StreamHeaders(t *testing.T) {
	s := open(t, "c2s.gone_domains=old.example")
	for _, row := range []struct {
		row, name string
		how       script.Transport
		in        string
		condition string
	}{
		{"A17", "HTTP", script.TCP, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "not-well-formed"},
		{"A17", "TLS", script.TCP, "\x16\x03\x01\x02\x00\x01", "not-well-formed"},
		{"A17", "XML 1.1", script.TCP, streamHeader("'1.0'?>", "'1.1'?>"), "not-well-formed"},
		{"A18", "comment", script.TCP, "<!-- -->" + header, "restricted-xml"},
		{"A19", "UTF-16", script.TCP, "\xff\xfe<\x00?\x00", "unsupported-encoding"},
		{"A19", "UTF-16 declared", script.TCP, streamHeader("?>", " encoding='UTF-16'?>"), "unsupported-encoding"},
		{"A19", "byte order mark in the middle", script.TCP, header + "\ufeff", "unsupported-encoding"},
		{"A24", "text between stanzas", script.TCP, header + "hello", "bad-format"},
		{"A25", "stream namespace", script.TCP, streamHeader("etherx.jabber.org", "example.org"), "invalid-namespace"},
		{"A25", "content namespace", script.TCP, streamHeader("jabber:client", "jabber:server"), "invalid-namespace"},
		{"A26", "prefix", script.TCP, strings.ReplaceAll(strings.ReplaceAll(header, "stream:stream", "flood:stream"),
			"xmlns:stream", "xmlns:flood"), "bad-namespace-prefix"},
		{"A27", "version 0.9", script.TCP, streamHeader("version='1.0' to", "version='0.9' to"), "unsupported-version"},
		{"A27", "no version", script.TCP, streamHeader("version='1.0' to", "to"), "unsupported-version"},
		{"A28", "unknown host", script.TCP, streamHeader("to='localhost'", "to='example.org'"), "host-unknown"},
		{"A28", "host that was", script.TCP, streamHeader("to='localhost'", "to='old.example'"), "host-gone"},
		{"A29", "no address", script.TCP, streamHeader(" to='localhost'", ""), "improper-addressing"},
		{"A29", "empty address", script.TCP, streamHeader("'localhost'", "''"), "improper-addressing"},
		{"A29", "malformed address", script.TCP, streamHeader("'localhost'", "'@localhost'"), "improper-addressing"},
		{"A29", "address of a person", script.TCP, streamHeader("'localhost'", "'romeo@localhost'"),
			"improper-addressing"},
		{"A30", "unknown element", script.TCP, header + "<body xmlns='http://jabber.org/protocol/httpbind'/>",
			"unsupported-stanza-type"},
		{"A33", "header again", script.TCP, header + strings.TrimPrefix(header, "<?xml version='1.0'?>"),
			"policy-violation"},
		{"A33", "declaration again", script.TCP, header + header, "not-well-formed"},

		{"A24", "text", script.WebSocket, "GET / HTTP/1.1", "bad-format"},
		{"A18", "comment", script.WebSocket, "<!-- -->" + opening, "restricted-xml"},
		{"A27", "version 0.9", script.WebSocket, openElement("1.0", "0.9"), "unsupported-version"},
		{"A28", "unknown host", script.WebSocket, openElement("'localhost'", "'example.org'"), "host-unknown"},
		{"A28", "host that was", script.WebSocket, openElement("'localhost'", "'old.example'"), "host-gone"},
		{"A29", "no address", script.WebSocket, openElement(" to='localhost'", ""), "improper-addressing"},
		{"A109", "header of TCP", script.WebSocket, strings.TrimPrefix(header, "<?xml version='1.0'?>"),
			"invalid-namespace"},
		{"A109", "stanza without a stream", script.WebSocket, "<message xmlns='jabber:client'/>", "invalid-namespace"},
	} {
		t.Run(row.row+" "+row.name+" "+string(row.how), func(t *testing.T) {
			inner := *s
			inner.t = t
			v := inner.visit(row.how)
			v.send(row.in)
			v.fails(row.condition)
		})
	}
	t.Run("A27 a later version is answered with ours", func(t *testing.T) {
		v := s.visit(script.TCP)
		v.send(streamHeader("version='1.0' to", "version='2.0' to"))
		require.Contains(t, v.expect("<stream:stream", ">"), "version='1.0'")
		v.expect("</stream:features>")
	})
}

// A20: entity expansion is impossible: a document type declaration ends the stream.
func TestA20BillionLaughs(t *testing.T) {
	s := open(t)
	v := s.visit(script.TCP)
	v.send("<?xml version='1.0'?><!DOCTYPE") // and no more
	v.fails("restricted-xml")
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		v := s.visit(how)
		v.open()
		v.send("<!DOCTYPE") // likewise
		v.fails("restricted-xml")
	})
}

// A21: the size limit of a stanza holds while it is received, not only when it is complete.
func TestA21StanzaTooBig(t *testing.T) {
	s := open(t)
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		stanza := func(size int) string {
			return "<iq xmlns='jabber:client' type='get' id='1' to='localhost'><ping xmlns='urn:xmpp:ping'/><x " +
				"xmlns='u'>" + strings.Repeat("a", size)
		}
		v := s.visit(how)
		v.open()
		v.send(stanza(10_001)) // never ends
		tooBig(t, v)

		v = s.visit(how)
		v.open()
		text := strings.Repeat("=", 9_800) // RFC 6120 §13.12: whatever has fewer than 10,000 bytes must be possible
		v.send(saslAuth("PLAIN", text))
		condition, _ := v.failure()
		require.Equal(t, "incorrect-encoding", condition)

		v = s.visit(how).login("romeo")
		v.bind("phone")
		v.send(stanza(250_000) + "</x></iq>")
		v.expect("<bad-request", "</iq>") // for its two children
		v.send(stanza(256 << 10))
		tooBig(t, v)
	})
}

func tooBig(t *testing.T, v *visitor) {
	t.Helper()
	// the length of a frame is told before the frame: there is no stream to say it on, RFC 6455 §7.4.1 has a code for
	// it
	if v.framed {
		v.rest()
		require.EqualValues(t, 1009, v.code)
		return
	}
	require.Contains(t, v.fails("policy-violation"), "<stanza-too-big xmlns='urn:xmpp:errors'/>")
}

// A22: the number of elements is limited, with a low limit before the login.
func TestA22TooManyElements(t *testing.T) {
	s := open(t)
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		v := s.visit(how)
		v.open()
		v.sendStanza("<iq type='get' id='1'>" + strings.Repeat("<a/>", 32) + "</iq>")
		v.fails("policy-violation")
		v = s.visit(how).login("romeo")
		v.bind("phone")
		v.sendStanza("<message to='romeo@localhost/phone'>" + strings.Repeat("<a/>", 4990) + "</message>")
		v.expect("</message>")
		v.sendStanza("<message to='romeo@localhost/phone'>" + strings.Repeat("<a/>", 5000) + "</message>")
		v.fails("policy-violation")
	})
}

// A23: white space between stanzas is allowed, but too much of it ends the stream.
func TestA23Whitespace(t *testing.T) {
	s := open(t)
	v := s.visit(script.TCP).login("romeo")
	v.bind("phone")
	for range 10 {
		v.send(strings.Repeat(" \n\t\r", 1000) +
			"<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
		v.expect("id='p'")
	}
	v.send(strings.Repeat(" ", 65<<10))
	v.fails("policy-violation")
}

// A31, A32, and row 17 of the advisories: no stanza is processed before the login, nor before a resource is bound.
func TestA31TooEarly(t *testing.T) {
	s := open(t, "registration=open")
	juliet := s.available(script.TCP, "juliet", "balcony")
	on(t, s, everywhere, func(t *testing.T, s *fixture, how script.Transport) {
		for _, stanza := range []string{
			"<message to='juliet@localhost'><body>x</body></message>",
			"<presence/>",
			"<presence to='juliet@localhost' type='subscribe'/>",
			"<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>",
			"<iq type='set' id='1'><query xmlns='urn:xmpp:mam:2'/></iq>",
			"<iq type='get' id='1' to='juliet@localhost'><query xmlns='jabber:iq:version'/></iq>",
			"<iq type='set' id='1'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>",
			"<iq type='set' id='1'><query xmlns='jabber:iq:register'><remove/></query></iq>",
			"<iq type='result' id='1'/>",
		} {
			v := s.visit(how)
			v.open()
			if strings.Contains(stanza, "jabber:iq:register") { // who is not logged in can only make an account
				v.sendStanza(stanza)
				v.expect("<not-acceptable", "</iq>")
				v.sendStanza("<presence/>")
			} else {
				v.sendStanza(stanza)
			}
			requireFails(t, v, "not-authorized", "A31 "+stanza)

			v = s.visit(how).login("romeo")
			v.sendStanza(stanza)
			requireFails(t, v, "not-authorized", "A32 "+stanza)
		}
		v := s.visit(how)
		v.open()
		v.sendStanza(
			"<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>x</resource></bind></iq>")
		v.fails("not-authorized")
	})
	nothing(t, juliet)
}

// A33 and A34, row 40 of the advisories: stream markup inside a stanza is payload or text, and is delivered as such.
func TestA34StreamTagsInPayload(t *testing.T) {
	s := open(t)
	juliet := s.available(script.TCP, "juliet", "balcony")
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		v := s.visit(how).login("romeo")
		v.bind("phone")
		for _, text := range []string{
			"</stream:stream>", "</message><message to='bystander@localhost'>", "<iq type='set'>", "]]>", "&lt;",
			"\u00e9\U0001F600",
		} {
			escaped := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
			sections := "<![CDATA[" + strings.ReplaceAll(text, "]]>", "]]]]><![CDATA[>") + "]]>"
			for _, in := range []string{escaped, sections, referenced(text)} {
				v.sendStanza("<message to='juliet@localhost'><body>" + in + "</body></message>")
				require.Equal(t, text, body(next(t, juliet)), in)
			}
		}
		v.sendStanza(
			"<message to='juliet@localhost'><body>x</body><s:stream xmlns:s='http://etherx.jabber.org/streams' " +
				"to='localhost'><s:error/></s:stream>" +
				"<c:close xmlns:c='urn:ietf:params:xml:ns:xmpp-framing'/><r xmlns='urn:xmpp:sm:3'/></message>")
		n := next(t, juliet)
		require.NotNil(t, n.Child("http://etherx.jabber.org/streams", "stream"))
		require.NotNil(t, n.Child("urn:ietf:params:xml:ns:xmpp-framing", "close"))
		v.sendStanza("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
		v.expect("id='p'")
	})
	nothing(t, juliet)
}

// referenced writes a text in character references.
func referenced(text string) string {
	var b strings.Builder
	for _, r := range text {
		fmt.Fprintf(&b, "&#x%x;", r)
	}
	return b.String()
}
