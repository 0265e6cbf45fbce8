package pbstream

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Wire types of Protocol Buffers.
const (
	varintType = 0
	fixed64    = 1
	lengthType = 2
	fixed32    = 5
)

// begin starts something that has its length in front; end completes it. One byte is kept for the length, which is
// enough for nearly everything.
func begin(dst []byte) ([]byte, int) {
	dst = append(dst, 0)
	return dst, len(dst)
}

// beginField starts a message that is the value of a field.
func beginField(dst []byte, field uint32) ([]byte, int) {
	return begin(appendTag(dst, field, lengthType))
}

// end writes the length of what began at start, and moves it when the length takes more than one byte.
func end(dst []byte, start int) []byte {
	if n := len(dst) - start; n < 0x80 {
		dst[start-1] = byte(n)
		return dst
	}
	return endWith(dst, start, 0)
}

// endWith is end for what has extra bytes more that are not in dst.
func endWith(dst []byte, start, extra int) []byte {
	n := len(dst) - start
	more := (bits.Len(uint(n+extra)|1) - 1) / 7
	for range more {
		dst = append(dst, 0)
	}
	copy(dst[start+more:], dst[start:start+n])
	binary.PutUvarint(dst[start-1:start+more], uint64(n+extra))
	return dst
}

func appendTag(dst []byte, field uint32, wire uint8) []byte {
	if field < 16 {
		return append(dst, byte(field<<3)|wire)
	}
	return binary.AppendUvarint(dst, uint64(field<<3)|uint64(wire))
}

// appendUint appends a number; 0 is the same as none.
func appendUint(dst []byte, field uint32, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return appendNumber(dst, field, n)
}

// appendNumber appends a number even when it is 0.
func appendNumber(dst []byte, field uint32, n uint64) []byte {
	return binary.AppendUvarint(appendTag(dst, field, varintType), n)
}

// appendString appends text; "" is the same as none.
func appendString(dst []byte, field uint32, s string) []byte {
	if s == "" {
		return dst
	}
	return appendPresent(dst, field, s)
}

// appendPresent appends text even when it is "".
func appendPresent(dst []byte, field uint32, s string) []byte {
	if !validText(s) {
		s = clean(s)
	}
	return appendRaw(dst, field, s)
}

// appendJID appends the text of an address, which is valid by its making.
func appendJID(dst []byte, field uint32, s string) []byte {
	if s == "" {
		return dst
	}
	return appendRaw(dst, field, s)
}

func appendRaw(dst []byte, field uint32, s string) []byte {
	dst = appendTag(dst, field, lengthType)
	if len(s) < 0x80 {
		dst = append(dst, byte(len(s)))
	} else {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
	}
	return append(dst, s...)
}

// appendID appends an identifier in the shortest of the three forms, of which the fields follow each other.
func appendID(dst []byte, field uint32, id string) []byte {
	switch len(id) {
	case uuidLen:
		if b, ok := parseUUID(id); ok {
			return append(append(appendTag(dst, field+1, lengthType), 16), b[:]...)
		}
	case keyLen:
		if b, ok := parseKey(id); ok {
			return append(append(appendTag(dst, field+2, lengthType), 16), b[:]...)
		}
	}
	return appendPresent(dst, field, id)
}

// validText is stanza.ValidText, quicker for ASCII without control characters.
func validText(s string) bool {
	const high, spaces = 0x8080808080808080, 0x2020202020202020
	for len(s) >= 8 {
		w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		// With all high bits clear, a byte below a blank borrows from the high bit that is set in front of it.
		if w&high != 0 || ((w|high)-spaces)&high != high {
			return stanza.ValidText(s)
		}
		s = s[8:]
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] >= utf8.RuneSelf {
			return stanza.ValidText(s)
		}
	}
	return true
}

// clean replaces what XML cannot carry.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !stanza.IsChar(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// parseNumber reads a decimal number of at most most that is written in its only canonical form.
func parseNumber(s string, most uint64) (uint64, bool) {
	if s == "" || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n <= most
}

// appendElement appends the fields of Element for e within an element of the given namespace.
func appendElement(dst []byte, e *stanza.Element, around string) []byte {
	space := e.Space
	if space != around {
		if n := spaceNumbers[space]; n != 0 {
			dst = appendNumber(dst, elementSpace, uint64(n))
		} else if stanza.ValidSpace(space) {
			dst = appendRaw(dst, elementSpaceName, space)
		} else {
			space = ""
			dst = appendNumber(dst, elementSpace, 1)
		}
	}
	dst = appendLocal(dst, e.Local)
	for i := range e.Attrs {
		if writable(e.Attrs, i) {
			dst = appendAttr(dst, &e.Attrs[i])
		}
	}
	return appendContent(dst, e.Nodes, space)
}

