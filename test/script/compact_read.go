package script

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/wire/stream/pbstream/pb"
)

// What frames mean, as docs/protocol/compact.md says it.

// element makes an element with attributes, given as names and values.
func element(space, local string, attrs ...string) *Element {
	n := &Element{Name: xml.Name{Space: space, Local: local}}
	for i := 0; i < len(attrs); i += 2 {
		n.set("", attrs[i], attrs[i+1])
	}
	return n
}

// with is element with text.
func (n *Element) with(text string) *Element {
	n.Text = text
	return n
}

// set sets an attribute.
func (n *Element) set(space, local, value string) {
	n.Attrs = slices.DeleteFunc(n.Attrs, func(a xml.Attr) bool { return a.Name.Space == space && a.Name.Local == local })
	n.Attrs = append(n.Attrs, xml.Attr{Name: xml.Name{Space: space, Local: local}, Value: value})
	slices.SortFunc(n.Attrs, compareAttrs)
}

// maySet adds an attribute unless it is empty.
func (n *Element) maySet(local, value string) {
	if value != "" {
		n.set("", local, value)
	}
}

// mayBe adds an attribute that is true, or is not there.
func (n *Element) mayBe(local string, is bool) {
	if is {
		n.set("", local, "true")
	}
}

// mayCount adds an attribute that is a number, or is not there.
func mayCount[T uint32 | uint64](n *Element, local string, count *T) {
	if count != nil {
		n.set("", local, strconv.FormatUint(uint64(*count), 10))
	}
}

// lookUp finds a number in a table, or takes the name.
func lookUp(table []string, number uint32, name string) (string, error) {
	switch {
	case number == 0:
		return name, nil
	case int(number) >= len(table) || name != "":
		return "", fmt.Errorf("number %d with name %q", number, name)
	}
	return table[number], nil
}

