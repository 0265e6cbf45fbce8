// Package stanza owns the in-memory form of everything that is routed: message, presence and IQ (RFC 6120 §8), their
// payload elements, and stanza errors (RFC 6120 §8.3).
//
// Values are pure: no I/O, clocks or goroutines. A stanza is built by one goroutine. Once it has been passed to the
// router it is shared and must not be changed; a caller that needs a modified one calls Copy.
package stanza

import (
	"strings"

	"github.com/posthouse-im/posthouse/wire/jid"
)

// Kind says which of the three stanzas of RFC 6120 §8.2 it is. The zero Kind is no stanza.
type Kind uint8

// The kinds of stanza.
const (
	Message Kind = iota + 1
	Presence
	IQ
)

// String returns the element's local name.
func (k Kind) String() string {
	switch k {
	case Message:
		return "message"
	case Presence:
		return "presence"
	case IQ:
		return "iq"
	}
	return "none"
}

// Values of Stanza.Type. An absent type attribute is "" in memory and stands for
// normal (message) or available (presence); see MessageType.
const (
	TypeNormal    = "normal"
	TypeChat      = "chat"
	TypeGroupchat = "groupchat"
	TypeHeadline  = "headline"
	TypeError     = "error"

	TypeUnavailable  = "unavailable"
	TypeSubscribe    = "subscribe"
	TypeSubscribed   = "subscribed"
	TypeUnsubscribe  = "unsubscribe"
	TypeUnsubscribed = "unsubscribed"
	TypeProbe        = "probe"

	TypeGet    = "get"
	TypeSet    = "set"
	TypeResult = "result"
)

// Stanza is a message, presence or IQ.
type Stanza struct {
	Kind Kind
	// Type is the type attribute as sent; "" when absent.
	Type string
	// ID is unique only within the sender's stream; it never identifies a message globally.
	ID string
	// From and To are zero when absent. Once accepted, From is always the bound full address of the sender.
	From, To jid.JID
	// Lang is xml:lang, "" when absent.
	Lang string
	// Payload holds the child elements in order. Text between them is not kept.
	Payload []Element
}

// Element is an XML element outside the stream: names are resolved to namespaces, prefixes are gone.
type Element struct {
	Space, Local string
	Attrs        []Attr
	Nodes        []Node
}

// Attr is an attribute. Space is "" for an attribute without namespace; namespace declarations are not attributes.
type Attr struct {
	Space, Local, Value string
}

// Node is a child element, or text when Element is nil.
type Node struct {
	Element *Element
	Text    string
}

// NS are namespaces that the whole server speaks of.
const (
	NSClient  = "jabber:client"
	NSServer  = "jabber:server"
	NSStream  = "http://etherx.jabber.org/streams"
	NSStanzas = "urn:ietf:params:xml:ns:xmpp-stanzas"
	NSXML     = "http://www.w3.org/XML/1998/namespace"
	NSCarbons = "urn:xmpp:carbons:2"
	NSForward = "urn:xmpp:forward:0"
)

// MessageType returns the message's type with the default of RFC 6121 §5.2.2 in place:
// an absent or unknown type is normal.
func (s *Stanza) MessageType() string {
	switch s.Type {
	case TypeChat, TypeGroupchat, TypeHeadline, TypeError:
		return s.Type
	}
	return TypeNormal
}

// IsRequest reports whether s is an IQ that must be answered (RFC 6120 §8.2.3).
func (s *Stanza) IsRequest() bool { return s.Kind == IQ && (s.Type == TypeGet || s.Type == TypeSet) }

// Copy returns a shallow copy whose header and payload list may be changed; the elements stay shared.
func (s *Stanza) Copy() *Stanza {
	c := *s
	c.Payload = append([]Element(nil), s.Payload...)
	return &c
}

// Clone returns a copy that shares no memory with s. A stanza that was parsed keeps the whole text alive that it came
// in, so whoever keeps a small piece of a large one for long clones the piece.
func (s *Stanza) Clone() *Stanza {
	c := &Stanza{
		Kind: s.Kind, Type: strings.Clone(s.Type), ID: strings.Clone(s.ID),
		From: s.From.Clone(), To: s.To.Clone(), Lang: strings.Clone(s.Lang),
	}
	for i := range s.Payload {
		c.Payload = append(c.Payload, s.Payload[i].clone())
	}
	return c
}

func (e *Element) clone() Element {
	c := Element{Space: strings.Clone(e.Space), Local: strings.Clone(e.Local)}
	for _, a := range e.Attrs {
		c.Attrs = append(c.Attrs, Attr{Space: strings.Clone(a.Space), Local: strings.Clone(a.Local),
			Value: strings.Clone(a.Value)})
	}
	for _, n := range e.Nodes {
		node := Node{Text: strings.Clone(n.Text)}
		if n.Element != nil {
			child := n.Element.clone()
			node.Element = &child
		}
		c.Nodes = append(c.Nodes, node)
	}
	return c
}

