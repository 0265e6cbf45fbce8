package content

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

const hash = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="

// said are contents that can be sent, of each kind.
var said = map[string]Content{
	"text":              {Kind: Text, Text: "Hello & <bye>"},
	"text of two lines": {Kind: Text, Text: "a\r\nb\t"},
	"image": {Kind: Image,
		Attachment: &Attachment{URL: "https://example.org/a/b.jpg?x=1", Name: "b.jpg", Type: "image/jpeg", Size: 12,
			SHA256: hash, Width: 3, Height: 4}},
	"image with caption": {Kind: Image, Text: "Look: 🐎 Juliet",
		Attachment: &Attachment{URL: "http://example.org/a", Type: "image/png"},
		Mentions:   []Mention{{"juliet@example.org", 8, 14}}},
	"caption like URL": {Kind: Image, Text: "http://example.org/a",
		Attachment: &Attachment{URL: "http://example.org/a", Type: "image/png"}},
	"image as file":   {Kind: File, Attachment: &Attachment{URL: "https://example.org/b.jpg", Type: "image/jpeg"}},
	"file of no type": {Kind: File, Attachment: &Attachment{URL: "https://example.org/"}},
	"voice": {Kind: Voice,
		Attachment: &Attachment{URL: "https://example.org/v", Type: "audio/ogg", Duration: 1500}},
	"video": {Kind: Video,
		Attachment: &Attachment{URL: "https://example.org/v", Type: "video/mp4", Duration: 1500, Width: 640,
			Height: 480}},
	"location": {Kind: Location,
		Location: &Geolocation{Latitude: 48.2082, Longitude: -16.3738, Name: "Stephansplatz",
			Address: "1010 Wien\nAustria"}},
	"location with text":  {Kind: Location, Text: "geo:1,2", Location: &Geolocation{}},
	"code":                {Kind: Code, Text: "x := `a`\n```\ny", Language: "go"},
	"code of no language": {Kind: Code, Text: "```"},
	"card": {Kind: Card,
		Card: &CardBody{Title: "T", Text: "more\nlines", URL: "geo:1,2", Image: "https://example.org/i.png"}},
	"card with text": {Kind: Card, Text: "see", Card: &CardBody{Title: "T"}},
	"notice":         {Kind: Notice, Text: "The build is done."},
	"custom": {Kind: Custom, Text: "Order 7",
		Custom: &CustomBody{Type: "com.example.order", Data: `{"n":7,"x":"<&>"}`}},
	"custom without text": {Kind: Custom, Custom: &CustomBody{Type: "x", Data: "null"}},
	"reply":               {Kind: Text, Text: "Yes", ReplyTo: &Reply{To: "romeo@example.org/x", ID: "m1"}},
	"mention": {Kind: Text, Text: "日本 @ü",
		Mentions: []Mention{{"ü%@example.org", 3, 5}, {"example.org", 0, 1}}},
	"forward": {Kind: Forward, Forwarded: &Forwarded{From: "romeo@example.org", ID: "m1",
		Time:    Time{time.Date(2026, 10, 21, 8, 0, 0, 123e6, time.UTC)},
		Content: Content{Kind: Text, Text: "> a\nb", ReplyTo: &Reply{ID: "m0"}}}},
	"forward of a forward": {Kind: Forward, Text: "see",
		Forwarded: &Forwarded{From: "a@b", Content: Content{Kind: Forward, Forwarded: &Forwarded{From: "c@d",
			Content: Content{Kind: Forward,
				Forwarded: &Forwarded{From: "e@f",
					Content: Content{Kind: Voice, Attachment: &Attachment{URL: "https://example.org/v",
						Type: "audio/ogg"}}}}}}}},
	"edit": {Kind: Edit, Target: "m1", Text: "Hello!"},
	"edit of an image": {Kind: Edit, Target: "m1", Becomes: Image, Text: "new",
		Attachment: &Attachment{URL: "https://example.org/v", Type: "image/png"}},
	"edit of code":     {Kind: Edit, Target: "m1", Becomes: Code, Text: "x", ReplyTo: &Reply{ID: "m0"}},
	"retract":          {Kind: Retract, Target: "m1"},
	"reactions":        {Kind: Reaction, Target: "m1", Reactions: []string{"👍", "🐎"}},
	"no reactions":     {Kind: Reaction, Target: "m1"},
	"delivered":        {Kind: Delivered, Target: "m1"},
	"read":             {Kind: Read, Target: "m1"},
	"typing":           {Kind: Typing, Composing: true},
	"no longer typing": {Kind: Typing},
}

