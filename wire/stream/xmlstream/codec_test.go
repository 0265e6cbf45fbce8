package xmlstream

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

var codecs = map[string]stream.Codec{"tcp": XML{}, "framed": Framed{}}

func TestCodecIndexes(t *testing.T) {
	require.Equal(t, XML{}.Content(), Framed{}.Content())
}

// TestWritten pins the canonical form on both framings.
func TestWritten(t *testing.T) {
	features := stanza.New(stanza.NSStream, "features").With(
		stanza.New("urn:ietf:params:xml:ns:xmpp-bind", "bind"),
		stanza.New("urn:m", "mechanisms").With(stanza.New("urn:m", "mechanism").WithText("PLAIN")))
	attrs := stanza.Element{Space: "u", Local: "a", Attrs: []stanza.Attr{
		{Local: "x", Value: "1"}, {Space: "v", Local: "x", Value: "2"},
		{Space: stanza.NSXML, Local: "lang", Value: "de"},
		{Space: "v'", Local: "y", Value: "3"}, {Space: "v", Local: "y", Value: "4"},
	}}
	mixed := stanza.New(stanza.NSClient,
		"x").WithText("a").With(stanza.New("u", "b").With(stanza.New(stanza.NSClient, "c"))).WithText("d")
	empty := stanza.New("", "x").With(stanza.New("u", "y").With(stanza.New("", "z")))
	xml := stanza.New(stanza.NSXML, "x").With(stanza.New(stanza.NSClient, "y"))
	nested := stanza.New("u", "x").With(stanza.New(stanza.NSStream, "stream"))
	for _, test := range []struct {
		name        string
		element     stanza.Element
		tcp, framed string
	}{
		{"features", features,
			"<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><mechanisms " +
				"xmlns='urn:m'><mechanism>PLAIN</mechanism></mechanisms></stream:features>",
			"<stream:features xmlns:stream='http://etherx.jabber.org/streams'><bind " +
				"xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><mechanisms xmlns='urn:m'><mechanism>PLAIN</mechanism>" +
				"</mechanisms></stream:features>"},
		{"attributes with namespaces", attrs,
			"<a xmlns='u' x='1' xmlns:a1='v' a1:x='2' xml:lang='de' xmlns:a3='v&#39;' a3:y='3' a1:y='4'/>",
			"<a xmlns='u' x='1' xmlns:a1='v' a1:x='2' xml:lang='de' xmlns:a3='v&#39;' a3:y='3' a1:y='4'/>"},
		{"inherited namespace", mixed,
			"<x>a<b xmlns='u'><c xmlns='jabber:client'/></b>d</x>",
			"<x xmlns='jabber:client'>a<b xmlns='u'><c xmlns='jabber:client'/></b>d</x>"},
		{"no namespace", empty, "<x xmlns=''><y xmlns='u'><z xmlns=''/></y></x>",
			"<x><y xmlns='u'><z xmlns=''/></y></x>"},
		{"xml namespace", xml, "<xml:x><y/></xml:x>", "<xml:x><y xmlns='jabber:client'/></xml:x>"},
		{"stream namespace inside", nested,
			"<x xmlns='u'><stream xmlns='http://etherx.jabber.org/streams'/></x>",
			"<x xmlns='u'><stream xmlns='http://etherx.jabber.org/streams'/></x>"},
		{"text", stanza.New("", "x").WithText("<&>]]>'\"\t\r\n]").WithText("]>").WithText(">\u00e9"),
			"<x xmlns=''>&lt;&amp;>]]&gt;'\"\t&#13;\n]]&gt;&gt;\u00e9</x>",
			"<x>&lt;&amp;>]]&gt;'\"\t&#13;\n]]&gt;&gt;\u00e9</x>"},
		{"value", stanza.New("", "x", "y", "<&>]]>'\"\t\r\n\u00e9"),
			"<x xmlns='' y='&lt;&amp;>]]>&#39;\"&#9;&#13;&#10;\u00e9'/>",
			"<x y='&lt;&amp;>]]>&#39;\"&#9;&#13;&#10;\u00e9'/>"},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.tcp, string(XML{}.AppendElement(nil, &test.element)))
			require.Equal(t, test.framed, string(Framed{}.AppendElement(nil, &test.element)))
			back, err := UnmarshalElement([]byte(test.framed))
			require.NoError(t, err)
			require.True(t, test.element.Equal(back))
		})
	}
}

func TestWrittenStanza(t *testing.T) {
	s := &stanza.Stanza{
		Kind: stanza.IQ, Type: "set", ID: "'1'", Lang: "en", From: jid.MustParse("a@b/it's <&>"),
		To:      jid.MustParse("c@d"),
		Payload: []stanza.Element{stanza.New("u", "x"), stanza.New(stanza.NSClient, "error")},
	}
	const rest = " from='a@b/it&#39;s &lt;&amp;>' to='c@d' type='set' id='&#39;1&#39;' xml:lang='en'><x " +
		"xmlns='u'/><error/></iq>"
	require.Equal(t, "<iq"+rest, string(XML{}.AppendStanza(nil, s)))
	require.Equal(t, "<iq xmlns='jabber:client'"+rest, string(Framed{}.AppendStanza(nil, s)))
	require.Equal(t, string(Framed{}.AppendStanza(nil, s)), string(Marshal(nil, s)))
	require.Equal(t, "x<presence/>", string(XML{}.AppendStanza([]byte("x"), &stanza.Stanza{Kind: stanza.Presence})))
}

