package pbstream

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/stream"
)

// What both sides say when somebody logs in, of the length that it has on the wire. Secrets are of the right length and
// no more.

// said is what one side says in the compact stream: headers, elements and stanzas.
type said struct {
	open *stream.Header
	xml  string
}

func secret(n int) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\xb5\x7a\xdd", n))[:n])
}

func urlSecret(n int) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("\xb5\x7a\xdd", n))[:n])
}

const (
	xmlHeader = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' " +
		"xmlns:stream='http://etherx.jabber.org/streams' to='example.org' version='1.0' xml:lang='en'>"
	xmlAnswer = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' " +
		"xmlns:stream='http://etherx.jabber.org/streams' from='example.org' id='q0ZbHkq1SyCoV7Xb3mJ6tw' " +
		"version='1.0' xml:lang='en'>"

	loginFeatures = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>" +
		"SCRAM-SHA-256-PLUS</mechanism><mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-256</mechanism>" +
		"<mechanism>SCRAM-SHA-1</mechanism><mechanism>PLAIN</mechanism></mechanisms>" +
		"<authentication xmlns='urn:xmpp:sasl:2'><mechanism>SCRAM-SHA-256-PLUS</mechanism><mechanism>" +
		"SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-256</mechanism><mechanism>SCRAM-SHA-1</mechanism>" +
		"<mechanism>PLAIN</mechanism><inline><bind xmlns='urn:xmpp:bind:0'><inline><feature " +
		"var='urn:xmpp:sm:3'/><feature var='urn:xmpp:carbons:2'/><feature var='urn:posthouse:confirm:1'/></inline>" +
		"</bind>" +
		"<sm xmlns='urn:xmpp:sm:3'/><fast xmlns='urn:xmpp:fast:0'><mechanism>HT-SHA-256-EXPR</mechanism><mechanism>" +
		"HT-SHA-256-NONE</mechanism></fast></inline></authentication>" +
		"<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/><channel-binding " +
		"type='tls-server-end-point'/></sasl-channel-binding>" +
		"<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>16384</max-bytes></limits></stream:features>"
	sessionFeatures = "<ver xmlns='urn:xmpp:features:rosterver'/><sub xmlns='urn:xmpp:features:pre-approval'/>" +
		"<keepalive xmlns='urn:posthouse:stream:1'/>" +
		"<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>262144</max-bytes></limits>" +
		"<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://posthouse.im' " +
		"ver='QgayPKawpkPSDYmwT/WM94uAlu0='/>"
	boundFeatures = "<features xmlns='http://etherx.jabber.org/streams'>" + sessionFeatures + "</features>"
)

// passwordLogin is what an ordinary client and the server say in XML for a session that can be resumed, with carbons:
// SASL with SCRAM, then binding (RFC 6120 §6, §7).
func passwordLogin() []string {
	return []string{
		xmlHeader, xmlAnswer, loginFeatures,
		"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256-PLUS'>" + secret(64) + "</auth>",
		"<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" + secret(84) + "</challenge>",
		"<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" + secret(180) + "</response>",
		"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" + secret(46) + "</success>",
		xmlHeader, xmlAnswer,
		"<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><session " +
			"xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session><sm xmlns='urn:xmpp:sm:3'/>" +
			sessionFeatures + "</stream:features>",
		"<iq type='set' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
		"<iq type='result' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>" +
			"romeo@example.org/ABCDEFGHIJKLMNOP</jid></bind></iq>",
		"<enable xmlns='urn:xmpp:sm:3' resume='true'/>",
		"<enabled xmlns='urn:xmpp:sm:3' id='" + urlSecret(16) + "' resume='true' max='600'/>",
		"<iq type='set' id='c1'><enable xmlns='urn:xmpp:carbons:2'/></iq>",
		"<iq type='result' id='c1' from='romeo@example.org' to='romeo@example.org/ABCDEFGHIJKLMNOP'/>",
	}
}

const authenticateXML = "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='HT-SHA-256-EXPR'>"

