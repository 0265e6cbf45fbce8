package pbstream

import (
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// A message in another one: forwarded by itself (XEP-0297 §3), as a carbon (XEP-0280 §6) or as a result of an archive (XEP-0313 §4.2).

// Fields of Forwarded; the first three are the forms of an identifier.
const (
	forwardedID = iota + 1
	forwardedUUID
	forwardedKey
	forwardedWrapper
	forwardedDelay
	forwardedMessage
	forwardedQuery
)

const wrapperResult = 3

// wrapped returns the forwarded element in e, and what e wraps it in; nil when e is something else, or says more.
func wrapped(e *stanza.Element) (forwarded *stanza.Element, wrapper uint64) {
	if e.Space != nsForward {
		wrapper = index(wrappers[:], e.Local)
		switch {
		case len(e.Nodes) != 1 || e.Nodes[0].Element == nil:
			return nil, 0
		case e.Space == nsCarbons && wrapper != 0 && wrapper != wrapperResult && len(e.Attrs) == 0:
		case e.Space == nsMAM && wrapper == wrapperResult && e.Attr("id") != "" &&
			(len(e.Attrs) == 1 || len(e.Attrs) == 2 && e.Attr("queryid") != ""):
		default:
			return nil, 0
		}
		e = e.Nodes[0].Element
	}
	if e.Space != nsForward || e.Local != "forwarded" || len(e.Attrs) > 0 || len(e.Nodes) == 0 || len(e.Nodes) > 2 {
		return nil, 0
	}
	return e, wrapper
}

// appendForwarded appends a message that is in another one.
func appendForwarded(dst []byte, at around, e *stanza.Element) ([]byte, bool) {
	forwarded, wrapper := wrapped(e)
	if forwarded == nil {
		return dst, false
	}
	nodes := forwarded.Nodes
	message := nodes[len(nodes)-1].Element
	if message == nil || !isMessage(message) {
		return dst, false
	}
	start := dst
	dst, outer := beginField(dst, kindForwarded)
	if wrapper == wrapperResult {
		dst = appendID(dst, forwardedID, e.Attr("id"))
	}
	dst = appendUint(dst, forwardedWrapper, wrapper)
	if len(nodes) == 2 {
		delay, ok := nodes[0].Element, false
		if delay == nil || delay.Space != nsDelay {
			return start, false
		}
		if dst, ok = appendDelay(dst, forwardedDelay, delay); !ok {
			return start, false
		}
	}
	dst, inner := beginField(dst, forwardedMessage)
	dst = end(appendMessage(dst, at, message), inner)
	if wrapper == wrapperResult {
		dst = appendString(dst, forwardedQuery, e.Attr("queryid"))
	}
	return end(dst, outer), true
}

// isMessage reports whether an element says no more than Stanza does.
func isMessage(e *stanza.Element) bool {
	if e.Space != stanza.NSClient || e.Local != "message" {
		return false
	}
	for i := range e.Attrs {
		a := &e.Attrs[i]
		switch {
		case a.Value == "" || !writable(e.Attrs, i):
			return false
		case a.Space == stanza.NSXML && a.Local == "lang":
		case a.Space != "":
			return false
		case a.Local != "from" && a.Local != "to" && a.Local != "type" && a.Local != "id":
			return false
		}
	}
	for i := range e.Nodes {
		if e.Nodes[i].Element == nil {
			return false
		}
	}
	return true
}

// appendMessage appends the fields of Stanza for a message that is in another one.
func appendMessage(dst []byte, at around, e *stanza.Element) []byte {
	for _, a := range [...]struct {
		value      string
		field, own uint32
	}{{e.Attr("to"), stanzaTo, stanzaOwnTo}, {e.Attr("from"), stanzaFrom, stanzaOwnFrom}} {
		if resource, ok := ownResource(at.own, a.value); ok {
			dst = appendPresent(dst, a.own, resource)
		} else {
			dst = appendString(dst, a.field, a.value)
		}
	}
	lang := ""
	for i := range e.Attrs {
		if e.Attrs[i].Space == stanza.NSXML {
			lang = e.Attrs[i].Value
		}
	}
	id := e.Attr("id")
	dst = appendHead(dst, id, e.Attr("type"), lang)
	at = around{space: stanza.NSClient, id: id, own: at.own}
	nodes := e.Nodes
	if len(nodes) > 0 && nodes[0].Element.Local == "body" {
		if text, ok := plainText(nodes[0].Element, stanza.NSClient); ok && text != "" {
			dst = appendString(dst, stanzaBody, text)
			nodes = nodes[1:]
		}
	}
	for i := range nodes {
		var inner int
		dst, inner = beginField(dst, stanzaPayload)
		dst = end(appendPayload(dst, at, nodes[i].Element), inner)
	}
	return dst
}

// readForwarded reads Forwarded into e.
func (b *builder) readForwarded(e *stanza.Element, p *reader, depth, scope int) {
	var id, query, delay, message string
	var wrapper uint64
	for p.next() {
		switch p.num {
		case forwardedID, forwardedUUID, forwardedKey:
			id = b.identifier(p, forwardedID)
		case forwardedWrapper:
			wrapper = p.uint(uint64(len(wrappers) - 1))
		case forwardedDelay:
			delay = p.str()
		case forwardedMessage:
			message = p.str()
		case forwardedQuery:
			query = p.str()
		}
	}
	isResult := wrapper == wrapperResult
	if hasID := p.seen&(7<<forwardedID) != 0; !p.has(forwardedMessage) || hasID != isResult || query != "" && !isResult {
		p.fail("forwarded message that is not complete, or too much")
	}
	if p.err != nil {
		return
	}
	if wrapper != 0 {
		e.Space, e.Local = nsCarbons, wrappers[wrapper]
		if isResult {
			e.Space = nsMAM
			b.set(e, "id", id)
		}
		if query != "" {
			b.set(e, "queryid", query)
		}
		b.room(e, 1)
		inner := b.element(p)
		b.put(e, 0, stanza.Node{Element: inner})
		e, depth, scope = inner, depth+1, scope+1
	}
	e.Space, e.Local = nsForward, "forwarded"
	b.nest(p, depth+1, scope+1)
	nodes := 1
	if p.has(forwardedDelay) {
		nodes = 2
	}
	b.room(e, nodes)
	if nodes == 2 {
		child := b.element(p)
		b.put(e, 0, stanza.Node{Element: child})
		r := reader{s: delay, err: p.err}
		b.readDelay(child, &r)
		p.err = r.err
	}
	child := b.element(p)
	b.put(e, nodes-1, stanza.Node{Element: child})
	if p.err == nil {
		p.err = b.readMessage(child, message, depth+1, scope+1)
	}
}

// ownAddress reads the current field as an address of the account, which may stand in place of the field of the given number.
func (b *builder) ownAddress(r *reader, field uint32) string {
	resource := r.choice(1<<field | 1<<r.num)
	switch {
	case b.to == "":
		r.fail("address of no account")
	case b.counting:
		b.check(resource)
		return "-" // it is not known yet
	}
	return ownAddress(b.by, resource)
}

// readMessage reads Stanza into e as a message that is in another one.
func (b *builder) readMessage(e *stanza.Element, data string, depth, scope int) *stream.Error {
	const kinds = 1<<stanzaType | 1<<stanzaTypeName
	r := reader{s: data}
	var from, to, kind, id, lang, body string
	nodes := 0
	for r.next() {
		switch r.num {
		case stanzaTo:
			to = r.choice(1<<stanzaTo | 1<<stanzaOwnTo)
		case stanzaOwnTo:
			to = b.ownAddress(&r, stanzaTo)
		case stanzaFrom:
			from = r.choice(1<<stanzaFrom | 1<<stanzaOwnFrom)
		case stanzaOwnFrom:
			from = b.ownAddress(&r, stanzaFrom)
		case stanzaID, stanzaUUID, stanzaKey:
			if id = b.identifier(&r, stanzaID); id == "" && b.counting && r.num != stanzaID {
				id = "-"
			}
		case stanzaType:
			kind = value(&r, types[:], r.choiceUint(kinds, 1<<32-1))
		case stanzaTypeName:
			kind = r.choice(kinds)
		case stanzaLang:
			lang = r.str()
		case stanzaBody:
			body = r.str()
			nodes += min(len(body), 1)
		case stanzaPayload:
			r.many()
			nodes++
		}
	}
	if r.err != nil {
		return r.err
	}
	e.Space, e.Local = stanza.NSClient, "message"
	for _, a := range [...]stanza.Attr{{Local: "from", Value: from}, {Local: "to", Value: to}, {Local: "type", Value: kind},
		{Local: "id", Value: id}, {Space: stanza.NSXML, Local: "lang", Value: lang}} {
		if a.Value != "" {
			b.addAttr(e, a)
		}
	}
	outer := b.id
	b.id = id
	err := b.content(e, data, body, nodes, depth+1, scope)
	b.id = outer
	return err
}

// content reads the children of a message that is in another one.
func (b *builder) content(e *stanza.Element, data, body string, nodes, depth, scope int) *stream.Error {
	r := reader{s: data}
	i := 0
	child := func() *stanza.Element {
		c := b.element(&r)
		b.put(e, i, stanza.Node{Element: c})
		i++
		return c
	}
	b.room(e, nodes)
	if body != "" {
		b.nest(&r, depth, scope)
		c := child()
		c.Space, c.Local = stanza.NSClient, "body"
		b.text(c, body)
	}
	for r.next() {
		if r.num != stanzaPayload {
			continue
		}
		c := child()
		if r.err == nil {
			r.err = b.payload(c, r.data, stanza.NSClient, depth, scope)
		}
	}
	return r.err
}