// message returns what a client sends, as it is after XML has carried it.
func message(t testing.TB, payload ...stanza.Element) *stanza.Stanza {
	t.Helper()
	s := &stanza.Stanza{Kind: stanza.Message, Type: stanza.TypeChat, Payload: payload}
	require.NoError(t, s.Validate())
	back, err := xmlstream.Unmarshal(xmlstream.Marshal(nil, s))
	require.NoError(t, err)
	return back
}

func TestBuildAndParse(t *testing.T) {
	for name, c := range said {
		t.Run(name, func(t *testing.T) {
			elements, err := Build(c)
			require.NoError(t, err)
			s := message(t, elements...)
			require.Equal(t, c, Parse(s))
			if body := s.Child(stanza.NSClient, "body"); body != nil {
				require.Same(t, &s.Payload[0], body, "the body is first")
			}
			// What goes with a message does not change what it says.
			s.Payload = append(append(s.Payload, Requests(c.Kind)...),
				stanza.New(payload.NSStanzaID, "origin-id", "id", "m9"))
			if c.Kind != Typing {
				s.Payload = append(s.Payload, stanza.New(payload.NSChatStates, "active"))
			}
			require.Equal(t, c, Parse(s))

			text, err := json.Marshal(c)
			require.NoError(t, err)
			var again Content
			require.NoError(t, json.Unmarshal(text, &again))
			require.Equal(t, c, again)
		})
	}
}

