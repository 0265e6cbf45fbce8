package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// A stored message:
//
//	version      1 byte, recordVersion
//	checksum     4 bytes, CRC-32C of the id and of all that follows
//	flags        1 byte, store.MessageFlags
//	conversation 8 bytes
//	number       uvarint
//	author       account uvarint, length uvarint, address
//	origin-id    length uvarint, text
//	stanza id    uvarint: 0 for none, 1 for the origin-id, else length + 1, text
//	stanza       the rest
//
// The id is in the key; it is part of the checksum so that a record under a wrong key is noticed.
const (
	recordVersion = 2
	recordHeader  = 1 + 4 + 1 + 8
)

// castagnoli has hardware support on the platforms that matter, which the other polynomials lack. Constant.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maxRecordSize is an upper bound of the encoded length.
func maxRecordSize(m *store.Message) int {
	return recordHeader + 5*binary.MaxVarintLen64 + len(
		m.Author.JID.String(),
	) + len(
		m.OriginID,
	) + len(
		m.StanzaID,
	) + len(
		m.Stanza,
	)
}

// recordSize is the exact encoded length.
func recordSize(m *store.Message) int {
	address := len(m.Author.JID.String())
	size := recordHeader + uvarintSize(m.Seq) +
		uvarintSize(uint64(m.Author.Account)) + uvarintSize(uint64(address)) + address +
		uvarintSize(uint64(len(m.OriginID))) + len(m.OriginID) + 1 + len(m.Stanza)
	if n := len(m.StanzaID); n > 0 && m.StanzaID != m.OriginID {
		size += uvarintSize(uint64(n+1)) - 1 + n
	}
	return size
}

func uvarintSize(x uint64) int {
	n := 1
	for ; x >= 0x80; x >>= 7 {
		n++
	}
	return n
}

// putRecord encodes m into dst, whose length is recordSize(m).
func putRecord(dst []byte, m *store.Message) {
	dst[0] = recordVersion
	dst[5] = byte(m.Flags)
	binary.BigEndian.PutUint64(dst[6:], uint64(m.Conversation))
	b := binary.AppendUvarint(dst[:recordHeader], m.Seq)
	b = appendParty(b, m.Author)
	b = append(binary.AppendUvarint(b, uint64(len(m.OriginID))), m.OriginID...)
	switch m.StanzaID {
	case "":
		b = append(b, 0)
	case m.OriginID:
		b = append(b, 1)
	default:
		b = append(binary.AppendUvarint(b, uint64(len(m.StanzaID)+1)), m.StanzaID...)
	}
	b = append(b, m.Stanza...)
	binary.BigEndian.PutUint32(dst[1:], checksum(m.ID, b[5:]))
}

func appendParty(b []byte, p store.Party) []byte {
	return appendAddress(binary.AppendUvarint(b, uint64(p.Account)), p.JID)
}

func appendAddress(b []byte, j jid.JID) []byte {
	address := j.String()
	return append(binary.AppendUvarint(b, uint64(len(address))), address...)
}

// checksum covers the identity and the content. The identity's eight bytes are taken one by one, because what is passed
// to crc32 is allocated.
func checksum(id store.MessageID, content []byte) uint32 {
	sum := ^uint32(0)
	for shift := 56; shift >= 0; shift -= 8 {
		sum = castagnoli[byte(sum)^byte(id>>shift)] ^ sum>>8
	}
	return crc32.Update(^sum, castagnoli, content)
}

var (
	errChecksum = errors.New("checksum does not match")
	errShort    = errors.New("record is cut short")
	errMissing  = errors.New("the index names a message that is not there")
)

// decoder turns records into messages. It remembers the last few addresses, because the messages of one
// answer mostly have the same parties and preparing an address costs more than all the rest. Not for concurrent use.
type decoder struct {
	known [8]jid.JID
	next  int
}

// decode checks and decodes the record of a message. Nothing of the result refers to b.
func (d *decoder) decode(id store.MessageID, b []byte) (store.Message, error) {
	m := store.Message{ID: id}
	if len(b) < recordHeader {
		return m, errShort
	}
	if b[0] != recordVersion {
		return m, fmt.Errorf("record has version %d, this program knows %d", b[0], recordVersion)
	}
	if checksum(id, b[5:]) != binary.BigEndian.Uint32(b[1:]) {
		return m, errChecksum
	}
	m.Flags = store.MessageFlags(b[5])
	m.Conversation = store.ConversationID(binary.BigEndian.Uint64(b[6:]))
	r := reader{b: b[recordHeader:]}
	m.Seq = r.uvarint()
	m.Author = d.party(&r)
	m.OriginID = string(r.text())
	switch n := r.uvarint(); {
	case n == 1:
		m.StanzaID = m.OriginID
	case n > uint64(len(r.b))+1:
		r.err = errShort
	case n > 1:
		m.StanzaID = string(r.bytes(int(n - 1)))
	}
	if r.err != nil {
		return m, r.err
	}
	m.Stanza = append(make([]byte, 0, len(r.b)), r.b...)
	return m, nil
}

func (d *decoder) party(r *reader) (p store.Party) {
	p.Account = store.AccountID(r.uvarint())
	p.JID = d.address(r)
	return p
}

func (d *decoder) address(r *reader) jid.JID {
	address := r.text()
	if len(address) == 0 {
		return jid.JID{}
	}
	for _, j := range d.known {
		if j.String() == string(address) {
			return j
		}
	}
	j, err := jid.Parse(string(address))
	if err != nil {
		r.err = fmt.Errorf("address of a party: %w", err)
		return jid.JID{}
	}
	d.known[d.next] = j
	d.next = (d.next + 1) % len(d.known)
	return j
}

// originEntry is what the value of an origin key holds. It repeats the message's position so that a repetition can be
// answered even when the message's own record is damaged.
type originEntry struct {
	hash         [16]byte
	id           store.MessageID
	conversation store.ConversationID
	seq          uint64
}

func appendOrigin(dst []byte, e *originEntry) []byte {
	dst = append(dst, e.hash[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.id))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.conversation))
	return binary.AppendUvarint(dst, e.seq)
}

func decodeOrigin(b []byte) (originEntry, error) {
	r := reader{b: b}
	e := r.origin()
	return e, r.err
}

// A delivery cursor: version 1 byte, through 8 bytes, then each missed id as 8 bytes.
const cursorVersion = 1

func appendCursor(dst []byte, m *store.DeliveryCursor) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, cursorVersion), uint64(m.Through))
	for _, id := range m.Missed {
		dst = binary.BigEndian.AppendUint64(dst, uint64(id))
	}
	return dst
}

func decodeCursor(owner store.AccountID, b []byte) (store.DeliveryCursor, error) {
	m := store.DeliveryCursor{Account: owner}
	if len(b) < 9 || len(b)%8 != 1 {
		return m, errShort
	}
	if b[0] != cursorVersion {
		return m, fmt.Errorf("delivery cursor has version %d, this program knows %d", b[0], cursorVersion)
	}
	m.Through = store.MessageID(binary.BigEndian.Uint64(b[1:]))
	for b = b[9:]; len(b) > 0; b = b[8:] {
		m.Missed = append(m.Missed, store.MessageID(binary.BigEndian.Uint64(b)))
	}
	return m, nil
}
