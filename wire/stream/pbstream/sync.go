package pbstream

import (
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// The question for what has changed, and the answer.

// Fields of Sync.
const (
	syncCursor = iota + 1
	syncMax
	syncMore
	syncFirst
	syncItems
)

// appendSync appends what is in the namespace of sync.
func appendSync(dst []byte, at around, e *stanza.Element) ([]byte, bool) {
	switch e.Local {
	case "conversation":
		return appendConversation(dst, e)
	case "roster":
		return appendContacts(dst, e)
	case "sync":
	default:
		return dst, false
	}
	var v [3]string // max, more, first
	cursor := ""
	for i := range e.Attrs {
		a := &e.Attrs[i]
		known := index([]string{"", "max", "more", "first"}, a.Local)
		switch {
		case a.Space != "" || !writable(e.Attrs, i):
			return dst, false
		case a.Local == "cursor":
			cursor = a.Value
		case known == 0:
			return dst, false
		default:
			v[known-1] = a.Value
		}
	}
	most, ok := parseNumber(v[0], 1<<64-1)
	if !ok && e.HasAttr("max") || v[1] != "true" && e.HasAttr("more") || v[2] != "true" && e.HasAttr("first") {
		return dst, false
	}
	start := dst
	dst, inner := beginField(dst, kindSync)
	if e.HasAttr("cursor") {
		dst = appendPresent(dst, syncCursor, cursor)
	}
	if ok {
		dst = appendNumber(dst, syncMax, most)
	}
	dst = appendTrue(dst, syncMore, v[1])
	dst = appendTrue(dst, syncFirst, v[2])
	at = around{space: nsSync, own: at.own}
	for i := range e.Nodes {
		child := e.Nodes[i].Element
		if child == nil {
			return start, false
		}
		var item int
		dst, item = beginField(dst, syncItems)
		dst = end(appendPayload(dst, at, child), item)
	}
	return end(dst, inner), true
}

// appendTrue appends an attribute that is true or not there.
func appendTrue(dst []byte, field uint32, value string) []byte {
	if value == "" {
		return dst
	}
	return appendUint(dst, field, 1)
}

func (b *builder) readSync(e *stanza.Element, p *reader, depth, scope int) {
	e.Space, e.Local = nsSync, "sync"
	var cursor string
	var most uint64
	var more, first bool
	items := 0
	for p.next() {
		switch p.num {
		case syncCursor:
			cursor = p.str()
		case syncMax:
			most = p.uint(1<<64 - 1)
		case syncMore:
			more = p.bool()
		case syncFirst:
			first = p.bool()
		case syncItems:
			p.many()
			items++
		}
	}
	if p.err != nil {
		return
	}
	if p.has(syncCursor) {
		b.set(e, "cursor", cursor)
	}
	if p.has(syncMax) {
		b.set(e, "max", b.decimal(most))
	}
	b.setTrue(e, "more", more)
	b.setTrue(e, "first", first)
	outer := b.id
	b.id = ""
	b.repeat(e, p, syncItems, items, func(c *stanza.Element, data string) {
		if p.err == nil {
			p.err = b.payload(c, data, nsSync, depth+1, scope)
		}
	})
	b.id = outer
}

func (b *builder) setTrue(e *stanza.Element, local string, is bool) {
	if is {
		b.set(e, local, "true")
	}
}

// Fields of Conversation. The numbers are in the order of conversationNumbers.
const (
	conversationWith   = 1
	conversationNumber = 2
	conversationLast   = 8
	conversationMuted  = 9
	conversationPinned = 12
)

// conversationNumbers are the attributes of a conversation that are numbers.
var conversationNumbers = [...]string{"number", "read", "delivered", "peer-read", "peer-delivered", "unread"}

// appendConversation appends the state of a conversation.
func appendConversation(dst []byte, e *stanza.Element) ([]byte, bool) {
	names := []string{"with", "last", "muted-until", "pinned", "number", "read", "delivered", "peer-read", "peer-delivered", "unread"}
	var v [10]string
	if len(e.Nodes) > 0 || !attributes(e, names, v[:]) || v[0] == "" || v[3] != "" && v[3] != "true" {
		return dst, false
	}
	start := dst
	dst, inner := beginField(dst, kindConversation)
	dst = appendString(dst, conversationWith, v[0])
	for i, text := range v[4:] {
		if text == "" {
			continue
		}
		n, ok := parseNumber(text, 1<<64-1)
		if !ok {
			return start, false
		}
		dst = appendNumber(dst, uint32(conversationNumber+i), n)
	}
	if v[1] != "" {
		var id int
		dst, id = beginField(dst, conversationLast)
		dst = end(appendID(dst, 1, v[1]), id)
	}
	if v[2] != "" {
		dst = appendStamp(dst, conversationMuted, v[2])
	}
	return end(appendTrue(dst, conversationPinned, v[3]), inner), true
}

func (b *builder) readConversation(e *stanza.Element, p *reader) {
	e.Space, e.Local = nsSync, "conversation"
	var with, last, muted string
	var numbers [len(conversationNumbers)]uint64
	var pinned bool
	for p.next() {
		switch p.num {
		case conversationWith:
			with = p.str()
		case conversationLast:
			last = b.nestedID(p)
		case conversationMuted, conversationMuted + 1, conversationMuted + 2:
			muted = b.readStamp(p, conversationMuted)
		case conversationPinned:
			pinned = p.bool()
		default:
			if i := p.num - conversationNumber; i < uint32(len(numbers)) {
				numbers[i] = p.uint(1<<64 - 1)
			}
		}
	}
	if with == "" {
		p.fail("conversation with nobody")
	}
	if p.err != nil {
		return
	}
	b.set(e, "with", with)
	for i, n := range numbers {
		if p.has(uint32(conversationNumber + i)) {
			b.set(e, conversationNumbers[i], b.decimal(n))
		}
	}
	if p.has(conversationLast) {
		b.set(e, "last", last)
	}
	if p.seen&(7<<conversationMuted) != 0 {
		b.set(e, "muted-until", muted)
	}
	b.setTrue(e, "pinned", pinned)
}

// appendContacts appends the changes of a roster.
func appendContacts(dst []byte, e *stanza.Element) ([]byte, bool) {
	var v [1]string
	if !attributes(e, []string{"all"}, v[:]) || v[0] != "" && v[0] != "true" {
		return dst, false
	}
	start := dst
	dst, inner := beginField(dst, kindContacts)
	dst = appendTrue(dst, 1, v[0])
	for i := range e.Nodes {
		item := e.Nodes[i].Element
		if item == nil || item.Space != nsRoster || item.Local != "item" {
			return start, false
		}
		var ok bool
		if dst, ok = appendRosterItem(dst, item); !ok {
			return start, false
		}
	}
	return end(dst, inner), true
}

func (b *builder) readContacts(e *stanza.Element, p *reader, depth, scope int) {
	e.Space, e.Local = nsSync, "roster"
	all := false
	items := 0
	for p.next() {
		switch p.num {
		case 1:
			all = p.bool()
		case 2:
			p.many()
			items++
		}
	}
	b.nest(p, depth, scope+min(items, 1))
	if p.err != nil {
		return
	}
	b.setTrue(e, "all", all)
	b.rosterItems(e, p, items, depth+1)
}

// appendProfile appends a profile.
func appendProfile(dst []byte, e *stanza.Element) ([]byte, bool) {
	var v [3]string
	if e.Local != "profile" || len(e.Nodes) > 0 || !attributes(e, []string{"jid", "name", "title"}, v[:]) {
		return dst, false
	}
	dst, inner := beginField(dst, kindProfile)
	for i, text := range v {
		dst = appendString(dst, uint32(i+1), text)
	}
	return end(dst, inner), true
}

func (b *builder) readProfile(e *stanza.Element, p *reader) {
	e.Space, e.Local = nsProfile, "profile"
	var v [3]string
	for p.next() {
		if p.num >= 1 && p.num <= 3 {
			v[p.num-1] = p.str()
		}
	}
	for i, local := range [...]string{"jid", "name", "title"} {
		if v[i] != "" {
			b.set(e, local, v[i])
		}
	}
}
