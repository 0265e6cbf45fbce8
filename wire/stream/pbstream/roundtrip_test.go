package pbstream

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// stanzas are what passes on a server, and what is just beside what has a form of its own.
var stanzas = []string{
	"<message/>",
	"<presence/>",
	"<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
	"<message to='b@example.org' type='chat' id='a1'><body>Hello</body></message>",
	"<message to='b@example.org' type='chat' id='f81d4fae-7dec-11d0-a765-00a0c91e6bf6'><body>Hello</body><origin-id " +
		"xmlns='urn:xmpp:sid:0' id='f81d4fae-7dec-11d0-a765-00a0c91e6bf6'/></message>",
	"<message to='b@example.org' id='F81D4FAE-7dec-11d0-a765-00a0c91e6bf6'><origin-id xmlns='urn:xmpp:sid:0' " +
		"id='f81d4fae-7dec-11d0-a765-00a0c91e6bf6'/></message>",
	"<message to='b@example.org' id='AAECAwQFBgcICQoLDA0ODw'><stanza-id xmlns='urn:xmpp:sid:0' " +
		"id='AAECAwQFBgcICQoLDA0ODw' by='b@example.org'/></message>",
	"<message to='b@example.org/x' id='AAECAwQFBgcICQoLDA0ODx'><stanza-id xmlns='urn:xmpp:sid:0' by='c@example.org' " +
		"id=''/></message>",
	"<message><stanza-id xmlns='urn:xmpp:sid:0' by='' id='1'/><stanza-id xmlns='urn:xmpp:sid:0' id='1'/><stanza-id " +
		"xmlns='urn:xmpp:sid:0' id='1' by='b' x=''/></message>",
	"<message><origin-id xmlns='urn:xmpp:sid:0' id=''/><origin-id xmlns='urn:xmpp:sid:0'/><origin-id " +
		"xmlns='urn:xmpp:sid:0' id='x'>y</origin-id></message>",
	"<message type='party' xml:lang='de'><body/><body xml:lang='fr'>Salut</body><body xml:lang=''>x</body><body " +
		"x='y'/><body>a<b/></body></message>",
	"<message><active xmlns='http://jabber.org/protocol/chatstates'/><body>second</body></message>",
	"<message><composing xmlns='http://jabber.org/protocol/chatstates' x='1'/><gone " +
		"xmlns='http://jabber.org/protocol/chatstates'>t</gone><x xmlns='http://jabber.org/protocol/chatstates'/>" +
		"</message>",
	"<message><request xmlns='urn:xmpp:receipts'/><received xmlns='urn:xmpp:receipts' id='abc'/><received " +
		"xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/></message>",
	"<message><displayed xmlns='urn:xmpp:chat-markers:0' id='abc'/><displayed xmlns='urn:xmpp:chat-markers:0' " +
		"id='abc' sender='x'/><acknowledged xmlns='urn:xmpp:chat-markers:0' " +
		"id='f81d4fae-7dec-11d0-a765-00a0c91e6bf6'/></message>",
	"<message><delay xmlns='urn:xmpp:delay' stamp='2026-10-21T08:00:00.123Z' from='example.org'>Offline</delay>" +
		"<delay xmlns='urn:xmpp:delay' stamp='2026-10-21T08:00:00Z'/><delay xmlns='urn:xmpp:delay' " +
		"stamp='yesterday'/><delay xmlns='urn:xmpp:delay'/></message>",
	"<message><delay xmlns='urn:xmpp:delay' stamp='1969-12-31T23:59:59Z' from=''/><delay xmlns='urn:xmpp:delay' " +
		"stamp='9999-12-31T23:59:59.999Z'/><delay xmlns='urn:xmpp:delay' stamp='2026-02-30T08:00:00Z'/><delay " +
		"xmlns='urn:xmpp:delay' stamp='1970-01-01T00:00:00Z'/></message>",
	"<message><replace xmlns='urn:xmpp:message-correct:0' id='abc'/><thread parent='a'>b</thread><thread>c</thread>" +
		"<thread x=''/><thread parent=''/><subject>S</subject><subject/></message>",
	"<message type='headline' from='a@example.org' to='a@example.org/phone'><confirmed " +
		"xmlns='urn:posthouse:confirm:1' id='m1' stanza-id='AAECAwQFBgcICQoLDA0ODw' conversation='b@example.org' " +
		"number='17' stamp='2026-10-21T08:00:00.123Z'/></message>",
	"<message><confirmed xmlns='urn:posthouse:confirm:1' conversation='b@example.org' number='0' " +
		"stamp='1970-01-01T00:00:00.000Z' duplicate='true'/></message>",
	"<message><confirmed xmlns='urn:posthouse:confirm:1' conversation='b@example.org' number='007' " +
		"stamp='1970-01-01T00:00:00.000Z'/><confirmed xmlns='urn:posthouse:confirm:1' conversation='' number='7' " +
		"stamp='1970-01-01T00:00:00.000Z'/><confirmed xmlns='urn:posthouse:confirm:1' conversation='b' " +
		"number='18446744073709551615' stamp='1970-01-01T00:00:00.000Z' duplicate='false'/></message>",
	"<presence><show>away</show><status xml:lang='en'>lunch</status><priority>-5</priority><c " +
		"xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='http://example.org' " +
		"ver='QgayPKawpkPSDYmwT/WM94uAlu0='/></presence>",
	"<presence><show>asleep</show><show/><priority>05</priority><priority>+5</priority><priority>" +
		"-2147483648</priority><priority>2147483648</priority><priority>-0</priority><status/></presence>",
	"<iq type='get' id='r1'><query xmlns='jabber:iq:roster' ver=''/></iq>",
	"<iq type='result' id='r1'><query xmlns='jabber:iq:roster' ver='v7'><item jid='a@example.org' name='A' " +
		"subscription='both'><group>Friends</group><group/></item><item jid='b@example.org' subscription='none' " +
		"ask='subscribe' approved='true'/></query></iq>",
	"<iq type='result' id='r1'><query xmlns='jabber:iq:roster'><item jid='a@example.org' name=''/></query></iq>",
	"<iq type='result' id='r1'><query xmlns='jabber:iq:roster'><item jid='a' x:jid='b' xmlns:x='u'/></query></iq>",
	"<iq type='result' id='r1'><query xmlns='jabber:iq:roster'>text<item jid='a'>text</item></query></iq>",
	"<iq type='result' id='r1'><query xmlns='jabber:iq:roster'><item jid='a'><group x=''>y</group></item></query></iq>",
	"<iq type='error' id='e'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text " +
		"xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>No.</text></error></iq>",
	"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
	"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>phone</resource></bind></iq>",
	"<message from='a@example.org' to='a@example.org/x' type='chat'><sent xmlns='urn:xmpp:carbons:2'><forwarded " +
		"xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' to='b@example.org' from='a@example.org/y' " +
		"type='chat' id='f81d4fae-7dec-11d0-a765-00a0c91e6bf6'><body>Hi</body></message></forwarded></sent></message>",
	"<message><x xmlns='u'>a<b/>c<d xmlns=''>e</d><e xmlns='jabber:client'/>f</x><y xmlns=''/><xml:z " +
		"xml:q='1'/></message>",
	"<message><p:a xmlns:p='u' xmlns:q='v' p:x='1' q:x='2' x='3'><p:b xmlns:p='w'><p:c/></p:b>t<q:d " +
		"xmlns='x'><e/></q:d></p:a></message>",
	"<message><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' " +
		"type='hidden'><value>urn:xmpp:mam:2</value></field></x></message>",
	"<message><body>&lt;/body&gt;&lt;iq/&gt;&amp;'\"]]&gt; \u00e9 \u65e5\u672c \U0001F600 \u0085 \u2028 " +
		"\u007f&#13;&#10;&#9;</body></message>",
	"<message><naïve xmlns='u' naïve='x'/></message>",
	"<message from='a@example.org' to='a@example.org/x'><body>1</body></message>",
	"<message from='a@example.org/y' to='a@example.org'><body>1</body></message>",
	"<message from='a@example.org/y/z' to='a@example.org/y/z'><stanza-id xmlns='urn:xmpp:sid:0' id='1' " +
		"by='a@example.org'/></message>",
	"<message from='a@example.org' to='a@example.organ'/>",
	"<message from='example.org' to='example.org/x'/>",
	"<message><position xmlns='urn:posthouse:position:1' number='0'/><position xmlns='urn:posthouse:position:1' " +
		"number='18446744073709551615'/><position xmlns='urn:posthouse:position:1' number='18446744073709551616'/>" +
		"<position xmlns='urn:posthouse:position:1' number='01'/><position xmlns='urn:posthouse:position:1'/>" +
		"<position xmlns='urn:posthouse:position:1' number='1'>x</position></message>",
	"<message from='a@example.org' to='a@example.org/x'><received xmlns='urn:xmpp:carbons:2'><forwarded " +
		"xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='b@example.org/y' to='a@example.org' " +
		"xml:lang='de'><body>x</body><origin-id xmlns='urn:xmpp:sid:0' id='q'/><stanza-id xmlns='urn:xmpp:sid:0' " +
		"id='s' by='a@example.org'/><position xmlns='urn:posthouse:position:1' number='42'/></message></forwarded>" +
		"</received></message>",
	"<message to='a@example.org/x'><result xmlns='urn:xmpp:mam:2' id='AAECAwQFBgcICQoLDA0ODw' queryid='q'><forwarded " +
		"xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2026-10-21T08:00:00Z'/><message " +
		"xmlns='jabber:client' from='a@example.org/y' to='a@example.org/x' type='chat' " +
		"id='f81d4fae-7dec-11d0-a765-00a0c91e6bf6'><subject>s</subject><origin-id xmlns='urn:xmpp:sid:0' " +
		"id='f81d4fae-7dec-11d0-a765-00a0c91e6bf6'/><x xmlns='u'><body/></x></message></forwarded></result></message>",
	"<message><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='not an address' to='@' " +
		"type='party' id=' '/></forwarded><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' " +
		"to=''/></forwarded></message>",
	"<message><forwarded xmlns='urn:xmpp:forward:0'/><forwarded xmlns='urn:xmpp:forward:0'>x</forwarded><forwarded " +
		"xmlns='urn:xmpp:forward:0'><message xmlns='jabber:server'/></forwarded><forwarded " +
		"xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'>x</message></forwarded><forwarded " +
		"xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/><message xmlns='jabber:client'/></forwarded>" +
		"<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' x=''/></forwarded></message>",
	"<message><result xmlns='urn:xmpp:mam:2'><forwarded xmlns='urn:xmpp:forward:0'><message " +
		"xmlns='jabber:client'/></forwarded></result><result xmlns='urn:xmpp:mam:2' id='1' x=''><forwarded " +
		"xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/></forwarded></result><result " +
		"xmlns='urn:xmpp:carbons:2' id='1'><forwarded xmlns='urn:xmpp:forward:0'><message " +
		"xmlns='jabber:client'/></forwarded></result><sent xmlns='urn:xmpp:mam:2'><forwarded " +
		"xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/></forwarded></sent></message>",
	"<message><forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay'/><message " +
		"xmlns='jabber:client'/></forwarded><forwarded xmlns='urn:xmpp:forward:0'><x/><message " +
		"xmlns='jabber:client'/></forwarded></message>",
	"<message to='a@b'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='a@b' " +
		"to='a@b/'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' " +
		"id='f81d4fae-7dec-11d0-a765-00a0c91e6bf6' from='a@b/x'><body>in</body></message></forwarded><origin-id " +
		"xmlns='urn:xmpp:sid:0' id='f81d4fae-7dec-11d0-a765-00a0c91e6bf6'/></message></forwarded></message>",
	"<message id='m'><retract xmlns='urn:xmpp:message-retract:1' id='m1'/><retract " +
		"xmlns='urn:xmpp:message-retract:1'/><retracted xmlns='urn:xmpp:message-retract:1' id='m1' " +
		"stamp='2026-10-21T08:00:00Z'/></message>",
	"<message><reply xmlns='urn:xmpp:reply:0' to='a@b/c' id='f81d4fae-7dec-11d0-a765-00a0c91e6bf6'/><reply " +
		"xmlns='urn:xmpp:reply:0' id='1'/><reply xmlns='urn:xmpp:reply:0' to='' id='1'/><reply " +
		"xmlns='urn:xmpp:reply:0' to='a'/></message>",
	"<message><fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'><body start='0' " +
		"end='33'/><body/></fallback><fallback xmlns='urn:xmpp:fallback:0'/><fallback xmlns='urn:xmpp:fallback:0' " +
		"for='urn:example:x'><subject/></fallback><fallback xmlns='urn:xmpp:fallback:0' for='urn:example:x'><body " +
		"end='4294967295'/></fallback><fallback xmlns='urn:xmpp:fallback:0' for=''/><fallback " +
		"xmlns='urn:xmpp:fallback:0'><body start='-1'/></fallback></message>",
	"<message><reactions xmlns='urn:xmpp:reactions:0' id='m1'><reaction>👍</reaction><reaction/></reactions>" +
		"<reactions xmlns='urn:xmpp:reactions:0' id='m1'/><reactions xmlns='urn:xmpp:reactions:0' " +
		"id='m1'><x/></reactions><reactions xmlns='urn:xmpp:reactions:0'/></message>",
	"<message><reference xmlns='urn:xmpp:reference:0' type='mention' begin='0' end='7' " +
		"uri='xmpp:juliet@example.org'/><reference xmlns='urn:xmpp:reference:0' type='mention' begin='0' end='7' " +
		"uri='mailto:juliet@example.org'/><reference xmlns='urn:xmpp:reference:0' type='data' begin='0' end='7' " +
		"uri='xmpp:x'/><reference xmlns='urn:xmpp:reference:0' type='mention' uri='xmpp:x'/><reference " +
		"xmlns='urn:xmpp:reference:0' type='mention' begin='1' end='2' uri='xmpp:'/></message>",
	"<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-256' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/><c " +
		"xmlns='http://jabber.org/protocol/caps' hash='sha-1' ver='QgayPKawpkPSDYmwT/WM94uAlu1='/><c " +
		"xmlns='http://jabber.org/protocol/caps' ver='1' node='x'/><c xmlns='http://jabber.org/protocol/caps' " +
		"hash='sha-1'/></presence>",
	"<iq type='get' id='s'><sync xmlns='urn:posthouse:sync:1' cursor='' max='0'/></iq>",
	"<iq type='result' id='s' to='a@b/c'>" + syncResult + "</iq>",
	"<iq type='result' id='s'><sync xmlns='urn:posthouse:sync:1' cursor='x' more='false'/></iq>",
	"<iq type='result' id='s'><sync xmlns='urn:posthouse:sync:1' cursor='x' max='-1'>t</sync></iq>",
	"<iq type='result' id='s'><sync xmlns='urn:posthouse:sync:1'><body xmlns='jabber:client'>x</body><body>y</body>" +
		"<conversation with=''/><conversation with='a' number='x'/><conversation with='a' muted-until='later' " +
		"pinned='false'/><roster all='false'/><roster><item/></roster><profile/><sync max='1'/><origin-id " +
		"xmlns='urn:xmpp:sid:0' id='s'/></sync></iq>",
	"<message><x xmlns='u'>QUJDREVG</x><x xmlns='u'>QUJDREVGRw==</x><x xmlns='u'>QUJDREVGRx==</x><x " +
		"xmlns='u'>QUJD\nREVG</x><x xmlns='u'>QUJDREV=</x><x xmlns='u'>QUI=REVG</x><x xmlns='u'>====QUJD</x><x " +
		"xmlns='u'>QUJD</x><x xmlns='u'>QUJDſEVG</x></message>",
	"<message><x xmlns='u' a='QUJDREVG' b='QUJDREVGRw==' c='QUJDREVGR-' d='QUJDREV-R_8' e='QUJDREV-R_9' " +
		"f='QUJDREVG\n' g='QUJDREVGR' h='QUI='/></message>",
	"<message><x xmlns='u' a='2026-10-21T08:00:00Z' b='2026-10-21T08:00:00.123Z' c='2026-10-21T24:00:00Z' " +
		"d='1960-10-21T08:00:00Z' e='9999-12-31T23:59:59.999Z'/></message>",
	"<message><mechanism xmlns='u'>SCRAM-SHA-1</mechanism><body xmlns='u'>body</body><x xmlns='u'>p<y/></x></message>",
}

