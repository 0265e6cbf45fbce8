package pbstream

import (
	"strings"
	"sync"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// builder makes the tree of one frame. Everything is read twice, by the same code: first to check the frame against
// the limits and to count, and then, when all that will be needed is known, to fill one slab for each kind of thing.
// So hardly anything is allocated for a frame that is refused but the copy of its own bytes, and all strings are pieces
// of that copy.
type builder struct {
	// all has the copy of the frame, and behind it the texts that the frame has in another form, as far as there is
	// room.
	all strings.Builder

	limits   *stream.Limits
	most     int // elements
	counting bool
	// How many elements, attributes and nodes there are (counting), or have been used.
	elems, attrs, nodes int
	// Slabs.
	elem []stanza.Element
	attr []stanza.Attr
	node []stanza.Node

	// shapes has what is to be known of each element in the generic form, in the order in which they are read; the
	// first reading writes them, the second one takes them from next on.
	shapes []shape
	next   int

	dummy stanza.Element // stands for every element while counting
	// invalid says that a text is not valid. What is not in the generic form has names of our own, and its texts are
	// looked at while they are counted; the rest is validated as a whole.
	invalid bool
	// Of the stanza, for what is said by not saying it.
	id, to string
	by     string
}

// builders holds idle builders, empty.
var builders = sync.Pool{New: func() any { return new(builder) }}

// spare is the room for texts behind the copy of a frame: that of one UUID.
const spare = uuidLen

func newBuilder(raw []byte, limits *stream.Limits) *builder {
	b := builders.Get().(*builder)
	b.limits = limits
	n := len(raw)
	if n > spare {
		n += spare
	}
	b.all.Grow(n)
	b.all.Write(raw)
	return b
}

// start begins to count, up to most elements.
func (b *builder) start(most int) {
	b.most, b.counting, b.elems, b.attrs, b.nodes = most, true, 0, 0, 0
}

// keep returns p as a string.
func (b *builder) keep(p []byte) string {
	at := b.all.Len()
	if b.all.Cap()-at < len(p) {
		return string(p)
	}
	b.all.Write(p)
	return b.all.String()[at:]
}

// mostShapes is how many shapes a builder keeps room for.
const mostShapes = 64

// release gives the builder back; what it has built is not touched.
func (b *builder) release() {
	shapes := b.shapes
	if clear(shapes); cap(shapes) > mostShapes {
		shapes = nil
	}
	*b = builder{shapes: shapes[:0]}
	builders.Put(b)
}

// fill begins the second reading, of top elements side by side that are not in another one.
func (b *builder) fill(top int) {
	b.counting, b.elems, b.attrs, b.nodes, b.next = false, top, 0, 0, 0
}

// element returns a new element that is in another one.
func (b *builder) element(r *reader) *stanza.Element {
	if b.counting {
		b.count(r)
		return &b.dummy
	}
	b.elems++
	return &b.elem[b.elems-1]
}

// count counts an element.
func (b *builder) count(r *reader) {
	if b.elems++; b.elems > b.most && r.err == nil {
		r.err = tooMany("too many elements")
	}
}

// check looks at a text that is not in the generic form.
func (b *builder) check(text string) {
	if !validText(text) {
		b.invalid = true
	}
}

// addAttr gives e one more attribute; nothing else may get one between e's first and its last.
func (b *builder) addAttr(e *stanza.Element, a stanza.Attr) {
	i := b.attrs
	b.attrs++
	if b.counting {
		b.check(a.Value)
		return
	}
	b.attr[i] = a
	e.Attrs = b.attr[i-len(e.Attrs) : i+1 : i+1]
}

// room gives e n nodes.
func (b *builder) room(e *stanza.Element, n int) {
	i := b.nodes
	b.nodes += n
	if !b.counting && n > 0 {
		e.Nodes = b.node[i : i+n : i+n]
	}
}

// put sets e's i-th node, for which there is room.
func (b *builder) put(e *stanza.Element, i int, n stanza.Node) {
	if !b.counting {
		e.Nodes[i] = n
	}
}

// text gives e text as its only node.
func (b *builder) text(e *stanza.Element, text string) {
	if text != "" {
		if b.counting {
			b.check(text)
		}
		b.room(e, 1)
		b.put(e, 0, stanza.Node{Text: text})
	}
}

// uuid and key turn 16 bytes into text. While counting, the length is enough.

func (b *builder) uuid(r *reader, data string) string {
	if len(data) != 16 {
		r.fail("identifier that has not 16 bytes")
	}
	if b.counting || r.err != nil {
		return unknown
	}
	out := formatUUID(data)
	return b.keep(out[:])
}

func (b *builder) key(r *reader, data string) string {
	if len(data) != 16 {
		r.fail("identifier that has not 16 bytes")
	}
	if b.counting || r.err != nil {
		return unknown
	}
	out := formatKey(data)
	return b.keep(out[:])
}
