package pbstream

import (
	"encoding/base64"
	"encoding/hex"
	"time"
)

// Identifiers are nearly always 16 bytes in one of two disguises. The bytes go over the wire when the text that they
// stand for is exactly the text that there was.

const (
	uuidLen = 36 // RFC 9562 §4: 8-4-4-4-12 hexadecimal digits; here in lower case
	keyLen  = 22 // 16 bytes in base64url without padding (RFC 4648 §5)
)

// nibbles gives the value of each lower-case hexadecimal digit, 0xFF for what is none. A constant table.
var nibbles = table("0123456789abcdef")

// sextets does the same for base64url. A constant table.
var sextets = table("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")

func table(digits string) (t [256]uint8) {
	for i := range t {
		t[i] = 0xFF
	}
	for i := range len(digits) {
		t[digits[i]] = uint8(i)
	}
	return t
}

// uuidGroups are the places of a UUID's text at which pairs of digits begin.
var uuidGroups = [16]uint8{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34}

// parseUUID returns the bytes of a UUID in its usual text.
func parseUUID(s string) (out [16]byte, ok bool) {
	if len(s) != uuidLen || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return out, false
	}
	for i, at := range uuidGroups {
		high, low := nibbles[s[at]], nibbles[s[at+1]]
		if high|low > 0x0F {
			return out, false
		}
		out[i] = high<<4 | low
	}
	return out, true
}

// formatUUID is the inverse of parseUUID; b has 16 bytes.
func formatUUID(b string) (out [uuidLen]byte) {
	var src [16]byte
	copy(src[:], b)
	hex.Encode(out[0:8], src[0:4])
	hex.Encode(out[9:13], src[4:6])
	hex.Encode(out[14:18], src[6:8])
	hex.Encode(out[19:23], src[8:10])
	hex.Encode(out[24:36], src[10:16])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return out
}

// parseKey returns the 16 bytes of a text in base64url, of which the four bits that are left over are zero.
func parseKey(s string) (out [16]byte, ok bool) {
	if len(s) != keyLen {
		return out, false
	}
	all := uint8(0) // no sextet has its upper bits set
	for i := range 5 {
		a, b, c, d := sextets[s[4*i]], sextets[s[4*i+1]], sextets[s[4*i+2]], sextets[s[4*i+3]]
		all |= a | b | c | d
		out[3*i], out[3*i+1], out[3*i+2] = a<<2|b>>4, b<<4|c>>2, c<<6|d
	}
	a, b := sextets[s[20]], sextets[s[21]]
	out[15] = a<<2 | b>>4
	return out, (all|a|b) < 64 && b&0x0F == 0
}

// formatKey is the inverse of parseKey; b has 16 bytes.
func formatKey(b string) (out [keyLen]byte) {
	var src [16]byte
	copy(src[:], b)
	base64.RawURLEncoding.Encode(out[:], src[:])
	return out
}

// What is read as base64 is the only text of its bytes. Constant.
var (
	strict    = base64.StdEncoding.Strict()
	strictURL = base64.RawURLEncoding.Strict()
)

// leastData is how long a text must be to be looked at as base64.
const leastData = 8

// appendData appends a text as the bytes of which it is the only base64, with padding (RFC 4648 §4). When it is none,
// dst is returned as it was.
func appendData(dst []byte, field uint32, s string) ([]byte, bool) {
	if len(s) < leastData || len(s)%4 != 0 {
		return dst, false
	}
	for i := range len(s) - 2 {
		if c := s[i]; (c|0x20 < 'a' || c|0x20 > 'z') && (c < '/' || c > '9') && c != '+' {
			return dst, false
		}
	}
	return appendDecoded(dst, field, s, strict)
}

// appendURLData is appendData for base64url without padding (RFC 4648 §5).
func appendURLData(dst []byte, field uint32, s string) ([]byte, bool) {
	if len(s) < leastData || len(s)%4 == 1 {
		return dst, false
	}
	for i := range len(s) {
		if sextets[s[i]] == 0xFF {
			return dst, false
		}
	}
	return appendDecoded(dst, field, s, strictURL)
}

func appendDecoded(dst []byte, field uint32, s string, encoding *base64.Encoding) ([]byte, bool) {
	out, start := beginField(dst, field)
	out, err := encoding.AppendDecode(out, []byte(s))
	if err != nil {
		return dst, false
	}
	return end(out, start), true
}

// The two usual texts of a DateTime (XEP-0082 §3.2) in UTC.
const (
	stampMillis  = "2006-01-02T15:04:05.000Z"
	stampSeconds = "2006-01-02T15:04:05Z"
	// maxSeconds is the last second of the year 9999, after which the text would be longer.
	maxSeconds = 253402300799
	maxMillis  = maxSeconds*1000 + 999
)

// parseStamp returns the time that s stands for since 1970, in the unit of the form that it has.
func parseStamp(s, form string) (uint64, bool) {
	if len(s) != len(form) {
		return 0, false
	}
	digit := func(c byte) bool { return c-'0' < 10 }
	for i := range len(form) {
		if digit(form[i]) != digit(s[i]) || !digit(s[i]) && s[i] != form[i] {
			return 0, false
		}
	}
	two := func(at int) int { return int(s[at]-'0')*10 + int(s[at+1]-'0') }
	year, month, day := two(0)*100+two(2), time.Month(two(5)), two(8)
	hour, minute, second := two(11), two(14), two(17)
	t := time.Date(year, month, day, hour, minute, second, 0, time.UTC)
	if y, m, d := t.Date(); y != year || m != month || d != day || hour > 23 || minute > 59 || second > 59 {
		return 0, false // there is no such day or time
	}
	n := t.Unix()
	if n < 0 {
		return 0, false
	}
	if form == stampMillis {
		n = n*1000 + int64(two(20))*10 + int64(s[22]-'0')
	}
	return uint64(n), true
}

// formatMillis is the inverse of parseStamp for stampMillis.
func formatMillis(n uint64) string { return time.UnixMilli(int64(n)).UTC().Format(stampMillis) }

// formatSeconds is the inverse of parseStamp for stampSeconds.
func formatSeconds(n uint64) string { return time.Unix(int64(n), 0).UTC().Format(stampSeconds) }