// syncResult is an answer with all that there is in one.
const syncResult = "<sync xmlns='urn:posthouse:sync:1' cursor='c42' more='true' first='true'>" +
	"<forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2026-10-21T08:00:00.123Z'/><message " +
	"xmlns='jabber:client' from='d@b/e' to='a@b' type='chat' id='m1'><body>x</body><stanza-id xmlns='urn:xmpp:sid:0' " +
	"id='AAECAwQFBgcICQoLDA0ODw' by='a@b'/><position xmlns='urn:posthouse:position:1' " +
	"number='42'/></message></forwarded>" +
	"<conversation with='d@b' number='42' read='41' delivered='42' peer-read='0' peer-delivered='7' unread='1' " +
	"last='AAECAwQFBgcICQoLDA0ODw' muted-until='9999-12-31T23:59:59Z' pinned='true'/>" +
	"<conversation with='d@b' last='x' muted-until='2026-10-21T08:00:00.123Z'/>" +
	"<roster all='true'><item xmlns='jabber:iq:roster' jid='d@b' name='D' subscription='both'><group>G</group></item>" +
	"</roster>" +
	"<profile xmlns='urn:posthouse:profile:1' jid='d@b' name='D' title='Queen'/></sync>"

// elements are what stands at the top level beside stanzas.
var elements = []string{
	"<r xmlns='urn:xmpp:sm:3'/>",
	"<r xmlns='urn:xmpp:sm:3' x=''/>",
	"<r xmlns='urn:xmpp:sm:3'>t</r>",
	"<a xmlns='urn:xmpp:sm:3' h='0'/>",
	"<a xmlns='urn:xmpp:sm:3' h='4294967295'/>",
	"<a xmlns='urn:xmpp:sm:3' h='4294967296'/>",
	"<a xmlns='urn:xmpp:sm:3' h='01'/>",
	"<a xmlns='urn:xmpp:sm:3' h='-1'/>",
	"<a xmlns='urn:xmpp:sm:3'/>",
	"<a xmlns='urn:xmpp:sm:3' h='1' x='2'/>",
	"<enable xmlns='urn:xmpp:sm:3' resume='true'/>",
	"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>",
	"<stream:features xmlns:stream='http://etherx.jabber.org/streams'><mechanisms " +
		"xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1</mechanism></mechanisms></stream:features>",
	"<a/>",
	"<open xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>",
}

