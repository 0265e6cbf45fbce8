package pbstream

import (
	"strings"
	"sync"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// builder makes the tree of one frame. Everything is read twice, by the same code: first to check the frame against
// the limits and to count, and then, when all that will be needed is known, to fill one slab for each kind of thing.
// So nothing is allocated for a frame that is refused but the copy of its own bytes, and all strings are pieces of that
// copy.
type builder struct {
	// all has the copy of the frame, and behind it the texts that the frame has in another form, as far as there is room.
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

	dummy stanza.Element // stands for every element while counting
	// trees says that there is an element in the generic form, so that the whole must be validated at the end. Without one,
	// the names are our own, and each text was looked at when it was counted: invalid says that one is not valid.
	trees, invalid bool
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

// release gives the builder back; what it has built is not touched.
func (b *builder) release() {
	*b = builder{}
	builders.Put(b)
}

// allocate prepares for the second reading, of top elements side by side that are not in another one.
func (b *builder) allocate(top int) {
	b.elem = make([]stanza.Element, b.elems)
	if b.attrs > 0 {
		b.attr = make([]stanza.Attr, b.attrs)
	}
	if b.nodes > 0 {
		b.node = make([]stanza.Node, b.nodes)
	}
	b.fill(top)
}

func (b *builder) fill(top int) { b.counting, b.elems, b.attrs, b.nodes = false, top, 0, 0 }

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

// check looks at a text that is not validated later.
func (b *builder) check(text string) {
	if !b.trees && !validText(text) {
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

func (b *builder) set(e *stanza.Element, local, value string) {
	b.addAttr(e, stanza.Attr{Local: local, Value: value})
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
		return ""
	}
	out := formatUUID(data)
	return b.keep(out[:])
}

func (b *builder) key(r *reader, data string) string {
	if len(data) != 16 {
		r.fail("identifier that has not 16 bytes")
	}
	if b.counting || r.err != nil {
		return ""
	}
	out := formatKey(data)
	return b.keep(out[:])
}

// identifier reads the current field as one of the three forms of an identifier, of which the fields begin at first.
func (b *builder) identifier(r *reader, first uint32) string {
	data := r.choice(7 << first)
	switch r.num - first {
	case 1:
		return b.uuid(r, data)
	case 2:
		return b.key(r, data)
	}
	return data
}

// generic reads Element into e, which is within an element of the given namespace. depth is that of e, scope the number
// of namespaces that XML would have declared around it.
func (b *builder) generic(e *stanza.Element, data, around string, depth, scope int) *stream.Error {
	b.trees = true
	r := reader{s: data}
	var name, text string
	space := around
	var attrs, children, nodes int
	for r.next() {
		switch r.num {
		case elementSpace:
			space = value(&r, spaces[:], r.choiceUint(3<<elementSpace, 1<<32-1))
		case elementSpaceName:
			space = r.choice(3 << elementSpace)
		case elementLocal:
			name = value(&r, words[:], r.choiceUint(3<<elementLocal, 1<<32-1))
		case elementLocalName:
			name = r.choice(3 << elementLocal)
		case elementAttrs:
			r.many()
			attrs++
		case elementText:
			text = r.str()
		case elementChildren:
			r.many()
			children++
		case elementNodes:
			r.many()
			nodes++
		}
	}
	if text != "" && children+nodes > 0 || children > 0 && nodes > 0 {
		r.fail("element with content of two forms")
	}
	if r.err != nil {
		return r.err
	}
	declared := 0
	if space != around {
		declared++
	}
	if b.counting {
		if err := b.within(name, space, depth, attrs); err != nil {
			return err
		}
	} else {
		e.Space, e.Local = space, name
	}
	if attrs > 0 {
		foreign, err := b.genericAttrs(e, data)
		if err != nil {
			return err
		}
		declared += foreign
	}
	if scope += declared; scope > b.limits.Namespaces {
		return tooMany("too many namespaces")
	}
	if attrs+declared > b.limits.Attributes {
		return tooMany("too many attributes")
	}
	b.text(e, text)
	if children+nodes == 0 {
		return nil
	}
	b.room(e, children+nodes)
	return b.content(e, data, space, depth, scope)
}

// within checks the limits on an element.
func (b *builder) within(name, space string, depth, attrs int) *stream.Error {
	switch {
	case depth > b.limits.Depth:
		return tooMany("elements are nested too deep")
	case b.long(name, space):
		return tooMany("name is too long")
	case attrs > b.limits.Attributes:
		return tooMany("too many attributes")
	}
	return nil
}

// maxPrefix is the most that XML puts before a name, colon included: "stream:", "xml:" or "a" and a number.
const maxPrefix = 8

// long reports whether a name is too long. Where XML has a prefix for it, as with all names of attributes in a
// namespace, there must be room for that.
func (b *builder) long(local, space string) bool {
	return len(local) > b.limits.Name-maxPrefix && (space != "" || len(local) > b.limits.Name) || len(space) > b.limits.Name
}

// genericAttrs reads the attributes among the fields of Element. It returns for how many of them XML must declare a
// namespace, at most.
func (b *builder) genericAttrs(e *stanza.Element, data string) (foreign int, err *stream.Error) {
	r := reader{s: data}
	for r.next() {
		if r.num != elementAttrs {
			continue
		}
		a, err := b.genericAttr(r.data)
		if err != nil {
			return 0, err
		}
		if a.Space != "" && a.Space != stanza.NSXML {
			foreign++
		}
		if b.counting && b.long(a.Local, a.Space) {
			return 0, tooMany("name is too long")
		}
		b.addAttr(e, a)
	}
	return foreign, nil
}

func (b *builder) genericAttr(data string) (a stanza.Attr, err *stream.Error) {
	const forms = 0x1F << attrValue
	r := reader{s: data}
	for r.next() {
		switch r.num {
		case elementSpace:
			a.Space = value(&r, spaces[:], r.choiceUint(3<<elementSpace, 1<<32-1))
		case elementSpaceName:
			a.Space = r.choice(3 << elementSpace)
		case elementLocal:
			a.Local = value(&r, words[:], r.choiceUint(3<<elementLocal, 1<<32-1))
		case elementLocalName:
			a.Local = r.choice(3 << elementLocal)
		case attrValue:
			a.Value = r.choice(forms)
		case attrUUID:
			a.Value = b.uuid(&r, r.choice(forms))
		case attrKey:
			a.Value = b.key(&r, r.choice(forms))
		case attrWord:
			a.Value = value(&r, words[:], r.choiceUint(forms, 1<<32-1))
		case attrURI:
			a.Value = value(&r, spaces[:], r.choiceUint(forms, 1<<32-1))
		}
	}
	return a, r.err
}

// content reads the children or nodes among the fields of Element.
func (b *builder) content(e *stanza.Element, data, space string, depth, scope int) *stream.Error {
	r := reader{s: data}
	i := 0
	wasText := false
	for r.next() {
		child := r.data
		switch r.num {
		case elementChildren:
		case elementNodes:
			n := reader{s: r.data}
			for n.next() {
				if n.num == 1 || n.num == 2 {
					child = n.choice(3 << 1)
				}
			}
			isText := n.has(1)
			if !isText && !n.has(2) || isText && (wasText || child == "") {
				n.fail("node that is nothing, or text beside text")
			}
			if n.err != nil {
				return n.err
			}
			if wasText = isText; isText {
				b.put(e, i, stanza.Node{Text: child})
				i++
				continue
			}
		default:
			continue
		}
		c := b.element(&r)
		if r.err != nil {
			return r.err
		}
		if err := b.generic(c, child, space, depth+1, scope); err != nil {
			return err
		}
		b.put(e, i, stanza.Node{Element: c})
		i++
	}
	return r.err
}
