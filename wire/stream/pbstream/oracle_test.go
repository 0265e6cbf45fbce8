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
			From: o.From, To: o.GetTo(), HasTo: o.To != nil, ID: o.Id, Version: o.GetVersion(), HasVersion: o.Version != nil, Lang: o.Lang,
		}}
	case *pb.Frame_Close:
		return stream.Item{Kind: stream.Close}
	case *pb.Frame_Error:
		e := stream.Error{Condition: conditions[max(k.Error.Condition, pb.StreamCondition_STREAM_CONDITION_UNSPECIFIED)], Text: k.Error.Text}
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

func meantForwarded(f *pb.Forwarded, own string) stanza.Element {
	m := f.Message
	if m.OwnTo != nil {
		m.To = meantOwn(own, *m.OwnTo)
	}
	if m.OwnFrom != nil {
		m.From = meantOwn(own, *m.OwnFrom)
	}
	id := meantStanzaID(m)
	message := withAttrs("jabber:client", "message", "from", m.From, "to", m.To, "id", id, "type", types[m.Type]+m.TypeName)
	if m.Lang != "" {
		message.Attrs = append(message.Attrs, stanza.Attr{Space: stanza.NSXML, Local: "lang", Value: m.Lang})
	}
	message = message.With(meantContent(m, id, own)...)
	e := stanza.New("urn:xmpp:forward:0", "forwarded")
	if f.Delay != nil {
		e = e.With(meantDelay(f.Delay))
	}
	e = e.With(message)
	switch f.Wrapper {
	case pb.Wrapper_WRAPPER_SENT:
		return stanza.New("urn:xmpp:carbons:2", "sent").With(e)
	case pb.Wrapper_WRAPPER_RECEIVED:
		return stanza.New("urn:xmpp:carbons:2", "received").With(e)
	case pb.Wrapper_WRAPPER_RESULT:
		result := withAttrs("urn:xmpp:mam:2", "result", "queryid", f.Query)
		result.Attrs = append(result.Attrs, stanza.Attr{Local: "id", Value: meantID(f)})
		return result.With(e)
	}
	return e
}

func meantCaps(c *pb.Caps) stanza.Element {
	hash, ver := "sha-1", c.GetVer()
	if c.Hash != "" {
		hash = c.Hash
	}
	if b := c.GetSha1(); b != nil {
		ver = base64.StdEncoding.EncodeToString(b)
	}
	return withAttrs("http://jabber.org/protocol/caps", "c", "hash", hash, "node", c.Node, "ver", ver)
}

func meantFallback(f *pb.Fallback) stanza.Element {
	e := withAttrs("urn:xmpp:fallback:0", "fallback", "for", spaces[f.For]+f.ForName)
	for _, r := range f.Bodies {
		e = e.With(withAttrs("urn:xmpp:fallback:0", "body", "start", decimal(r.Start), "end", decimal(r.End)))
	}
	return e
}

// decimal returns a number as text, "" when it is not there.
func decimal[T uint32 | uint64](n *T) string {
	if n == nil {
		return ""
	}
	return strconv.FormatUint(uint64(*n), 10)
}

func meantSync(s *pb.Sync, own string) stanza.Element {
	e := withAttrs("urn:posthouse:sync:1", "sync", "max", decimal(s.Max), "more", truth(s.More), "first", truth(s.First))
	if s.Cursor != nil {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "cursor", Value: *s.Cursor})
	}
	for _, i := range s.Items {
		e = e.With(meantPayload("urn:posthouse:sync:1", "", own, i))
	}
	return e
}

func truth(b bool) string {
	if b {
		return "true"
	}
	return ""
}

func meantConversation(c *pb.Conversation) stanza.Element {
	e := withAttrs("urn:posthouse:sync:1", "conversation", "with", c.With, "number", decimal(c.Number), "read", decimal(c.Read), "delivered", decimal(c.Delivered),
		"peer-read", decimal(c.PeerRead), "peer-delivered", decimal(c.PeerDelivered), "unread", decimal(c.Unread), "pinned", truth(c.Pinned))
	if c.Last != nil {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "last", Value: meantID(c.Last)})
	}
	if c.MutedUntil != nil {
		until := c.GetOther()
		switch k := c.MutedUntil.(type) {
		case *pb.Conversation_Millis:
			until = time.UnixMilli(int64(k.Millis)).UTC().Format("2006-01-02T15:04:05.000Z")
		case *pb.Conversation_Seconds:
			until = time.Unix(int64(k.Seconds), 0).UTC().Format(time.RFC3339)
		}
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "muted-until", Value: until})
	}
	return e
}

