package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/wire/stanza"
)

const (
	// usualBody is how large the body of a request may be, in bytes, unless its operation says otherwise: the
	// passwords and names that it may carry fit. What a body costs grows with it, before anything is known of who sent
	// it.
	usualBody = 8 << 10
	// contactBody is enough for the groups of a contact, messageBody for the longest message, whatever is escaped.
	contactBody = 128 << 10
	messageBody = 512 << 10
	// maxDepth is how deep JSON may be nested.
	maxDepth = 32
)

// readBody replaces the body of a request by what it holds, when that is of the type and within the bounds. It sees to
// what encoding/json would let pass: names that come twice, of which it keeps the last, and text that no stanza can
// carry.
func readBody(w http.ResponseWriter, r *http.Request, rt *route, within time.Duration) *Problem {
	mediaType := rt.mediaType()
	if len(r.Header["Content-Encoding"]) > 0 {
		return problem(CodeMediaType, "Bodies are not compressed.")
	}
	got, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || got != mediaType || params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8") {
		return problem(CodeMediaType, "The body has to be of type "+mediaType+".")
	}
	r.Header.Set("Content-Type", mediaType) // huma compares the text
	// The deadline is taken back only when all was read: net/http reads on after a refusal, and must not wait for ever
	// then.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(within)) // a connection without deadlines is a test's
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, rt.mostBody()))
	if err == nil {
		_ = control.SetReadDeadline(time.Time{})
	}
	var tooLarge *http.MaxBytesError
	var timeout net.Error
	switch {
	case errors.As(err, &tooLarge):
		return problem(CodeTooLarge, "")
	case errors.As(err, &timeout) && timeout.Timeout():
		return problem(CodeTimeout, "")
	case err != nil:
		return problem(CodeBadRequest, "The body could not be read to its end.")
	}
	if mediaType == "application/json" {
		if p := checkJSON(body); p != nil {
			return p
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	return nil
}

// checkJSON holds a document to RFC 8259, to the bounds, to one use of each name in an object (RFC 7493 §2.3), and to
// text that is text: of half a surrogate pair, encoding/json would make another character.
func checkJSON(text []byte) *Problem {
	if !utf8.Valid(text) {
		return problem(CodeInvalidJSON, "The body is not UTF-8.")
	}
	if !json.Valid(text) {
		return problem(CodeInvalidJSON, "")
	}
	k := checker{text: text}
	return k.value("body", 0)
}

// checker walks through a document that is known to be valid JSON.
type checker struct {
	text []byte
	at   int
}

// next returns the next byte that is not white space.
func (k *checker) next() byte {
	for {
		switch c := k.text[k.at]; c {
		case ' ', '\t', '\r', '\n':
			k.at++
		default:
			return c
		}
	}
}

func (k *checker) value(where string, depth int) *Problem {
	switch c := k.next(); c {
	case '{', '[':
		if depth++; depth > maxDepth {
			return problem(CodeInvalidJSON, "The body is nested too deeply.")
		}
		k.at++
		if c == '{' {
			return k.object(where, depth)
		}
		return k.array(where, depth)
	case '"':
		_, p := k.string(where)
		return p
	default:
		return k.scalar(where)
	}
}

func (k *checker) array(where string, depth int) *Problem {
	for i := 0; ; i++ {
		switch k.next() {
		case ']':
			k.at++
			return nil
		case ',':
			k.at++
		}
		// the element's place is for people, who do not count far
		inside := where + "[…]"
		if i < 100 {
			inside = where + "[" + strconv.Itoa(i) + "]"
		}
		if p := k.value(shorter(inside, where), depth); p != nil {
			return p
		}
	}
}

func (k *checker) object(where string, depth int) *Problem {
	seen := map[string]bool{}
	for {
		switch k.next() {
		case '}':
			k.at++
			return nil
		case ',':
			k.at++
			k.next()
		}
		name, p := k.string(where)
		if p != nil {
			return p
		}
		if seen[name] {
			return problem(CodeInvalidJSON, "A name stands twice in one object.")
		}
		seen[name] = true
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			// No field has such a name, and encoding/json would take it for one that differs in case only.
			return wrongField(where, "it has a field that there is not")
		}
		k.next()
		k.at++ // the colon
		if p := k.value(shorter(where+"."+name, where), depth); p != nil {
			return p
		}
	}
}

// shorter returns a place in the document, or the one around it where that would be too long.
func shorter(inside, around string) string {
	if len(inside) > 200 {
		return around
	}
	return inside
}

// string reads a string and checks that a stanza can carry it.
func (k *checker) string(where string) (string, *Problem) {
	begin := k.at
	escaped := false
	for k.at++; k.text[k.at] != '"'; k.at++ {
		if k.text[k.at] == '\\' {
			escaped = true
			k.at++
		}
	}
	k.at++
	text := string(k.text[begin+1 : k.at-1])
	if escaped {
		if halfPair(text) {
			return "", wrongField(where, "it has half of a surrogate pair")
		}
		if json.Unmarshal(k.text[begin:k.at], &text) != nil {
			return "", problem(CodeInvalidJSON, "")
		}
	}
	if !stanza.ValidText(text) {
		return "", wrongField(where, "it has characters that XML cannot carry")
	}
	return text, nil
}

// halfPair reports whether an escape in a JSON string is half of a surrogate pair without the other half (RFC 8259
// §8.2).
func halfPair(text string) bool {
	high := false // the escape before was the first half
	for {
		before, after, found := strings.Cut(text, `\`)
		if high && (!found || before != "" || after[0] != 'u') {
			return true
		}
		if !found {
			return false
		}
		if after[0] != 'u' {
			text = after[1:]
			continue
		}
		n, _ := strconv.ParseUint(after[1:5], 16, 16) // it is valid JSON
		switch {
		case n>>10 == 0xd800>>10 && !high:
			high = true
		case n>>10 == 0xdc00>>10 && high:
			high = false
		case n>>11 == 0xd800>>11 || high:
			return true
		}
		text = after[5:]
	}
}

// scalar passes over a number, true, false or null.
func (k *checker) scalar(where string) *Problem {
	begin := k.at
	for k.at < len(k.text) && !strings.ContainsRune(" \t\r\n,]}", rune(k.text[k.at])) {
		k.at++
	}
	if c := k.text[begin]; c == '-' || c >= '0' && c <= '9' {
		if _, err := strconv.ParseFloat(string(k.text[begin:k.at]), 64); err != nil {
			return wrongField(where, "the number is too large")
		}
	}
	return nil
}