// TestParse has what others say in their own way.
func TestParse(t *testing.T) {
	picture := &Attachment{URL: "https://example.org/a%20b.JPG?x", Name: "a b.JPG", Type: "image/jpeg"}
	const sharing = "<file-sharing xmlns='urn:xmpp:sfs:0'><file xmlns='urn:xmpp:file:metadata:0'>"
	const sources = "</file><sources><url-data xmlns='http://jabber.org/protocol/url-data' " +
		"target='ftp://example.org/x'/>" +
		"<url-data xmlns='http://jabber.org/protocol/url-data' target='https://example.org/x'/></sources>" +
		"</file-sharing>"
	for _, test := range []struct {
		xml  string
		want Content
	}{
		{"", Content{Kind: Other}},
		{"<x xmlns='u'/>", Content{Kind: Other}},
		{"<subject>S</subject>", Content{Kind: Other}},
		{"<body/>", Content{Kind: Other}},
		{"<body>a</body><displayed xmlns='urn:xmpp:chat-markers:0' id='m1'/>", Content{Kind: Text, Text: "a"}},
		{"<body>cannot decrypt</body><encryption xmlns='urn:xmpp:eme:0' namespace='u'/>",
			Content{Kind: Other, Text: "cannot decrypt"}},
		{"<body>https://example.org/a%20b.JPG?x</body><x xmlns='jabber:x:oob'><url>" +
			"https://example.org/a%20b.JPG?x</url></x>", Content{Kind: Image, Attachment: picture}},
		{"<body>Look</body><x xmlns='jabber:x:oob'><url>https://example.org/a%20b.JPG?x</url></x>",
			Content{Kind: Image, Text: "Look", Attachment: picture}},
		{"<body>Look</body><x xmlns='jabber:x:oob'><url>javascript:alert(1)</url></x>",
			Content{Kind: Text, Text: "Look"}},
		{sharing +
			"<media-type>Audio/OGG</media-type><name>../../etc/passwd</name><dimensions>4x5</dimensions><size>" +
			"-1</size>" + sources,
			Content{Kind: Voice, Attachment: &Attachment{URL: "https://example.org/x", Name: "passwd",
				Type: "audio/ogg", Width: 4, Height: 5}}},
		{sharing +
			"<media-type>what is it</media-type><name>..</name><desc>D</desc><size>7</size><hash " +
			"xmlns='urn:xmpp:hashes:2' algo='sha-256'>x</hash>" + sources,
			Content{Kind: File, Text: "D", Attachment: &Attachment{URL: "https://example.org/x", Size: 7}}},
		{"<body>&gt; Anna wrote:\n&gt; We should bake a cake\nGreat idea, Max!</body><reply " +
			"to='anna@example.com/laptop' id='m1' xmlns='urn:xmpp:reply:0'/>" +
			"<fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'><body start='0' end='38'/></fallback>" +
			"<reference xmlns='urn:xmpp:reference:0' type='mention' begin='51' end='54' " +
			"uri='xmpp:max@example.com?message'/>" +
			"<reference xmlns='urn:xmpp:reference:0' type='mention' begin='2' end='6' uri='xmpp:anna@example.com'/>" +
			"<reference xmlns='urn:xmpp:reference:0' type='mention' begin='36' end='41' uri='xmpp:anna@example.com'/>" +
			"<reference xmlns='urn:xmpp:reference:0' type='mention' begin='51' end='99' uri='xmpp:anna@example.com'/>" +
			"<reference xmlns='urn:xmpp:reference:0' type='mention' begin='51' end='54' " +
			"uri='mailto:anna@example.com'/>" +
			"<reference xmlns='urn:xmpp:reference:0' type='data' begin='51' end='54' uri='xmpp:anna@example.com'/>",
			Content{Kind: Text, Text: "Great idea, Max!", ReplyTo: &Reply{To: "anna@example.com/laptop", ID: "m1"},
				Mentions: []Mention{{"max@example.com", 13, 16}}}},
		{"<body>abcdef</body><reply id='m1' xmlns='urn:xmpp:reply:0'/><fallback xmlns='urn:xmpp:fallback:0' " +
			"for='urn:xmpp:reply:0'>" +
			"<body start='4' end='5'/><body start='1' end='2'/><body start='1' end='3'/><body start='9' " +
			"end='10'/><body start='2' end='1'/><body start='-1' end='x'/><subject/></fallback>",
			Content{Kind: Text, Text: "adf", ReplyTo: &Reply{ID: "m1"}}},
		{"<body>all of it</body><reply id='m1' xmlns='urn:xmpp:reply:0'/><fallback xmlns='urn:xmpp:fallback:0' " +
			"for='urn:xmpp:reply:0'/>", Content{Kind: Other, Text: "all of it"}},
		{"<body>I know nothing</body><fallback xmlns='urn:xmpp:fallback:0' for='urn:example:poll'/>",
			Content{Kind: Text, Text: "I know nothing"}},
		{"<body>a</body><reply to='anna' xmlns='urn:xmpp:reply:0'/>", Content{Kind: Text, Text: "a"}},
		{"<body>```\nx\n```</body>", Content{Kind: Code, Text: "x"}},
		{"<body>``` go \nx\n```</body>", Content{Kind: Code, Text: "x"}},
		{"<body>```go\nx\n```</body><unstyled xmlns='urn:xmpp:styling:0'/>",
			Content{Kind: Text, Text: "```go\nx\n```"}},
		{"<body>```go\nx\n```\ny\n```</body>", Content{Kind: Text, Text: "```go\nx\n```\ny\n```"}},
		{"<body>geo:1.5,2</body><geoloc xmlns='http://jabber.org/protocol/geoloc'><lat>1.5</lat><lon>-0</lon></geoloc>",
			Content{Kind: Location, Location: &Geolocation{Latitude: 1.5}}},
		{"<body>a</body><geoloc xmlns='http://jabber.org/protocol/geoloc'><lat>NaN</lat><lon>2</lon></geoloc>",
			Content{Kind: Text, Text: "a"}},
		{"<body>a</body><geoloc xmlns='http://jabber.org/protocol/geoloc'><lat>90.1</lat><lon>2</lon></geoloc>",
			Content{Kind: Text, Text: "a"}},
		{"<body>a</body><custom xmlns='urn:posthouse:content:1' type='x'>{</custom>", Content{Kind: Text, Text: "a"}},
		{"<body>a</body><card xmlns='urn:posthouse:content:1'><title>T</title><url>javascript:x</url></card>",
			Content{Kind: Text, Text: "a"}},
		{"<body>a</body><poll xmlns='urn:posthouse:content:1'/>", Content{Kind: Text, Text: "a"}},
		{"<body>a</body><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='a@b'><x " +
			"xmlns='u'/></message></forwarded>", Content{Kind: Text, Text: "a"}},
		{"<forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2026-10-21T10:00:00.5+02:00'/>" +
			"<message xmlns='jabber:client' from='a@b' id='1'>" +
			"<body>x</body><replace xmlns='urn:xmpp:message-correct:0' id='0'/><origin-id xmlns='urn:xmpp:sid:0' " +
			"id='2'/></message></forwarded>",
			Content{Kind: Forward, Forwarded: &Forwarded{From: "a@b", ID: "2",
				Time: Time{time.Date(2026, 10, 21, 8, 0, 0, 5e8, time.UTC)}, Content: Content{Kind: Text, Text: "x"}}}},
		{"<body>I retract</body><retract xmlns='urn:xmpp:message-retract:1' id='m1'/><fallback " +
			"xmlns='urn:xmpp:fallback:0'/>", Content{Kind: Retract, Target: "m1"}},
		{"<retracted xmlns='urn:xmpp:message-retract:1' id='m2' stamp='2026-10-21T08:00:00Z'/>",
			Content{Kind: Retracted, Target: "m2"}},
		{"<reactions xmlns='urn:xmpp:reactions:0' id='m1'><reaction>a</reaction><reaction>a</reaction><reaction/><x>" +
			"b</x><reaction>" + strings.Repeat("x", 65) + "</reaction><reaction>c</reaction></reactions>",
			Content{Kind: Reaction, Target: "m1", Reactions: []string{"a", "c"}}},
		{"<received xmlns='urn:xmpp:chat-markers:0' id='m1'/>", Content{Kind: Delivered, Target: "m1"}},
		{"<acknowledged xmlns='urn:xmpp:chat-markers:0' id='m1'/>", Content{Kind: Read, Target: "m1"}},
		{"<received xmlns='urn:xmpp:receipts'/>", Content{Kind: Other}},
		{"<displayed xmlns='urn:xmpp:chat-markers:0' id='" + strings.Repeat("x", 1024) + "'/>", Content{Kind: Other}},
		{"<gone xmlns='http://jabber.org/protocol/chatstates'/>", Content{Kind: Typing}},
		{"<body>a</body><replace xmlns='urn:xmpp:message-correct:0'/>", Content{Kind: Text, Text: "a"}},
		{"<replace xmlns='urn:xmpp:message-correct:0' id='m1'/>", Content{Kind: Other}},
	} {
		s, err := xmlstream.Unmarshal([]byte("<message xmlns='jabber:client'>" + test.xml + "</message>"))
		require.NoError(t, err, test.xml)
		require.Equal(t, test.want, Parse(s), test.xml)
		s.Type = stanza.TypeError
		require.Equal(t, Content{Kind: Other}, Parse(s))
	}
	require.Equal(t, Content{Kind: Other},
		Parse(&stanza.Stanza{Kind: stanza.Presence,
			Payload: []stanza.Element{stanza.New(stanza.NSClient, "body").WithText("x")}}))
	require.Equal(t, Content{Kind: Other}, Parse(&stanza.Stanza{}))
}

