package xmlstream

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// TestStream reads a whole stream in all chunkings.
func TestStream(t *testing.T) {
	in := "<?xml version='1.0' encoding='utf-8' standalone=\"yes\" ?>\n" +
		"<stream:stream from='a@b' to='example.org' id='i1' version='1.0' xml:lang='en'\n xmlns='jabber:client' " +
		"xmlns:stream='http://etherx.jabber.org/streams' xmlns:p='urn:p' foo='bar'>\n" +
		"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/> " +
		"<p:r h='1'>text<p:x/></p:r>" +
		"<iq type='get' id='1' xml:lang='de' unknown='x' p:from='y'>\n <query xmlns='jabber:iq:roster'/>\n</iq>\n\n" +
		"<presence/>" +
		"<message to='bob@example.org' from='alice@example.org/x'><body>hi</body><p:y/></message>" +
		"<stream:error><p:z/></stream:error>" +
		"</stream:stream >\n "
	want := []stream.Item{
		{Kind: stream.Open, Header: stream.Header{From: "a@b", To: "example.org", HasTo: true, ID: "i1", Version: "1.0",
			HasVersion: true, Lang: "en"}},
		{Kind: stream.Element, Element: element(t, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")},
		{Kind: stream.Element, Element: element(t, "<r xmlns='urn:p' h='1'>text<x/></r>")},
		{Kind: stream.Stanza, Stanza: &stanza.Stanza{Kind: stanza.IQ, Type: "get", ID: "1", Lang: "de",
			Payload: []stanza.Element{stanza.New("jabber:iq:roster", "query")}}},
		{Kind: stream.Stanza, Stanza: &stanza.Stanza{Kind: stanza.Presence}},
		{Kind: stream.Stanza, Stanza: &stanza.Stanza{Kind: stanza.Message, To: jid.MustParse("bob@example.org"),
			From:    jid.MustParse("alice@example.org/x"),
			Payload: []stanza.Element{stanza.New(stanza.NSClient, "body").WithText("hi"), stanza.New("urn:p", "y")}}},
		{Kind: stream.Element, Element: element(t,
			"<error xmlns='http://etherx.jabber.org/streams'><z xmlns='urn:p'/></error>")},
		{Kind: stream.Close},
	}
	for name, cut := range chunkings {
		t.Run(name, func(t *testing.T) {
			d := NewDecoder(stream.Limits{})
			items, err := drain(d, []byte(in), cut)
			require.Nil(t, err)
			require.Len(t, items, len(want))
			for i := range items {
				require.NotZero(t, items[i].Size)
				items[i].Size = 0
				require.Equal(t, want[i], items[i])
			}
			require.Zero(t, d.Buffered())
		})
	}
}

// TestHeaders has stream headers that are accepted (A25–A29: what is wrong with version and to is the session's to
// say).
func TestHeaders(t *testing.T) {
	for _, test := range []struct {
		name, in string
		want     stream.Header
		then     string // a stanza that must be readable after it
	}{
		{"no attributes", "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
			stream.Header{}, "<presence/>"},
		{"old version",
			"<stream:stream version='0.9' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
			stream.Header{Version: "0.9", HasVersion: true}, "<presence/>"},
		{"empty to", "<stream:stream to='' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
			stream.Header{HasTo: true}, "<presence/>"},
		{"white space first",
			"\r\n <stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
			stream.Header{}, "<presence/>"},
		{"no prefix", "<stream xmlns='http://etherx.jabber.org/streams'>", stream.Header{},
			"<presence xmlns='jabber:client'/>"},
		{"prefix of the content namespace", "<stream xmlns='http://etherx.jabber.org/streams' xmlns:c='jabber:client'>",
			stream.Header{}, "<c:presence/>"},
		{"no content namespace", "<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>", stream.Header{},
			"<presence xmlns='jabber:client'/>"},
		{"namespaced attributes",
			"<stream:stream xmlns:to='u' to:to='x' xmlns='jabber:client' " +
				"xmlns:stream='http://etherx.jabber.org/streams'>",
			stream.Header{}, "<presence/>"},
	} {
		for name, cut := range chunkings {
			t.Run(test.name+", "+name, func(t *testing.T) {
				items, err := drain(NewDecoder(stream.Limits{}), []byte(test.in+test.then), cut)
				require.Nil(t, err)
				require.Len(t, items, 2)
				require.Equal(t, test.want, items[0].Header)
				require.Equal(t, &stanza.Stanza{Kind: stanza.Presence}, items[1].Stanza)
			})
		}
	}
}

// TestPrefixFreeStream covers the other canonical form of RFC 6120 §4.8.5: what has no declaration is the stream's.
func TestPrefixFreeStream(t *testing.T) {
	items, err := drain(NewDecoder(stream.Limits{}),
		[]byte("<stream xmlns='http://etherx.jabber.org/streams'><error/></stream>"), byteByByte)
	require.Nil(t, err)
	require.Len(t, items, 3)
	require.Equal(t, stanza.NSStream, items[1].Element.Space)
	require.Equal(t, stream.Close, items[2].Kind)
}

func TestEmptyStream(t *testing.T) {
	items, err := drain(NewDecoder(stream.Limits{}),
		[]byte("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'/>"), byteByByte)
	require.Nil(t, err)
	require.Len(t, items, 2)
	require.Equal(t, stream.Open, items[0].Kind)
	require.Equal(t, stream.Close, items[1].Kind)
}

func TestKeepalive(t *testing.T) {
	d := openedDecoder(t, stream.Limits{})
	d.Feed([]byte(" \n<presence/>\t"))
	for _, want := range []stream.Item{{Kind: stream.Keepalive, Size: 2}, {Kind: stream.Stanza},
		{Kind: stream.Keepalive, Size: 1}} {
		item, err := d.Next()
		require.NoError(t, err)
		require.Equal(t, want.Kind, item.Kind)
		if want.Size > 0 {
			require.Equal(t, want.Size, item.Size)
		}
	}
	_, err := d.Next()
	require.Equal(t, stream.ErrMore, err)
}

// TestMalformedAddress asks that a bad address leaves the stream alive and the rest of the stanza readable
// (RFC 6120 §8.3.3.8).
func TestMalformedAddress(t *testing.T) {
	items, err := drain(openedDecoder(t, stream.Limits{}),
		[]byte(
			"<message to='@example.org' from='a@b' id='1' type='chat'><body>x</body></message><iq from='a@@b'/><iq "+
				"to=''/><presence to='a@b'/>"), byteByByte)
	require.Nil(t, err)
	require.Len(t, items, 4)
	for _, item := range items[:3] {
		require.NotNil(t, item.Malformed)
		require.Equal(t, stanza.JIDMalformed, item.Malformed.Condition)
	}
	s := items[0].Stanza
	require.True(t, s.To.IsZero())
	require.Equal(t, jid.MustParse("a@b"), s.From)
	require.Equal(t, "1", s.ID)
	require.Equal(t, "chat", s.Type)
	require.Equal(t, "x", s.Body())
	require.Nil(t, items[3].Malformed)
}

// TestRestart covers RFC 6120 §4.3.3: nothing of the stream before counts, and unread bytes stay.
func TestRestart(t *testing.T) {
	d := NewDecoder(stream.Limits{})
	d.Feed([]byte("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xmlns:p='u'>" +
		"<auth xmlns='x'/>\n" + openTCP + "<p:x/>"))
	for _, want := range []stream.ItemKind{stream.Open, stream.Element} {
		item, err := d.Next()
		require.NoError(t, err)
		require.Equal(t, want, item.Kind)
	}
	require.Equal(t, len("\n"+openTCP+"<p:x/>"), d.Buffered())
	d.Restart()
	item, err := d.Next() // the newline still belongs to the stream before, so the declaration is in its place
	require.NoError(t, err)
	require.Equal(t, stream.Open, item.Kind)
	_, err = d.Next()
	require.ErrorContains(t, err, "prefix is not bound")
	_, again := d.Next()
	require.Equal(t, err, again, "an error is final")
}

// TestServerContent covers RFC 6120 §4.8.3: the content namespace differs on the wire only, and only outside payloads.
func TestServerContent(t *testing.T) {
	d := NewContentDecoder(stanza.NSServer, stream.Limits{})
	in := "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'>" +
		"<message from='a@b' to='c@d'><body>x</body>" +
		"<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:server'/><message xmlns='jabber:client'><body/>" +
		"</message></forwarded></message>" +
		"<s:iq xmlns:s='jabber:server'><s:error/></s:iq>" +
		"<message xmlns='jabber:client'/>"
	items, err := drain(d, []byte(in), byteByByte)
	require.Nil(t, err)
	require.Len(t, items, 4)
	m := items[1].Stanza
	require.Equal(t, "x", m.Body())
	forwarded := m.Child("urn:xmpp:forward:0", "forwarded")
	require.NotNil(t, forwarded.Child(stanza.NSServer, "message"))
	require.NotNil(t, forwarded.Child(stanza.NSClient, "message").Child(stanza.NSClient, "body"))
	require.NotNil(t, items[2].Stanza.Child(stanza.NSClient, "error"))
	require.Equal(t, stream.Element, items[3].Kind)

	_, err = drain(NewContentDecoder(stanza.NSServer, stream.Limits{}), []byte(openTCP), whole)
	require.NotNil(t, err)
	require.Equal(t, stream.InvalidNamespace, err.Condition)
}

// TestFeedTwice feeds again before the decoder has been read empty.
func TestFeedTwice(t *testing.T) {
	in := openTCP + strings.Repeat(benchMessage, 3)
	for size := 1; size < len(in); size += 13 {
		d := NewDecoder(stream.Limits{})
		pieces := every(size)([]byte(in))
		items := 0
		for i := 0; i < len(pieces); {
			for range 1 + i%4 {
				if i < len(pieces) {
					d.Feed(append([]byte(nil), pieces[i]...))
					i++
				}
			}
			for n := 0; n < 1+i%2; n++ { // not always until ErrMore
				if _, err := d.Next(); err == nil {
					items++
				} else {
					require.Equal(t, stream.ErrMore, err)
				}
			}
		}
		for {
			if _, err := d.Next(); err != nil {
				require.Equal(t, stream.ErrMore, err)
				break
			}
			items++
		}
		require.Equal(t, 4, items)
		require.Zero(t, d.Buffered())
	}
}

// TestIdleHoldsNothing asks that a decoder with nothing half read keeps no memory but itself, which is small.
func TestIdleHoldsNothing(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(Decoder{}), uintptr(300))
	for name, cut := range chunkings {
		d := NewDecoder(stream.Limits{})
		_, err := drain(d, []byte(openTCP+benchMessage+" "), cut)
		require.Nil(t, err)
		require.Nil(t, d.scanner, name)
		require.Nil(t, d.buf, name)
		require.Nil(t, d.fed, name)
		require.Nil(t, d.others, name)
	}
}

// TestDecodeAllocations holds the number that the message path counts on.
func TestDecodeAllocations(t *testing.T) {
	most := 6.0
	if raceEnabled {
		most = 12 // pools forget at random under the race detector
	}
	d := openedDecoder(t, stream.Limits{})
	in := []byte(benchMessage)
	allocs := testing.AllocsPerRun(1000, func() {
		d.Feed(in)
		if item, err := d.Next(); err != nil || item.Stanza == nil {
			t.Fatal(err)
		}
		if _, err := d.Next(); err != stream.ErrMore {
			t.Fatal(err)
		}
	})
	require.LessOrEqual(t, allocs, most)
}
