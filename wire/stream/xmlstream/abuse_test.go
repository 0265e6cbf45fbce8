package xmlstream

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// refused is input and the stream error that it must end in. The rows are those of the abuse table.
type refused struct {
	row, name, in string
	want          stream.Condition
}

// refusedContent is what must be refused within a stanza; each entry stands within <message>.
var refusedContent = []refused{
	{"A17", "mismatched tag", "<a></b>", stream.NotWellFormed},
	{"A17", "crossed tags", "<a><b></a></b>", stream.NotWellFormed},
	{"A17", "end tag longer", "<a></ab>", stream.NotWellFormed},
	{"A17", "end tag shorter", "<ab></a>", stream.NotWellFormed},
	{"A17", "end tag with other prefix for the same namespace", "<p:a xmlns:p='u' xmlns:q='u'></q:a>",
		stream.NotWellFormed},
	{"A17", "end tag with attribute", "<a></a x='1'>", stream.NotWellFormed},
	{"A17", "space before end tag's name", "<a></ a>", stream.NotWellFormed},
	{"A17", "duplicate attribute", "<a x='1' x='2'/>", stream.NotWellFormed},
	{"A17", "duplicate by expanded name", "<a xmlns:p='u' xmlns:q='u' p:x='1' q:x='2'/>", stream.NotWellFormed},
	{"A17", "duplicate by expanded name, references", "<a xmlns:p='u' xmlns:q='&#117;' p:x='1' q:x='2'/>",
		stream.NotWellFormed},
	{"A17", "duplicate default declaration", "<a xmlns='u' xmlns='v'/>", stream.NotWellFormed},
	{"A17", "duplicate prefix declaration", "<a xmlns:p='u' xmlns:p='u'/>", stream.NotWellFormed},
	{"A17", "unbound element prefix", "<p:a/>", stream.NotWellFormed},
	{"A17", "unbound attribute prefix", "<a p:x='1'/>", stream.NotWellFormed},
	{"A17", "prefix out of scope", "<a><b xmlns:p='u'/><p:c/></a>", stream.NotWellFormed},
	{"A17", "name starts with colon", "<:a/>", stream.NotWellFormed},
	{"A17", "name ends with colon", "<a:/>", stream.NotWellFormed},
	{"A17", "two colons", "<a:b:c xmlns:a='u'/>", stream.NotWellFormed},
	{"A17", "local name that starts with a digit", "<p:1 xmlns:p='u'/>", stream.NotWellFormed},
	{"A17", "attribute starts with colon", "<a :x='1'/>", stream.NotWellFormed},
	{"A17", "undeclared prefix", "<a xmlns:p='u'><p:b xmlns:p=''/></a>", stream.NotWellFormed},
	{"A17", "xml prefix rebound", "<a xmlns:xml='u'/>", stream.NotWellFormed},
	{"A17", "other prefix for xml", "<a xmlns:p='http://www.w3.org/XML/1998/namespace'/>", stream.NotWellFormed},
	{"A17", "xml as default", "<a xmlns='http://www.w3.org/XML/1998/namespace'/>", stream.NotWellFormed},
	{"A17", "xmlns prefix bound", "<a xmlns:xmlns='u'/>", stream.NotWellFormed},
	{"A17", "xmlns prefix bound to its own", "<a xmlns:xmlns='http://www.w3.org/2000/xmlns/'/>", stream.NotWellFormed},
	{"A17", "namespace of declarations", "<a xmlns:p='http://www.w3.org/2000/xmlns/'/>", stream.NotWellFormed},
	{"A17", "namespace of declarations as default", "<a xmlns='http://www.w3.org/2000/xmlns/'/>", stream.NotWellFormed},
	{"A17", "element in xmlns prefix", "<xmlns:a/>", stream.NotWellFormed},
	{"A17", "newline in namespace by reference", "<a xmlns='jabber:client&#10;'/>", stream.NotWellFormed},
	{"A17", "delete in namespace", "<a xmlns='u\x7f'/>", stream.NotWellFormed},
	{"A17", "C1 control in namespace", "<a xmlns='u\u0085'/>", stream.NotWellFormed},
	{"A17", "lone surrogate reference", "&#xD800;", stream.NotWellFormed},
	{"A17", "surrogate pair references", "&#xD83D;&#xDE00;", stream.NotWellFormed},
	{"A17", "reference to NUL", "&#0;", stream.NotWellFormed},
	{"A17", "reference to a control character", "&#1;", stream.NotWellFormed},
	{"A17", "reference to U+FFFE", "&#xFFFE;", stream.NotWellFormed},
	{"A17", "reference beyond Unicode", "&#x110000;", stream.NotWellFormed},
	{"A17", "reference that overflows", "&#4294967361;", stream.NotWellFormed},
	{"A17", "reference with upper X", "&#X41;", stream.NotWellFormed},
	{"A17", "reference without digits", "&#;", stream.NotWellFormed},
	{"A17", "hex reference without digits", "&#x;", stream.NotWellFormed},
	{"A17", "reference with a minus", "&#-65;", stream.NotWellFormed},
	{"A17", "hex digit in decimal reference", "&#6A;", stream.NotWellFormed},
	{"A17", "reference without semicolon", "&amp b", stream.NotWellFormed},
	{"A17", "character reference without semicolon", "&#65 b", stream.NotWellFormed},
	{"A17", "lone ampersand", "& b", stream.NotWellFormed},
	{"A17", "bad reference in attribute", "<a x='&#0;'/>", stream.NotWellFormed},
	{"A17", "no space between attributes", "<a x='1'y='2'/>", stream.NotWellFormed},
	{"A17", "unquoted attribute", "<a x=1/>", stream.NotWellFormed},
	{"A17", "attribute without value", "<a x/>", stream.NotWellFormed},
	{"A17", "two equals signs", "<a x=='1'/>", stream.NotWellFormed},
	{"A17", "less-than in attribute", "<a x='<'/>", stream.NotWellFormed},
	{"A17", "slash in tag", "<a/ >", stream.NotWellFormed},
	{"A17", "slash before attributes", "<a / x='1'>", stream.NotWellFormed},
	{"A17", "space before name", "< a/>", stream.NotWellFormed},
	{"A17", "name starts with digit", "<1a/>", stream.NotWellFormed},
	{"A17", "name starts with minus", "<--a/>", stream.NotWellFormed},
	{"A17", "name starts with dot", "<.a/>", stream.NotWellFormed},
	{"A17", "bad character in name", "<a!b/>", stream.NotWellFormed},
	{"A17", "non-name letter", "<a×/>", stream.NotWellFormed},
	{"A17", "name that only the fifth edition allows", "<\U00010000/>", stream.NotWellFormed},
	{"A17", "]]> in text", "a]]>b", stream.NotWellFormed},
	{"A17", "]]> at the start of text", "<a>]]></a>", stream.NotWellFormed},
	{"A17", "raw NUL", "a\x00b", stream.NotWellFormed},
	{"A17", "raw control character", "a\x01b", stream.NotWellFormed},
	{"A17", "form feed in a tag", "<a\x0c/>", stream.NotWellFormed},
	{"A17", "raw control character in attribute", "<a x='\x1f'/>", stream.NotWellFormed},
	{"A17", "raw control character in CDATA", "<![CDATA[\x0b]]>", stream.NotWellFormed},
	{"A17", "raw U+FFFE", "\uFFFE", stream.NotWellFormed},
	{"A17", "raw U+FFFF", "\uFFFF", stream.NotWellFormed},
	{"A17", "lower-case CDATA", "<![cdata[x]]>", stream.NotWellFormed},
	{"A17", "conditional section", "<![INCLUDE[x]]>", stream.NotWellFormed},
	{"A17", "XML declaration in a stanza", "<?xml version='1.0'?>", stream.NotWellFormed},
	{"A17", "reserved target", "<?XML x?>", stream.NotWellFormed},
	{"A17", "PI without target", "<? x?>", stream.NotWellFormed},

	{"A18", "comment", "<!-- x -->", stream.RestrictedXML},
	{"A18", "PI", "<?php x?>", stream.RestrictedXML},
	{"A18", "PI with xml in its name", "<?xml-stylesheet x?>", stream.RestrictedXML},
	{"A18", "PI with xm as its name", "<?xm ?>", stream.RestrictedXML},
	{"A18", "DOCTYPE in the middle", "<!DOCTYPE x>", stream.RestrictedXML},
	{"A18", "entity", "&nbsp;", stream.RestrictedXML},
	{"A18", "entity in attribute", "<a x='&eacute;'/>", stream.RestrictedXML},
	{"A18", "entity in other case", "&AMP;", stream.RestrictedXML},

	{"A19", "lone continuation byte", "a\x80b", stream.UnsupportedEncoding},
	{"A19", "cut sequence", "a\xe2\x82b", stream.UnsupportedEncoding},
	{"A19", "overlong slash", "\xc0\xaf", stream.UnsupportedEncoding},
	{"A19", "overlong in three bytes", "\xe0\x80\xaf", stream.UnsupportedEncoding},
	{"A19", "overlong in four bytes", "\xf0\x80\x80\xaf", stream.UnsupportedEncoding},
	{"A19", "overlong NUL", "\xc0\x80", stream.UnsupportedEncoding},
	{"A19", "surrogate", "\xed\xa0\x80", stream.UnsupportedEncoding},
	{"A19", "CESU-8", "\xed\xa0\xbd\xed\xb8\x80", stream.UnsupportedEncoding},
	{"A19", "beyond Unicode", "\xf4\x90\x80\x80", stream.UnsupportedEncoding},
	{"A19", "five bytes", "\xf8\x88\x80\x80\x80", stream.UnsupportedEncoding},
	{"A19", "0xFF", "\xff", stream.UnsupportedEncoding},
	{"A19", "in attribute", "<a x='\xe9'/>", stream.UnsupportedEncoding},
	{"A19", "in name", "<a\xe9/>", stream.UnsupportedEncoding},
	{"A19", "in CDATA", "<![CDATA[\xe9 ]]>", stream.UnsupportedEncoding},
}

