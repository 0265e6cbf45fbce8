package pbstream

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream/pb"
)

// What a frame means, said a second time with the generated types: as docs/protocol/compact.md says it, not as the
// decoder does it.

// meant returns the item that a frame, without its length, stands for.
func meant(t testing.TB, data []byte) stream.Item {
	t.Helper()
	var f pb.Frame
	require.NoError(t, proto.Unmarshal(data, &f), "%x", data)
	switch k := f.Kind.(type) {
	case *pb.Frame_Message:
		return stream.Item{Kind: stream.Stanza, Stanza: meantStanza(stanza.Message, k.Message)}
	case *pb.Frame_Presence:
		return stream.Item{Kind: stream.Stanza, Stanza: meantStanza(stanza.Presence, k.Presence)}
	case *pb.Frame_Iq:
		return stream.Item{Kind: stream.Stanza, Stanza: meantStanza(stanza.IQ, k.Iq)}
	case *pb.Frame_Ack:
		e := stanza.New(nsSM, "a", "h", strconv.Itoa(int(k.Ack.H)))
		return stream.Item{Kind: stream.Element, Element: &e}
	case *pb.Frame_AckRequest:
		e := stanza.New(nsSM, "r")
		return stream.Item{Kind: stream.Element, Element: &e}
	case *pb.Frame_Ping, *pb.Frame_Pong:
		return stream.Item{Kind: stream.Keepalive}
	case *pb.Frame_Element:
		e := meantElement("", k.Element)
		return stream.Item{Kind: stream.Element, Element: &e}
	case *pb.Frame_Open:
		o := k.Open
		return stream.Item{Kind: stream.Open, Header: stream.Header{
			From: o.From, To: o.GetTo(), HasTo: o.To != nil, ID: o.Id, Version: o.GetVersion(),
			HasVersion: o.Version != nil, Lang: o.Lang,
		}}
	case *pb.Frame_Close:
		return stream.Item{Kind: stream.Close}
	case *pb.Frame_Error:
		e := stream.Error{Condition: conditions[max(k.Error.Condition,
			pb.StreamCondition_STREAM_CONDITION_UNSPECIFIED)], Text: k.Error.Text}
		if k.Error.Condition == 0 {
			e.Condition = stream.UndefinedCondition
		}
		if k.Error.App != nil {
			app := meantElement("", k.Error.App)
			e.App = &app
		}
		el := e.Element()
		return stream.Item{Kind: stream.Element, Element: &el}
	}
	require.Fail(t, "frame without a kind")
	return stream.Item{}
}

func hexUUID(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// identity is what all messages with an identifier have.
type identity interface {
	GetId() string
	GetUuid() []byte
	GetKey() []byte
}

func meantID(id identity) string {
	switch {
	case len(id.GetUuid()) > 0:
		return hexUUID(id.GetUuid())
	case len(id.GetKey()) > 0:
		return base64.RawURLEncoding.EncodeToString(id.GetKey())
	}
	return id.GetId()
}

func meantStanza(kind stanza.Kind, p *pb.Stanza) *stanza.Stanza {
	s := &stanza.Stanza{Kind: kind, ID: meantStanzaID(p), Lang: p.Lang, Type: types[p.Type] + p.TypeName}
	if p.OwnTo != nil {
		from, _, _ := strings.Cut(p.From, "/")
		p.To = meantOwn(from, *p.OwnTo)
	}
	s.To, _ = jid.Parse(p.To)
	s.From, _ = jid.Parse(p.From)
	own := s.To.Bare().String()
	if own == "" {
		own = p.To
	}
	s.Payload = meantContent(p, s.ID, own)
	return s
}

func meantStanzaID(p *pb.Stanza) string {
	if b := p.GetIdUuid(); b != nil {
		return hexUUID(b)
	}
	if b := p.GetIdKey(); b != nil {
		return base64.RawURLEncoding.EncodeToString(b)
	}
	return p.GetId()
}

func meantOwn(account, resource string) string {
	if resource != "" {
		account += "/" + resource
	}
	return account
}

func meantContent(p *pb.Stanza, id, own string) (out []stanza.Element) {
	if p.Body != "" {
		out = append(out, stanza.New(stanza.NSClient, "body").WithText(p.Body))
	}
	for _, child := range p.Payload {
		out = append(out, meantPayload(stanza.NSClient, id, own, child))
	}
	return out
}

// withAttrs returns an element with those attributes of which the value is not empty.
func withAttrs(space, local string, pairs ...string) stanza.Element {
	e := stanza.New(space, local)
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			e.Attrs = append(e.Attrs, stanza.Attr{Local: pairs[i], Value: pairs[i+1]})
		}
	}
	return e
}