// TestWrittenStream pins headers, errors and ends, and reads the headers back.
func TestWrittenStream(t *testing.T) {
	h := stream.Header{From: "example.org", To: "a@b", HasTo: true, ID: "<1>", Version: "1.0", HasVersion: true,
		Lang: "en"}
	const attrs = " from='example.org' to='a@b' id='&lt;1>' version='1.0' xml:lang='en'"
	require.Equal(
		t, "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"+
			attrs+">",
		string(XML{}.AppendOpen(nil, h)))
	require.Equal(t, "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing'"+attrs+"/>",
		string(Framed{}.AppendOpen(nil, h)))
	for name, d := range map[string]*Decoder{"tcp": NewDecoder(stream.Limits{}),
		"framed": NewFramedDecoder(stream.Limits{})} {
		items, err := drain(d, codecs[name].AppendOpen(nil, h), byteByByte)
		require.Nil(t, err)
		require.Equal(t, h, items[0].Header, name)
	}

	app := stanza.New("urn:xmpp:errors", "stanza-too-big")
	e := &stream.Error{Condition: stream.PolicyViolation, Text: "a < b", App: &app}
	const inner = "<policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>" +
		"<text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>a &lt; b</text><stanza-too-big " +
		"xmlns='urn:xmpp:errors'/></stream:error>"
	require.Equal(t, "<stream:error>"+inner, string(XML{}.AppendError(nil, e)))
	require.Equal(t, "<stream:error xmlns:stream='http://etherx.jabber.org/streams'>"+inner,
		string(Framed{}.AppendError(nil, e)))

	require.Equal(t, "</stream:stream>", string(XML{}.AppendClose(nil)))
	require.Equal(t, "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>", string(Framed{}.AppendClose(nil)))
}

// TestNothingUncarriable asks that what XML cannot carry is never written, and that nothing in a tree can write markup
// (A146, A147).
func TestNothingUncarriable(t *testing.T) {
	const bad = "a\x00\x01\x0b\x1f\xff\xc0\xaf\xed\xa0\x80\uFFFE\uFFFFz</x><iq/>"
	evil := stanza.Element{Space: bad, Local: "b'/><iq", Attrs: []stanza.Attr{
		{Local: "c='' d", Value: bad}, {Local: "xmlns", Value: "e"}, {Space: bad, Local: "", Value: bad},
		{Space: "u", Local: "a:b", Value: ""},
		{Local: "x", Value: bad}, {Local: "x", Value: "again"}, {Space: bad, Local: "y"},
		{Space: bad, Local: "y", Value: "again"},
		{Space: stanza.NSXMLNS, Local: "z", Value: "u"}, {Space: "xmlns", Local: "z", Value: "u"},
	}}.WithText(bad)
	require.Error(t, evil.Validate())
	out := MarshalElement(nil, &evil)
	back, err := UnmarshalElement(out)
	require.NoError(t, err, "%q", out)
	const clean = "a\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDz</x><iq/>"
	require.Equal(t, &stanza.Element{Space: clean, Local: "_", Attrs: []stanza.Attr{
		{Local: "x", Value: clean}, {Space: clean, Local: "y"}, {Space: "xmlns", Local: "z", Value: "u"},
	}, Nodes: []stanza.Node{{Text: clean}}}, back)
	require.NoError(t, back.Validate())
}

// TestMarshal covers the stored form (fixpoint is fuzzed).
func TestMarshal(t *testing.T) {
	s := &stanza.Stanza{
		Kind: stanza.Message, Type: "chat", ID: "1", Lang: "en", From: jid.MustParse("a@b/c"), To: jid.MustParse("d@e"),
		Payload: []stanza.Element{stanza.New(stanza.NSClient, "body").WithText("a\r\nb ]]> \t<&'\""),
			stanza.New("u", "x", "y", "\r\n\t'")},
	}
	back, err := Unmarshal(Marshal(nil, s))
	require.NoError(t, err)
	require.Equal(t, s, back)

	e, err := UnmarshalElement(Marshal(nil, s))
	require.NoError(t, err)
	require.Equal(t, "message", e.Local)
	require.Len(t, e.Attrs, 5)

	for _, bad := range []string{
		"", "x", "<message/>", "<message xmlns='jabber:client'/> ", " <message xmlns='jabber:client'/>",
		"<message xmlns='jabber:client'>",
		"<x xmlns='jabber:client'/>", "<x xmlns='u'/>", "</message>", "<message xmlns='jabber:client' to='@'/>",
		"<?xml version='1.0'?><message xmlns='jabber:client'/>", "<message xmlns='jabber:client'/><a/>", "<",
		"<!-- -->",
	} {
		_, err := Unmarshal([]byte(bad))
		require.Error(t, err, bad)
	}
	for _, bad := range []string{"", "x", "<x/> ", "<x/><x/>", "<x>", "</x>"} {
		_, err := UnmarshalElement([]byte(bad))
		require.Error(t, err, bad)
	}
}

// TestEncodeAllocations asks that a buffer that is large enough is the only memory that writing needs.
func TestEncodeAllocations(t *testing.T) {
	s, err := Unmarshal([]byte("<message xmlns='jabber:client'" + benchMessage[len("<message"):]))
	require.NoError(t, err)
	dst := make([]byte, 0, 1024)
	for name, c := range codecs {
		require.Zero(t, testing.AllocsPerRun(100, func() { dst = c.AppendStanza(dst[:0], s) }), name)
	}
}
