package xmlstream

import (
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Classes of bytes. A byte without the class in question needs a closer look.
const (
	plainText  = 1 << iota // stands for itself in text
	plainValue             // stands for itself in an attribute value; quotes do not have it
	plainData              // stands for itself in a CDATA section
	startName              // ASCII that may start a name
	inName                 // ASCII that may continue a name; the colon has neither
	space                  // white space, production 3 of XML 1.0
	writeText              // is written as it is in text
	writeValue             // is written as it is in an attribute value
)

// class is a constant table.
var class = func() (t [256]uint8) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		t[c] = plainText | plainValue | plainData | writeText | writeValue
		if stanza.IsNameStart(rune(c)) {
			t[c] |= startName
		}
		if stanza.IsNameChar(rune(c)) {
			t[c] |= inName
		}
	}
	t['\t'] = plainText | plainData | space | writeText
	t['\n'] = plainText | plainData | space | writeText
	t['\r'] = space
	t[' '] |= space
	t['&'] &^= plainText | plainValue | writeText | writeValue
	t['<'] &^= plainText | plainValue | writeText | writeValue
	t['>'] &^= plainText | plainData | writeText
	t['\''] &^= plainValue | writeValue
	t['"'] &^= plainValue
	return t
}()

// errMore is returned where bytes are missing; it never leaves the package.
var errMore = new(stream.Error)

// The stream errors of RFC 6120 §4.9.3 that a tokenizer raises.

func malformed(text string) *stream.Error  { return stream.Fail(stream.NotWellFormed, text) }
func restricted(text string) *stream.Error { return stream.Fail(stream.RestrictedXML, text) }
func tooMany(text string) *stream.Error    { return stream.Fail(stream.PolicyViolation, text) }

// tooBig adds the application condition of XEP-0205 §4 style that tells which policy it was.
func tooBig() *stream.Error {
	app := stanza.New("urn:xmpp:errors", "stanza-too-big")
	return &stream.Error{Condition: stream.PolicyViolation, Text: "element has too many bytes", App: &app}
}

// charLen returns the length of the character beyond ASCII at the start of b, errMore when b ends within it.
func charLen(b []byte) (int, *stream.Error) {
	// The common case of two bytes, and of three that are neither surrogates, overlong nor U+FFFE and U+FFFF.
	if c := b[0]; c >= 0xC2 && c < 0xE0 {
		if len(b) >= 2 && b[1]&0xC0 == 0x80 {
			return 2, nil
		}
	} else if c > 0xE0 && c < 0xED && len(b) >= 3 && b[1]&0xC0 == 0x80 && b[2]&0xC0 == 0x80 {
		return 3, nil
	}
	if !utf8.FullRune(b) {
		return 0, errMore
	}
	r, n := utf8.DecodeRune(b)
	if r == utf8.RuneError && n == 1 {
		return 0, stream.Fail(stream.UnsupportedEncoding, "bytes are not UTF-8")
	}
	if !stanza.IsChar(r) {
		return 0, malformed("character that XML does not allow")
	}
	return n, nil
}

// scanName reads a qualified name at b[i:] (Namespaces in XML production 7), which has at most the given number of
// colons. It returns where the name ends and where its colon is, -1 for none. The byte after the name must be there
// already.
func scanName(b []byte, i, limit, colons int) (end, colon int, err *stream.Error) {
	start := i
	colon = -1
	// Nothing beyond the limit is looked at, so that the error does not depend on how the bytes arrived.
	window := b
	if len(b)-start > limit+1 {
		window = b[:start+limit+1]
	}
	first := true
	for i < len(window) {
		c := window[i]
		switch {
		case class[c]&inName != 0:
			if first && class[c]&startName == 0 {
				return 0, 0, malformed("character that cannot start a name")
			}
			first = false
			i++
		case c == ':':
			if first || colons == 0 {
				return 0, 0, malformed("name with a misplaced colon")
			}
			colon, first = i, true
			colons--
			i++
		case c >= utf8.RuneSelf:
			n, err := charLen(b[i:])
			if err != nil {
				return 0, 0, err
			}
			r, _ := utf8.DecodeRune(b[i:])
			if first && !stanza.IsNameStart(r) || !stanza.IsNameChar(r) {
				return 0, 0, malformed("character that cannot be in a name")
			}
			first = false
			i += n
		default:
			if first {
				return 0, 0, malformed("name expected")
			}
			if i-start > limit {
				return 0, 0, tooMany("name is too long")
			}
			return i, colon, nil
		}
	}
	if i-start > limit {
		return 0, 0, tooMany("name is too long")
	}
	return 0, 0, errMore
}