// forwarding is what both messages with a message inside have.
type forwarding interface {
	GetDelay() *pb.Delay
	GetMessage() *pb.Stanza
}

func meantForwarded(f forwarding, own string) stanza.Element {
	e := stanza.New("urn:xmpp:forward:0", "forwarded")
	if d := f.GetDelay(); d != nil {
		e = e.With(meantDelay(d))
	}
	m := f.GetMessage()
	if m == nil {
		return e
	}
	to, from := m.To, m.From
	if m.OwnTo != nil {
		to = meantOwn(own, *m.OwnTo)
	}
	if m.OwnFrom != nil {
		from = meantOwn(own, *m.OwnFrom)
	}
	id := meantStanzaID(m)
	message := withAttrs("jabber:client", "message", "from", from, "to", to, "id", id, "type", types[m.Type]+m.TypeName)
	if m.Lang != "" {
		message.Attrs = append(message.Attrs, stanza.Attr{Space: stanza.NSXML, Local: "lang", Value: m.Lang})
	}
	return e.With(message.With(meantContent(m, id, own)...))
}

// decimal returns a number as text, "" when it is not there.
func decimal(n *uint64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatUint(*n, 10)
}

func meantSync(s *pb.Sync, own string) stanza.Element {
	e := withAttrs("urn:posthouse:sync:1", "sync", "cursor", s.Cursor, "max", decimal(s.Max), "more", yes(s.More),
		"first", yes(s.First))
	for _, i := range s.Items {
		e = e.With(meantPayload("urn:posthouse:sync:1", "", own, i))
	}
	return e
}

func yes(b bool) string {
	if b {
		return "true"
	}
	return ""
}

func meantConversation(c *pb.Conversation) stanza.Element {
	last, until := c.GetLast(), c.GetOther()
	switch k := c.Newest.(type) {
	case *pb.Conversation_LastUuid:
		last = hexUUID(k.LastUuid)
	case *pb.Conversation_LastKey:
		last = base64.RawURLEncoding.EncodeToString(k.LastKey)
	}
	switch k := c.MutedUntil.(type) {
	case *pb.Conversation_Millis:
		until = meantMillis(k.Millis)
	case *pb.Conversation_Seconds:
		until = time.Unix(int64(k.Seconds), 0).UTC().Format(time.RFC3339)
	}
	return withAttrs("urn:posthouse:sync:1", "conversation", "with", c.With, "number", decimal(c.Number), "read",
		decimal(c.Read),
		"delivered", decimal(c.Delivered), "peer-read", decimal(c.PeerRead), "peer-delivered", decimal(c.PeerDelivered),
		"unread", decimal(c.Unread), "last", last, "muted-until", until, "pinned", yes(c.Pinned))
}