// Attrs calls yield for each attribute that s has as an element, in the order in which they are written, until it
// returns false; it is a range function.
func (s *Stanza) Attrs(yield func(Attr) bool) {
	for _, a := range [...]Attr{
		{Local: "from", Value: s.From.String()}, {Local: "to", Value: s.To.String()}, {Local: "type", Value: s.Type},
		{Local: "id", Value: s.ID}, {Space: NSXML, Local: "lang", Value: s.Lang},
	} {
		if a.Value != "" && !yield(a) {
			return
		}
	}
}

// Element returns s as an element, to be put into another one. Its payload is shared.
func (s *Stanza) Element() Element {
	e := Element{Space: NSClient, Local: s.Kind.String(), Nodes: make([]Node, len(s.Payload))}
	for a := range s.Attrs {
		e.Attrs = append(e.Attrs, a)
	}
	for i := range s.Payload {
		e.Nodes[i].Element = &s.Payload[i]
	}
	return e
}

// Child returns the first payload element of that name, or nil.
func (s *Stanza) Child(space, local string) *Element {
	for i := range s.Payload {
		if e := &s.Payload[i]; e.Local == local && e.Space == space {
			return e
		}
	}
	return nil
}

// ChildNS returns the first payload element in that namespace, or nil.
func (s *Stanza) ChildNS(space string) *Element {
	for i := range s.Payload {
		if e := &s.Payload[i]; e.Space == space {
			return e
		}
	}
	return nil
}

// Remove drops every payload element for which drop is true, in place.
// It must only be called by the owner of a stanza that has not been handed on.
func (s *Stanza) Remove(drop func(*Element) bool) {
	kept := s.Payload[:0]
	for i := range s.Payload {
		if !drop(&s.Payload[i]) {
			kept = append(kept, s.Payload[i])
		}
	}
	clear(s.Payload[len(kept):])
	s.Payload = kept
}

// Body returns the text of the first body child, "" when there is none.
func (s *Stanza) Body() string {
	if e := s.Child(NSClient, "body"); e != nil {
		return e.Text()
	}
	return ""
}

// Attr returns the value of the attribute without namespace, "" when absent.
func (e *Element) Attr(local string) string {
	for i := range e.Attrs {
		if e.Attrs[i].Space == "" && e.Attrs[i].Local == local {
			return e.Attrs[i].Value
		}
	}
	return ""
}

// HasAttr reports whether the attribute without namespace is present.
func (e *Element) HasAttr(local string) bool {
	for i := range e.Attrs {
		if e.Attrs[i].Space == "" && e.Attrs[i].Local == local {
			return true
		}
	}
	return false
}

// Child returns the first child element of that name, or nil.
func (e *Element) Child(space, local string) *Element {
	for i := range e.Nodes {
		if c := e.Nodes[i].Element; c != nil && c.Local == local && c.Space == space {
			return c
		}
	}
	return nil
}

// Elements calls yield for each child element in order until it returns false; it is a range function.
func (e *Element) Elements(yield func(*Element) bool) {
	for i := range e.Nodes {
		if c := e.Nodes[i].Element; c != nil && !yield(c) {
			return
		}
	}
}

// Text returns the element's own character data, without that of its children.
func (e *Element) Text() string {
	switch len(e.Nodes) {
	case 0:
		return ""
	case 1:
		return e.Nodes[0].Text
	}
	var out string
	for i := range e.Nodes {
		out += e.Nodes[i].Text
	}
	return out
}

// ChildText returns the text of the first child of that name, "" when there is none.
func (e *Element) ChildText(space, local string) string {
	if c := e.Child(space, local); c != nil {
		return c.Text()
	}
	return ""
}

// New returns an element with the given attributes as pairs of local name and value, and no children.
// It panics when a name is without its value, which is a mistake in the calling code.
func New(space, local string, attrs ...string) Element {
	if len(attrs)%2 != 0 {
		panic("stanza.New: attribute " + attrs[len(attrs)-1] + " of " + local + " has no value")
	}
	e := Element{Space: space, Local: local}
	for i := 0; i < len(attrs); i += 2 {
		e.Attrs = append(e.Attrs, Attr{Local: attrs[i], Value: attrs[i+1]})
	}
	return e
}

// With returns e with the given children appended.
func (e Element) With(children ...Element) Element {
	nodes := make([]Node, len(e.Nodes), len(e.Nodes)+len(children))
	copy(nodes, e.Nodes)
	for i := range children {
		nodes = append(nodes, Node{Element: &children[i]})
	}
	e.Nodes = nodes
	return e
}

// WithText returns e with character data appended.
func (e Element) WithText(text string) Element {
	e.Nodes = append(e.Nodes[:len(e.Nodes):len(e.Nodes)], Node{Text: text})
	return e
}
