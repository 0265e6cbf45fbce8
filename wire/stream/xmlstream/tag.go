package xmlstream

import (
	"bytes"
	"unicode"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// tag reads what follows a name or an attribute in a start tag (XML 1.0 §3.1).
func (s *scanner) tag(b []byte, d *Decoder) *stream.Error {
	i := skipSpace(b, s.pos)
	s.pos = i
	if i == len(b) {
		return errMore
	}
	switch b[i] {
	case '>':
		s.pos = i + 1
		return s.endStartTag(b, d, false)
	case '/':
		if i+1 == len(b) {
			return errMore
		}
		if b[i+1] != '>' {
			return malformed("slash in a tag")
		}
		s.pos = i + 2
		return s.endStartTag(b, d, true)
	}
	if class[b[i-1]]&space == 0 {
		return malformed("white space expected in a tag")
	}
	end, colon, err := scanName(b, i, s.limits.Name, 1)
	if err != nil {
		return err
	}
	if s.attrs0 == s.limits.Attributes {
		return tooMany("too many attributes")
	}
	s.attrs0++
	name := ref{uint32(i), uint32(end - i)}
	for _, a := range s.attrs[s.elems[s.cur].attrs:] {
		if a.name.n == name.n && bytes.Equal(b[a.name.off:][:name.n], b[i:end]) {
			return malformed("attribute is there twice")
		}
	}
	if colon >= 0 {
		colon -= i
	}
	s.name, s.colon = name, colon
	s.pos = end
	if end+1 < len(b) && b[end] == '=' && (b[end+1] == '\'' || b[end+1] == '"') {
		s.startValue(end+1, b[end+1])
		return s.value(b, d)
	}
	s.state = inEquals
	return nil
}

// beforeValue reads "=" and the opening quote, with white space around them.
func (s *scanner) beforeValue(b []byte) *stream.Error {
	i := skipSpace(b, s.pos)
	s.pos = i
	if i == len(b) {
		return errMore
	}
	c := b[i]
	switch {
	case s.state == inEquals && c == '=':
		s.pos, s.state = i+1, inQuote
	case s.state == inQuote && (c == '\'' || c == '"'):
		s.startValue(i, c)
	default:
		return malformed("attribute without a quoted value")
	}
	return nil
}

func (s *scanner) startValue(i int, quote byte) {
	s.pos, s.seg, s.quote, s.state = i+1, i+1, quote, inValue
}

// value reads an attribute's value and normalizes it (XML 1.0 §3.3.3).
func (s *scanner) value(b []byte, d *Decoder) *stream.Error {
	i := s.pos
	for {
		for i < len(b) && class[b[i]]&plainValue != 0 {
			i++
		}
		s.pos = i
		if i == len(b) {
			return errMore
		}
		switch c := b[i]; {
		case c == s.quote:
			v := s.text(b, i)
			s.pos, s.state = i+1, inTag
			return s.attribute(b, v, d)
		case c == '\'' || c == '"':
			i++
		case c == '&':
			r, n, err := reference(b[i:], s.limits.Name)
			if err != nil {
				return err
			}
			s.cut(b, i)
			s.esc = utf8.AppendRune(s.esc, r)
			i += n
			s.seg = i
		case c == '\r' && i+1 == len(b):
			return errMore
		case c == '\t' || c == '\n' || c == '\r':
			i = s.lineEnd(b, i, ' ')
		case c >= utf8.RuneSelf:
			n, err := charLen(b[i:])
			if err != nil {
				return err
			}
			i += n
		case c == '<':
			return malformed("< in an attribute value")
		default:
			return malformed("character that XML does not allow")
		}
	}
}

// attribute puts the attribute of which the value has just been read on the tape, or in scope if it is a declaration.
func (s *scanner) attribute(b []byte, value ref, d *Decoder) *stream.Error {
	name := b[s.name.off:][:s.name.n]
	if s.colon < 0 {
		if string(name) == "xmlns" {
			return s.declare(b, ref{}, value, d)
		}
		s.attrs = append(s.attrs, attr{name: s.name, colon: -1, local: s.name, value: value})
		return nil
	}
	local := ref{s.name.off + uint32(s.colon) + 1, s.name.n - uint32(s.colon) - 1}
	if string(name[:s.colon]) == "xmlns" {
		return s.declare(b, local, value, d)
	}
	s.attrs = append(s.attrs, attr{name: s.name, colon: s.colon, local: local, value: value})
	return nil
}

// declare brings a namespace declaration into scope (Namespaces in XML §3 to §5).
func (s *scanner) declare(b []byte, prefix, space ref, d *Decoder) *stream.Error {
	p, uri := b[prefix.off:][:prefix.n], s.bytes(space, b, d)
	for _, other := range s.binds[s.elems[s.cur].binds:] {
		if other.prefix.n == prefix.n && bytes.Equal(b[other.prefix.off:][:prefix.n], p) {
			return malformed("namespace declaration is there twice")
		}
	}
	switch {
	case string(p) == "xmlns":
		return malformed("the prefix xmlns is declared")
	case (string(p) == "xml") != (string(uri) == stanza.NSXML):
		return malformed("the prefix xml is bound wrongly")
	case string(uri) == stanza.NSXMLNS:
		return malformed("the namespace of declarations is bound")
	case len(p) > 0 && len(uri) == 0:
		return malformed("a prefix is undeclared")
	case len(uri) > s.limits.Name:
		// Not only for memory's sake: the canonical form repeats a namespace on each element that changes to it.
		return tooMany("namespace name is too long")
	case hasControl(uri):
		return malformed("control character in a namespace name")
	case len(s.binds) == s.limits.Namespaces:
		return tooMany("too many namespace declarations")
	}
	s.binds = append(s.binds, bind{prefix: prefix, space: space})
	return nil
}

// hasControl reports whether there is a control character in b.
func hasControl(b []byte) bool {
	for _, c := range b {
		if c < 0x20 || c >= 0x7F {
			return bytes.IndexFunc(b, unicode.IsControl) >= 0
		}
	}
	return false
}

// resolve returns the namespace that is bound to a prefix.
func (s *scanner) resolve(b []byte, prefix []byte, d *Decoder) (ref, *stream.Error) {
	if string(prefix) == "xml" {
		return externXML, nil
	}
	for i := len(s.binds) - 1; i >= 0; i-- {
		p := s.binds[i].prefix
		if int(p.n) == len(prefix) && bytes.Equal(b[p.off:][:p.n], prefix) {
			return s.binds[i].space, nil
		}
	}
	if r, ok := d.inherited(prefix); ok {
		return r, nil
	}
	return ref{}, malformed("prefix is not bound to a namespace")
}

// endStartTag resolves the names of the start tag that ends at the commit point.
func (s *scanner) endStartTag(b []byte, d *Decoder, empty bool) *stream.Error {
	e := &s.elems[s.cur]
	e.end = int32(len(s.attrs))
	e.def = d.def
	if e.parent >= 0 {
		e.def = s.elems[e.parent].def
	}
	for _, bound := range s.binds[e.binds:] {
		if bound.prefix.n == 0 {
			e.def = bound.space
		}
	}
	e.space = e.def
	if e.colon >= 0 {
		var err *stream.Error
		if e.space, err = s.resolve(b, b[e.name.off:][:e.colon], d); err != nil {
			return err
		}
	}
	if err := s.resolveAttrs(b, s.attrs[e.attrs:e.end], d); err != nil {
		return err
	}
	if d.content != stanza.NSClient && (e.parent < 0 || s.elems[e.parent].mapped) {
		e.mapped = s.is(e.space, d.content, b, d)
	}
	if s.depth == 1 {
		if err := d.top(s, b); err != nil {
			return err
		}
		if s.header {
			d.closing = empty
			s.state = completed
			return nil
		}
	}
	if empty {
		s.leave()
		return nil
	}
	s.state = inContent
	s.seg, s.escAt = s.pos, -1
	return nil
}

// resolveAttrs resolves attribute names and refuses two of the same expanded name (Namespaces in XML §6.3).
func (s *scanner) resolveAttrs(b []byte, attrs []attr, d *Decoder) *stream.Error {
	for i := range attrs {
		a := &attrs[i]
		if a.colon < 0 {
			continue
		}
		var err *stream.Error
		if a.space, err = s.resolve(b, b[a.name.off:][:a.colon], d); err != nil {
			return err
		}
		for j := range i {
			o := &attrs[j]
			if o.colon >= 0 && o.local.n == a.local.n &&
				bytes.Equal(b[o.local.off:][:o.local.n], b[a.local.off:][:a.local.n]) &&
				bytes.Equal(s.bytes(o.space, b, d), s.bytes(a.space, b, d)) {
				return malformed("attribute is there twice by its expanded name")
			}
		}
	}
	return nil
}