// TestRoundTrip is XML to compact to XML, and covers A148: the stored form does not depend on the transport.
func TestRoundTrip(t *testing.T) {
	for _, xml := range stanzas {
		s := fromXML(t, xml)
		checkStanza(t, s)
	}
	for _, xml := range elements {
		checkElement(t, elementXML(t, xml))
	}
}

// checkStanza asks that s comes back equal, also as XML, and that the generated types understand it the same.
func checkStanza(t testing.TB, s *stanza.Stanza) {
	t.Helper()
	wire := Codec{}.AppendStanza(nil, s)
	item := one(t, wire)
	require.Nil(t, item.Malformed)
	require.True(t, s.Equal(item.Stanza), "%x\n%+v\n%+v", wire, s, item.Stanza)
	checkOracle(t, wire, item)
	require.Equal(t, wire, Codec{}.AppendStanza(nil, item.Stanza))
	back, err := xmlstream.Unmarshal(xmlstream.Marshal(nil, item.Stanza))
	require.NoError(t, err)
	require.True(t, s.Equal(back))
	require.Equal(t, []byte{1, 2, 3}, append([]byte{1, 2, 3}, Codec{}.AppendStanza([]byte{1, 2, 3}, s)[:3]...)[3:])
}

func checkElement(t testing.TB, e *stanza.Element) {
	t.Helper()
	wire := Codec{}.AppendElement(nil, e)
	item := one(t, wire)
	require.Equal(t, stream.Element, item.Kind)
	require.True(t, e.Equal(item.Element), "%x\n%+v\n%+v", wire, e, item.Element)
	checkOracle(t, wire, item)
	require.Equal(t, wire, Codec{}.AppendElement(nil, item.Element))
}