func TestRefused(t *testing.T) {
	url := func(u string) Content { return Content{Kind: File, Attachment: &Attachment{URL: u}} }
	file := func(a Attachment) Content {
		a.URL = "https://example.org/"
		return Content{Kind: Image, Attachment: &a}
	}
	full := strings.Repeat("x", MaxText)
	large := Content{Kind: Forward, Text: full,
		Forwarded: &Forwarded{From: "a@b", Content: Content{Kind: Text, Text: full}}}
	deep := Content{Kind: Text, Text: "x"}
	for range MaxForwards + 1 {
		deep = Content{Kind: Forward, Forwarded: &Forwarded{From: "a@b", Content: deep}}
	}
	for _, test := range []struct {
		content Content
		field   string
	}{
		{Content{}, "kind"},
		{Content{Kind: "poll"}, "kind"},
		{Content{Kind: Other, Text: "x"}, "kind"},
		{Content{Kind: Retracted}, "kind"},
		{Content{Kind: Text}, "text"},
		{Content{Kind: Text, Text: "a\x00"}, "text"},
		{Content{Kind: Text, Text: "a\xff"}, "text"},
		{Content{Kind: Text, Text: "a\ufffe"}, "text"},
		{Content{Kind: Text, Text: strings.Repeat("x", MaxText+1)}, "text"},
		{Content{Kind: Text, Text: "x", Target: "m1"}, "target"},
		{Content{Kind: Text, Text: "x", Becomes: Text}, "becomes"},
		{Content{Kind: Retract, Target: "m1", Text: "x"}, "text"},
		{Content{Kind: Retract}, "target"},
		{Content{Kind: Read, Target: strings.Repeat("x", MaxID+1)}, "target"},
		{Content{Kind: Edit, Target: "m1"}, "text"},
		{Content{Kind: Edit, Text: "x"}, "target"},
		{Content{Kind: Edit, Target: "m1", Becomes: Retract}, "becomes"},
		{Content{Kind: Typing, ReplyTo: &Reply{ID: "x"}}, "reply_to"},
		{Content{Kind: Text, Text: "x", Composing: true}, "composing"},
		{Content{Kind: Text, Text: "x", Reactions: []string{"a"}}, "reactions"},
		{Content{Kind: Text, Text: "x", Custom: &CustomBody{}}, "custom"},
		{Content{Kind: Text, Text: "x", Language: "go"}, "language"},
		{Content{Kind: Code, Text: "x", Language: "go\n"}, "language"},
		{Content{Kind: Code, Text: "x", Mentions: []Mention{{"a@b", 0, 1}}}, "mentions"},
		{Content{Kind: Image}, "attachment"},
		{url(""), "attachment.url"},
		{url("/a"), "attachment.url"},
		{url("https:///a"), "attachment.url"},
		{url("https://user@example.org/a"), "attachment.url"},
		{url("javascript:alert(1)"), "attachment.url"},
		{url("geo:1,2"), "attachment.url"},
		{url("https://example.org/a b"), "attachment.url"},
		{url("https://example.org/a\nb"), "attachment.url"},
		{url("https://example.org/" + strings.Repeat("x", MaxURL)), "attachment.url"},
		{file(Attachment{}), "attachment.type"},
		{file(Attachment{Type: "audio/ogg"}), "attachment.type"},
		{file(Attachment{Type: "image"}), "attachment.type"},
		{file(Attachment{Type: "image/png; x=1"}), "attachment.type"},
		{file(Attachment{Type: "image/png", Name: "a/b"}), "attachment.name"},
		{file(Attachment{Type: "image/png", Name: ".."}), "attachment.name"},
		{file(Attachment{Type: "image/png", Size: 1 << 60}), "attachment.size"},
		{file(Attachment{Type: "image/png", SHA256: "abcd"}), "attachment.sha256"},
		{Content{Kind: Location}, "location"},
		{Content{Kind: Location, Location: &Geolocation{Latitude: 91}}, "location.latitude"},
		{Content{Kind: Location, Location: &Geolocation{Longitude: -181}}, "location.longitude"},
		{Content{Kind: Card}, "card"},
		{Content{Kind: Card, Card: &CardBody{}}, "card.title"},
		{Content{Kind: Card, Card: &CardBody{Title: "x", URL: "ftp://x/"}}, "card.url"},
		{Content{Kind: Card, Card: &CardBody{Title: "x", Image: "geo:1,2"}}, "card.image"},
		{Content{Kind: Custom}, "custom"},
		{Content{Kind: Custom, Custom: &CustomBody{Data: "1"}}, "custom.type"},
		{Content{Kind: Custom, Custom: &CustomBody{Type: "x", Data: "{"}}, "custom.data"},
		{Content{Kind: Forward}, "forwarded"},
		{Content{Kind: Forward, Forwarded: &Forwarded{From: "a@b", Content: Content{Kind: Retract, Target: "x"}}},
			"forwarded.kind"},
		{Content{Kind: Forward, Forwarded: &Forwarded{From: "@", Content: Content{Kind: Text, Text: "x"}}},
			"forwarded.from"},
		{Content{Kind: Forward, Forwarded: &Forwarded{From: "a@b", Content: Content{Kind: Text}}}, "forwarded.text"},
		{deep, "forwarded.forwarded.forwarded.forwarded"},
		{large, "text"},
		{Content{Kind: Text, Text: strings.Repeat("<", MaxText)}, "text"},
		{Content{Kind: Text, Text: "x", ReplyTo: &Reply{}}, "reply_to.id"},
		{Content{Kind: Text, Text: "x", ReplyTo: &Reply{ID: "1", To: "@"}}, "reply_to.to"},
		{Content{Kind: Text, Text: "x", Mentions: []Mention{{"a@b", 0, 2}}}, "mentions"},
		{Content{Kind: Text, Text: "x", Mentions: []Mention{{"a@b", 1, 1}}}, "mentions"},
		{Content{Kind: Text, Text: "x", Mentions: []Mention{{"a@b/c", 0, 1}}}, "mentions"},
		{Content{Kind: Text, Text: "x", Mentions: make([]Mention, MaxMentions+1)}, "mentions"},
		{Content{Kind: Reaction, Target: "x", Reactions: []string{"a", "a"}}, "reactions"},
		{Content{Kind: Reaction, Target: "x", Reactions: []string{""}}, "reactions"},
		{Content{Kind: Reaction, Target: "x", Reactions: make([]string, MaxReactions+1)}, "reactions"},
	} {
		elements, err := Build(test.content)
		require.Nil(t, elements)
		var wrong *Error
		require.ErrorAs(t, err, &wrong, "%+v", test.content)
		require.Equal(t, test.field, wrong.Field, "%+v", test.content)
	}
}

