package pbstream

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/posthouse-im/posthouse/wire/stanza"
)

// What a message says of others and of its own body, and what a presence says of its client.

// appendRarer is appendTyped for what is less frequent.
func appendRarer(dst []byte, at around, e *stanza.Element) ([]byte, bool) {
	switch e.Space {
	case nsForward, nsCarbons, nsMAM:
		return appendForwarded(dst, at, e)
	case nsCaps:
		return appendCaps(dst, e)
	case nsRetract:
		return appendLoneID(dst, kindRetract, e, "retract", "")
	case nsReply:
		return appendReply(dst, e)
	case nsFallback:
		return appendFallback(dst, e)
	case nsReactions:
		return appendReactions(dst, e)
	case nsReference:
		return appendMention(dst, e)
	case nsSync:
		return appendSync(dst, at, e)
	case nsProfile:
		return appendProfile(dst, e)
	}
	return dst, false
}

// attributes puts the values of e's attributes in the fields of the names given; false when e has others, an empty one, or one twice.
func attributes(e *stanza.Element, names []string, values []string) bool {
	for i := range e.Attrs {
		a := &e.Attrs[i]
		at := -1
		for j, name := range names {
			if a.Space == "" && a.Local == name {
				at = j
			}
		}
		if at < 0 || a.Value == "" || values[at] != "" {
			return false
		}
		values[at] = a.Value
	}
	return true
}

// sha1Len is the length of a SHA-1 in base64.
const sha1Len = 28

// appendCaps appends entity capabilities (XEP-0115 §4).
func appendCaps(dst []byte, e *stanza.Element) ([]byte, bool) {
	var v [3]string
	if e.Local != "c" || len(e.Nodes) > 0 || !attributes(e, []string{"hash", "node", "ver"}, v[:]) || v[0] == "" || v[2] == "" {
		return dst, false
	}
	dst, inner := beginField(dst, kindCaps)
	dst = appendString(dst, 1, v[1])
	var sum [sha1Len]byte
	if n, err := base64.StdEncoding.Strict().Decode(sum[:], []byte(v[2])); err == nil && n == 20 && len(v[2]) == sha1Len {
		dst = appendRaw(dst, 2, string(sum[:20]))
	} else {
		dst = appendString(dst, 3, v[2])
	}
	if v[0] != "sha-1" {
		dst = appendString(dst, 4, v[0])
	}
	return end(dst, inner), true
}

func (b *builder) readCaps(e *stanza.Element, p *reader) {
	e.Space, e.Local = nsCaps, "c"
	hash := "sha-1"
	var node, ver string
	for p.next() {
		switch p.num {
		case 1:
			node = p.str()
		case 2:
			sum := p.choice(3 << 2)
			if len(sum) != 20 {
				p.fail("SHA-1 that has not 20 bytes")
			}
			if ver = "-"; !b.counting {
				ver = base64.StdEncoding.EncodeToString([]byte(sum))
			}
		case 3:
			ver = p.choice(3 << 2)
		case 4:
			if name := p.str(); name != "" {
				hash = name
			}
		}
	}
	if ver == "" {
		p.fail("capabilities without a version")
	}
	b.set(e, "hash", hash)
	if node != "" {
		b.set(e, "node", node)
	}
	b.set(e, "ver", ver)
}

// appendReply appends a reply (XEP-0461 §3).
func appendReply(dst []byte, e *stanza.Element) ([]byte, bool) {
	var v [2]string
	if e.Local != "reply" || len(e.Nodes) > 0 || !attributes(e, []string{"id", "to"}, v[:]) || v[0] == "" {
		return dst, false
	}
	dst, inner := beginField(dst, kindReply)
	dst = appendID(dst, 1, v[0])
	return end(appendString(dst, 4, v[1]), inner), true
}

func (b *builder) readReply(e *stanza.Element, p *reader) {
	e.Space, e.Local = nsReply, "reply"
	var id, to string
	for p.next() {
		switch p.num {
		case 1, 2, 3:
			id = b.identifier(p, 1)
		case 4:
			to = p.str()
		}
	}
	if p.seen&(7<<1) == 0 {
		p.fail("identifier is missing")
	}
	if to != "" {
		b.set(e, "to", to)
	}
	b.set(e, "id", id)
}

// appendFallback appends a fallback of which only bodies are marked (XEP-0428 §2.2).
func appendFallback(dst []byte, e *stanza.Element) ([]byte, bool) {
	var v [1]string
	if e.Local != "fallback" || !attributes(e, []string{"for"}, v[:]) {
		return dst, false
	}
	start := dst
	dst, inner := beginField(dst, kindFallback)
	if n := spaceNumbers[v[0]]; n != 0 && v[0] != "" {
		dst = appendNumber(dst, 1, uint64(n))
	} else {
		dst = appendString(dst, 2, v[0])
	}
	for i := range e.Nodes {
		body := e.Nodes[i].Element
		var at [2]string
		if body == nil || body.Space != nsFallback || body.Local != "body" || len(body.Nodes) > 0 || !attributes(body, []string{"start", "end"}, at[:]) {
			return start, false
		}
		var region int
		dst, region = beginField(dst, 3)
		for j, text := range at {
			n, ok := parseNumber(text, 1<<32-1)
			if ok {
				dst = appendNumber(dst, uint32(j+1), n)
			} else if text != "" {
				return start, false
			}
		}
		dst = end(dst, region)
	}
	return end(dst, inner), true
}

