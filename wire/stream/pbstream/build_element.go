package pbstream

import (
	"encoding/base64"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// shape is what the first reading has learnt of an element in the generic form.
type shape struct {
	space, local, text string
	attrs, nodes       int32
}

// generic reads Element into e, which is within an element of the given namespace, and validates what it has built.
func (b *builder) generic(e *stanza.Element, data, around string, depth, scope int) *stream.Error {
	if b.counting {
		return b.countElement(data, around, depth, scope)
	}
	if b.fillElement(e, data); e.Validate() != nil {
		return unspeakable("element that XML cannot carry")
	}
	return nil
}

// countElement checks and counts an element and what is in it. depth is its own, scope the number of namespaces that
// XML would have declared around it.
func (b *builder) countElement(data, around string, depth, scope int) *stream.Error {
	if depth > b.limits.Depth {
		return tooMany("elements are nested too deep")
	}
	const texts = 1<<elementText | 1<<elementTextWord | 1<<elementData
	r := reader{s: data}
	s := shape{space: around}
	var children, nodes, declared int
	for r.next() {
		switch r.num {
		case elementSpace:
			s.space = value(&r, spaces[:], r.choiceUint(3<<elementSpace, 1<<32-1))
		case elementSpaceName:
			s.space = r.choice(3 << elementSpace)
		case elementLocal:
			s.local = value(&r, words[:], r.choiceUint(3<<elementLocal, 1<<32-1))
		case elementLocalName:
			s.local = r.choice(3 << elementLocal)
		case elementAttrs:
			if r.many() {
				s.attrs++
				declared += b.countAttr(&r)
			}
		case elementText:
			s.text = r.choice(texts)
		case elementTextWord:
			s.text = value(&r, words[:], r.choiceUint(texts, 1<<32-1))
		case elementData:
			s.text = base64.StdEncoding.EncodeToString(notEmpty(&r, r.choice(texts)))
		case elementChildren:
			r.many()
			children++
		case elementNodes:
			r.many()
			nodes++
		}
	}
	if s.text != "" && children+nodes > 0 || children > 0 && nodes > 0 {
		r.fail("element with content of two forms")
	}
	if r.err != nil {
		return r.err
	}
	if s.space != around {
		declared++
	}
	scope += declared
	switch l := b.limits; {
	case b.long(s.local, s.space):
		return tooMany("name is too long")
	case int(s.attrs)+declared > l.Attributes:
		return tooMany("too many attributes")
	case scope > l.Namespaces:
		return tooMany("too many namespaces")
	}
	if s.nodes = int32(children + nodes); s.text != "" {
		s.nodes = 1
	}
	b.attrs += int(s.attrs)
	b.nodes += int(s.nodes)
	b.shapes = append(b.shapes, s)
	if children+nodes == 0 {
		return nil
	}
	return b.countContent(data, s.space, depth+1, scope)
}

// maxPrefix is the most that XML puts before a name, colon included: "stream:", "xml:" or "a" and a number.
const maxPrefix = 8

// long reports whether a name is too long. Where XML may have a prefix for it, there must be room for that.
func (b *builder) long(local, space string) bool {
	return len(local) > b.limits.Name-maxPrefix && (space != "" || len(local) > b.limits.Name) ||
		len(space) > b.limits.Name
}

// countAttr checks the current field as an attribute. It returns how many namespaces XML must declare for it, at most.
func (b *builder) countAttr(r *reader) int {
	a, err := b.readAttr(r.data)
	switch {
	case err != nil:
		r.err = err
	case b.long(a.Local, a.Space):
		r.err = tooMany("name is too long")
	case a.Space != "" && a.Space != stanza.NSXML:
		return 1
	}
	return 0
}

// notEmpty returns data, of which there must be some.
func notEmpty(r *reader, data string) []byte {
	if data == "" {
		r.fail("data that is empty")
	}
	return []byte(data)
}

// readAttr reads Attr.
func (b *builder) readAttr(data string) (a stanza.Attr, err *stream.Error) {
	const forms = 1<<(attrMillis+1) - 1<<attrValue
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
		case attrData:
			a.Value = b.encoded(&r, r.choice(forms), base64.StdEncoding)
		case attrURLData:
			a.Value = b.encoded(&r, r.choice(forms), base64.RawURLEncoding)
		case attrSeconds:
			a.Value = b.stamp(&r, r.choiceUint(forms, maxSeconds), formatSeconds)
		case attrMillis:
			a.Value = b.stamp(&r, r.choiceUint(forms, maxMillis), formatMillis)
		}
	}
	return a, r.err
}

// encoded returns data as text, which is not needed while counting.
func (b *builder) encoded(r *reader, data string, encoding *base64.Encoding) string {
	raw := notEmpty(r, data)
	if b.counting || r.err != nil {
		return unknown
	}
	return encoding.EncodeToString(raw)
}

// readNode reads Node: what it is, and the text or the element's fields.
func readNode(data string) (child string, isText bool, err *stream.Error) {
	r := reader{s: data}
	for r.next() {
		if r.num == 1 || r.num == 2 {
			child = r.choice(3 << 1)
		}
	}
	isText = r.has(1)
	if !isText && !r.has(2) || isText && child == "" {
		r.fail("node that is nothing")
	}
	return child, isText, r.err
}

// countContent checks the children or nodes among the fields of Element.
func (b *builder) countContent(data, space string, depth, scope int) *stream.Error {
	r := reader{s: data}
	wasText := false
	for r.next() {
		child := r.data
		switch r.num {
		case elementChildren:
		case elementNodes:
			inner, isText, err := readNode(r.data)
			if err != nil {
				return err
			}
			if isText && wasText {
				return malformed("text beside text")
			}
			if wasText = isText; isText {
				continue
			}
			child = inner
		default:
			continue
		}
		if b.count(&r); r.err != nil {
			return r.err
		}
		if err := b.countElement(child, space, depth, scope); err != nil {
			return err
		}
	}
	return nil
}

// fillElement builds an element that was counted, so that nothing can be wrong with it.
func (b *builder) fillElement(e *stanza.Element, data string) {
	s := &b.shapes[b.next]
	b.next++
	e.Space, e.Local = s.space, s.local
	if s.nodes > 0 {
		b.room(e, int(s.nodes))
	}
	if s.attrs > 0 {
		end := b.attrs + int(s.attrs)
		e.Attrs = b.attr[b.attrs:end:end]
		b.attrs = end
	}
	if s.text != "" {
		e.Nodes[0].Text = s.text
		if s.attrs == 0 {
			return
		}
	}
	b.fillContent(e, data)
}

// fillContent fills the attributes and nodes that e has.
func (b *builder) fillContent(e *stanza.Element, data string) {
	r := reader{s: data}
	attrs, nodes := 0, 0
	for r.next() {
		child := r.data
		switch r.num {
		case elementAttrs:
			e.Attrs[attrs], _ = b.readAttr(r.data)
			attrs++
			continue
		case elementChildren:
		case elementNodes:
			inner, isText, _ := readNode(r.data)
			if isText {
				e.Nodes[nodes].Text = inner
				nodes++
				continue
			}
			child = inner
		default:
			continue
		}
		c := &b.elem[b.elems]
		b.elems++
		e.Nodes[nodes].Element = c
		nodes++
		b.fillElement(c, child)
	}
}
