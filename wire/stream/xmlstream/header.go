package xmlstream

import (
	"strings"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// prologue reads what may come before the stream header: an XML declaration (RFC 6120 §11.5), and the header itself.
func (d *Decoder) prologue() (stream.Item, *stream.Error) {
	b := d.buf
	if !d.begun && (b[0] == 0 || b[0] == '<' && len(b) > 1 && b[1] == 0) {
		return stream.Item{}, stream.Fail(stream.UnsupportedEncoding, "UTF-16 or UTF-32") // RFC 6120 §11.6
	}
	if b[0] != '<' {
		return stream.Item{}, d.stray(stream.NotWellFormed, "text before the stream header")
	}
	if len(b) == 1 {
		return stream.Item{}, errMore
	}
	switch b[1] {
	case '?':
		if yes, maybe := starts(b, "<?xml"); d.begun || !maybe {
			return stream.Item{}, noMarkup(b)
		} else if !yes || len(b) == len("<?xml") {
			return stream.Item{}, errMore
		}
		if class[b[len("<?xml")]]&space == 0 {
			return stream.Item{}, noMarkup(b)
		}
		n, err := declaration(b)
		if err != nil {
			return stream.Item{}, err
		}
		d.consume(n)
		d.begun, d.space = true, 0
		return stream.Item{}, nil
	case '!':
		return stream.Item{}, noMarkup(b)
	case '/':
		return stream.Item{}, malformed("end tag before the stream header")
	}
	d.begun = true
	d.start()
	d.scanner.header = true
	return d.element()
}

// maxDeclaration bounds an XML declaration, which is read again from its start when it arrives in pieces.
const maxDeclaration = 256

// declaration reads the XML declaration at the start of b (XML 1.0 §2.8) and returns its length.
func declaration(b []byte) (int, *stream.Error) {
	if len(b) > maxDeclaration {
		b = b[:maxDeclaration]
	}
	r := declReader{b: b, i: len("<?xml")}
	for _, field := range [...]struct {
		name  string
		check func(string) *stream.Error
	}{
		{"version", func(v string) *stream.Error {
			if v != "1.0" {
				return malformed("XML version other than 1.0")
			}
			return nil
		}},
		{"encoding", func(v string) *stream.Error {
			if !strings.EqualFold(v, "UTF-8") {
				return stream.Fail(stream.UnsupportedEncoding, "encoding other than UTF-8") // RFC 6120 §4.9.3.22
			}
			return nil
		}},
		{"standalone", func(v string) *stream.Error {
			if v != "yes" && v != "no" {
				return malformed("standalone is neither yes nor no")
			}
			return nil
		}},
	} {
		present, value := r.field(field.name, field.name == "version")
		if r.err != nil {
			break
		}
		if present {
			if r.err = field.check(value); r.err != nil {
				break
			}
		}
	}
	r.spaces()
	r.literal("?>")
	if r.err == errMore && len(b) == maxDeclaration {
		return 0, tooMany("XML declaration is too long")
	}
	return r.i, r.err
}

// declReader reads left to right; after the first error it does nothing.
type declReader struct {
	b   []byte
	i   int
	err *stream.Error
}

// peek returns the next byte, 0 and errMore at the end.
func (r *declReader) peek() byte {
	if r.err == nil && r.i == len(r.b) {
		r.err = errMore
	}
	if r.err != nil {
		return 0
	}
	return r.b[r.i]
}

func (r *declReader) spaces() int {
	n := 0
	for class[r.peek()]&space != 0 && r.err == nil {
		r.i++
		n++
	}
	return n
}

func (r *declReader) literal(want string) {
	for i := 0; i < len(want); i++ {
		if c := r.peek(); r.err != nil {
			return
		} else if c != want[i] {
			r.err = malformed("malformed XML declaration")
			return
		}
		r.i++
	}
}

// field reads white space and, if it is there, name='value'.
func (r *declReader) field(name string, must bool) (bool, string) {
	before := r.i
	n := r.spaces()
	c := r.peek()
	if r.err != nil {
		return false, ""
	}
	if !must && (n == 0 || c != name[0]) {
		r.i = before
		return false, ""
	}
	r.literal(name)
	r.spaces()
	r.literal("=")
	r.spaces()
	quote := r.peek()
	if r.err == nil && quote != '\'' && quote != '"' {
		r.err = malformed("malformed XML declaration")
	}
	if r.err != nil {
		return false, ""
	}
	r.i++
	start := r.i
	for {
		c := r.peek()
		switch {
		case r.err != nil:
			return false, ""
		case c == quote:
			r.i++
			return true, string(r.b[start : r.i-1])
		case class[c]&inName == 0:
			r.err = malformed("malformed XML declaration")
		default:
			r.i++
		}
	}
}

// top checks the start tag of a top-level element, so that what cannot be accepted is refused before its content is
// read.
func (d *Decoder) top(s *scanner, b []byte) *stream.Error {
	e := &s.elems[0]
	if s.header {
		return d.checkHeader(s, b)
	}
	if s.plain {
		return nil
	}
	if s.kind = s.stanzaKind(b, d); s.kind != 0 && !(d.framed && d.phase == prologue) {
		return nil
	}
	local := string(b[e.local.off:][:e.local.n])
	switch {
	case d.framed && d.phase == prologue:
		// RFC 7395 §3.4: a stream begins with <open/>; the header of RFC 6120 is not used.
		if !s.is(e.space, NSFraming, b, d) {
			return stream.Fail(stream.InvalidNamespace, "stream does not begin with open of RFC 7395")
		}
		if local != "open" && local != "close" {
			return stream.Fail(stream.BadFormat, "stream does not begin with open of RFC 7395")
		}
	case d.framed && s.is(e.space, NSFraming, b, d):
		if local == "open" {
			return tooMany("stream header without a restart")
		}
		if local != "close" {
			return stream.Fail(stream.BadFormat, "neither open nor close of RFC 7395")
		}
	case local == "stream" && s.is(e.space, stanza.NSStream, b, d):
		return tooMany("stream header without a restart")
	case s.is(e.space, d.content, b, d):
		return stream.Fail(stream.UnsupportedStanzaType, "unknown stanza")
	}
	return nil
}

// checkHeader checks the namespaces of a stream header (RFC 6120 §4.8).
func (d *Decoder) checkHeader(s *scanner, b []byte) *stream.Error {
	e := &s.elems[0]
	if !s.is(e.space, stanza.NSStream, b, d) {
		return stream.Fail(stream.InvalidNamespace, "stream namespace")
	}
	if !s.is(e.local, "stream", b, d) {
		return stream.Fail(stream.BadFormat, "stream header expected")
	}
	if e.colon < 0 {
		return nil // RFC 6120 §4.8.5: without a prefix each stanza declares the content namespace
	}
	if string(b[e.name.off:][:e.colon]) != "stream" {
		return stream.Fail(stream.BadNamespacePrefix, "stream prefix")
	}
	if e.def != (ref{}) && !s.is(e.def, d.content, b, d) {
		return stream.Fail(stream.InvalidNamespace, "content namespace")
	}
	return nil
}

// header takes over what the stream header at raw says.
func (d *Decoder) header(item *stream.Item, raw []byte) {
	s := d.scanner
	e := &s.elems[0]
	b := s.builder(raw, d)
	item.Kind, item.Header = stream.Open, b.header()
	d.phase = opened
	d.prefixed = e.colon >= 0
	d.def = ref{}
	switch {
	case !d.prefixed:
		d.def = externStream
	case s.is(e.def, d.content, raw, d):
		d.def = externContent
	}
	for _, bound := range s.binds {
		prefix := b.str(bound.prefix)
		if prefix == "" || prefix == "xml" || d.prefixed && prefix == "stream" {
			continue
		}
		d.others = append(d.others, outside{strings.Clone(prefix), strings.Clone(b.str(bound.space))})
	}
}

// framing takes over what <open/> or <close/> says.
func (d *Decoder) framing(item *stream.Item, raw []byte) {
	s := d.scanner
	if s.is(s.elems[0].local, "close", raw, d) {
		item.Kind = stream.Close
		d.phase = ended
		return
	}
	b := s.builder(raw, d)
	item.Kind, item.Header = stream.Open, b.header()
	d.phase = opened
}

// header reads the attributes of RFC 6120 §4.7.
func (b *builder) header() (h stream.Header) {
	for i := range b.s.attrs[:b.s.elems[0].end] {
		a := &b.s.attrs[i]
		value := b.str(a.value)
		if a.colon >= 0 {
			if a.space == externXML && b.str(a.local) == "lang" {
				h.Lang = value
			}
			continue
		}
		switch b.str(a.local) {
		case "from":
			h.From = value
		case "to":
			h.To, h.HasTo = value, true
		case "id":
			h.ID = value
		case "version":
			h.Version, h.HasVersion = value, true
		}
	}
	return h
}