// TestStoredForm covers A148 for an ordinary message: what the archive stores is the same, byte for byte.
func TestStoredForm(t *testing.T) {
	s := fromXML(
		t,
		"<message from='a@example.org/x' to='b@example.org' type='chat' id='f81d4fae-7dec-11d0-a765-00a0c91e6bf6' "+
			"xml:lang='en'><body>Hello &amp; bye</body>"+
			"<active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/><markable "+
			"xmlns='urn:xmpp:chat-markers:0'/>"+
			"<origin-id xmlns='urn:xmpp:sid:0' id='f81d4fae-7dec-11d0-a765-00a0c91e6bf6'/><x "+
			"xmlns='jabber:x:oob'><url>https://example.org/</url></x></message>")
	item := one(t, Codec{}.AppendStanza(nil, s))
	require.Equal(t, string(xmlstream.Marshal(nil, s)), string(xmlstream.Marshal(nil, item.Stanza)))
}

func TestNodesOfText(t *testing.T) {
	e := stanza.New("u", "x").WithText("a").WithText("").WithText("b")
	mixed := e.With(stanza.New("u", "y")).WithText("").WithText("c").WithText("d")
	only := stanza.New("u", "x").WithText("").With(stanza.New("v", "y")).WithText("")
	for _, e := range []stanza.Element{e, mixed, only, {Space: "u", Local: "x", Nodes: []stanza.Node{{}}}} {
		checkStanza(t, &stanza.Stanza{Kind: stanza.Message, Payload: []stanza.Element{e}})
	}
	body := stanza.New(stanza.NSClient, "body").WithText("a").WithText("b")
	checkStanza(t, &stanza.Stanza{Kind: stanza.Message, Payload: []stanza.Element{body, body}})
}

