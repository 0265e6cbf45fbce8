package pebble

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/posthouse-im/posthouse/store"
)

// position is what the indexes need to know of a message.
type position struct {
	id           store.MessageID
	conversation store.ConversationID
	seq          uint64
	// from and to are the accounts in whose indexes it is, by sent and received; 0 for none.
	from, to store.AccountID
	// bits of the three index entries. Zero for sent and received means no entry.
	flags, sent, received byte
}

// Bits of an entry in a conversation are the message's flags and one more.
const (
	// fromSecond: the message was sent by the second party of the pair.
	fromSecond = 1 << 7
)

// Bits of an entry in a received or sent block.
const (
	viewArchive = 1 << 0 // in the account's archive
	viewOffline = 1 << 1 // to be replayed to the account
)

// newPosition returns the position of a stored message. swapped: the sender is the second party of the pair; note: both are one.
// A note to oneself has one entry in the indexes of the account, the recipient's.
func newPosition(m *store.Message, swapped, note bool) position {
	p := position{id: m.ID, conversation: m.Conversation, seq: m.Seq, flags: byte(m.Flags)}
	if swapped {
		p.flags |= fromSecond
	}
	if m.Recipient.Account != 0 {
		if m.Flags&store.InRecipientArchive != 0 || note && m.Flags&store.InSenderArchive != 0 {
			p.received |= viewArchive
		}
		if m.Flags&store.ForOffline != 0 {
			p.received |= viewOffline
		}
	}
	if m.Sender.Account != 0 && !note && m.Flags&store.InSenderArchive != 0 {
		p.sent = viewArchive
	}
	if p.sent != 0 {
		p.from = m.Sender.Account
	}
	if p.received != 0 {
		p.to = m.Recipient.Account
	}
	return p
}

// origin is an origin-id with what was sent under it.
type origin struct {
	key   [originKeySize]byte
	entry originEntry
}

// A journal entry:
//
//	version   1 byte, journalVersion
//	checksum  4 bytes, CRC-32C of what follows
//	count     uvarint
//	then for each message:
//	  id            uvarint, the difference from the one before, the first from 0
//	  conversation  uvarint, the difference up to id
//	  number        uvarint
//	  bits          3 bytes: flags, sent, received
//	  from, to      uvarint each
//	count     uvarint, of origin-ids
//	then for each: key without its first byte, and the originEntry
const journalVersion = 1

func appendJournal(dst []byte, positions []position, origins []*origin) []byte {
	dst = append(dst, journalVersion, 0, 0, 0, 0)
	dst = binary.AppendUvarint(dst, uint64(len(positions)))
	last := store.MessageID(0)
	for i := range positions {
		p := &positions[i]
		dst = binary.AppendUvarint(dst, uint64(p.id-last))
		dst = binary.AppendUvarint(dst, uint64(p.id)-uint64(p.conversation))
		dst = binary.AppendUvarint(dst, p.seq)
		dst = append(dst, p.flags, p.sent, p.received)
		dst = binary.AppendUvarint(dst, uint64(p.from))
		dst = binary.AppendUvarint(dst, uint64(p.to))
		last = p.id
	}
	dst = binary.AppendUvarint(dst, uint64(len(origins)))
	for _, o := range origins {
		dst = append(dst, o.key[1:]...)
		dst = appendOrigin(dst, &o.entry)
	}
	binary.BigEndian.PutUint32(dst[1:], journalSum(dst[5:]))
	return dst
}

func journalSum(content []byte) uint32 { return crc32.Checksum(content, castagnoli) }

func decodeJournal(b []byte) (positions []position, origins []origin, err error) {
	if len(b) < 5 {
		return nil, nil, errShort
	}
	if b[0] != journalVersion {
		return nil, nil, fmt.Errorf("journal has version %d, this program knows %d", b[0], journalVersion)
	}
	if journalSum(b[5:]) != binary.BigEndian.Uint32(b[1:]) {
		return nil, nil, errChecksum
	}
	r := reader{b: b[5:]}
	last := uint64(0)
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		var p position
		last += r.uvarint()
		p.id = store.MessageID(last)
		p.conversation = store.ConversationID(last - r.uvarint())
		p.seq = r.uvarint()
		bits := r.bytes(3)
		if r.err != nil {
			break
		}
		p.flags, p.sent, p.received = bits[0], bits[1], bits[2]
		p.from, p.to = store.AccountID(r.uvarint()), store.AccountID(r.uvarint())
		positions = append(positions, p)
	}
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		o := origin{key: [originKeySize]byte{keyOrigin}}
		copy(o.key[1:], r.bytes(originKeySize-1))
		o.entry = r.origin()
		origins = append(origins, o)
	}
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d bytes too many", len(r.b))
	}
	return positions, origins, r.err
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

func (r *reader) origin() (e originEntry) {
	copy(e.hash[:], r.bytes(len(e.hash)))
	e.id = store.MessageID(r.number())
	e.conversation = store.ConversationID(r.number())
	e.seq = r.uvarint()
	return e
}