// appendLocal appends the name of an element or attribute.
func appendLocal(dst []byte, local string) []byte {
	if n := wordNumbers[local]; n != 0 {
		return appendNumber(dst, elementLocal, uint64(n))
	}
	if !stanza.ValidName(local) {
		local = "_"
	}
	return appendRaw(dst, elementLocalName, local)
}

// writable reports whether attrs[i] can be written: it has a name, which none before it has, and is no declaration.
func writable(attrs []stanza.Attr, i int) bool {
	a := &attrs[i]
	if !stanza.ValidName(a.Local) || a.Space == "" && a.Local == "xmlns" || !stanza.ValidSpace(a.Space) {
		return false
	}
	for j := range i {
		if attrs[j].Local == a.Local && attrs[j].Space == a.Space {
			return false
		}
	}
	return true
}

func appendAttr(dst []byte, a *stanza.Attr) []byte {
	dst, inner := beginField(dst, elementAttrs)
	if a.Space != "" {
		if n := spaceNumbers[a.Space]; n != 0 {
			dst = appendNumber(dst, elementSpace, uint64(n))
		} else {
			dst = appendRaw(dst, elementSpaceName, a.Space)
		}
	}
	dst = appendLocal(dst, a.Local)
	if a.Value == "" {
		return end(dst, inner)
	}
	if n := wordNumbers[a.Value]; n != 0 {
		dst = appendNumber(dst, attrWord, uint64(n))
	} else if n := spaceNumbers[a.Value]; n != 0 {
		dst = appendNumber(dst, attrURI, uint64(n))
	} else {
		dst = appendValue(dst, a.Value)
	}
	return end(dst, inner)
}

// appendValue appends the value of an attribute that the dictionary does not have.
func appendValue(dst []byte, s string) []byte {
	switch len(s) {
	case uuidLen, keyLen:
		return appendID(dst, attrValue, s)
	case len(stampSeconds):
		if n, ok := parseStamp(s, stampSeconds); ok {
			return appendNumber(dst, attrSeconds, n)
		}
	case len(stampMillis):
		if n, ok := parseStamp(s, stampMillis); ok {
			return appendNumber(dst, attrMillis, n)
		}
	}
	if out, ok := appendData(dst, attrData, s); ok {
		return out
	}
	if out, ok := appendURLData(dst, attrURLData, s); ok {
		return out
	}
	return appendPresent(dst, attrValue, s)
}

// appendContent appends the nodes of an element of the given namespace: as one text, as children, or as both mixed.
func appendContent(dst []byte, nodes []stanza.Node, space string) []byte {
	text := slices.ContainsFunc(nodes, func(n stanza.Node) bool { return n.Element == nil && n.Text != "" })
	children := slices.ContainsFunc(nodes, func(n stanza.Node) bool { return n.Element != nil })
	if !children {
		all := joined(nodes)
		if len(all) <= longestWord {
			if n := wordNumbers[all]; n != 0 {
				return appendNumber(dst, elementTextWord, uint64(n))
			}
		}
		if out, ok := appendData(dst, elementData, all); ok {
			return out
		}
		return appendString(dst, elementText, all)
	}
	for i := 0; i < len(nodes); i++ {
		n := &nodes[i]
		var outer, inner int
		if n.Element != nil {
			if text {
				dst, outer = beginField(dst, elementNodes)
				dst, inner = beginField(dst, 2)
				dst = end(end(appendElement(dst, n.Element, space), inner), outer)
			} else {
				dst, inner = beginField(dst, elementChildren)
				dst = end(appendElement(dst, n.Element, space), inner)
			}
			continue
		}
		last := i + 1
		for last < len(nodes) && nodes[last].Element == nil {
			last++
		}
		if s := joined(nodes[i:last]); s != "" {
			dst, outer = beginField(dst, elementNodes)
			dst = end(appendPresent(dst, 1, s), outer)
		}
		i = last - 1
	}
	return dst
}

// joined returns the text of nodes that have nothing else.
func joined(nodes []stanza.Node) string {
	if len(nodes) == 1 {
		return nodes[0].Text
	}
	var all strings.Builder
	for i := range nodes {
		all.WriteString(nodes[i].Text)
	}
	return all.String()
}