// TestInvalidTrees asks that whatever is in memory, what is written can be read.
func TestInvalidTrees(t *testing.T) {
	bad := stanza.Element{Space: "a\x01", Local: "<", Attrs: []stanza.Attr{
		{Local: "x", Value: "\x00"}, {Local: "x", Value: "again"}, {Local: "xmlns", Value: "u"}, {Local: ""},
		{Space: stanza.NSXMLNS, Local: "p", Value: "v"},
	}, Nodes: []stanza.Node{{Text: "a\xffb\ufffe"}, {Element: &stanza.Element{Space: stanza.NSXMLNS, Local: "y"}}}}
	s := &stanza.Stanza{ID: "\x01", Type: "\x02", Lang: "\x03", To: jid.MustParse("a@example.org"),
		Payload: []stanza.Element{
			stanza.New(stanza.NSClient, "body").WithText("x\x00"), bad, stanza.New(nsSID, "origin-id", "id", "\x01"),
			stanza.New(nsSID, "stanza-id", "id", "\x01", "by", "\x01"), stanza.New(nsDelay, "delay", "stamp", "\x01"),
		}}
	item := one(t, Codec{}.AppendStanza(nil, s))
	require.NoError(t, item.Stanza.Validate())
	require.Equal(t, "\ufffd", item.Stanza.ID)
	require.Equal(t, "x\ufffd", item.Stanza.Body())
	want, err := xmlstream.Unmarshal(xmlstream.Marshal(nil,
		&stanza.Stanza{Kind: stanza.Message, Payload: []stanza.Element{bad}}))
	require.NoError(t, err)
	got := item.Stanza.Payload[1]
	require.Equal(t, want.Payload[0].Local, got.Local)
	require.Equal(t, want.Payload[0].Attrs, got.Attrs)
	require.Equal(t, want.Payload[0].Text(), got.Text())
	require.Equal(t, stream.Element, one(t, Codec{}.AppendElement(nil, &bad)).Kind)
}

