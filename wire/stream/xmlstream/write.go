package xmlstream

import (
	"strconv"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/wire/stanza"
)

// The canonical form: single quotes, a namespace declared as the default where it changes and nowhere else, attributes
// of a namespace under the prefix that their place in the element gives them, an empty-element tag for an element
// without content, escapes only where they are needed.
//
// Whatever is in the tree, the output is well-formed XML that says no more than the tree does: a character that XML
// cannot carry is written as U+FFFD, an element name that is no name as an underscore; an attribute that has no name,
// or that is there twice, is left out. None of this comes from the decoder, and codecs that could let it in call
// Validate of package stanza.

// appendElement appends e where the namespace inherited is the default.
func appendElement(dst []byte, e *stanza.Element, inherited string) []byte {
	dst = append(dst, '<')
	inherited, dst = appendStart(dst, e, inherited)
	return appendRest(dst, e, inherited, "")
}

// appendStart appends the element's name and the declaration that it needs; it returns the default namespace of its
// content.
func appendStart(dst []byte, e *stanza.Element, inherited string) (string, []byte) {
	if e.Space == stanza.NSXML { // the one namespace that cannot be a default
		dst = append(dst, "xml:"...)
		return inherited, appendName(dst, e.Local)
	}
	dst = appendName(dst, e.Local)
	if e.Space == inherited {
		return inherited, dst
	}
	if e.Space == stanza.NSXMLNS { // nothing can be in it
		return "", appendNamespace(dst, " xmlns='", "")
	}
	return e.Space, appendNamespace(dst, " xmlns='", e.Space)
}

// appendNamespace appends the declaration that starts with the given text.
func appendNamespace(dst []byte, start, space string) []byte {
	dst = append(dst, start...)
	dst = appendValue(dst, space)
	return append(dst, '\'')
}

// appendRest appends what follows the start of a start tag, up to the end of the element.
func appendRest(dst []byte, e *stanza.Element, inherited, prefix string) []byte {
	for i := range e.Attrs {
		a := &e.Attrs[i]
		if !writable(e.Attrs, i) {
			continue
		}
		if a.Space == "" {
			dst = appendAttr(dst, a.Local, a.Value)
		} else {
			dst = appendForeign(dst, e.Attrs, i)
		}
	}
	if len(e.Nodes) == 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	for i := range e.Nodes {
		if n := &e.Nodes[i]; n.Element != nil {
			dst = appendElement(dst, n.Element, inherited)
		} else {
			dst = appendText(dst, n.Text)
		}
	}
	dst = append(dst, "</"...)
	dst = append(dst, prefix...)
	if e.Space == stanza.NSXML {
		dst = append(dst, "xml:"...)
	}
	dst = appendName(dst, e.Local)
	return append(dst, '>')
}

// writable reports whether attrs[i] can be written: it has a name, which none before it has, and is no declaration.
func writable(attrs []stanza.Attr, i int) bool {
	a := &attrs[i]
	for j := range i {
		if b := &attrs[j]; b.Local == a.Local && b.Space == a.Space {
			return false
		}
	}
	if a.Space == "" {
		return a.Local != "xmlns" && isName(a.Local)
	}
	return a.Space != stanza.NSXMLNS && isName(a.Local)
}

// appendAttr appends an attribute without namespace, whose name is a name.
func appendAttr(dst []byte, local, value string) []byte {
	dst = append(dst, ' ')
	dst = append(dst, local...)
	dst = append(dst, "='"...)
	dst = appendValue(dst, value)
	return append(dst, '\'')
}

// appendForeign appends attrs[i], which has a namespace. The first attribute of a namespace declares its prefix.
func appendForeign(dst []byte, attrs []stanza.Attr, i int) []byte {
	a := &attrs[i]
	dst = append(dst, ' ')
	switch a.Space {
	case stanza.NSXML:
		dst = append(dst, "xml:"...)
	default:
		first := 0
		for attrs[first].Space != a.Space || !writable(attrs, first) {
			first++
		}
		if first == i {
			dst = append(dst, "xmlns:a"...)
			dst = strconv.AppendInt(dst, int64(first), 10)
			dst = appendNamespace(dst, "='", a.Space)
			dst = append(dst, ' ')
		}
		dst = append(dst, 'a')
		dst = strconv.AppendInt(dst, int64(first), 10)
		dst = append(dst, ':')
	}
	dst = append(dst, a.Local...)
	dst = append(dst, "='"...)
	dst = appendValue(dst, a.Value)
	return append(dst, '\'')
}

// appendName appends an element's local name.
func appendName(dst []byte, name string) []byte {
	if !isName(name) {
		return append(dst, '_')
	}
	return append(dst, name...)
}

// isName is stanza.ValidName, quicker for ASCII.
func isName(name string) bool {
	if name == "" || class[name[0]]&startName == 0 {
		return stanza.ValidName(name)
	}
	for i := 1; i < len(name); i++ {
		if class[name[i]]&inName == 0 {
			return stanza.ValidName(name)
		}
	}
	return true
}

// appendText appends character data. A ">" is escaped only where it could end "]]>".
func appendText(dst []byte, s string) []byte {
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if class[c]&writeText != 0 || c == '>' && i > 0 && s[i-1] != ']' {
			i++
			continue
		}
		esc, n := escape(s[i:])
		if esc != "" {
			dst = append(dst, s[done:i]...)
			dst = append(dst, esc...)
			done = i + n
		}
		i += n
	}
	return append(dst, s[done:]...)
}

// appendValue appends an attribute's value between single quotes. White space other than blanks is written as
// references, because a reader makes it blanks otherwise (XML 1.0 §3.3.3).
func appendValue(dst []byte, s string) []byte {
	done := 0
	for i := 0; i < len(s); {
		if class[s[i]]&writeValue != 0 {
			i++
			continue
		}
		esc, n := escape(s[i:])
		if esc != "" {
			dst = append(dst, s[done:i]...)
			dst = append(dst, esc...)
			done = i + n
		}
		i += n
	}
	return append(dst, s[done:]...)
}

const replacement = "\uFFFD"

// escape returns what to write for the character at the start of s, "" for itself, and its length.
func escape(s string) (string, int) {
	switch s[0] {
	case '&':
		return "&amp;", 1
	case '<':
		return "&lt;", 1
	case '>':
		return "&gt;", 1
	case '\'':
		return "&#39;", 1
	case '\t':
		return "&#9;", 1
	case '\n':
		return "&#10;", 1
	case '\r':
		return "&#13;", 1
	}
	if s[0] < utf8.RuneSelf {
		return replacement, 1
	}
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && n == 1 || !stanza.IsChar(r) {
		return replacement, n
	}
	return "", n
}
