package pebble

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/posthouse-im/posthouse/store"
)

// journal is what the indexes need of a batch.
type journal struct {
	number    uint64 // of the batch
	positions []position
	origins   []*origin
	changes   []change
}

// A journal entry:
//
//	version   1 byte, journalVersion
//	checksum  4 bytes, CRC-32C of what follows
//	number    uvarint, of the batch
//	count     uvarint
//	then for each message:
//	  id            uvarint, the difference from the one before, the first from 0
//	  conversation  uvarint, the difference up to id
//	  number        uvarint
//	  bits          2 bytes: flags, views
//	  from, to      uvarint each
//	  name          8 bytes, with viewNamed
//	count     uvarint, of origin-ids
//	then for each: key without its first byte, and the originEntry
//	count     uvarint, of markers
//	then for each:
//	  id            uvarint, the difference from the one before, the first from 0
//	  the change, see appendChange
const journalVersion = 2

func appendJournal(dst []byte, j *journal) []byte {
	dst = append(dst, journalVersion, 0, 0, 0, 0)
	dst = binary.AppendUvarint(dst, j.number)
	dst = binary.AppendUvarint(dst, uint64(len(j.positions)))
	last := store.MessageID(0)
	for i := range j.positions {
		p := &j.positions[i]
		dst = binary.AppendUvarint(dst, uint64(p.id-last))
		dst = binary.AppendUvarint(dst, uint64(p.id)-uint64(p.conversation))
		dst = binary.AppendUvarint(dst, p.seq)
		dst = append(dst, p.flags, p.views)
		dst = binary.AppendUvarint(dst, uint64(p.from))
		dst = binary.AppendUvarint(dst, uint64(p.to))
		if p.views&viewNamed != 0 {
			dst = binary.BigEndian.AppendUint64(dst, uint64(p.name))
		}
		last = p.id
	}
	dst = binary.AppendUvarint(dst, uint64(len(j.origins)))
	for _, o := range j.origins {
		dst = append(dst, o.key[1:]...)
		dst = appendOrigin(dst, &o.entry)
	}
	dst = binary.AppendUvarint(dst, uint64(len(j.changes)))
	last = 0
	for i := range j.changes {
		c := &j.changes[i]
		dst = appendChange(binary.AppendUvarint(dst, uint64(c.id-last)), c)
		last = c.id
	}
	binary.BigEndian.PutUint32(dst[1:], journalSum(dst[5:]))
	return dst
}

func journalSum(content []byte) uint32 { return crc32.Checksum(content, castagnoli) }

func decodeJournal(b []byte) (j journal, err error) {
	if len(b) < 5 {
		return j, errShort
	}
	if b[0] != journalVersion {
		return j, fmt.Errorf("journal has version %d, this program knows %d", b[0], journalVersion)
	}
	if journalSum(b[5:]) != binary.BigEndian.Uint32(b[1:]) {
		return j, errChecksum
	}
	r := reader{b: b[5:]}
	j.number = r.uvarint()
	last := uint64(0)
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		var p position
		last += r.uvarint()
		p.id = store.MessageID(last)
		p.conversation = store.ConversationID(last - r.uvarint())
		p.seq = r.uvarint()
		p.flags, p.views = r.byte(), r.byte()
		p.from, p.to = store.AccountID(r.uvarint()), store.AccountID(r.uvarint())
		if p.views&viewNamed != 0 {
			p.name = name(r.number())
		}
		j.positions = append(j.positions, p)
	}
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		o := &origin{key: [originKeySize]byte{keyOrigin}}
		copy(o.key[1:], r.bytes(originKeySize-1))
		o.entry = r.origin()
		j.origins = append(j.origins, o)
	}
	last = 0
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		last += r.uvarint()
		c := r.change()
		c.id = store.MessageID(last)
		j.changes = append(j.changes, c)
	}
	return j, r.end()
}

// reader takes fields off the front of b. After the first error all it returns is zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) bytes(n int) []byte {
	if r.err != nil || n > len(r.b) {
		r.b, r.err = nil, errShort
		return nil
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	x, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.b, r.err = nil, errShort
		return 0
	}
	r.b = r.b[n:]
	return x
}

// text takes a length and as many bytes.
func (r *reader) text() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.b, r.err = nil, errShort
		return nil
	}
	return r.bytes(int(n))
}

func (r *reader) number() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// version takes the first byte of a value, which must be the one version that is known.
func (r *reader) version(of string, known byte) {
	if v := r.byte(); r.err == nil && v != known {
		r.err = fmt.Errorf("%s has version %d, this program knows %d", of, v, known)
	}
}

// end returns the first error, or that there is more than was taken.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		return fmt.Errorf("%d bytes too many", len(r.b))
	}
	return r.err
}

func (r *reader) origin() (e originEntry) {
	copy(e.hash[:], r.bytes(len(e.hash)))
	e.id = store.MessageID(r.number())
	e.conversation = store.ConversationID(r.number())
	e.seq = r.uvarint()
	return e
}
