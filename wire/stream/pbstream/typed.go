package pbstream

import (
	"encoding/base64"
	"strconv"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// around is what is known around a payload, and need not be said once more.
type around struct {
	space string // of the element that it is in
	id    string // of the stanza that it is in
	own   string // the bare form of the outermost stanza's to
	// personal is set when something is written for which own mattered: it is written otherwise for others.
	personal bool
}

// typed is an element that has a typed form.
type typed struct {
	space, local string
	form         *form
	kind         uint32 // field of Payload
	// A signal has no form, but a number and perhaps a text.
	signal uint64
	text   string

	next uint8 // in the same slot, 0 for none
}

// slot spreads elements over a table.
func slot(space, local string) uint8 {
	n := len(space)*5 + len(local)*3
	if local != "" {
		n += int(local[0]) + int(local[len(local)-1])*2
	}
	return uint8(n)
}

// typedElements is the table of what has a typed form, and where each slot begins in it. Constant.
var typedElements, slots = func() (list []typed, slots [256]uint8) {
	list = append(list, typed{}) // 0 is none
	add := func(t typed) {
		at := slot(t.space, t.local)
		t.next, slots[at] = slots[at], uint8(len(list))
		list = append(list, t)
	}
	for kind, f := range forms {
		if f != nil {
			add(typed{space: f.space, local: f.local, form: f, kind: uint32(kind)})
		}
	}
	for n := len(signals) - 1; n > 0; n-- { // what was added last is found first
		s := &signals[n]
		add(typed{space: s.space, local: s.local, signal: uint64(n), text: s.text})
	}
	add(typed{space: nsPosition, local: "position", kind: kindPosition})
	return list, slots
}()

// appendPayload appends the fields of Payload: a typed form where that says everything, else an element.
func appendPayload(dst []byte, at *around, e *stanza.Element) []byte {
	for i := slots[slot(e.Space, e.Local)]; i != 0; i = typedElements[i].next {
		t := &typedElements[i]
		if t.local != e.Local || t.space != e.Space {
			continue
		}
		switch {
		case t.form != nil:
			if out, ok := appendForm(dst, t.kind, t.form, at, e); ok {
				return out
			}
		case t.kind == kindPosition:
			if len(e.Attrs) == 1 && len(e.Nodes) == 0 && e.Attrs[0].Local == "number" && e.Attrs[0].Space == "" {
				if n, ok := parseNumber(e.Attrs[0].Value, 1<<64-1); ok {
					return appendNumber(dst, kindPosition, n)
				}
			}
		case len(e.Attrs) == 0:
			if text, ok := onlyText(e); ok && text == t.text {
				return appendNumber(dst, kindSignal, t.signal)
			}
		}
	}
	dst, inner := beginField(dst, kindElement)
	return end(appendElement(dst, e, at.space), inner)
}

// appendForm appends e as the field of the given number. When it returns false, e says more than the form can, and
// nothing of dst was changed.
func appendForm(dst []byte, number uint32, f *form, at *around, e *stanza.Element) ([]byte, bool) {
	out, inner := beginField(dst, number)
	if f.text {
		text, ok := onlyText(e)
		return end(appendString(out, 1, text), inner), ok && len(e.Attrs) == 0
	}
	var said uint64
	first := 0
	for i := range e.Attrs {
		var x *field
		if out, x = appendAttribute(out, f, at, &e.Attrs[i], first); x == nil || said&x.one != 0 {
			return dst, false
		}
		said |= x.one
		first = x.after
	}
	if f.implied != nothing && said&f.fields[0].one == 0 && at.implied(f) != "" {
		return dst, false // absence would be understood as something else
	}
	nodes := e.Nodes
	if len(nodes) == 0 && f.within == "" {
		return end(out, inner), true
	}
	inside := around{space: f.space, own: at.own}
	if f.implied == ofNestedID {
		inside.id = e.Attr("id")
	}
	if f.within != "" {
		if len(nodes) != 1 || nodes[0].Element == nil {
			return dst, false
		}
		child := nodes[0].Element
		if child.Local != f.within || child.Space != nsForward || len(child.Attrs) > 0 {
			return dst, false
		}
		nodes = child.Nodes
	}
	out, ok := appendChildren(out, f, &inside, nodes)
	at.personal = at.personal || inside.personal
	if !ok {
		return dst, false
	}
	return end(out, inner), true
}

// implied returns what the attribute of the form's first field is when it is absent.
func (at *around) implied(f *form) string {
	switch f.implied {
	case ofStanza:
		return at.id
	case ofAccount:
		at.personal = true
		return at.own
	case sha1:
		return "sha-1"
	}
	return ""
}

// appendAttribute appends an attribute in the first of its fields that can say it, or not at all when it is implied. It
// returns one of the attribute's fields, nil when the form cannot say it. It looks from the field first on, where the
// attribute is when attributes come in the form's order, and then from the beginning.
func appendAttribute(dst []byte, f *form, at *around, a *stanza.Attr, first int) ([]byte, *field) {
	for range 2 {
		for i := first; i < f.attrs; i = f.fields[i].after {
			x := &f.fields[i]
			if x.name != a.Local || x.space != a.Space {
				continue
			}
			if i == 0 && f.implied != nothing && a.Value != "" && a.Value == at.implied(f) {
				return dst, x
			}
			for j := i; j < x.after; j++ {
				if out, ok := appendAs(dst, &f.fields[j], at, a.Value); ok {
					return out, x
				}
			}
			return dst, nil
		}
		if first == 0 {
			break
		}
		first = 0
	}
	return dst, nil
}

// appendAs appends the value of an attribute as a field, when that can say it.
func appendAs(dst []byte, x *field, at *around, value string) ([]byte, bool) {
	switch x.as {
	case asText:
		return appendString(dst, x.number, value), value != ""
	case asData:
		return appendData(dst, x.number, value)
	case asUUID:
		b, ok := parseUUID(value)
		if !ok {
			return dst, false
		}
		return append(append(appendTag(dst, x.number, lengthType), 16), b[:]...), true
	case asKey:
		b, ok := parseKey(value)
		if !ok {
			return dst, false
		}
		return append(append(appendTag(dst, x.number, lengthType), 16), b[:]...), true
	case asOwn:
		at.personal = true
		resource, ok := ownResource(at.own, value)
		if !ok {
			return dst, false
		}
		return appendPresent(dst, x.number, resource), true
	}
	var n uint64
	var ok bool
	switch x.as {
	case asNumber:
		n, ok = parseNumber(value, 1<<64-1)
	case asMillis:
		n, ok = parseStamp(value, stampMillis)
	case asSeconds:
		n, ok = parseStamp(value, stampSeconds)
	case asName:
		n = index(x.names, value)
		ok = n != 0
	}
	if !ok {
		return dst, false
	}
	return appendNumber(dst, x.number, n), true
}

// appendChildren appends the children of an element, which must come in the order of the form's fields.
func appendChildren(dst []byte, f *form, at *around, nodes []stanza.Node) ([]byte, bool) {
	next := f.attrs
	for i := range nodes {
		child := nodes[i].Element
		if child == nil {
			return dst, false
		}
		ok := false
		for ; !ok && next < len(f.fields); next++ {
			x := &f.fields[next]
			if dst, ok = appendChild(dst, f, x, at, child); ok && (x.repeated || x.as == asPayload) {
				break // the next one may be one more of it
			}
		}
		if !ok {
			return dst, false
		}
	}
	return dst, true
}

// appendChild appends a child as a field, when that can say it.
func appendChild(dst []byte, f *form, x *field, at *around, e *stanza.Element) ([]byte, bool) {
	switch x.as {
	case asChild:
		if e.Local != x.name || e.Space != f.space || len(e.Attrs) > 0 {
			return dst, false
		}
		text, ok := onlyText(e)
		if !ok || text == "" && !x.repeated {
			return dst, false
		}
		return appendPresent(dst, x.number, text), true
	case asForm:
		if e.Local != x.of.local || e.Space != x.of.space {
			return dst, false
		}
		return appendForm(dst, x.number, x.of, at, e)
	case asPayload:
		dst, inner := beginField(dst, x.number)
		return end(appendPayload(dst, at, e), inner), true
	}
	return dst, false
}

// payload reads Payload into e, which is in an element of the given namespace, at a depth, with so many namespaces
// declared around it.
func (b *builder) payload(e *stanza.Element, data, space string, depth, scope int) *stream.Error {
	const kinds = 1<<len(forms) - 1<<kindElement
	r := reader{s: data}
	var kind uint32
	var inner string
	var n uint64
	for r.next() {
		switch {
		case r.num == kindSignal || r.num == kindPosition:
			n = r.choiceUint(kinds, 1<<64-1)
		case r.num >= uint32(len(forms)):
			continue
		default:
			inner = r.choice(kinds)
		}
		kind = r.num
	}
	switch {
	case r.err != nil:
		return r.err
	case kind == kindElement:
		return b.generic(e, inner, space, depth, scope)
	case kind == kindPosition:
		return b.position(e, n, depth, scope+1)
	case kind == kindSignal && n-1 < uint64(len(signals)-1):
		s := &signals[n]
		if s.space != space {
			scope++
		}
		e.Space, e.Local = s.space, s.local
		b.text(e, s.text)
		return b.nest(depth, scope)
	case kind == kindSignal:
		return malformed("number that this schema does not have")
	case kind == 0:
		return malformed("payload of a kind that this schema does not have")
	}
	return b.typed(e, forms[kind], inner, space, depth, scope)
}

// position makes the element that tells a message's number.
func (b *builder) position(e *stanza.Element, n uint64, depth, scope int) *stream.Error {
	e.Space, e.Local = nsPosition, "position"
	b.addAttr(e, stanza.Attr{Local: "number", Value: b.decimal(n)})
	return b.nest(depth, scope)
}

// nest checks an element that is not in the generic form against the limits: its depth, and the namespaces declared
// with it.
func (b *builder) nest(depth, scope int) *stream.Error {
	switch {
	case depth > b.limits.Depth:
		return tooMany("elements are nested too deep")
	case scope > b.limits.Namespaces:
		return tooMany("too many namespaces")
	}
	return nil
}

// typed reads a form into e.
func (b *builder) typed(e *stanza.Element, f *form, data, space string, depth, scope int) *stream.Error {
	if f.space != space {
		scope++
	}
	if err := b.nest(depth, scope); err != nil {
		return err
	}
	e.Space, e.Local = f.space, f.local
	r := reader{s: data}
	var said uint64
	children := 0
	id := ""
	for r.next() {
		if r.num >= uint32(len(f.byNumber)) || f.byNumber[r.num] == nil {
			continue
		}
		x := f.byNumber[r.num]
		switch {
		case f.text:
			b.text(e, r.str())
		case x.repeated || x.as == asPayload:
			r.many()
			children++
		case x.as == asChild:
			children += min(len(r.str()), 1)
		case x.as == asForm:
			r.str()
			children++
		default:
			value := b.attribute(&r, x)
			if value == "" {
				continue
			}
			said |= x.one
			b.addAttr(e, stanza.Attr{Space: x.space, Local: x.name, Value: value})
			if x.name == "id" {
				id = value
			}
		}
	}
	if r.err != nil {
		return r.err
	}
	if x := &f.fields[0]; f.implied != nothing && said&x.one == 0 {
		if value := b.implied(f); value != "" {
			b.addAttr(e, stanza.Attr{Local: x.name, Value: value})
		}
	}
	if f.within != "" {
		b.room(e, 1)
		child := b.element(&r)
		b.put(e, 0, stanza.Node{Element: child})
		e, depth, space = child, depth+1, nsForward
		if e.Space, e.Local = space, f.within; r.err != nil {
			return r.err
		}
		if err := b.nest(depth, scope+1); err != nil {
			return err
		}
		scope++
	} else {
		space = f.space
	}
	if children == 0 {
		return nil
	}
	outer := b.id
	if b.id = ""; f.implied == ofNestedID {
		b.id = id
	}
	err := b.children(e, f, data, children, space, depth+1, scope)
	b.id = outer
	return err
}

// implied returns what the attribute of the form's first field is when it is absent.
func (b *builder) implied(f *form) string {
	switch {
	case f.implied == ofStanza:
		return b.id
	case f.implied == ofAccount && b.counting:
		return b.to // which is not parsed yet
	case f.implied == ofAccount:
		return b.by
	case f.implied == sha1:
		return "sha-1"
	}
	return ""
}

// attribute reads the current field as an attribute.
func (b *builder) attribute(r *reader, x *field) string {
	switch x.as {
	case asUUID:
		return b.uuid(r, r.choice(x.one))
	case asKey:
		return b.key(r, r.choice(x.one))
	case asData:
		return b.encoded(r, r.choice(x.one), base64.StdEncoding)
	case asNumber:
		return b.decimal(r.choiceUint(x.one, 1<<64-1))
	case asMillis:
		return b.stamp(r, r.choiceUint(x.one, maxMillis), formatMillis)
	case asSeconds:
		return b.stamp(r, r.choiceUint(x.one, maxSeconds), formatSeconds)
	case asName:
		if n := r.choiceUint(x.one, 1<<32-1); n != 0 {
			return value(r, x.names, n)
		}
		return ""
	case asOwn:
		resource := r.choice(x.one)
		switch {
		case b.to == "":
			r.fail("address of no account")
		case b.counting:
			b.check(resource)
			return unknown
		}
		return ownAddress(b.by, resource)
	}
	return r.choice(x.one)
}

// unknown stands for a text that is not made while counting.
const unknown = "-"

// decimal returns a number as text.
func (b *builder) decimal(n uint64) string {
	if b.counting {
		return unknown
	}
	return strconv.FormatUint(n, 10)
}

// stamp returns a time as text.
func (b *builder) stamp(r *reader, n uint64, format func(uint64) string) string {
	if b.counting || r.err != nil {
		return unknown
	}
	return format(n)
}

// children reads so many children of a form into e.
func (b *builder) children(
	e *stanza.Element, f *form, data string, n int, space string, depth, scope int,
) *stream.Error {
	b.room(e, n)
	next := 0
	for i := range f.fields {
		x := &f.fields[i]
		if x.as < asChild {
			continue
		}
		r := reader{s: data}
		for next < n && r.next() {
			if r.num != x.number || x.as == asChild && !x.repeated && r.data == "" {
				continue
			}
			child := b.element(&r)
			b.put(e, next, stanza.Node{Element: child})
			next++
			switch {
			case r.err != nil:
			case x.as == asForm:
				r.err = b.typed(child, x.of, r.data, space, depth, scope)
			case x.as == asPayload:
				r.err = b.payload(child, r.data, space, depth, scope)
			default:
				child.Space, child.Local = f.space, x.name
				b.text(child, r.data)
				r.err = b.nest(depth, scope)
			}
		}
		if r.err != nil {
			return r.err
		}
	}
	return nil
}
