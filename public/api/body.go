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
	// maxBody is the largest body of a request, in bytes.
	maxBody = 1 << 20
	// maxDepth is how deep JSON may be nested.
	maxDepth = 32
)

// readBody replaces the body of a request by what it holds, when that is of the type and within the bounds. It sees to
// what encoding/json would let pass: names that come twice, of which it keeps the last, and text that no stanza can
// carry.
func readBody(w http.ResponseWriter, r *http.Request, mediaType string, within time.Duration) *Problem {
	if len(r.Header["Content-Encoding"]) > 0 {
		return problem(CodeMediaType, "Bodies are not compressed.")
	}
	got, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || got != mediaType || params["charset"] != "" && params["charset"] != "utf-8" &&
		params["charset"] != "UTF-8" {
		return problem(CodeMediaType, "The body has to be of type "+mediaType+".")
	}
	// The deadline is taken back only when all was read: net/http reads on after a refusal, and must not wait for ever
	// then.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(within)) // a connection without deadlines is a test's
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
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

// checkJSON holds a document to RFC 8259, to the bounds, and to one use of each name in an object (RFC 7493 §2.3).
func checkJSON(text []byte) *Problem {
	if !utf8.Valid(text) {
		return problem(CodeInvalidJSON, "The body is not UTF-8.")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	k := checker{d}
	if p := k.value("body", 0); p != nil {
		return p
	}
	if _, err := d.Token(); err != io.EOF {
		return problem(CodeInvalidJSON, "The body goes on after its end.")
	}
	return nil
}

type checker struct{ *json.Decoder }

func (k checker) value(where string, depth int) *Problem {
	t, err := k.Token()
	if err != nil {
		return problem(CodeInvalidJSON, "")
	}
	switch t := t.(type) {
	case string:
		if !stanza.ValidText(t) {
			return wrongField(where, "it has characters that XML cannot carry")
		}
	case json.Number:
		if f, err := t.Float64(); err != nil || f != f {
			return wrongField(where, "the number is too large")
		}
	case json.Delim:
		if depth++; depth > maxDepth {
			return problem(CodeInvalidJSON, "The body is nested too deeply.")
		}
		if t == '{' {
			return k.object(where, depth)
		}
		for i := 0; k.More(); i++ {
			if p := k.value(where+"["+strconv.Itoa(i)+"]", depth); p != nil {
				return p
			}
		}
		if _, err := k.Token(); err != nil {
			return problem(CodeInvalidJSON, "")
		}
	}
	return nil
}

func (k checker) object(where string, depth int) *Problem {
	seen := map[string]bool{}
	for k.More() {
		t, err := k.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return problem(CodeInvalidJSON, "")
		}
		if seen[name] {
			return problem(CodeInvalidJSON, "A name stands twice in one object.")
		}
		seen[name] = true
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			// No field has such a name, and encoding/json would take it for one that differs in case only.
			return wrongField(where, "it has a field that there is not")
		}
		inside := where + "." + name
		if len(inside) > 200 {
			inside = where // the path is for people
		}
		if p := k.value(inside, depth); p != nil {
			return p
		}
	}
	if _, err := k.Token(); err != nil {
		return problem(CodeInvalidJSON, "")
	}
	return nil
}