func TestHeader(t *testing.T) {
	for _, h := range []stream.Header{
		{}, header, {From: "a@example.org", To: "example.org", HasTo: true, ID: "++TR84Sm6A3hnt3Q065SnAbbk3Y=",
			Version: "1.0", HasVersion: true, Lang: "en"},
		{HasTo: true, HasVersion: true},
	} {
		wire := Codec{}.AppendOpen(nil, h)
		for name, cut := range chunkings {
			items, err := drain(NewDecoder(stream.Limits{}), wire, cut)
			require.Nil(t, err, name)
			require.Len(t, items, 1)
			require.Equal(t, stream.Item{Kind: stream.Open, Header: h, Size: len(wire)}, items[0])
			checkOracle(t, wire, items[0])
		}
	}
}

func TestStreamErrors(t *testing.T) {
	app := stanza.New("urn:xmpp:errors", "stanza-too-big")
	for _, e := range []*stream.Error{
		stream.Fail(stream.Conflict, "Replaced by new connection"), stream.Fail(stream.SystemShutdown, ""),
		{Condition: stream.PolicyViolation, Text: "too big", App: &app},
	} {
		wire := Codec{}.AppendError(nil, e)
		item := one(t, wire)
		want := e.Element()
		require.True(t, want.Equal(item.Element), "%+v", item.Element)
		checkOracle(t, wire, item)
	}
	item := one(t, Codec{}.AppendError(nil, &stream.Error{Condition: "made-up", Text: "\x00"}))
	require.NotNil(t, item.Element.Child(stream.NSErrors, "undefined-condition"))
	for _, c := range conditions[1:] {
		require.NotNil(t, one(t, Codec{}.AppendError(nil, stream.Fail(c, ""))).Element.Child(stream.NSErrors,
			string(c)))
	}
}