func uuidText(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func keyText(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// identifier is every message with an identifier.
type identifier interface {
	GetId() string
	GetUuid() []byte
	GetKey() []byte
}

func idText(id identifier) string {
	switch {
	case len(id.GetUuid()) == 16:
		return uuidText(id.GetUuid())
	case len(id.GetKey()) == 16:
		return keyText(id.GetKey())
	}
	return id.GetId()
}

// stanza is the element of a stanza at the top level.
func (d *dictionary) stanza(local string, p *pb.Stanza) (*Element, error) {
	to := p.To
	if p.OwnTo != nil {
		to = own(bare(p.From), *p.OwnTo)
	}
	return d.anyStanza(local, p, bare(to), to, p.From)
}

// own is an address of the account, with a resource unless that is empty.
func own(account, resource string) string { return strings.TrimSuffix(account+"/"+resource, "/") }

// anyStanza is the element of a stanza, also of one that is forwarded. account is whose it is: the bare form of the
// outermost one's to.
func (d *dictionary) anyStanza(local string, p *pb.Stanza, account, to, from string) (*Element, error) {
	n := element(nsClient, local)
	n.maySet("to", to)
	n.maySet("from", from)
	n.maySet("id", stanzaID(p))
	n.maySet("type", value(p.Type)+p.TypeName)
	if p.Lang != "" {
		n.set(nsXML, "lang", p.Lang)
	}
	if p.Body != "" {
		n.Children = append(n.Children, element(nsClient, "body").with(p.Body))
	}
	for _, child := range p.Payload {
		c, err := d.payload(nsClient, account, n.Attr("id"), child)
		if err != nil {
			return nil, err
		}
		n.Children = append(n.Children, c)
	}
	return n, nil
}

func stanzaID(p *pb.Stanza) string {
	switch {
	case len(p.GetIdUuid()) == 16:
		return uuidText(p.GetIdUuid())
	case len(p.GetIdKey()) == 16:
		return keyText(p.GetIdKey())
	}
	return p.GetId()
}

func bare(jid string) string {
	b, _, _ := strings.Cut(jid, "/")
	return b
}

// payload is the element of one child of a stanza with that id, or of an element in the namespace around.
func (d *dictionary) payload(around, account, stanza string, p *pb.Payload) (*Element, error) {
	switch k := p.Kind.(type) {
	case *pb.Payload_Element:
		return d.element(around, k.Element)
	case *pb.Payload_Body:
		return textElement("body", k.Body), nil
	case *pb.Payload_Subject:
		return textElement("subject", k.Subject), nil
	case *pb.Payload_Status:
		return textElement("status", k.Status), nil
	case *pb.Payload_Thread:
		n := element(nsClient, "thread").with(k.Thread.Id)
		n.maySet("parent", k.Thread.Parent)
		return n, nil
	case *pb.Payload_ChatState:
		return element("http://jabber.org/protocol/chatstates", value(k.ChatState)), nil
	case *pb.Payload_Signal:
		if k.Signal <= 0 || int(k.Signal) >= len(d.signals) {
			return nil, fmt.Errorf("signal %d", k.Signal)
		}
		return element(d.signals[k.Signal].space, d.signals[k.Signal].local), nil
	case *pb.Payload_OriginId:
		id := idText(k.OriginId)
		if k.OriginId.Form == nil {
			id = stanza
		}
		return element("urn:xmpp:sid:0", "origin-id", "id", id), nil
	case *pb.Payload_StanzaId:
		by := k.StanzaId.By
		if by == "" {
			by = account
		}
		return element("urn:xmpp:sid:0", "stanza-id", "by", by, "id", idText(k.StanzaId)), nil
	case *pb.Payload_Received:
		return element("urn:xmpp:receipts", "received", "id", idText(k.Received)), nil
	case *pb.Payload_Marker:
		return element("urn:xmpp:chat-markers:0", value(k.Marker.Kind), "id", idText(k.Marker)), nil
	case *pb.Payload_Replace:
		return element("urn:xmpp:message-correct:0", "replace", "id", idText(k.Replace)), nil
	case *pb.Payload_Delay:
		return delayElement(k.Delay), nil
	case *pb.Payload_Confirmed:
		return confirmedElement(k.Confirmed), nil
	case *pb.Payload_Show:
		return element(nsClient, "show").with(value(k.Show)), nil
	case *pb.Payload_Priority:
		return element(nsClient, "priority").with(strconv.Itoa(int(k.Priority))), nil
	case *pb.Payload_Roster:
		return rosterElement(k.Roster), nil
	case *pb.Payload_Position:
		return element("urn:posthouse:position:1", "position", "number", strconv.FormatUint(k.Position, 10)), nil
	case *pb.Payload_Forwarded:
		return d.forwarded(account, k.Forwarded)
	case *pb.Payload_Sync:
		return d.sync(account, k.Sync)
	}
	return d.rarer(p)
}

// forwarded is a message in another one.
func (d *dictionary) forwarded(account string, f *pb.Forwarded) (*Element, error) {
	n := element("urn:xmpp:forward:0", "forwarded")
	if f.Delay != nil {
		n.Children = append(n.Children, delayElement(f.Delay))
	}
	if m := f.Message; m != nil {
		to, from := m.To, m.From
		if m.OwnTo != nil {
			to = own(account, *m.OwnTo)
		}
		if m.OwnFrom != nil {
			from = own(account, *m.OwnFrom)
		}
		inner, err := d.anyStanza("message", m, account, to, from)
		if err != nil {
			return nil, err
		}
		n.Children = append(n.Children, inner)
	}
	var around *Element
	switch f.Wrapper {
	case pb.Wrapper_WRAPPER_UNSPECIFIED:
		return n, nil
	case pb.Wrapper_WRAPPER_RESULT:
		around = element("urn:xmpp:mam:2", "result")
		around.maySet("id", idText(f))
		around.maySet("queryid", f.Query)
	default:
		around = element("urn:xmpp:carbons:2", value(f.Wrapper))
	}
	around.Children = []*Element{n}
	return around, nil
}

func textElement(local string, t *pb.Text) *Element {
	n := element(nsClient, local).with(t.Text)
	if t.Lang != "" {
		n.set(nsXML, "lang", t.Lang)
	}
	return n
}

const millis = "2006-01-02T15:04:05.000Z"

func delayElement(d *pb.Delay) *Element {
	stamp := d.GetOther()
	switch k := d.Stamp.(type) {
	case *pb.Delay_Millis:
		stamp = time.UnixMilli(int64(k.Millis)).UTC().Format(millis)
	case *pb.Delay_Seconds:
		stamp = time.Unix(int64(k.Seconds), 0).UTC().Format(time.RFC3339)
	}
	n := element("urn:xmpp:delay", "delay", "stamp", stamp).with(d.Reason)
	n.maySet("from", d.From)
	return n
}

func confirmedElement(c *pb.Confirmed) *Element {
	n := element("urn:posthouse:confirm:1", "confirmed", "conversation", c.Conversation,
		"number", strconv.FormatUint(c.Number, 10), "stamp", time.UnixMilli(int64(c.Stamp)).UTC().Format(millis))
	if c.Id != nil {
		n.set("", "id", idText(c.Id))
	}
	if c.StanzaId != nil {
		n.set("", "stanza-id", idText(c.StanzaId))
	}
	n.mayBe("duplicate", c.Duplicate)
	return n
}

func rosterElement(r *pb.Roster) *Element {
	n := element("jabber:iq:roster", "query")
	if r.Ver != nil {
		n.set("", "ver", *r.Ver)
	}
	n.Children = itemElements(r.Items)
	return n
}

func itemElements(items []*pb.RosterItem) (out []*Element) {
	for _, i := range items {
		item := element("jabber:iq:roster", "item")
		item.maySet("jid", i.Jid)
		item.maySet("name", i.Name)
		item.maySet("subscription", value(i.Subscription))
		if i.Ask {
			item.set("", "ask", "subscribe")
		}
		item.mayBe("approved", i.Approved)
		for _, g := range i.Groups {
			item.Children = append(item.Children, element(item.Name.Space, "group").with(g))
		}
		out = append(out, item)
	}
	return out
}

// element is any element; around is the namespace of the one around it.
func (d *dictionary) element(around string, p *pb.Element) (*Element, error) {
	space, err := lookUp(d.spaces, p.Space, p.SpaceName)
	if err != nil {
		return nil, err
	}
	if p.Space == 0 && p.SpaceName == "" {
		space = around
	}
	local, err := lookUp(d.words, p.Local, p.LocalName)
	if err != nil {
		return nil, err
	}
	text, err := lookUp(d.words, p.GetTextWord(), p.GetText())
	if err != nil {
		return nil, err
	}
	n := element(space, local).with(text + base64.StdEncoding.EncodeToString(p.GetData()))
	for _, a := range p.Attrs {
		if err := d.attribute(n, a); err != nil {
			return nil, err
		}
	}
	for _, c := range p.Children {
		if err := d.child(n, c); err != nil {
			return nil, err
		}
	}
	for _, c := range p.Nodes {
		n.Text += c.GetText()
		if e := c.GetElement(); e != nil {
			if err := d.child(n, e); err != nil {
				return nil, err
			}
		}
	}
	if len(n.Children) > 0 {
		n.Text = strings.TrimSpace(n.Text)
	}
	return n, nil
}

func (d *dictionary) child(n *Element, p *pb.Element) error {
	c, err := d.element(n.Name.Space, p)
	n.Children = append(n.Children, c)
	return err
}

func (d *dictionary) attribute(n *Element, a *pb.Attr) error {
	space, err := lookUp(d.spaces, a.Space, a.SpaceName)
	if err != nil {
		return err
	}
	local, err := lookUp(d.words, a.Local, a.LocalName)
	if err != nil {
		return err
	}
	value := a.GetValue()
	switch k := a.Form.(type) {
	case *pb.Attr_Uuid:
		value = uuidText(k.Uuid)
	case *pb.Attr_Key:
		value = keyText(k.Key)
	case *pb.Attr_Word:
		value, err = lookUp(d.words, k.Word, "")
	case *pb.Attr_Uri:
		value, err = lookUp(d.spaces, k.Uri, "")
	case *pb.Attr_Data:
		value = base64.StdEncoding.EncodeToString(k.Data)
	case *pb.Attr_UrlData:
		value = base64.RawURLEncoding.EncodeToString(k.UrlData)
	case *pb.Attr_Seconds:
		value = time.Unix(int64(k.Seconds), 0).UTC().Format(time.RFC3339)
	case *pb.Attr_Millis:
		value = time.UnixMilli(int64(k.Millis)).UTC().Format(millis)
	}
	n.set(space, local, value)
	return err
}
