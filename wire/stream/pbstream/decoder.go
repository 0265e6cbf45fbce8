package pbstream

import (
	"sync"

	"github.com/posthouse-im/posthouse/wire/stream"
)

// phase says where in the stream the decoder is.
type phase uint8

const (
	prologue phase = iota // before the stream header
	opened
	ended
)

// maxPrefixBytes is how long the length in front of a frame may be; what it can say is more than any limit.
const maxPrefixBytes = 5

// Decoder reads one side of a stream. It implements stream.Decoder.
//
// Between two frames it holds no buffer. All strings of a stanza that went over the wire as text are pieces of one
// allocation: whoever keeps a small part for long should copy it.
type Decoder struct {
	framed bool // fixed at construction

	limits stream.Limits
	active stream.Limits // of the frame that is being read
	phase  phase
	filled bool // the WebSocket message has had its frame
	pings  int  // that the owner has not taken notice of

	fed  []byte  // unread, the caller's
	part *[]byte // the beginning of a frame that has come with earlier chunks, nil when there is none
	fail *stream.Error
}

var _ stream.Decoder = (*Decoder)(nil)

// parts holds idle buffers for frames that come in pieces. What is in them is overwritten and never read.
var parts = sync.Pool{New: func() any { return new([]byte) }}

// mostKept is the largest buffer that goes back to the pool.
const mostKept = 16 << 10

// NewDecoder returns a decoder for a stream over TCP or TLS.
func NewDecoder(limits stream.Limits) *Decoder {
	d := &Decoder{}
	d.SetLimits(limits)
	return d
}

// NewFramedDecoder returns a decoder for binary WebSocket messages, of which each holds one frame, its length in front.
// What is fed is part of the current message until EndFrame is called.
func NewFramedDecoder(limits stream.Limits) *Decoder {
	d := NewDecoder(limits)
	d.framed = true
	return d
}

// SetLimits implements stream.Decoder. Bytes bounds a frame without its length; Space has no meaning here.
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
	d.limits = l
}

// Restart implements stream.Decoder.
func (d *Decoder) Restart() { d.phase = prologue }

// Buffered implements stream.Decoder.
func (d *Decoder) Buffered() int { return len(d.fed) + len(d.partial()) }

// Pings returns how many pings have been read since it was last called: as many pongs are owed.
func (d *Decoder) Pings() int {
	n := d.pings
	d.pings = 0
	return n
}

// Feed implements stream.Decoder.
func (d *Decoder) Feed(p []byte) {
	if len(d.fed) > 0 { // fed again without having been read empty
		p = append(append(make([]byte, 0, len(d.fed)+len(p)), d.fed...), p...)
	}
	d.fed = p
}

func (d *Decoder) partial() []byte {
	if d.part == nil {
		return nil
	}
	return *d.part
}

// Next implements stream.Decoder.
func (d *Decoder) Next() (stream.Item, error) {
	if d.fail != nil {
		return stream.Item{}, d.fail
	}
	raw, size, err := d.frame()
	if err == nil && size == 0 {
		return stream.Item{}, stream.ErrMore
	}
	var item stream.Item
	if err == nil {
		item, err = d.take(raw)
		item.Size = size
		d.release()
	}
	if err != nil {
		return stream.Item{}, d.end(err)
	}
	return item, nil
}

// end ends the stream with an error.
func (d *Decoder) end(err *stream.Error) error {
	d.fail, d.fed = err, nil
	d.release()
	return err
}

// release gives the buffer back.
func (d *Decoder) release() {
	if d.part != nil && cap(*d.part) <= mostKept {
		*d.part = (*d.part)[:0]
		parts.Put(d.part)
	}
	d.part = nil
}

// frame returns the next frame without its length, and the bytes that it takes on the wire with it; 0 when there is no
// whole one yet. When part is not nil, the frame is all that is in it.
func (d *Decoder) frame() ([]byte, int, *stream.Error) {
	if d.part != nil {
		return d.resume()
	}
	if len(d.fed) == 0 {
		return nil, 0, nil
	}
	if d.framed && d.filled {
		return nil, 0, malformed("message with more than one frame")
	}
	d.active = d.limits
	prefix, n, err := length(d.fed, d.active.Bytes)
	if err != nil {
		return nil, 0, err
	}
	if size := prefix + n; prefix > 0 && len(d.fed) >= size {
		raw := d.fed[prefix:size]
		d.fed = d.fed[size:]
		return raw, size, nil
	}
	d.part = parts.Get().(*[]byte)
	*d.part = append(*d.part, d.fed...)
	d.fed = nil
	return nil, 0, nil
}

// resume goes on with a frame that began in an earlier chunk. It takes no more than the frame needs, and room only for
// what has come.
func (d *Decoder) resume() ([]byte, int, *stream.Error) {
	for {
		prefix, n, err := length(*d.part, d.active.Bytes)
		if err != nil {
			return nil, 0, err
		}
		size := prefix + n
		if prefix > 0 && len(*d.part) == size {
			return (*d.part)[prefix:], size, nil
		}
		if len(d.fed) == 0 {
			return nil, 0, nil
		}
		more := 1
		if prefix > 0 {
			more = min(size-len(*d.part), len(d.fed))
		}
		*d.part = append(*d.part, d.fed[:more]...)
		d.fed = d.fed[more:]
	}
}

// length reads the length of a frame: the number of bytes that it takes itself, 0 when it is not complete, and what it
// says. Whatever is not a length that may be is refused before a byte of the frame is kept.
func length(b []byte, most int) (prefix, n int, err *stream.Error) {
	var v uint64
	for i, c := range b {
		if i == maxPrefixBytes {
			break
		}
		v |= uint64(c&0x7F) << (7 * i)
		switch {
		case v > uint64(most):
			return 0, 0, tooBig()
		case c >= 0x80:
		case v == 0:
			return 0, 0, malformed("empty frame")
		default:
			return i + 1, int(v), nil
		}
	}
	if len(b) >= maxPrefixBytes {
		return 0, 0, malformed("length of a frame is too long")
	}
	return 0, 0, nil
}

// take reads a frame and applies the order in which things may come (RFC 6120 §4.2).
func (d *Decoder) take(raw []byte) (stream.Item, *stream.Error) {
	if d.phase == ended {
		return stream.Item{}, malformed("content after the end of the stream")
	}
	f, err := parse(raw, &d.active)
	if err != nil {
		return stream.Item{}, err
	}
	switch {
	case f.kind == frameClose:
		d.phase = ended
	case f.kind == frameOpen && d.phase == opened:
		return stream.Item{}, tooMany("stream header without a restart")
	case f.kind == frameOpen:
		d.phase = opened
	case d.phase == prologue:
		return stream.Item{}, malformed("stream that does not begin with its header")
	case f.ping:
		d.pings++
	}
	d.filled = true
	return f.item, nil
}

// EndFrame says that the current WebSocket message is complete, after Next has returned ErrMore. It returns the
// *stream.Error that must end the stream when the message was not exactly one frame, else nil.
func (d *Decoder) EndFrame() error {
	switch {
	case d.fail != nil:
		return d.fail
	case d.Buffered() > 0:
		return d.end(malformed("message with an unfinished frame"))
	case !d.filled:
		return d.end(malformed("message without a frame"))
	}
	d.filled = false
	return nil
}