func TestRefusedContent(t *testing.T) {
	for _, test := range refusedContent {
		for name, cut := range chunkings {
			t.Run(test.row+" "+test.name+", "+name, func(t *testing.T) {
				items, err := drain(openedDecoder(t, stream.Limits{}), []byte("<message>"+test.in+"</message>"), cut)
				require.Empty(t, items)
				require.NotNil(t, err, "accepted")
				require.Equal(t, test.want, err.Condition, err.Text)

				// The same in a frame of RFC 7395.
				f := framedDecoder(t)
				_, err = drain(f, []byte("<message xmlns='jabber:client'>"+test.in+"</message>"), cut)
				require.NotNil(t, err, "accepted in a frame")
				require.Equal(t, test.want, err.Condition, err.Text)
			})
		}
		_, err := Unmarshal([]byte("<message xmlns='jabber:client'>" + test.in + "</message>"))
		require.Error(t, err, "%s: accepted from store", test.name)
	}
}

// TestRefusedStream has whole streams.
func TestRefusedStream(t *testing.T) {
	const head = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
	for _, test := range []refused{
		{"A17", "text before the header", "GET / HTTP/1.1", stream.NotWellFormed},
		{"A17", "TLS hello", "\x16\x03\x01", stream.NotWellFormed},
		{"A17", "end tag before the header", "</stream:stream>", stream.NotWellFormed},
		{"A17", "XML declaration after white space", " <?xml version='1.0'?>" + head, stream.NotWellFormed},
		{"A17", "two XML declarations", "<?xml version='1.0'?><?xml version='1.0'?>" + head, stream.NotWellFormed},
		{"A17", "XML 1.1", "<?xml version='1.1'?>" + head, stream.NotWellFormed},
		{"A17", "XML declaration without version", "<?xml encoding='UTF-8'?>" + head, stream.NotWellFormed},
		{"A17", "XML declaration out of order", "<?xml version='1.0' standalone='yes' encoding='UTF-8'?>" + head,
			stream.NotWellFormed},
		{"A17", "XML declaration with more", "<?xml version='1.0' x='y'?>" + head, stream.NotWellFormed},
		{"A17", "standalone maybe", "<?xml version='1.0' standalone='maybe'?>" + head, stream.NotWellFormed},
		{"A17", "unclosed XML declaration", "<?xml version='1.0'>" + head, stream.NotWellFormed},
		{"A17", "header without its declaration", "<stream:stream xmlns='jabber:client'>", stream.NotWellFormed},
		{"A17", "end tag of something else", head + "</message>", stream.NotWellFormed},
		{"A17", "end tag without the prefix", head + "</stream>", stream.NotWellFormed},
		{"A17", "text after the end", head + "</stream:stream>x", stream.NotWellFormed},
		{"A17", "second root after the end", head + "</stream:stream><message/>", stream.NotWellFormed},
		{"A17", "NUL between stanzas", head + "\x00", stream.NotWellFormed},
		{"A17", "CDATA between stanzas", head + "<![CDATA[x]]>", stream.NotWellFormed},

		{"A18", "comment at the start", "<!-- -->" + head, stream.RestrictedXML},
		{"A18", "comment between stanzas", head + "<!-- -->", stream.RestrictedXML},
		{"A18", "PI at the start", "<?x y?>" + head, stream.RestrictedXML},
		{"A18", "stylesheet at the start", "<?xml-stylesheet y?>" + head, stream.RestrictedXML},
		{"A18", "PI between stanzas", head + "<?x y?>", stream.RestrictedXML},
		{"A18", "DOCTYPE between stanzas", head + "<!DOCTYPE a>", stream.RestrictedXML},
		{"A20", "DOCTYPE", "<!DOCTYPE lolz [<!ENTITY lol 'lol'><!ENTITY lol2 '&lol;&lol;'>]>" + head,
			stream.RestrictedXML},
		{"A20", "DOCTYPE after the XML declaration", "<?xml version='1.0'?>\n<!DOCTYPE", stream.RestrictedXML},

		{"A19", "UTF-16 little-endian", "<\x00s\x00", stream.UnsupportedEncoding},
		{"A19", "UTF-16 big-endian", "\x00<\x00s", stream.UnsupportedEncoding},
		{"A19", "UTF-16 with mark", "\xff\xfe<\x00", stream.UnsupportedEncoding},
		{"A19", "UTF-16 big-endian with mark", "\xfe\xff\x00<", stream.UnsupportedEncoding},
		{"A19", "UTF-16 declared", "<?xml version='1.0' encoding='UTF-16'?>" + head, stream.UnsupportedEncoding},
		{"A19", "Latin-1 declared", "<?xml version='1.0' encoding=\"ISO-8859-1\"?>" + head, stream.UnsupportedEncoding},
		{"A19", "byte order mark at the start", "\ufeff" + head, stream.UnsupportedEncoding},
		{"A19", "byte order mark in the middle", head + "\ufeff", stream.UnsupportedEncoding},
		{"A19", "bad UTF-8 between stanzas", head + "\xc3(", stream.UnsupportedEncoding},
		{"A19", "bad UTF-8 in the header", "<stream:stream to='\xe9'", stream.UnsupportedEncoding},

		{"A24", "text between stanzas", head + "hello", stream.BadFormat},
		{"A24", "text after a stanza", head + "<presence/>\n é", stream.BadFormat},
		{"A24", "reference between stanzas", head + "&#32;", stream.BadFormat},

		{"A25", "wrong stream namespace", "<stream:stream xmlns='jabber:client' xmlns:stream='http://example.org/'>",
			stream.InvalidNamespace},
		{"A25", "no stream namespace", "<stream>", stream.InvalidNamespace},
		{"A25", "stream in the content namespace", "<stream xmlns='jabber:client'>", stream.InvalidNamespace},
		{"A25", "stream namespace and a newline", "<stream:stream xmlns:stream='http://etherx.jabber.org/streams\n'>",
			stream.InvalidNamespace},
		{"A25", "wrong content namespace",
			"<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'>",
			stream.InvalidNamespace},
		{"A26", "wrong prefix", "<foo:stream xmlns='jabber:client' xmlns:foo='http://etherx.jabber.org/streams'>",
			stream.BadNamespacePrefix},
		{"A24", "another root of the stream namespace",
			"<stream:features xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
			stream.BadFormat},

		{"A30", "unknown stanza", head + "<foo/>", stream.UnsupportedStanzaType},
		{"A30", "unknown stanza, unfinished", head + "<body>", stream.UnsupportedStanzaType},
		{"A30", "stanza in capitals", head + "<Message/>", stream.UnsupportedStanzaType},

		{"A33", "header again", head + head, stream.PolicyViolation},
		{"A33", "header again with declaration", head + "<?xml version='1.0'?>" + head, stream.NotWellFormed},
	} {
		for name, cut := range chunkings {
			t.Run(test.row+" "+test.name+", "+name, func(t *testing.T) {
				_, err := drain(NewDecoder(stream.Limits{}), []byte(test.in), cut)
				require.NotNil(t, err, "accepted")
				require.Equal(t, test.want, err.Condition, err.Text)
			})
		}
	}
}

