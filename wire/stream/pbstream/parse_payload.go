package pbstream

import (
	"strconv"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// payload reads Payload into e, which is in an element of the given namespace, at a depth, with so many namespaces declared around it.
func (b *builder) payload(e *stanza.Element, data, around string, depth, scope int) *stream.Error {
	const kinds = 1<<(kindProfile+1) - 1<<kindElement
	r := reader{s: data}
	var kind uint32
	var inner string
	var n uint64
	for r.next() {
		if r.num < kindElement || r.num > kindProfile {
			continue
		}
		kind = r.num
		switch kind {
		case kindChatState, kindSignal, kindShow, kindPriority:
			n = r.choiceUint(kinds, 1<<32-1)
		case kindPosition:
			n = r.choiceUint(kinds, 1<<64-1)
		default:
			inner = r.choice(kinds)
		}
	}
	if r.err != nil {
		return r.err
	}
	if kind == kindElement {
		return b.generic(e, inner, around, depth, scope)
	}
	p := reader{s: inner}
	if spaceOf(kind) != around {
		scope++
	}
	if b.nest(&p, depth, scope); p.err != nil {
		return p.err
	}
	e.Space = stanza.NSClient // most
	switch kind {
	case kindBody:
		e.Local = "body"
		b.readText(e, &p)
	case kindSubject:
		e.Local = "subject"
		b.readText(e, &p)
	case kindStatus:
		e.Local = "status"
		b.readText(e, &p)
	case kindThread:
		b.readThread(e, &p)
	case kindChatState:
		e.Space, e.Local = nsChatStates, value(&p, chatStates[:], n)
	case kindSignal:
		if n == 0 || n >= uint64(len(signals)) {
			return malformed("number that this schema does not have")
		}
		e.Space, e.Local = signals[n].space, signals[n].local
	case kindPosition:
		e.Space, e.Local = nsPosition, "position"
		b.set(e, "number", b.decimal(n))
	case kindShow:
		e.Local = "show"
		b.text(e, value(&p, shows[:], n))
	case kindPriority:
		e.Local = "priority"
		b.text(e, strconv.Itoa(int(int32(uint32(n)>>1)^-int32(n&1)))) // zigzag
	case kindRoster:
		b.readRoster(e, &p, depth)
	default:
		return b.extension(e, kind, &p, depth, scope)
	}
	return p.err
}

// spaceOf returns the namespace of what has a form of its own, as far as it can be that of the element around.
func spaceOf(kind uint32) string {
	switch kind {
	case kindBody, kindSubject, kindStatus, kindThread, kindShow, kindPriority:
		return stanza.NSClient
	case kindConversation, kindContacts:
		return nsSync
	}
	return "-"
}

// nest checks an element that is not in the generic form against the limits: its depth, and the namespaces declared with it.
func (b *builder) nest(p *reader, depth, scope int) {
	switch {
	case p.err != nil:
	case depth > b.limits.Depth:
		p.err = tooMany("elements are nested too deep")
	case scope > b.limits.Namespaces:
		p.err = tooMany("too many namespaces")
	}
}

// extension reads what has ids and stamps, or is around other things.
func (b *builder) extension(e *stanza.Element, kind uint32, p *reader, depth, scope int) *stream.Error {
	switch kind {
	case kindOriginID:
		e.Space, e.Local = nsSID, "origin-id"
		b.readID(e, p, b.id)
	case kindReceived:
		e.Space, e.Local = nsReceipts, "received"
		b.readID(e, p, "")
	case kindReplace:
		e.Space, e.Local = nsCorrect, "replace"
		b.readID(e, p, "")
	case kindRetract:
		e.Space, e.Local = nsRetract, "retract"
		b.readID(e, p, "")
	case kindStanzaID:
		b.readStanzaID(e, p)
	case kindMarker:
		b.readMarker(e, p)
	case kindDelay:
		b.readDelay(e, p)
	case kindConfirmed:
		b.readConfirmed(e, p)
	case kindForwarded:
		b.readForwarded(e, p, depth, scope)
	case kindCaps:
		b.readCaps(e, p)
	case kindReply:
		b.readReply(e, p)
	case kindFallback:
		b.readFallback(e, p, depth)
	case kindReactions:
		b.readReactions(e, p, depth)
	case kindMention:
		b.readMention(e, p)
	case kindSync:
		b.readSync(e, p, depth, scope)
	case kindConversation:
		b.readConversation(e, p)
	case kindContacts:
		b.readContacts(e, p, depth, scope)
	case kindProfile:
		b.readProfile(e, p)
	default:
		return malformed("payload of a kind that this schema does not have")
	}
	return p.err
}

// decimal returns a number as text, which it does not need while counting.
func (b *builder) decimal(n uint64) string {
	if b.counting {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

func (b *builder) readText(e *stanza.Element, p *reader) {
	var text, lang string
	for p.next() {
		switch p.num {
		case 1:
			text = p.str()
		case 2:
			lang = p.str()
		}
	}
	b.text(e, text)
	if lang != "" {
		b.addAttr(e, stanza.Attr{Space: stanza.NSXML, Local: "lang", Value: lang})
	}
}

func (b *builder) readThread(e *stanza.Element, p *reader) {
	e.Local = "thread"
	var id, parent string
	for p.next() {
		switch p.num {
		case 1:
			id = p.str()
		case 2:
			parent = p.str()
		}
	}
	b.text(e, id)
	if parent != "" {
		b.set(e, "parent", parent)
	}
}

// readID reads Id into the attribute id; own is what an absent id means, "" when it must be there.
func (b *builder) readID(e *stanza.Element, p *reader, own string) {
	id := own
	for p.next() {
		if p.num >= 1 && p.num <= 3 {
			id = b.identifier(p, 1)
		}
	}
	if p.seen == 0 && own == "" {
		p.fail("identifier is missing")
	}
	b.set(e, "id", id)
}

func (b *builder) readStanzaID(e *stanza.Element, p *reader) {
	e.Space, e.Local = nsSID, "stanza-id"
	var id, by string
	for p.next() {
		switch p.num {
		case 1, 2, 3:
			id = b.identifier(p, 1)
		case 4:
			by = p.str()
		}
	}
	if p.seen&(7<<1) == 0 || by == "" && b.to == "" {
		p.fail("identifier is missing, or whose it is")
	}
	if by == "" {
		by = b.by
	}
	b.set(e, "id", id)
	b.set(e, "by", by)
}

func (b *builder) readMarker(e *stanza.Element, p *reader) {
	e.Space = nsMarkers
	var id string
	for p.next() {
		switch p.num {
		case 1, 2, 3:
			id = b.identifier(p, 1)
		case 4:
			e.Local = value(p, markers[:], p.uint(1<<32-1))
		}
	}
	if p.seen&(7<<1) == 0 || !p.has(4) {
		p.fail("marker that is not complete")
	}
	b.set(e, "id", id)
}

func (b *builder) readDelay(e *stanza.Element, p *reader) {
	const stamps = 7 << 1
	e.Space, e.Local = nsDelay, "delay"
	var stamp, from, reason string
	for p.next() {
		switch p.num {
		case 1, 2, 3:
			stamp = b.readStamp(p, 1)
		case 4:
			from = p.str()
		case 5:
			reason = p.str()
		}
	}
	if p.seen&stamps == 0 {
		p.fail("delay without a stamp")
	}
	if from != "" {
		b.set(e, "from", from)
	}
	b.set(e, "stamp", stamp)
	b.text(e, reason)
}

// readStamp reads the current field as one of the three forms of a time, of which the fields begin at first.
func (b *builder) readStamp(p *reader, first uint32) string {
	mask := uint64(7) << first
	switch p.num - first {
	case 0:
		return b.stamp(p, p.choiceUint(mask, maxMillis), formatMillis)
	case 1:
		return b.stamp(p, p.choiceUint(mask, maxSeconds), formatSeconds)
	}
	return p.choice(mask)
}

func (b *builder) stamp(p *reader, n uint64, format func(uint64) string) string {
	if b.counting || p.err != nil {
		return ""
	}
	return format(n)
}

func (b *builder) readConfirmed(e *stanza.Element, p *reader) {
	e.Space, e.Local = nsConfirm, "confirmed"
	var id, stanzaID, with string
	var number, stamp uint64
	var again bool
	for p.next() {
		switch p.num {
		case 1:
			id = b.nestedID(p)
		case 2:
			stanzaID = b.nestedID(p)
		case 3:
			with = p.str()
		case 4:
			number = p.uint(1<<64 - 1)
		case 5:
			stamp = p.uint(maxMillis)
		case 6:
			again = p.bool()
		}
	}
	if with == "" {
		p.fail("confirmation without a conversation")
	}
	if p.has(1) {
		b.set(e, "id", id)
	}
	if p.has(2) {
		b.set(e, "stanza-id", stanzaID)
	}
	b.set(e, "conversation", with)
	if b.counting {
		b.attrs += 2
	} else if p.err == nil {
		b.set(e, "number", strconv.FormatUint(number, 10))
		b.set(e, "stamp", formatMillis(stamp))
	}
	if again {
		b.set(e, "duplicate", "true")
	}
}

// nestedID reads the current field as Id.
func (b *builder) nestedID(p *reader) string {
	r := reader{s: p.str()}
	var id string
	for r.next() {
		if r.num >= 1 && r.num <= 3 {
			id = b.identifier(&r, 1)
		}
	}
	if r.seen == 0 {
		r.fail("identifier is missing")
	}
	if p.err == nil {
		p.err = r.err
	}
	return id
}

func (b *builder) readRoster(e *stanza.Element, p *reader, depth int) {
	e.Space, e.Local = nsRoster, "query"
	items := 0
	var ver string
	for p.next() {
		switch p.num {
		case 1:
			ver = p.str()
		case 2:
			p.many()
			items++
		}
	}
	if p.err != nil {
		return
	}
	if p.has(1) {
		b.set(e, "ver", ver)
	}
	b.rosterItems(e, p, items, depth+1)
}

// rosterItems reads the field 2 of what p reads, which is there so many times, as items of a roster.
func (b *builder) rosterItems(e *stanza.Element, p *reader, items, depth int) {
	b.room(e, items)
	*p = reader{s: p.s}
	for i := 0; p.next(); {
		if p.num != 2 {
			continue
		}
		item := b.element(p)
		b.put(e, i, stanza.Node{Element: item})
		i++
		if p.err == nil {
			p.err = b.rosterItem(item, p.data, depth)
		}
	}
}

func (b *builder) rosterItem(e *stanza.Element, data string, depth int) *stream.Error {
	e.Space, e.Local = nsRoster, "item"
	r := reader{s: data}
	var jid, name, subscription string
	var ask, approved bool
	groups := 0
	for r.next() {
		switch r.num {
		case 1:
			jid = r.str()
		case 2:
			name = r.str()
		case 3:
			if n := r.uint(1<<32 - 1); n != 0 {
				subscription = value(&r, subscriptions[:], n)
			}
		case 4:
			ask = r.bool()
		case 5:
			approved = r.bool()
		case 6:
			r.many()
			groups++
		}
	}
	if r.err != nil {
		return r.err
	}
	for _, a := range [...]struct{ name, value string }{{"jid", jid}, {"name", name}, {"subscription", subscription}} {
		if a.value != "" {
			b.set(e, a.name, a.value)
		}
	}
	if ask {
		b.set(e, "ask", "subscribe")
	}
	if approved {
		b.set(e, "approved", "true")
	}
	if depth+min(groups, 1) > b.limits.Depth {
		return tooMany("elements are nested too deep")
	}
	b.room(e, groups)
	r = reader{s: data}
	for i := 0; r.next(); {
		if r.num != 6 {
			continue
		}
		group := b.element(&r)
		group.Space, group.Local = nsRoster, "group"
		b.text(group, r.data)
		b.put(e, i, stanza.Node{Element: group})
		i++
	}
	return r.err
}