func TestKeepalive(t *testing.T) {
	d := openedDecoder(t, stream.Limits{})
	in := Codec{}.AppendPong(Codec{}.AppendPing(Codec{}.AppendPing(nil)))
	items, err := drain(d, in, every(1))
	require.Nil(t, err)
	require.Equal(t, []stream.Item{{Kind: stream.Keepalive, Size: 3}, {Kind: stream.Keepalive, Size: 3},
		{Kind: stream.Keepalive, Size: 3}}, items)
	require.Equal(t, 2, d.Pings())
	require.Zero(t, d.Pings())
	items, err = drain(d, Codec{}.AppendClose(nil), whole)
	require.Nil(t, err)
	require.Equal(t, []stream.Item{{Kind: stream.Close, Size: 3}}, items)
}

// TestLengths has frames of which the lengths of the parts take one, two, three and four bytes.
func TestLengths(t *testing.T) {
	for _, n := range []int{1, 110, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128, 129, 16374, 16375,
		16376, 16377, 16378, 16379, 16380, 16384, 1 << 21, 1<<21 + 9} {
		text := strings.Repeat("x", n)
		for _, e := range []stanza.Element{
			stanza.New(stanza.NSClient, "body").WithText(text),
			stanza.New("u", "x").With(stanza.New("u", "y").With(stanza.New("v", "z", "a", text))),
			stanza.New("u", "x").WithText(text).With(stanza.New("u", "y")),
		} {
			checkStanza(t, &stanza.Stanza{Kind: stanza.Message, Payload: []stanza.Element{e}})
		}
	}
}

// TestStamps: a time goes over the wire as a number when its text is the only one of that number.
func TestStamps(t *testing.T) {
	for text, want := range map[string]bool{
		"1970-01-01T00:00:00.000Z": true, "2026-10-21T08:00:00.123Z": true, "9999-12-31T23:59:59.999Z": true,
		"2024-02-29T23:59:59Z": true, "1970-01-01T00:00:00Z": true,
		"2023-02-29T00:00:00Z": false, "2024-13-01T00:00:00Z": false, "2024-00-10T00:00:00Z": false,
		"2024-01-00T00:00:00Z": false, "2024-01-01T24:00:00Z": false, "2024-01-01T00:60:00Z": false,
		"2024-01-01T00:00:60Z": false, "1969-12-31T23:59:59Z": false, "2024-01-01t00:00:00Z": false,
		"2024-01-01T00:00:00z": false, "2024-01-01T00:00:00.00Z": false, "2024-01-01T00:00:00,000Z": false,
		"+024-01-01T00:00:00Z": false, "2024-01-01T00:00:0\xffZ": false, "": false,
	} {
		form := stampSeconds
		if len(text) == len(stampMillis) {
			form = stampMillis
		}
		n, ok := parseStamp(text, form)
		require.Equal(t, want, ok, text)
		_, err := time.Parse(form, text)
		require.True(t, err == nil || !ok, text)
		switch {
		case ok && form == stampMillis:
			require.Equal(t, text, formatMillis(n))
		case ok:
			require.Equal(t, text, formatSeconds(n))
		}
	}
}