// TestAcceptedContent has what must not be refused, and what it must mean.
func TestAcceptedContent(t *testing.T) {
	text := func(s string) stanza.Element { return stanza.New(stanza.NSClient, "body").WithText(s) }
	for _, test := range []struct {
		row, name, in string
		want          stanza.Element
	}{
		{"A18", "five entities", "<body>&lt;&gt;&amp;&apos;&quot;</body>", text(`<>&'"`)},
		{"A17", "character references", "<body>&#65;&#x1F600;&#xa;&#9;</body>", text("A\U0001F600\n\t")},
		{"2.0", "line ends in text", "<body>a\r\nb\rc\nd\r\r\n</body>", text("a\nb\nc\nd\n\n")},
		{"2.0", "carriage return by reference", "<body>&#13;&#xD;\n</body>", text("\r\r\n")},
		{"2.0", "CDATA", "<body>a<![CDATA[<b>&amp;\r\n]]]]>c<![CDATA[]]>&lt;</body>", text("a<b>&amp;\n]]c<")},
		{"2.0", "]] and > apart", "<body>]]<![CDATA[>]]>&#93;]>]] ></body>", text("]]>]]>]] >")},
		{"2.0", "attribute value normalization", "<body x=' a\r\nb\rc\nd\te&#10;&#13;&#9;'/>",
			stanza.New(stanza.NSClient, "body", "x", " a b c d e\n\r\t")},
		{"2.0", "greater-than and quotes in attributes", `<body x='>"' y=">'"/>`,
			stanza.New(stanza.NSClient, "body", "x", `>"`, "y", `>'`)},
		{"2.0", "white space in tags", "<body\tx\n=\r\n'1' \n y = '2'\n></body \r>",
			stanza.New(stanza.NSClient, "body", "x", "1", "y", "2")},
		{"2.0", "newline in a namespace is a blank", "<a xmlns='u\nv'/>", stanza.New("u v", "a")},
		{"2.0", "no namespace", "<a xmlns=''><b/></a>", stanza.New("", "a").With(stanza.New("", "b"))},
		{"2.0", "prefixes", "<p:a xmlns:p='u' p:x='1' x='2'><b/><p:c xmlns:p='v'/></p:a>",
			stanza.Element{Space: "u", Local: "a",
				Attrs: []stanza.Attr{{Space: "u", Local: "x", Value: "1"}, {Local: "x", Value: "2"}}}.
				With(stanza.New(stanza.NSClient, "b"), stanza.New("v", "c"))},
		{"2.0", "xml prefix", "<body xmlns:xml='http://www.w3.org/XML/1998/namespace' xml:lang='de'/>",
			stanza.Element{Space: stanza.NSClient, Local: "body",
				Attrs: []stanza.Attr{{Space: stanza.NSXML, Local: "lang", Value: "de"}}}},
		{"2.0", "element in the xml namespace", "<xml:a><b/></xml:a>",
			stanza.New(stanza.NSXML, "a").With(stanza.New(stanza.NSClient, "b"))},
		{"2.0", "prefix of the stream header", "<stream:a/>", stanza.New(stanza.NSStream, "a")},
		{"A17", "names beyond ASCII", "<Éa·/>", stanza.New(stanza.NSClient, "Éa·")},
		{"A19", "zero width no-break space in text", "<body>a\ufeffb</body>", text("a\ufeffb")},
		{"A19", "edges of UTF-8", "<body>\x7f\u0080\u07ff\u0800\ud7ff\ue000\ufffd\U00010000\U0010ffff</body>",
			text("\x7f\u0080\u07ff\u0800\ud7ff\ue000\ufffd\U00010000\U0010ffff")},
		{"A33", "stream nested in a stanza", "<stream:stream to='x'><stream:error/></stream:stream>",
			stanza.New(stanza.NSStream, "stream", "to", "x").With(stanza.New(stanza.NSStream, "error"))},
		{"A34", "end of stream by entities", "<body>&lt;/stream:stream></body>", text("</stream:stream>")},
		{"A34", "end of stream by CDATA", "<body><![CDATA[</message></stream:stream>]]></body>",
			text("</message></stream:stream>")},
		{"A34", "end of stream in an attribute", "<body x='&lt;/stream:stream&gt;'/>",
			stanza.New(stanza.NSClient, "body", "x", "</stream:stream>")},
	} {
		for name, cut := range chunkings {
			t.Run(test.row+" "+test.name+", "+name, func(t *testing.T) {
				in := "<message> text " + test.in + "\r\n<![CDATA[text]]></message>"
				items, err := drain(openedDecoder(t, stream.Limits{}), []byte(in), cut)
				require.Nil(t, err)
				require.Len(t, items, 1)
				require.Equal(t, len(in), items[0].Size)
				require.Equal(t, stream.Stanza, items[0].Kind)
				require.Len(t, items[0].Stanza.Payload, 1)
				require.Equal(t, test.want, items[0].Stanza.Payload[0])
			})
		}
	}
}

// TestNestedStreamEnd shows that the end of the stream inside a stanza is a mismatched tag and never ends the stream
// (A33, A34).
func TestNestedStreamEnd(t *testing.T) {
	for name, cut := range chunkings {
		t.Run(name, func(t *testing.T) {
			items, err := drain(openedDecoder(t, stream.Limits{}), []byte("<message><body>x</stream:stream>"), cut)
			require.Empty(t, items)
			require.NotNil(t, err)
			require.Equal(t, stream.NotWellFormed, err.Condition)
		})
	}
}

// TestBillionLaughs asks that a document type is refused at its first bytes, whatever follows (A20).
func TestBillionLaughs(t *testing.T) {
	in := []byte("<?xml version='1.0'?><!DOCTYPE " + strings.Repeat("<!ENTITY a '&a;&a;&a;'>", 10000))
	allocs := testing.AllocsPerRun(100, func() {
		d := NewDecoder(stream.Limits{})
		d.Feed(in)
		if _, err := d.Next(); err == nil || err == stream.ErrMore {
			t.Error("accepted")
		}
	})
	require.LessOrEqual(t, allocs, 6.0) // decoder, error and header checks; nothing for the input
}
