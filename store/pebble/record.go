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
//	sender       account uvarint, length uvarint, address
//	recipient    the same
//	origin-id    length uvarint, text
//	stanza       the rest
//
// The id is in the key; it is part of the checksum so that a record under a wrong key is noticed.
const (
	recordVersion = 1
	recordHeader  = 1 + 4 + 1 + 8
)

// castagnoli has hardware support on the platforms that matter, which the other polynomials lack. Constant.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maxRecordSize is an upper bound of the encoded length.
func maxRecordSize(m *store.Message) int {
	return recordHeader + 6*binary.MaxVarintLen64 +
		len(m.Sender.JID.String()) + len(m.Recipient.JID.String()) + len(m.OriginID) + len(m.Stanza)
}

// recordSize is the exact encoded length.
func recordSize(m *store.Message) int {
	s, r := len(m.Sender.JID.String()), len(m.Recipient.JID.String())
	return recordHeader + uvarintSize(m.Seq) +
		uvarintSize(uint64(m.Sender.Account)) + uvarintSize(uint64(s)) + s +
		uvarintSize(uint64(m.Recipient.Account)) + uvarintSize(uint64(r)) + r +
		uvarintSize(uint64(len(m.OriginID))) + len(m.OriginID) + len(m.Stanza)
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
	b = appendParty(b, m.Sender)
	b = appendParty(b, m.Recipient)
	b = append(binary.AppendUvarint(b, uint64(len(m.OriginID))), m.OriginID...)
	b = append(b, m.Stanza...)
	binary.BigEndian.PutUint32(dst[1:], checksum(m.ID, b[5:]))
}

func appendParty(b []byte, p store.Party) []byte {
	b = binary.AppendUvarint(b, uint64(p.Account))
	address := p.JID.String()
	return append(binary.AppendUvarint(b, uint64(len(address))), address...)
}

func checksum(id store.MessageID, content []byte) uint32 {
	var key [8]byte
	binary.BigEndian.PutUint64(key[:], uint64(id))
	return crc32.Update(crc32.Update(0, castagnoli, key[:]), castagnoli, content)
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
	b = b[recordHeader:]
	var err error
	if m.Seq, b, err = uvarint(b); err != nil {
		return m, err
	}
	if m.Sender, b, err = d.party(b); err != nil {
		return m, fmt.Errorf("sender: %w", err)
	}
	if m.Recipient, b, err = d.party(b); err != nil {
		return m, fmt.Errorf("recipient: %w", err)
	}
	var origin []byte
	if origin, b, err = text(b); err != nil {
		return m, fmt.Errorf("origin-id: %w", err)
	}
	m.OriginID = string(origin)
	m.Stanza = append(make([]byte, 0, len(b)), b...)
	return m, nil
}

func (d *decoder) party(b []byte) (p store.Party, rest []byte, err error) {
	account, b, err := uvarint(b)
	if err != nil {
		return p, nil, err
	}
	address, b, err := text(b)
	if err != nil {
		return p, nil, err
	}
	p.Account = store.AccountID(account)
	p.JID, err = d.address(address)
	return p, b, err
}

// address returns the JID of a stored canonical text; "" is the zero JID.
func (d *decoder) address(b []byte) (jid.JID, error) {
	if len(b) == 0 {
		return jid.JID{}, nil
	}
	for _, j := range d.known {
		if j.String() == string(b) {
			return j, nil
		}
	}
	j, err := jid.Parse(string(b))
	if err != nil {
		return j, err
	}
	d.known[d.next] = j
	d.next = (d.next + 1) % len(d.known)
	return j, nil
}

func uvarint(b []byte) (x uint64, rest []byte, err error) {
	x, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, errShort
	}
	return x, b[n:], nil
}

func text(b []byte) (t, rest []byte, err error) {
	n, b, err := uvarint(b)
	if err != nil || n > uint64(len(b)) {
		return nil, nil, errShort
	}
	return b[:n], b[n:], nil
}

// What the value of a C key holds: the id, and one byte of the message's flags with one more.
const (
	conversationEntrySize = 8 + 1
	// fromSecond: the message was sent by the second party of the pair.
	fromSecond = 1 << 7
)

// What the value of an R or S key holds: one byte, these bits.
const (
	viewArchive = 1 << 0 // in the account's archive
	viewOffline = 1 << 1 // to be replayed to the account
)

// originEntry is what the value of a D key holds. It repeats the message's place so that a repetition can be
// answered even when the message's own record is damaged.
type originEntry struct {
	hash         [16]byte
	id           store.MessageID
	conversation store.ConversationID
	seq          uint64
}

const maxOriginEntrySize = 16 + 8 + 8 + binary.MaxVarintLen64

func appendOrigin(dst []byte, e *originEntry) []byte {
	dst = append(dst, e.hash[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.id))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.conversation))
	return binary.AppendUvarint(dst, e.seq)
}

func decodeOrigin(b []byte) (e originEntry, err error) {
	if len(b) < 16+8+8+1 {
		return e, errShort
	}
	copy(e.hash[:], b)
	e.id = store.MessageID(binary.BigEndian.Uint64(b[16:]))
	e.conversation = store.ConversationID(binary.BigEndian.Uint64(b[24:]))
	e.seq, _, err = uvarint(b[32:])
	return e, err
}

// A mark: version 1 byte, through 8 bytes, then each missed id as 8 bytes.
const markVersion = 1

func appendMark(dst []byte, m *store.Mark) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, markVersion), uint64(m.Through))
	for _, id := range m.Missed {
		dst = binary.BigEndian.AppendUint64(dst, uint64(id))
	}
	return dst
}

func decodeMark(owner store.AccountID, b []byte) (store.Mark, error) {
	m := store.Mark{Account: owner}
	if len(b) < 9 || len(b)%8 != 1 {
		return m, errShort
	}
	if b[0] != markVersion {
		return m, fmt.Errorf("mark has version %d, this program knows %d", b[0], markVersion)
	}
	m.Through = store.MessageID(binary.BigEndian.Uint64(b[1:]))
	for b = b[9:]; len(b) > 0; b = b[8:] {
		m.Missed = append(m.Missed, store.MessageID(binary.BigEndian.Uint64(b)))
	}
	return m, nil
}
