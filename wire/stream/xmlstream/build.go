package xmlstream

import (
	"strings"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// builder turns a complete tape into a tree. All strings of the tree are pieces of one, and its nodes, attributes and
// elements lie in one slab each: a stanza costs five allocations, whatever its shape, and most cost two.
type builder struct {
	s     *scanner
	d     *Decoder
	text  string
	esc   uint32 // where scanner.esc begins in text
	elems []stanza.Element
	attrs []stanza.Attr
	nodes []stanza.Node
}

func (s *scanner) builder(b []byte, d *Decoder) builder {
	out := builder{s: s, d: d, esc: uint32(len(b))}
	if len(s.esc) == 0 {
		out.text = string(b)
	} else {
		var all strings.Builder
		all.Grow(len(b) + len(s.esc))
		all.Write(b)
		all.Write(s.esc)
		out.text = all.String()
	}
	return out
}

func (b *builder) str(r ref) string {
	switch {
	case r.n == 0 && r.off&external == 0:
		return ""
	case r.off&external != 0:
		return b.d.external(r)
	case r.off&escaped != 0:
		off := b.esc + r.off&^escaped
		return b.text[off : off+r.n]
	}
	return b.text[r.off : r.off+r.n]
}

// space returns an element's namespace: in memory stanzas are always in jabber:client (RFC 6120 §4.8.3).
func (b *builder) space(e *elem) string {
	if e.mapped || e.space == externContent && b.d.content == stanza.NSClient {
		return stanza.NSClient
	}
	return b.str(e.space)
}

// stanza builds a stanza. An address that cannot be parsed is left out and reported.
func (b *builder) stanza() (*stanza.Stanza, *stanza.Error) {
	root := &b.s.elems[0]
	var out *stanza.Stanza
	out, b.elems, b.attrs, b.nodes = stanza.Allocate(b.count(1, int(root.end)))
	out.Kind = b.s.kind
	var bad *stanza.Error
	for i := range b.s.attrs[root.attrs:root.end] {
		a := &b.s.attrs[int(root.attrs)+i]
		value := b.str(a.value)
		if a.colon >= 0 {
			if a.space == externXML && b.str(a.local) == "lang" {
				out.Lang = value
			}
			continue
		}
		switch b.str(a.local) {
		case "type":
			out.Type = value
		case "id":
			out.ID = value
		case "from":
			out.From, bad = address("from", value, bad)
		case "to":
			out.To, bad = address("to", value, bad)
		}
	}
	b.tree(1, int(root.end), int(root.nodes))
	if root.nodes > 0 {
		out.Payload = b.elems[:root.nodes:root.nodes]
	}
	return out, bad
}

// address parses an address of a stanza; the first one that is wrong is what the sender is told of (RFC 6120 §8.3.3.8).
func address(name, value string, bad *stanza.Error) (jid.JID, *stanza.Error) {
	j, err := jid.Parse(value)
	if err != nil && bad == nil {
		bad = stanza.Refuse(stanza.JIDMalformed, "the "+name+" address is malformed")
	}
	return j, bad
}

// element builds any other element.
func (b *builder) element() *stanza.Element {
	b.elems, b.attrs, b.nodes = stanza.Slabs(b.count(0, 0))
	b.tree(0, 0, 1)
	return &b.elems[0]
}

// count returns how many elements, attributes and nodes the tape has from the given element and attribute on.
func (b *builder) count(first, firstAttr int) (elements, attrs, nodes int) {
	tape := b.s.elems[first:]
	for i := range tape {
		nodes += int(tape[i].nodes)
	}
	return len(tape), len(b.s.attrs) - firstAttr, nodes
}

// tree builds the elements of the tape from the given one on, the attributes likewise. Those without a parent among
// them, of which there are top, come first in elems and so lie side by side.
func (b *builder) tree(first, firstAttr, top int) {
	s := b.s
	tape := s.elems[first:]
	nextTop, nextInner, nextNode := 0, top, 0
	for i := range tape {
		e := &tape[i]
		var at int
		if int(e.parent) < first {
			at = nextTop
			nextTop++
		} else {
			at = nextInner
			nextInner++
		}
		out := &b.elems[at]
		out.Space, out.Local = b.space(e), b.str(e.local)
		if from, to := int(e.attrs)-firstAttr, int(e.end)-firstAttr; to > from {
			out.Attrs = b.attrs[from:to:to]
			b.copyAttrs(out.Attrs, s.attrs[e.attrs:e.end])
		}
		if e.nodes > 0 {
			end := nextNode + int(e.nodes)
			out.Nodes = b.nodes[nextNode:nextNode:end]
			nextNode = end
		}
		e.nodes = int32(at) // from here on its place in elems
	}
	for i := range s.nodes {
		n := &s.nodes[i]
		if int(n.parent) < first {
			continue
		}
		var child stanza.Node
		if n.elem >= 0 {
			child.Element = &b.elems[s.elems[n.elem].nodes]
		} else {
			child.Text = b.str(n.text)
		}
		parent := &b.elems[s.elems[n.parent].nodes]
		parent.Nodes = append(parent.Nodes, child)
	}
}

func (b *builder) copyAttrs(out []stanza.Attr, tape []attr) {
	for i := range tape {
		a := &tape[i]
		out[i] = stanza.Attr{Space: b.str(a.space), Local: b.str(a.local), Value: b.str(a.value)}
	}
}