// meantPayload returns the element that a payload stands for: within an element of a namespace, in a stanza with an id,
// of an account.
func meantPayload(around, id, own string, child *pb.Payload) stanza.Element {
	switch k := child.Kind.(type) {
	case *pb.Payload_Element:
		return meantElement(around, k.Element)
	case *pb.Payload_Signal:
		e := stanza.New(signals[k.Signal].space, signals[k.Signal].local)
		if text := signals[k.Signal].text; text != "" {
			e = e.WithText(text)
		}
		return e
	case *pb.Payload_OriginId:
		own := meantID(k.OriginId)
		if own == "" {
			own = id
		}
		return withAttrs("urn:xmpp:sid:0", "origin-id", "id", own)
	case *pb.Payload_StanzaId:
		by := k.StanzaId.By
		if by == "" {
			by = own
		}
		return withAttrs("urn:xmpp:sid:0", "stanza-id", "by", by, "id", meantID(k.StanzaId))
	case *pb.Payload_Position:
		return stanza.New("urn:posthouse:position:1", "position", "number", strconv.FormatUint(k.Position, 10))
	case *pb.Payload_Confirmed:
		return meantConfirmed(k.Confirmed)
	case *pb.Payload_Delivered:
		return withAttrs("urn:posthouse:marker:1", "delivered", "id", meantID(k.Delivered), "number",
			decimal(k.Delivered.Number))
	case *pb.Payload_Read:
		return withAttrs("urn:posthouse:marker:1", "read", "id", meantID(k.Read), "number", decimal(k.Read.Number))
	case *pb.Payload_Delay:
		return meantDelay(k.Delay)
	case *pb.Payload_Forwarded:
		return meantForwarded(k.Forwarded, own)
	case *pb.Payload_Sent:
		return stanza.New("urn:xmpp:carbons:2", "sent").With(meantForwarded(k.Sent, own))
	case *pb.Payload_Received:
		return stanza.New("urn:xmpp:carbons:2", "received").With(meantForwarded(k.Received, own))
	case *pb.Payload_Result:
		return withAttrs("urn:xmpp:mam:2", "result", "queryid", k.Result.Query, "id",
			meantID(k.Result)).With(meantForwarded(k.Result, own))
	case *pb.Payload_Sync:
		return meantSync(k.Sync, own)
	case *pb.Payload_Roster:
		return withAttrs("jabber:iq:roster", "query", "ver", k.Roster.Ver).With(meantItems(k.Roster.Items)...)
	case *pb.Payload_Conversation:
		return meantConversation(k.Conversation)
	case *pb.Payload_Caps:
		ver, hash := k.Caps.GetVer(), k.Caps.Hash
		if b := k.Caps.GetData(); b != nil {
			ver = base64.StdEncoding.EncodeToString(b)
		}
		if hash == "" {
			hash = "sha-1"
		}
		return withAttrs("http://jabber.org/protocol/caps", "c", "node", k.Caps.Node, "ver", ver, "hash", hash)
	case *pb.Payload_Status:
		return meantText("status", k.Status)
	case *pb.Payload_Priority:
		return meantText("priority", k.Priority)
	case *pb.Payload_Contacts:
		return withAttrs("urn:posthouse:sync:1", "roster", "all",
			yes(k.Contacts.All)).With(meantItems(k.Contacts.Items)...)
	}
	panic("payload without a kind")
}

func meantText(local string, p *pb.Text) stanza.Element {
	if p.Text == "" {
		return stanza.New("jabber:client", local)
	}
	return stanza.New("jabber:client", local).WithText(p.Text)
}

func meantDelay(d *pb.Delay) stanza.Element {
	stamp := d.GetOther()
	switch k := d.Stamp.(type) {
	case *pb.Delay_Millis:
		stamp = meantMillis(k.Millis)
	case *pb.Delay_Seconds:
		stamp = time.Unix(int64(k.Seconds), 0).UTC().Format(time.RFC3339)
	}
	return withAttrs("urn:xmpp:delay", "delay", "stamp", stamp, "from", d.From)
}

func meantMillis(n uint64) string {
	return time.UnixMilli(int64(n)).UTC().Format("2006-01-02T15:04:05.000Z")
}

func meantConfirmed(c *pb.Confirmed) stanza.Element {
	archived := c.GetStanzaId()
	switch k := c.Archived.(type) {
	case *pb.Confirmed_StanzaUuid:
		archived = hexUUID(k.StanzaUuid)
	case *pb.Confirmed_StanzaKey:
		archived = base64.RawURLEncoding.EncodeToString(k.StanzaKey)
	}
	stamp := ""
	if c.Stamp != nil {
		stamp = meantMillis(*c.Stamp)
	}
	return withAttrs("urn:posthouse:confirm:1", "confirmed", "id", meantID(c), "stanza-id", archived, "conversation",
		c.Conversation,
		"number", decimal(c.Number), "stamp", stamp, "duplicate", yes(c.Duplicate))
}