func (b *builder) readFallback(e *stanza.Element, p *reader, depth int) {
	e.Space, e.Local = nsFallback, "fallback"
	var what string
	bodies := 0
	for p.next() {
		switch p.num {
		case 1:
			what = value(p, spaces[:], p.choiceUint(3<<1, 1<<32-1))
		case 2:
			what = p.choice(3 << 1)
		case 3:
			p.many()
			bodies++
		}
	}
	if p.err != nil {
		return
	}
	if what != "" {
		b.set(e, "for", what)
	}
	b.nest(p, depth+min(bodies, 1), 0)
	b.repeat(e, p, 3, bodies, func(c *stanza.Element, data string) {
		c.Space, c.Local = nsFallback, "body"
		r := reader{s: data, err: p.err}
		var start, end string
		for r.next() {
			switch r.num {
			case 1:
				start = strconv.FormatUint(r.uint(1<<32-1), 10)
			case 2:
				end = strconv.FormatUint(r.uint(1<<32-1), 10)
			}
		}
		if start != "" {
			b.set(c, "start", start)
		}
		if end != "" {
			b.set(c, "end", end)
		}
		p.err = r.err
	})
}

// repeat makes a child of e for each of so many fields of that number, which fill reads, in what p has read.
func (b *builder) repeat(e *stanza.Element, p *reader, field uint32, times int, fill func(c *stanza.Element, data string)) {
	if p.err != nil {
		return
	}
	b.room(e, times)
	*p = reader{s: p.s}
	for i := 0; p.next(); {
		if p.num != field {
			continue
		}
		c := b.element(p)
		b.put(e, i, stanza.Node{Element: c})
		i++
		fill(c, p.data)
	}
}

// appendReactions appends reactions (XEP-0444 §3).
func appendReactions(dst []byte, e *stanza.Element) ([]byte, bool) {
	var v [1]string
	if e.Local != "reactions" || !attributes(e, []string{"id"}, v[:]) || v[0] == "" {
		return dst, false
	}
	start := dst
	dst, inner := beginField(dst, kindReactions)
	dst = appendID(dst, 1, v[0])
	for i := range e.Nodes {
		c := e.Nodes[i].Element
		if c == nil || c.Local != "reaction" {
			return start, false
		}
		text, ok := plainText(c, nsReactions)
		if !ok {
			return start, false
		}
		dst = appendPresent(dst, 4, text)
	}
	return end(dst, inner), true
}

func (b *builder) readReactions(e *stanza.Element, p *reader, depth int) {
	e.Space, e.Local = nsReactions, "reactions"
	var id string
	list := 0
	for p.next() {
		switch p.num {
		case 1, 2, 3:
			id = b.identifier(p, 1)
		case 4:
			p.many()
			list++
		}
	}
	if p.seen&(7<<1) == 0 {
		p.fail("identifier is missing")
	}
	b.set(e, "id", id)
	b.nest(p, depth+min(list, 1), 0)
	b.repeat(e, p, 4, list, func(c *stanza.Element, data string) {
		c.Space, c.Local = nsReactions, "reaction"
		b.text(c, data)
	})
}

const xmppScheme = "xmpp:"

// appendMention appends a reference of type mention (XEP-0372 §3.2).
func appendMention(dst []byte, e *stanza.Element) ([]byte, bool) {
	var v [4]string
	if e.Local != "reference" || len(e.Nodes) > 0 || !attributes(e, []string{"type", "begin", "end", "uri"}, v[:]) || v[0] != "mention" {
		return dst, false
	}
	from, ok1 := parseNumber(v[1], 1<<32-1)
	to, ok2 := parseNumber(v[2], 1<<32-1)
	who, ok3 := strings.CutPrefix(v[3], xmppScheme)
	if !ok1 || !ok2 || !ok3 {
		return dst, false
	}
	dst, inner := beginField(dst, kindMention)
	dst = appendString(dst, 1, who)
	dst = appendUint(dst, 2, from)
	return end(appendUint(dst, 3, to), inner), true
}

func (b *builder) readMention(e *stanza.Element, p *reader) {
	e.Space, e.Local = nsReference, "reference"
	var who string
	var from, to uint64
	for p.next() {
		switch p.num {
		case 1:
			who = p.str()
		case 2:
			from = p.uint(1<<32 - 1)
		case 3:
			to = p.uint(1<<32 - 1)
		}
	}
	b.set(e, "type", "mention")
	b.set(e, "begin", b.decimal(from))
	b.set(e, "end", b.decimal(to))
	if b.counting {
		b.check(who)
	} else {
		who = xmppScheme + who
	}
	b.set(e, "uri", who)
}