// meantPayload returns the element that a payload stands for: within an element of a namespace, in a stanza with an id, of an account.
func meantPayload(around, id, own string, child *pb.Payload) stanza.Element {
	text := func(local string, t *pb.Text) stanza.Element {
		e := stanza.New(stanza.NSClient, local)
		if t.Text != "" {
			e = e.WithText(t.Text)
		}
		if t.Lang != "" {
			e.Attrs = append(e.Attrs, stanza.Attr{Space: stanza.NSXML, Local: "lang", Value: t.Lang})
		}
		return e
	}
	switch k := child.Kind.(type) {
	case *pb.Payload_Element:
		return meantElement(around, k.Element)
	case *pb.Payload_Body:
		return text("body", k.Body)
	case *pb.Payload_Subject:
		return text("subject", k.Subject)
	case *pb.Payload_Status:
		return text("status", k.Status)
	case *pb.Payload_Thread:
		e := text("thread", &pb.Text{Text: k.Thread.Id})
		if k.Thread.Parent != "" {
			e.Attrs = []stanza.Attr{{Local: "parent", Value: k.Thread.Parent}}
		}
		return e
	case *pb.Payload_ChatState:
		return stanza.New("http://jabber.org/protocol/chatstates", chatStates[k.ChatState])
	case *pb.Payload_Signal:
		return stanza.New(signals[k.Signal].space, signals[k.Signal].local)
	case *pb.Payload_OriginId:
		if k.OriginId.Form == nil {
			return stanza.New("urn:xmpp:sid:0", "origin-id", "id", id)
		}
		return stanza.New("urn:xmpp:sid:0", "origin-id", "id", meantID(k.OriginId))
	case *pb.Payload_StanzaId:
		by := k.StanzaId.By
		if by == "" {
			by = own
		}
		return stanza.New("urn:xmpp:sid:0", "stanza-id", "by", by, "id", meantID(k.StanzaId))
	case *pb.Payload_Received:
		return stanza.New("urn:xmpp:receipts", "received", "id", meantID(k.Received))
	case *pb.Payload_Marker:
		return stanza.New("urn:xmpp:chat-markers:0", markers[k.Marker.Kind], "id", meantID(k.Marker))
	case *pb.Payload_Replace:
		return stanza.New("urn:xmpp:message-correct:0", "replace", "id", meantID(k.Replace))
	case *pb.Payload_Delay:
		return meantDelay(k.Delay)
	case *pb.Payload_Confirmed:
		return meantConfirmed(k.Confirmed)
	case *pb.Payload_Show:
		return stanza.New(stanza.NSClient, "show").WithText(shows[k.Show])
	case *pb.Payload_Priority:
		return stanza.New(stanza.NSClient, "priority").WithText(strconv.Itoa(int(k.Priority)))
	case *pb.Payload_Roster:
		return meantRoster(k.Roster)
	case *pb.Payload_Position:
		return stanza.New("urn:posthouse:position:1", "position", "number", strconv.FormatUint(k.Position, 10))
	case *pb.Payload_Forwarded:
		return meantForwarded(k.Forwarded, own)
	case *pb.Payload_Caps:
		return meantCaps(k.Caps)
	case *pb.Payload_Retract:
		return stanza.New("urn:xmpp:message-retract:1", "retract", "id", meantID(k.Retract))
	case *pb.Payload_Reply:
		e := withAttrs("urn:xmpp:reply:0", "reply", "to", k.Reply.To)
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "id", Value: meantID(k.Reply)})
		return e
	case *pb.Payload_Fallback:
		return meantFallback(k.Fallback)
	case *pb.Payload_Reactions:
		e := stanza.New("urn:xmpp:reactions:0", "reactions", "id", meantID(k.Reactions))
		for _, r := range k.Reactions.Reactions {
			e = e.With(stanza.New("urn:xmpp:reactions:0", "reaction").WithText(r))
		}
		return e
	case *pb.Payload_Mention:
		return stanza.New("urn:xmpp:reference:0", "reference", "type", "mention", "begin", strconv.Itoa(int(k.Mention.Begin)),
			"end", strconv.Itoa(int(k.Mention.End)), "uri", "xmpp:"+k.Mention.Address)
	case *pb.Payload_Sync:
		return meantSync(k.Sync, own)
	case *pb.Payload_Conversation:
		return meantConversation(k.Conversation)
	case *pb.Payload_Contacts:
		e := withAttrs("urn:posthouse:sync:1", "roster", "all", truth(k.Contacts.All))
		return e.With(meantItems(k.Contacts.Items)...)
	case *pb.Payload_Profile:
		return withAttrs("urn:posthouse:profile:1", "profile", "jid", k.Profile.Jid, "name", k.Profile.Name, "title", k.Profile.Title)
	}
	panic("payload without a kind")
}

func meantDelay(d *pb.Delay) stanza.Element {
	stamp := d.GetOther()
	switch k := d.Stamp.(type) {
	case *pb.Delay_Millis:
		stamp = time.UnixMilli(int64(k.Millis)).UTC().Format("2006-01-02T15:04:05.000Z")
	case *pb.Delay_Seconds:
		stamp = time.Unix(int64(k.Seconds), 0).UTC().Format(time.RFC3339)
	}
	e := stanza.New("urn:xmpp:delay", "delay", "stamp", stamp)
	if d.From != "" {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "from", Value: d.From})
	}
	if d.Reason != "" {
		e = e.WithText(d.Reason)
	}
	return e
}

func meantConfirmed(c *pb.Confirmed) stanza.Element {
	e := stanza.New("urn:posthouse:confirm:1", "confirmed", "conversation", c.Conversation,
		"number", strconv.FormatUint(c.Number, 10), "stamp", time.UnixMilli(int64(c.Stamp)).UTC().Format("2006-01-02T15:04:05.000Z"))
	if c.Id != nil {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "id", Value: meantID(c.Id)})
	}
	if c.StanzaId != nil {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "stanza-id", Value: meantID(c.StanzaId)})
	}
	if c.Duplicate {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "duplicate", Value: "true"})
	}
	return e
}

func meantRoster(r *pb.Roster) stanza.Element {
	e := stanza.New("jabber:iq:roster", "query")
	if r.Ver != nil {
		e.Attrs = []stanza.Attr{{Local: "ver", Value: *r.Ver}}
	}
	return e.With(meantItems(r.Items)...)
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
	require.True(t, want.Element.Equal(item.Element), "%x: generated %+v, by hand %+v", wire, want.Element, item.Element)

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