func meantItems(items []*pb.RosterItem) (out []stanza.Element) {
	for _, i := range items {
		item := stanza.New("jabber:iq:roster", "item")
		add := func(name, value string) {
			if value != "" {
				item.Attrs = append(item.Attrs, stanza.Attr{Local: name, Value: value})
			}
		}
		add("jid", i.Jid)
		add("name", i.Name)
		add("subscription", subscriptions[i.Subscription])
		if i.Ask {
			add("ask", "subscribe")
		}
		if i.Approved {
			add("approved", "true")
		}
		for _, g := range i.Groups {
			item = item.With(stanza.New("jabber:iq:roster", "group").WithText(g))
		}
		out = append(out, item)
	}
	return out
}

func meantElement(around string, p *pb.Element) stanza.Element {
	e := stanza.Element{Space: around, Local: words[p.Local] + p.LocalName}
	switch {
	case p.Space != 0:
		e.Space = spaces[p.Space]
	case p.SpaceName != "":
		e.Space = p.SpaceName
	}
	for _, a := range p.Attrs {
		attr := stanza.Attr{Space: spaces[a.Space] + a.SpaceName, Local: words[a.Local] + a.LocalName}
		switch k := a.Form.(type) {
		case *pb.Attr_Value:
			attr.Value = k.Value
		case *pb.Attr_Uuid:
			attr.Value = hexUUID(k.Uuid)
		case *pb.Attr_Key:
			attr.Value = base64.RawURLEncoding.EncodeToString(k.Key)
		case *pb.Attr_Word:
			attr.Value = words[k.Word]
		case *pb.Attr_Uri:
			attr.Value = spaces[k.Uri]
		case *pb.Attr_Data:
			attr.Value = base64.StdEncoding.EncodeToString(k.Data)
		case *pb.Attr_UrlData:
			attr.Value = base64.RawURLEncoding.EncodeToString(k.UrlData)
		case *pb.Attr_Seconds:
			attr.Value = time.Unix(int64(k.Seconds), 0).UTC().Format(time.RFC3339)
		case *pb.Attr_Millis:
			attr.Value = time.UnixMilli(int64(k.Millis)).UTC().Format("2006-01-02T15:04:05.000Z")
		}
		e.Attrs = append(e.Attrs, attr)
	}
	if text := p.GetText() + words[p.GetTextWord()] + base64.StdEncoding.EncodeToString(p.GetData()); text != "" {
		e = e.WithText(text)
	}
	for _, c := range p.Children {
		e = e.With(meantElement(e.Space, c))
	}
	for _, n := range p.Nodes {
		if c := n.GetElement(); c != nil {
			e = e.With(meantElement(e.Space, c))
		} else {
			e = e.WithText(n.GetText())
		}
	}
	return e
}

// checkOracle asks that a frame that was decoded to an item means the same to the generated types, and that what those
// make of it is decoded to the same again.
func checkOracle(t testing.TB, wire []byte, item stream.Item) {
	t.Helper()
	prefix, n, failed := length(wire, 1<<28)
	require.Nil(t, failed)
	require.Equal(t, len(wire), prefix+n)
	want := meant(t, wire[prefix:])
	require.Equal(t, want.Kind, item.Kind)
	require.Equal(t, want.Header, item.Header)
	require.True(t, want.Stanza.Equal(item.Stanza), "%x: generated %+v, by hand %+v", wire, want.Stanza, item.Stanza)
	require.True(t, want.Element.Equal(item.Element), "%x: generated %+v, by hand %+v", wire, want.Element,
		item.Element)

	var f pb.Frame
	require.NoError(t, proto.Unmarshal(wire[prefix:], &f))
	body, err := proto.Marshal(&f)
	require.NoError(t, err)
	again := frameOf(body)
	d := openedDecoder(t, unlimited)
	if item.Kind == stream.Open {
		d = NewDecoder(unlimited)
	}
	items, failed := drain(d, again, whole)
	require.Nil(t, failed, "%x", again)
	require.Len(t, items, 1)
	items[0].Size = item.Size
	require.True(t, equalItems(item, items[0]), "%x", again)
}

// frameOf puts the length in front of a frame.
func frameOf(body []byte) []byte {
	dst, start := begin(nil)
	return end(append(dst, body...), start)
}