// maxReference bounds the bytes of a character reference, so that an unfinished one is cheap to read again.
const maxReference = 16

// reference reads the entity or character reference at the start of b (XML 1.0 §4.1). It returns the character and
// the number of bytes that the reference takes.
func reference(b []byte, limit int) (rune, int, *stream.Error) {
	if len(b) < 2 {
		return 0, 0, errMore
	}
	if b[1] == '#' {
		return charReference(b)
	}
	end, _, err := scanName(b, 1, limit, 0)
	if err != nil {
		return 0, 0, err
	}
	if b[end] != ';' {
		return 0, 0, malformed("reference without a semicolon")
	}
	switch string(b[1:end]) {
	case "amp":
		return '&', end + 1, nil
	case "lt":
		return '<', end + 1, nil
	case "gt":
		return '>', end + 1, nil
	case "quot":
		return '"', end + 1, nil
	case "apos":
		return '\'', end + 1, nil
	}
	return 0, 0, restricted("entity reference other than the five of XML") // RFC 6120 §11.1
}

func charReference(b []byte) (rune, int, *stream.Error) {
	i, base := 2, rune(10)
	if len(b) > 2 && b[2] == 'x' {
		i, base = 3, 16
	}
	var r rune
	for first := i; i < len(b); i++ {
		c := b[i]
		if c == ';' && i > first {
			if !stanza.IsChar(r) {
				return 0, 0, malformed("reference to a character that XML does not allow")
			}
			return r, i + 1, nil
		}
		d := digit(c)
		if d < 0 || d >= base {
			return 0, 0, malformed("malformed character reference")
		}
		if r = r*base + d; r > utf8.MaxRune {
			return 0, 0, malformed("reference to a character that does not exist")
		}
		if i == maxReference {
			return 0, 0, tooMany("character reference is too long")
		}
	}
	return 0, 0, errMore
}

func digit(c byte) rune {
	switch {
	case '0' <= c && c <= '9':
		return rune(c - '0')
	case 'a' <= c && c <= 'f':
		return rune(c - 'a' + 10)
	case 'A' <= c && c <= 'F':
		return rune(c - 'A' + 10)
	}
	return -1
}

// starts reports whether b starts with want, and whether it may still do so once more bytes are there.
func starts(b []byte, want string) (yes, maybe bool) {
	if len(b) >= len(want) {
		yes = string(b[:len(want)]) == want
		return yes, yes
	}
	return false, string(b) == want[:len(b)]
}

// noMarkup returns the error for b, which starts with "<!" or "<?" where neither may be, or errMore.
func noMarkup(b []byte) *stream.Error {
	if b[1] == '?' {
		return noInstruction(b[2:])
	}
	for _, want := range [...]string{"<!--", "<!D"} { // the latter can only become <!DOCTYPE
		yes, maybe := starts(b, want)
		if yes {
			return restricted("comment or document type declaration")
		}
		if maybe {
			return errMore
		}
	}
	return malformed("unknown markup")
}

// noInstruction tells an XML declaration that is not at the start of the document, which is malformed,
// from a processing instruction, which RFC 6120 §11.1 forbids.
func noInstruction(target []byte) *stream.Error {
	for i, c := range target {
		name := class[c]&inName != 0 || c == ':' || c >= utf8.RuneSelf
		switch {
		case i == 0 && (!name || class[c]&(inName|startName) == inName):
			return malformed("name of a processing instruction expected")
		case i == 3 && !name:
			return malformed("XML declaration not at the start of the stream")
		case i == 3 || c|0x20 != "xml"[i]:
			return restricted("processing instruction")
		}
	}
	return errMore
}