// tokenLogin is what a returning client says in the compact stream for the same, and what the server answers
// (docs/protocol/login.md).
func tokenLogin() []said {
	return []said{
		{open: &stream.Header{From: "romeo@example.org", To: "example.org", HasTo: true, Version: "1.0",
			HasVersion: true}},
		{xml: authenticateXML + "<initial-response>" + secret(38) + "</initial-response><user-agent id='" + uuid +
			"'/>" +
			"<bind xmlns='urn:xmpp:bind:0'><enable xmlns='urn:xmpp:carbons:2'/><enable xmlns='urn:xmpp:sm:3' " +
			"resume='true'/></bind><fast xmlns='urn:xmpp:fast:0'/></authenticate>"},
		{open: &stream.Header{From: "example.org", ID: urlSecret(16), Version: "1.0", HasVersion: true, Lang: "en"}},
		{xml: "<success xmlns='urn:xmpp:sasl:2'><additional-data>" + secret(32) +
			"</additional-data><authorization-identifier>" +
			"romeo@example.org/ABCDEFGHIJKLMNOP</authorization-identifier>" +
			"<bound xmlns='urn:xmpp:bind:0'><enabled xmlns='urn:xmpp:sm:3' id='" + urlSecret(16) +
			"' resume='true' max='600'/></bound>" +
			"<token xmlns='urn:xmpp:fast:0' expiry='2026-12-21T08:00:00Z' token='" + urlSecret(32) + "'/></success>"},
		{xml: boundFeatures},
	}
}

// resumingLogin is the same for a client that goes on with a stream it had.
func resumingLogin() []said {
	return []said{
		{open: &stream.Header{From: "romeo@example.org", To: "example.org", HasTo: true, Version: "1.0",
			HasVersion: true}},
		{xml: authenticateXML + "<initial-response>" + secret(38) + "</initial-response><user-agent id='" + uuid +
			"'/><resume xmlns='urn:xmpp:sm:3' previd='" + urlSecret(16) + "' h='1234'/>" +
			"<fast xmlns='urn:xmpp:fast:0'/></authenticate>"},
		{open: &stream.Header{From: "example.org", ID: urlSecret(16), Version: "1.0", HasVersion: true, Lang: "en"}},
		{xml: "<success xmlns='urn:xmpp:sasl:2'><additional-data>" + secret(32) +
			"</additional-data><authorization-identifier>" +
			"romeo@example.org/ABCDEFGHIJKLMNOP</authorization-identifier>" +
			"<resumed xmlns='urn:xmpp:sm:3' previd='" + urlSecret(16) + "' h='987'/></success>"},
		{xml: boundFeatures},
	}
}

// wireOf returns what is said in frames.
func wireOf(t testing.TB, all []said) (out []byte) {
	for _, s := range all {
		at := len(out)
		if s.open != nil {
			out = Codec{}.AppendOpen(out, *s.open)
			t.Logf("%4d header", len(out)-at)
			continue
		}
		e := elementXML(t, s.xml)
		out = Codec{}.AppendElement(out, e)
		t.Logf("%4d %s, in XML %d", len(out)-at, e.Local, len(s.xml))
	}
	return out
}

// sizeOf adds up texts.
func sizeOf(all ...string) (n int) {
	for _, s := range all {
		n += len(s)
	}
	return n
}

// loginSizes are the rows of the page's table. An XML client with a token says and hears what tokenLogin has, and the
// features that it need not know.
func loginSizes(t testing.TB) []loginSize {
	token := tokenLogin()
	return []loginSize{
		{"login with a token; in XML with a password", sizeOf(passwordLogin()...), len(wireOf(t, token)), 15},
		{"login with a token; in XML too",
			sizeOf(xmlHeader, xmlAnswer, loginFeatures, token[1].xml, token[3].xml, token[4].xml),
			len(wireOf(t, token)), 25},
		{"login that resumes a stream; in XML with a password", sizeOf(passwordLogin()...),
			len(wireOf(t, resumingLogin())), 15},
	}
}

type loginSize struct {
	name               string
	xml, compact, most int
}

// TestLoginSizes holds a whole login of a returning client to a quarter of what an XML client and its server say.
func TestLoginSizes(t *testing.T) {
	for _, row := range loginSizes(t) {
		t.Logf("%s: XML %d compact %d = %.1f %%", row.name, row.xml, row.compact,
			float64(100*row.compact)/float64(row.xml))
		require.LessOrEqual(t, 100*row.compact, row.most*row.xml, row.name)
	}
	for _, s := range append(tokenLogin(), resumingLogin()...) {
		if s.open == nil {
			checkElement(t, elementXML(t, s.xml))
		}
	}
}