// FuzzParse asks that every stanza means something, and that what it means can be said again.
func FuzzParse(f *testing.F) {
	for _, c := range said {
		elements, err := Build(c)
		require.NoError(f, err)
		f.Add(xmlstream.Marshal(nil, message(f, elements...)))
	}
	f.Fuzz(func(t *testing.T, xml []byte) {
		s, err := xmlstream.Unmarshal(xml)
		if err != nil {
			return
		}
		c := Parse(s)
		if c.Kind == Other || c.Kind == Retracted {
			return
		}
		elements, err := Build(c)
		if err != nil {
			require.Greater(t, len(xml), MaxText, "%v: %+v", err, c)
			return
		}
		require.Equal(t, c, Parse(message(t, elements...)))
	})
}

// FuzzBuild asks that whatever is built can be carried by XML and is understood, as the kind that it was.
func FuzzBuild(f *testing.F) {
	for _, c := range said {
		text, err := json.Marshal(c)
		require.NoError(f, err)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var c Content
		if json.Unmarshal(text, &c) != nil {
			return
		}
		elements, err := Build(c)
		if err != nil {
			require.Nil(t, elements)
			return
		}
		s := message(t, elements...)
		require.Less(t, len(xmlstream.Marshal(nil, s)), MaxMessage+1024)
		got := Parse(s)
		if got.kind() != c.kind() {
			require.Equal(t, []Kind{Text, Code}, []Kind{c.kind(), got.kind()}, "%+v", c) // XEP-0393 has it so
		}
		require.Equal(t, c.Kind == Edit, got.Kind == Edit)
		require.Equal(t, c.Target, got.Target)
		again, err := Build(got)
		require.NoError(t, err, "%+v", got)
		require.Equal(t, got, Parse(message(t, again...)))
	})
}
