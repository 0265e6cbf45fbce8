// Package xmlstream owns the XML form of a stream: RFC 6120 over TCP, and the framing of RFC 7395 for WebSocket.
//
// It has its own tokenizer, which accepts only the subset of XML that RFC 6120 §11 allows, checks each limit before it
// allocates memory, and refuses whatever libexpat or encoding/xml refuse. It writes a canonical form from the tree in
// memory; received bytes are never forwarded.
//
// A Decoder is owned by one goroutine. Codecs are pure functions. The package opens no connection and starts no
// goroutine.
package xmlstream

import (
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// NSFraming qualifies <open/> and <close/> of RFC 7395 §3.3.
const NSFraming = "urn:ietf:params:xml:ns:xmpp-framing"

// phase says where in the stream the decoder is.
type phase uint8

const (
	prologue phase = iota // before the stream header
	opened                // between the children of the stream
	ended                 // after its end
)

// Decoder reads one side of a stream. It implements stream.Decoder.
//
// Between two elements it holds no buffer. All strings of a stanza are pieces of one allocation, and its addresses
// are too: whoever keeps a small part for long should copy it.
type Decoder struct {
	// Fixed at construction.
	content string // content namespace, RFC 6120 §4.8.2
	framed  bool

	limits stream.Limits
	phase  phase
	// begun says that the document has begun, so that an XML declaration may not follow.
	begun bool
	// later says that this is not the link's first stream: white space before the header ends the stream before.
	later bool
	// closing says that the stream's start tag was an empty-element tag.
	closing bool
	// prefixed says that the stream namespace has the prefix "stream", else it is the default.
	prefixed bool
	// filled says that the frame has had its element.
	filled bool
	// owned says that buf is scanner.own, else it is the caller's.
	owned bool

	space  int       // white space in a row so far
	def    ref       // default namespace for top-level elements
	others []outside // declared in the stream header, beyond the usual ones

	// buf is unread input and starts with the construct being read. When owned, fed is the caller's last chunk,
	// of which copied bytes have been added to buf.
	buf, fed []byte
	copied   int
	scanner  *scanner // nil unless part of a construct has been read
	fail     *stream.Error
}

// outside is a prefix that the stream header binds.
type outside struct{ prefix, space string }

// The namespaces that refs can name without a declaration in the element.
var (
	externContent = ref{external, 1}
	externXML     = ref{external | 1, 1}
	externStream  = ref{external | 2, 1}
)

const externOthers = 3

func (d *Decoder) external(r ref) string {
	switch i := r.off &^ external; i {
	case 0:
		return d.content
	case 1:
		return stanza.NSXML
	case 2:
		return stanza.NSStream
	default:
		return d.others[i-externOthers].space
	}
}

// inherited returns the namespace that the stream header binds to a prefix.
func (d *Decoder) inherited(prefix []byte) (ref, bool) {
	if d.prefixed && string(prefix) == "stream" {
		return externStream, true
	}
	for i := range d.others {
		if d.others[i].prefix == string(prefix) {
			return ref{external | uint32(externOthers+i), 1}, true
		}
	}
	return ref{}, false
}

// NewDecoder returns a decoder for a client's stream over TCP (RFC 6120).
func NewDecoder(limits stream.Limits) *Decoder { return NewContentDecoder(stanza.NSClient, limits) }

// NewContentDecoder returns a decoder for a stream over TCP of the given content namespace, such as jabber:server.
// Stanzas are in jabber:client once they are in memory.
func NewContentDecoder(content string, limits stream.Limits) *Decoder {
	d := &Decoder{content: content}
	d.SetLimits(limits)
	return d
}

// NewFramedDecoder returns a decoder for WebSocket messages (RFC 7395), one element each. What is fed is part of the
// current message until EndFrame is called.
func NewFramedDecoder(limits stream.Limits) *Decoder {
	d := NewDecoder(limits)
	d.framed = true
	return d
}

// SetLimits implements stream.Decoder.
func (d *Decoder) SetLimits(l stream.Limits) {
	for _, f := range [...]struct {
		field *int
		usual int
	}{
		{&l.Bytes, 256 << 10}, {&l.Depth, 64}, {&l.Elements, 5000}, {&l.Attributes, 64},
		{&l.Namespaces, 32}, {&l.Name, 256}, {&l.Space, 64 << 10},
	} {
		if *f.field <= 0 {
			*f.field = f.usual
		}
	}
	l.Bytes = min(l.Bytes, maxBytes)
	d.limits = l
}

// Restart implements stream.Decoder.
func (d *Decoder) Restart() {
	d.phase, d.begun, d.later, d.closing, d.space = prologue, false, true, false, 0
	d.def, d.others = ref{}, nil
}

// Buffered implements stream.Decoder.
func (d *Decoder) Buffered() int { return len(d.buf) + len(d.fed) - d.copied }

// Next implements stream.Decoder.
func (d *Decoder) Next() (stream.Item, error) {
	for d.fail == nil {
		item, err := d.step()
		if err == errMore {
			if d.fill() {
				continue
			}
			if len(d.buf) < d.limits.Bytes || d.reading() {
				d.park()
				return stream.Item{}, stream.ErrMore
			}
			err = tooBig()
		}
		if err != nil {
			d.fail = err
			d.drop()
			break
		}
		if item.Kind != 0 {
			return item, nil
		}
	}
	return stream.Item{}, d.fail
}

// reading reports whether part of an element has been read.
func (d *Decoder) reading() bool { return d.scanner != nil && d.scanner.state != inNothing }

// step reads one construct. It returns the zero item for one that says nothing.
func (d *Decoder) step() (stream.Item, *stream.Error) {
	if d.reading() {
		return d.element()
	}
	if d.closing {
		d.closing, d.phase = false, ended
		return stream.Item{Kind: stream.Close}, nil
	}
	if len(d.buf) == 0 {
		return stream.Item{}, errMore
	}
	if n := skipSpace(d.buf, 0); n > 0 {
		return d.whiteSpace(n)
	}
	switch {
	case d.framed && d.filled:
		return stream.Item{}, stream.Fail(stream.BadFormat, "frame with more than one element") // RFC 7395 §3.3.3
	case d.phase == prologue && !d.framed:
		return d.prologue()
	case d.phase == ended:
		return stream.Item{}, malformed("content after the end of the stream")
	}
	return d.between()
}

// whiteSpace takes n bytes of white space outside the stream's children.
func (d *Decoder) whiteSpace(n int) (stream.Item, *stream.Error) {
	if d.framed && !d.filled {
		return stream.Item{}, stream.Fail(stream.BadFormat, "frame that does not begin with an element")
	}
	d.space += n
	if d.space > d.limits.Space {
		return stream.Item{}, tooMany("too much white space")
	}
	d.consume(n)
	if d.phase == prologue && !d.later {
		d.begun = true
	}
	if d.phase == opened && !d.framed {
		return stream.Item{Kind: stream.Keepalive, Size: n}, nil // RFC 6120 §4.6.1
	}
	return stream.Item{}, nil
}

// between reads a child of the stream, or its end tag.
func (d *Decoder) between() (stream.Item, *stream.Error) {
	if d.buf[0] != '<' {
		return stream.Item{}, d.stray(stream.BadFormat, "text between stanzas")
	}
	if len(d.buf) == 1 {
		return stream.Item{}, errMore
	}
	switch d.buf[1] {
	case '/':
		return d.streamEnd()
	case '!', '?':
		return stream.Item{}, noMarkup(d.buf)
	}
	d.start()
	return d.element()
}

// stray returns the error for text where there may be none.
func (d *Decoder) stray(c stream.Condition, text string) *stream.Error {
	b := d.buf
	if b[0] >= 0x80 {
		n, err := charLen(b)
		if err != nil {
			return err
		}
		if string(b[:n]) == "\uFEFF" { // RFC 6120 §11.6 forbids it
			return stream.Fail(stream.UnsupportedEncoding, "byte order mark")
		}
	} else if b[0] < 0x20 {
		return malformed("character that XML does not allow")
	}
	return stream.Fail(c, text)
}

// streamEnd reads </stream:stream>.
func (d *Decoder) streamEnd() (stream.Item, *stream.Error) {
	want := "</stream:stream"
	if !d.prefixed {
		want = "</stream"
	}
	yes, maybe := starts(d.buf, want)
	if !maybe || d.framed || d.phase != opened {
		return stream.Item{}, malformed("end tag of another element")
	}
	if !yes {
		return stream.Item{}, errMore
	}
	i := skipSpace(d.buf, len(want))
	if i > d.limits.Name {
		return stream.Item{}, tooMany("end tag is too long")
	}
	if i == len(d.buf) {
		return stream.Item{}, errMore
	}
	if d.buf[i] != '>' {
		return stream.Item{}, malformed("end tag of another element")
	}
	d.consume(i + 1)
	d.phase = ended
	return stream.Item{Kind: stream.Close, Size: i + 1}, nil
}

// start takes a scanner for the element that begins at the start of buf.
func (d *Decoder) start() {
	d.space = 0
	d.hold()
	d.scanner.begin(d.limits)
}

// hold makes sure that there is a scanner.
func (d *Decoder) hold() {
	if d.scanner == nil {
		d.scanner = scanners.Get().(*scanner)
	}
}

// element reads on in the current element, and builds it when it is complete.
func (d *Decoder) element() (stream.Item, *stream.Error) {
	s := d.scanner
	window := d.buf[:min(len(d.buf), s.limits.Bytes)]
	if err := s.run(window, d); err != nil {
		if err == errMore && len(window) == s.limits.Bytes {
			return stream.Item{}, tooBig()
		}
		return stream.Item{}, err
	}
	size := s.pos
	raw := d.buf[:size]
	item := stream.Item{Size: size}
	switch {
	case s.header:
		d.header(&item, raw)
	case d.framed && s.is(s.elems[0].space, NSFraming, raw, d):
		d.framing(&item, raw)
	default:
		b := s.builder(raw, d)
		if s.kind != 0 {
			item.Kind = stream.Stanza
			item.Stanza, item.Malformed = b.stanza()
		} else {
			item.Kind = stream.Element
			item.Element = b.element()
		}
	}
	s.state = inNothing
	d.consume(size)
	if d.framed {
		d.filled = true
		if skipSpace(d.buf, 0) < len(d.buf) {
			return stream.Item{}, stream.Fail(stream.BadFormat, "frame with more than one element")
		}
	}
	return item, nil
}

// consume takes n bytes off the input. When all that is left has come with the last chunk, the decoder goes back to
// reading from there and needs no memory of its own any more.
func (d *Decoder) consume(n int) {
	d.buf = d.buf[n:]
	if d.owned && len(d.buf) <= d.copied {
		d.buf = d.fed[d.copied-len(d.buf):]
		d.owned, d.fed, d.copied = false, nil, 0
	}
}

// Feed implements stream.Decoder.
func (d *Decoder) Feed(p []byte) {
	switch {
	case len(d.buf) == 0 && !d.owned:
		d.buf = p
	case d.owned && d.copied == len(d.fed):
		d.fed, d.copied = p, 0
	default: // fed again without having been read empty
		size := len(d.buf) + len(d.fed) - d.copied + len(p)
		d.keep(size, size)
		rest := d.fed[d.copied:]
		d.buf = append(append(d.buf, rest...), p...)
		d.scanner.own = d.buf
		d.fed, d.copied = nil, 0
	}
}

// fill adds to buf what the element being read may still need of the last chunk, and no more.
func (d *Decoder) fill() bool {
	if !d.owned || d.copied == len(d.fed) {
		return false
	}
	limit := d.limits.Bytes
	if d.reading() {
		limit = d.scanner.limits.Bytes
	}
	n := min(len(d.fed)-d.copied, limit-len(d.buf))
	if n <= 0 {
		return false
	}
	need := len(d.buf) + n
	d.keep(need, min(2*need, max(limit, need)))
	d.buf = append(d.buf, d.fed[d.copied:d.copied+n]...)
	d.scanner.own = d.buf
	d.copied += n
	return true
}

// park keeps what is unread beyond the life of the caller's chunk; an idle decoder keeps nothing.
func (d *Decoder) park() {
	if len(d.buf) == 0 {
		d.drop()
		return
	}
	d.keep(len(d.buf), len(d.buf))
	d.fed, d.copied = nil, 0
}

// keep makes buf the decoder's own, at the start of its memory. If there is no room there for need bytes in all,
// it makes room for want.
func (d *Decoder) keep(need, want int) {
	d.hold()
	s := d.scanner
	if d.owned && len(s.own) == len(d.buf) && cap(s.own) >= need {
		return
	}
	own := s.own[:0]
	if cap(own) < need {
		own = make([]byte, 0, want)
	}
	s.own = append(own, d.buf...)
	d.buf, d.owned = s.own, true
}

// drop lets go of all memory.
func (d *Decoder) drop() {
	if d.scanner != nil {
		d.scanner.release()
		d.scanner = nil
	}
	d.buf, d.fed, d.copied, d.owned = nil, nil, 0, false
}

// EndFrame says that the current WebSocket message is complete, after Next has returned ErrMore. It returns the
// *stream.Error that must end the stream when the message was not exactly one element (RFC 7395 §3.3.3), else nil.
func (d *Decoder) EndFrame() error {
	switch {
	case d.fail != nil:
		return d.fail
	case d.reading() || d.Buffered() > 0:
		d.fail = malformed("frame with an unfinished element")
	case !d.filled:
		d.fail = stream.Fail(stream.BadFormat, "frame without an element")
	default:
		d.filled, d.space = false, 0
		return nil
	}
	d.drop()
	return d.fail
}

var _ stream.Decoder = (*Decoder)(nil)
