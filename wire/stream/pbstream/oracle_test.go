package pbstream

import (
	"encoding/base64"
	"fmt"
	"strconv"
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
	s := &stanza.Stanza{Kind: kind, ID: p.GetId(), Lang: p.Lang, Type: types[p.Type] + p.TypeName}
	s.To, _ = jid.Parse(p.To)
	s.From, _ = jid.Parse(p.From)
	if b := p.GetIdUuid(); b != nil {
		s.ID = hexUUID(b)
	}
	if b := p.GetIdKey(); b != nil {
		s.ID = base64.RawURLEncoding.EncodeToString(b)
	}
	if p.Body != "" {
		s.Payload = append(s.Payload, stanza.New(stanza.NSClient, "body").WithText(p.Body))
	}
	for _, child := range p.Payload {
		s.Payload = append(s.Payload, meantPayload(s, p, child))
	}
	return s
}

func meantPayload(s *stanza.Stanza, p *pb.Stanza, child *pb.Payload) stanza.Element {
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
		return meantElement(stanza.NSClient, k.Element)
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
			return stanza.New("urn:xmpp:sid:0", "origin-id", "id", s.ID)
		}
		return stanza.New("urn:xmpp:sid:0", "origin-id", "id", meantID(k.OriginId))
	case *pb.Payload_StanzaId:
		by := k.StanzaId.By
		if by == "" {
			if by = s.To.Bare().String(); by == "" {
				by = p.To
			}
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
	for _, i := range r.Items {
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
		e = e.With(item)
	}
	return e
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
		}
		e.Attrs = append(e.Attrs, attr)
	}
	if p.Text != "" {
		e = e.WithText(p.Text)
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
