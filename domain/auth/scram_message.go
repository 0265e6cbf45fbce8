package auth

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

const (
	// maxMessage bounds a whole message of a mechanism, decoded.
	maxMessage = 4096
	// maxNonce bounds the client's part of the nonce.
	maxNonce = 512
)

// strictBase64 refuses line breaks within the text by decode below, and bits beyond the last byte.
var strictBase64 = base64.StdEncoding.Strict()

// Decode decodes the text of <auth/>, <challenge/> and <response/>: base64 with padding, without white space (RFC 6120
// §6.4.2 and §13.9.1); "=" stands for no bytes, "" is no data at all.
func Decode(text string) ([]byte, *Failure) {
	if text == "=" || text == "" {
		return []byte{}, nil
	}
	data, ok := decodeBase64(text)
	if !ok {
		return nil, &Failure{Condition: IncorrectEncoding}
	}
	return data, nil
}

func decodeBase64(text string) ([]byte, bool) {
	if strings.ContainsAny(text, "\r\n") { // which encoding/base64 skips
		return nil, false
	}
	data, err := strictBase64.DecodeString(text)
	return data, err == nil
}

// clientFirst is the client-first-message of RFC 5802 §7.
type clientFirst struct {
	flag    byte   // gs2-cbind-flag: 'n', 'y' or 'p'
	binding string // the type after "p="
	authzid string
	name    string
	nonce   string
	header  string // gs2-header, with its last comma
	bare    string // client-first-message-bare
}

// parseClientFirst reads strictly by the grammar of RFC 5802 §7. value is the server-error-value for a message that is
// refused.
func parseClientFirst(message string) (m clientFirst, value string) {
	if len(message) > maxMessage || !utf8.ValidString(message) || strings.IndexByte(message, 0) >= 0 {
		return m, "invalid-encoding"
	}
	flag, rest, ok := strings.Cut(message, ",")
	if !ok || flag == "" {
		return m, "other-error"
	}
	m.flag = flag[0]
	switch {
	case flag == "n" || flag == "y":
	case strings.HasPrefix(flag, "p=") && isBindingName(flag[2:]):
		m.binding = flag[2:]
	default:
		return m, "other-error"
	}
	authzid, bare, ok := strings.Cut(rest, ",")
	if !ok {
		return m, "other-error"
	}
	if authzid != "" {
		name, ok := attribute(authzid, 'a')
		if !ok {
			return m, "other-error"
		}
		if m.authzid, ok = unescapeName(name); !ok {
			return m, "invalid-encoding"
		}
	}
	m.header, m.bare = message[:len(message)-len(bare)], bare
	return m, m.parseBare()
}

// parseBare reads the client-first-message-bare: the name, the nonce and extensions, which are optional and ignored.
func (m *clientFirst) parseBare() (value string) {
	name, rest, ok := strings.Cut(m.bare, ",")
	if strings.HasPrefix(name, "m=") {
		return "extensions-not-supported" // a mandatory extension (§5.1)
	}
	encoded, isName := attribute(name, 'n')
	if !ok || !isName {
		return "other-error"
	}
	if m.name, ok = unescapeName(encoded); !ok {
		return "invalid-username-encoding"
	}
	nonce, extensions, extended := strings.Cut(rest, ",")
	if m.nonce, ok = attribute(nonce, 'r'); !ok || !isNonce(m.nonce) {
		return "other-error"
	}
	if extended && !areExtensions(extensions) {
		return "other-error"
	}
	return ""
}

// clientFinal is the client-final-message of RFC 5802 §7.
type clientFinal struct {
	binding      []byte // cbind-input
	nonce        string
	proof        []byte
	withoutProof string
}

// parseClientFinal reads strictly by the grammar of RFC 5802 §7, as parseClientFirst does.
func parseClientFinal(message string) (m clientFinal, value string) {
	if len(message) > maxMessage || !utf8.ValidString(message) || strings.IndexByte(message, 0) >= 0 {
		return m, "invalid-encoding"
	}
	last := strings.LastIndexByte(message, ',')
	if last < 0 {
		return m, "other-error"
	}
	m.withoutProof = message[:last]
	proof, ok := attribute(message[last+1:], 'p')
	if !ok {
		return m, "other-error"
	}
	if m.proof, ok = decodeBase64(proof); !ok {
		return m, "invalid-encoding"
	}
	first, rest, ok := strings.Cut(m.withoutProof, ",")
	if strings.HasPrefix(first, "m=") {
		return m, "extensions-not-supported"
	}
	binding, isBinding := attribute(first, 'c')
	if !ok || !isBinding {
		return m, "other-error"
	}
	if m.binding, ok = decodeBase64(binding); !ok {
		return m, "invalid-encoding"
	}
	nonce, extensions, extended := strings.Cut(rest, ",")
	if m.nonce, ok = attribute(nonce, 'r'); !ok {
		return m, "other-error"
	}
	if extended && !areExtensions(extensions) {
		return m, "other-error"
	}
	return m, ""
}

// attribute returns the value of an attribute of that letter; there must be one.
func attribute(text string, letter byte) (value string, ok bool) {
	if len(text) < 3 || text[0] != letter || text[1] != '=' {
		return "", false
	}
	return text[2:], true
}

// unescapeName decodes a saslname: =2C is a comma, =3D an equals sign, and there is no other use of the equals sign.
func unescapeName(text string) (string, bool) {
	if strings.IndexByte(text, '=') < 0 {
		return text, len(text) <= maxField
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "=")
		b.WriteString(before)
		switch {
		case !found:
			return b.String(), b.Len() <= maxField
		case strings.HasPrefix(after, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(after, "3D"):
			b.WriteByte('=')
		default:
			return "", false
		}
		text = after[2:]
	}
}

// isNonce reports whether a nonce is made of printable ASCII without commas and is neither empty, which
// would let an exchange be replayed (CVE-2022-48195), nor huge.
func isNonce(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' || s[i] == ',' {
			return false
		}
	}
	return s != "" && len(s) <= maxNonce
}

// isBindingName reports whether s is a cb-name.
func isBindingName(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// areExtensions reports whether text is a list of optional extensions: letters that RFC 5802 has no use for, with
// values.
func areExtensions(text string) bool {
	for field := range strings.SplitSeq(text, ",") {
		if len(field) < 3 || field[1] != '=' {
			return false
		}
		if c := field[0]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') || strings.IndexByte("acemnprsiv", c) >= 0 {
			return false
		}
	}
	return true
}
