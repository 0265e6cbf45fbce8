package xmlstream

import (
	"bytes"
	"sync"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// A ref names a piece of text without holding it: off is a place in the bytes of the element being read, or,
// with a flag, in scanner.esc (text that had to be changed), or an index of Decoder.external.
// The zero ref is the empty text.
type ref struct{ off, n uint32 }

const (
	escaped  = 1 << 30
	external = 1 << 31
)

// maxBytes keeps offsets below the flags.
const maxBytes = escaped - 1

// elem is an element on the tape.
type elem struct {
	name         ref // as written, prefix included
	colon        int // length of the prefix; -1 for none
	space, local ref
	def          ref   // default namespace for its content
	parent       int32 // index on the tape; -1 at the top
	binds        int32 // length of scanner.binds before its own declarations
	attrs, end   int32 // its attributes are scanner.attrs[attrs:end]
	nodes        int32 // number of its nodes
	mapped       bool  // its namespace is the content namespace of RFC 6120 §4.8.2 all the way up
}

// attr is an attribute on the tape; namespace declarations become binds instead.
type attr struct {
	name                ref
	colon               int
	space, local, value ref
}

// node is a child on the tape: an element, or text when elem is negative.
type node struct {
	parent, elem int32
	text         ref
}

// bind is a namespace declaration that is in scope. An empty prefix declares the default.
type bind struct{ prefix, space ref }

// state says what the scanner is in the middle of.
type state uint8

const (
	inNothing state = iota // no element is being read
	inContent
	inTag     // after a name or an attribute
	inEquals  // after an attribute's name
	inQuote   // after the equals sign
	inValue   // within an attribute's value
	inCDATA   // within a CDATA section
	inEndTag  // after an end tag's name
	completed // the element, or the stream's start tag, has been read
)

// scanner reads one top-level element and leaves it on a flat tape. It stops anywhere for want of bytes and goes on
// at a commit point: no piece that is read again is longer than one name or reference, so that the cost of reading
// does not depend on how the bytes arrive. Positions are relative to the element's first byte.
//
// A scanner is taken from a pool when an element begins and given back when it ends. It holds nothing of one user
// that another one could see.
type scanner struct {
	own    []byte        // what was kept of the input between two calls of Feed
	limits stream.Limits // of this element

	state  state
	quote  byte
	header bool        // stop after the first start tag: it opens the stream
	plain  bool        // the top-level element is not checked, and kept as an element even when it is a stanza
	kind   stanza.Kind // of the top-level element, 0 for no stanza; known once its start tag has been read
	pos    int         // commit point
	seg    int         // start of what has not been copied to esc of the current text, value or CDATA section
	escAt  int         // start of the current text or value in esc; -1 while it stands unchanged in the input
	depth  int
	cur    int32 // innermost open element
	attrs0 int   // number of attributes and declarations of the current tag so far
	name   ref   // of the current attribute
	colon  int

	elems []elem
	attrs []attr
	nodes []node
	binds []bind
	esc   []byte
}

// scanners holds idle scanners, so that a decoder between two elements holds none.
var scanners = sync.Pool{New: func() any {
	return &scanner{
		elems: make([]elem, 0, 16),
		attrs: make([]attr, 0, 16),
		nodes: make([]node, 0, 16),
		binds: make([]bind, 0, 8),
	}
}}

// begin prepares for a new element.
func (s *scanner) begin(limits stream.Limits) {
	s.limits = limits
	s.state, s.header, s.plain, s.kind = inContent, false, false, 0
	s.pos, s.seg, s.escAt, s.depth, s.cur = 0, 0, -1, 0, -1
	s.elems, s.attrs, s.nodes, s.binds, s.esc = s.elems[:0], s.attrs[:0], s.nodes[:0], s.binds[:0], s.esc[:0]
}

// release gives the scanner back; large tapes are left to the collector.
func (s *scanner) release() {
	const most = 16 << 10
	if cap(s.own) > most {
		s.own = nil
	}
	if cap(s.esc) > most {
		s.esc = nil
	}
	if cap(s.elems) > 256 || cap(s.attrs) > 256 || cap(s.nodes) > 256 || cap(s.binds) > 256 {
		return
	}
	s.own, s.esc, s.state = s.own[:0], s.esc[:0], inNothing
	scanners.Put(s)
}

// run reads on in b, which starts at the element's first byte, until the element is complete.
// It returns errMore when bytes are missing.
func (s *scanner) run(b []byte, d *Decoder) *stream.Error {
	for {
		var err *stream.Error
		switch s.state {
		case inContent:
			err = s.content(b, d)
		case inTag:
			err = s.tag(b, d)
		case inEquals, inQuote:
			err = s.beforeValue(b)
		case inValue:
			err = s.value(b, d)
		case inCDATA:
			err = s.data(b)
		case inEndTag:
			err = s.endTag(b)
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// content reads text up to the next markup (XML 1.0 §2.4).
func (s *scanner) content(b []byte, d *Decoder) *stream.Error {
	i := s.pos
	for {
		for i < len(b) && class[b[i]]&plainText != 0 {
			i++
		}
		s.pos = i
		if i == len(b) {
			return errMore
		}
		switch c := b[i]; {
		case c == '<':
			return s.markup(b, d)
		case c == '&':
			r, n, err := reference(b[i:], s.limits.Name)
			if err != nil {
				return err
			}
			s.cut(b, i)
			s.esc = utf8.AppendRune(s.esc, r)
			i += n
			s.seg = i
		case c == '\r':
			if i+1 == len(b) {
				return errMore
			}
			i = s.lineEnd(b, i, '\n')
		case c == '>':
			if b[i-1] == ']' && b[i-2] == ']' {
				return malformed("]]> in text")
			}
			i++
		case c >= utf8.RuneSelf:
			n, err := charLen(b[i:])
			if err != nil {
				return err
			}
			i += n
		default:
			return malformed("character that XML does not allow")
		}
	}
}

// cut copies the text up to b[i] to esc, because what follows stands for something else.
func (s *scanner) cut(b []byte, i int) {
	if s.escAt < 0 {
		s.escAt = len(s.esc)
	}
	s.esc = append(s.esc, b[s.seg:i]...)
}

// lineEnd takes the line end at b[i] as c (XML 1.0 §2.11 and §3.3.3); the byte after a carriage return is there.
func (s *scanner) lineEnd(b []byte, i int, c byte) int {
	s.cut(b, i)
	s.esc = append(s.esc, c)
	if b[i] == '\r' && b[i+1] == '\n' {
		i++
	}
	s.seg = i + 1
	return i + 1
}

// text ends the text or value before b[i].
func (s *scanner) text(b []byte, i int) ref {
	if s.escAt < 0 {
		if s.seg == i {
			return ref{}
		}
		return ref{uint32(s.seg), uint32(i - s.seg)}
	}
	s.esc = append(s.esc, b[s.seg:i]...)
	r := ref{escaped | uint32(s.escAt), uint32(len(s.esc) - s.escAt)}
	s.escAt = -1
	return r
}

// endText puts the text before b[i] on the tape. Text between the payloads of a stanza is not kept.
func (s *scanner) endText(b []byte, i int) {
	if s.cur < 0 {
		return
	}
	from := s.escAt
	r := s.text(b, i)
	if s.cur == 0 && s.kind != 0 {
		if from >= 0 {
			s.esc = s.esc[:from]
		}
		return
	}
	if r.n > 0 {
		s.nodes = append(s.nodes, node{parent: s.cur, elem: -1, text: r})
		s.elems[s.cur].nodes++
	}
}

// markup reads the name of the tag that starts at the commit point, or whatever else starts with "<".
func (s *scanner) markup(b []byte, d *Decoder) *stream.Error {
	i := s.pos
	if i+1 == len(b) {
		return errMore
	}
	switch b[i+1] {
	case '/':
		return s.endName(b)
	case '?':
		return noMarkup(b[i:])
	case '!':
		yes, maybe := starts(b[i:], "<![CDATA[")
		if yes && s.cur >= 0 {
			s.cut(b, i)
			s.pos = i + len("<![CDATA[")
			s.seg, s.state = s.pos, inCDATA
			return nil
		}
		if maybe && !yes {
			return errMore
		}
		return noMarkup(b[i:])
	}
	end, colon, err := scanName(b, i+1, s.limits.Name, 1)
	if err != nil {
		return err
	}
	if s.depth == s.limits.Depth {
		return tooMany("elements are nested too deep")
	}
	if len(s.elems) == s.limits.Elements {
		return tooMany("too many elements")
	}
	s.endText(b, i)
	e := int32(len(s.elems))
	if s.cur >= 0 {
		s.nodes = append(s.nodes, node{parent: s.cur, elem: e})
		s.elems[s.cur].nodes++
	}
	name := ref{uint32(i + 1), uint32(end - i - 1)}
	local := name
	if colon >= 0 {
		colon -= i + 1
		local = ref{name.off + uint32(colon) + 1, name.n - uint32(colon) - 1}
	}
	s.elems = append(s.elems, elem{
		name: name, colon: colon, local: local, parent: s.cur,
		binds: int32(len(s.binds)), attrs: int32(len(s.attrs)),
	})
	s.cur = e
	s.depth++
	s.attrs0 = 0
	s.pos = end
	s.state = inTag
	return nil
}

// endName reads "</name".
func (s *scanner) endName(b []byte) *stream.Error {
	name := s.elems[s.cur].name
	want, have := b[name.off:name.off+name.n], b[s.pos+2:]
	if n := min(len(want), len(have)); !bytes.Equal(want[:n], have[:n]) {
		return malformed("end tag of another element")
	}
	if len(have) <= len(want) {
		return errMore
	}
	if c := have[len(want)]; c != '>' && class[c]&space == 0 {
		return malformed("end tag of another element")
	}
	s.endText(b, s.pos)
	s.pos += 2 + len(want)
	s.state = inEndTag
	return s.endTag(b)
}

// endTag reads the rest of an end tag.
func (s *scanner) endTag(b []byte) *stream.Error {
	i := skipSpace(b, s.pos)
	s.pos = i
	if i == len(b) {
		return errMore
	}
	if b[i] != '>' {
		return malformed("end tag with more than a name")
	}
	s.pos++
	s.leave()
	return nil
}

// leave closes the innermost element.
func (s *scanner) leave() {
	e := &s.elems[s.cur]
	s.binds = s.binds[:e.binds]
	s.cur = e.parent
	s.depth--
	s.state = inContent
	if s.depth == 0 {
		s.state = completed
	}
	s.seg, s.escAt = s.pos, -1
}

// data reads a CDATA section (XML 1.0 §2.7), which is text like any other once it has been read.
func (s *scanner) data(b []byte) *stream.Error {
	i := s.pos
	for {
		for i < len(b) && class[b[i]]&plainData != 0 {
			i++
		}
		s.pos = i
		if i == len(b) {
			return errMore
		}
		switch c := b[i]; {
		case c == '>':
			if b[i-1] == ']' && b[i-2] == ']' { // neither can belong to "<![CDATA["
				s.cut(b, i-2)
				s.pos = i + 1
				s.seg, s.state = s.pos, inContent
				return nil
			}
			i++
		case c == '\r':
			if i+1 == len(b) {
				return errMore
			}
			i = s.lineEnd(b, i, '\n')
		case c >= utf8.RuneSelf:
			n, err := charLen(b[i:])
			if err != nil {
				return err
			}
			i += n
		default:
			return malformed("character that XML does not allow")
		}
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && class[b[i]]&space != 0 {
		i++
	}
	return i
}

// bytes returns the text that r names, as bytes.
func (s *scanner) bytes(r ref, b []byte, d *Decoder) []byte {
	switch {
	case r.off&external != 0:
		return []byte(d.external(r))
	case r.off&escaped != 0:
		return s.esc[r.off&^escaped:][:r.n]
	}
	return b[r.off:][:r.n]
}

// is reports whether r names the text want.
func (s *scanner) is(r ref, want string, b []byte, d *Decoder) bool {
	switch {
	case r.off&external != 0:
		return d.external(r) == want
	case r.off&escaped != 0:
		return string(s.esc[r.off&^escaped:][:r.n]) == want
	}
	return string(b[r.off:][:r.n]) == want
}

// stanzaKind tells by its name whether the top-level element is a stanza.
func (s *scanner) stanzaKind(b []byte, d *Decoder) stanza.Kind {
	if e := &s.elems[0]; s.is(e.space, d.content, b, d) {
		switch string(b[e.local.off:][:e.local.n]) {
		case "message":
			return stanza.Message
		case "presence":
			return stanza.Presence
		case "iq":
			return stanza.IQ
		}
	}
	return 0
}
