package pbstream

import (
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// The stream errors that a decoder raises.

func malformed(text string) *stream.Error   { return stream.Fail(stream.BadFormat, text) }
func unspeakable(what string) *stream.Error { return stream.Fail(stream.NotWellFormed, what) }
func tooMany(text string) *stream.Error     { return stream.Fail(stream.PolicyViolation, text) }

// tooBig has the application condition that the XML decoder gives.
func tooBig() *stream.Error {
	app := stanza.New("urn:xmpp:errors", "stanza-too-big")
	return &stream.Error{Condition: stream.PolicyViolation, Text: "frame has too many bytes", App: &app}
}

// reader takes the fields of one message one after the other. After the first error it gives none.
//
// It is stricter than Protocol Buffers ask: a field that is not repeated may be there once, a oneof may be set once, a
// known field has its own wire type, and numbers must fit. What it accepts, it understands as every other decoder does.
type reader struct {
	s    string
	i    int
	seen uint64 // fields that have been there, by number

	// The current field.
	num  uint32
	wire uint8
	val  uint64 // of a varint
	data string // of anything with a length

	err *stream.Error
}

// next moves to the next field.
func (r *reader) next() bool {
	s, i := r.s, r.i
	if r.err != nil || i == len(s) {
		return false
	}
	if i+1 < len(s) && s[i] < 0x80 && s[i] >= 8 && s[i+1] < 0x80 { // nearly always
		switch n := int(s[i+1]); s[i] & 7 {
		case lengthType:
			if rest := s[i+2:]; n <= len(rest) {
				r.num, r.wire, r.data, r.i = uint32(s[i]>>3), lengthType, rest[:n], i+2+n
				return true
			}
		case varintType:
			r.num, r.wire, r.val, r.i = uint32(s[i]>>3), varintType, uint64(n), i+2
			return true
		}
	}
	return r.any()
}

// any is next for every field.
func (r *reader) any() bool {
	tag := r.varint()
	r.wire = uint8(tag & 7)
	if tag>>3 == 0 || tag > 1<<32-1 {
		return r.fail("field number out of range")
	}
	r.num = uint32(tag >> 3)
	switch r.wire {
	case varintType:
		r.val = r.varint()
	case lengthType:
		n := r.varint()
		if r.err == nil && n > uint64(len(r.s)-r.i) {
			return r.fail("field is longer than what holds it")
		}
		if r.err == nil {
			r.data = r.s[r.i : r.i+int(n)]
			r.i += int(n)
		}
	case fixed32, fixed64:
		n := 4
		if r.wire == fixed64 {
			n = 8
		}
		if len(r.s)-r.i < n {
			return r.fail("field is longer than what holds it")
		}
		r.i += n
	default: // groups, which nothing needs to understand any more
		return r.fail("wire type that is not used")
	}
	return r.err == nil
}

func (r *reader) fail(text string) bool {
	if r.err == nil {
		r.err = malformed(text)
	}
	return false
}

// varint reads a number of at most 64 bits in at most ten bytes.
func (r *reader) varint() uint64 {
	if r.i < len(r.s) && r.s[r.i] < 0x80 {
		r.i++
		return uint64(r.s[r.i-1])
	}
	var n uint64
	for shift := uint(0); shift < 70; shift += 7 {
		if r.i == len(r.s) {
			r.fail("number is not finished")
			return 0
		}
		c := r.s[r.i]
		r.i++
		if shift == 63 && c > 1 {
			break
		}
		n |= uint64(c&0x7F) << shift
		if c < 0x80 {
			return n
		}
	}
	r.fail("number is too long")
	return 0
}

// claim notes that the current field was there; none of those in mask may have been, itself included.
func (r *reader) claim(wire uint8, mask uint64) bool {
	if r.wire != wire {
		return r.fail("field of another wire type")
	}
	if r.seen&mask != 0 {
		return r.fail("field that may be there once is there twice")
	}
	r.seen |= 1 << r.num
	return true
}

// str returns the current field, which may be there once.
func (r *reader) str() string {
	if !r.claim(lengthType, 1<<r.num) {
		return ""
	}
	return r.data
}

// choice returns the current field, of which and of the others in mask there may be one.
func (r *reader) choice(mask uint64) string {
	if !r.claim(lengthType, mask) {
		return ""
	}
	return r.data
}

// many reports whether the current field, which may be repeated, is of the right wire type.
func (r *reader) many() bool {
	if r.wire != lengthType {
		return r.fail("field of another wire type")
	}
	return true
}

// uint returns the current field, a number of at most most.
func (r *reader) uint(most uint64) uint64 { return r.choiceUint(1<<r.num, most) }

// choiceUint is uint for a field of a oneof.
func (r *reader) choiceUint(mask uint64, most uint64) uint64 {
	if !r.claim(varintType, mask) {
		return 0
	}
	if r.val > most {
		r.fail("number out of range")
		return 0
	}
	return r.val
}

// bool returns the current field.
func (r *reader) bool() bool { return r.uint(1) == 1 }

// has reports whether a field was there.
func (r *reader) has(num uint32) bool { return r.seen&(1<<num) != 0 }

// value returns the name for a number of an enumeration or dictionary. 0 has none.
func value[T ~string](r *reader, list []T, n uint64) T {
	if n == 0 || n >= uint64(len(list)) {
		r.fail("number that this schema does not have")
		return ""
	}
	return list[n]
}
