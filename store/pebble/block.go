package pebble

import (
	"encoding/binary"

	"github.com/posthouse-im/posthouse/store"
)

// entry is one message in an index.
type entry struct {
	id store.MessageID
	// seq is the number in the conversation, in a conversation only.
	seq  uint64
	bits byte
	// author is its account, in a room only.
	author store.AccountID
}

// A block is the value of an index key: up to blockEntries messages of one conversation or account in rising order.
//
//	first id  8 bytes
//	bits      1 byte
//	author    uvarint, with inRoom
//	then for each further one:
//	  id      uvarint, the difference from the one before
//	  bits    1 byte
//	  author  uvarint, with inRoom
//
// In a conversation numbers rise by one from the key's. The key of a received or sent block repeats the first id.
const blockEntries = 128

// appendBlock encodes entries.
func appendBlock(dst []byte, entries []entry) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(entries[0].id))
	dst = appendEntry(dst, &entries[0])
	for i := 1; i < len(entries); i++ {
		dst = binary.AppendUvarint(dst, uint64(entries[i].id-entries[i-1].id))
		dst = appendEntry(dst, &entries[i])
	}
	return dst
}

func appendEntry(dst []byte, e *entry) []byte {
	dst = append(dst, e.bits)
	if e.bits&inRoom != 0 {
		dst = binary.AppendUvarint(dst, uint64(e.author))
	}
	return dst
}

// decodeBlock appends the entries of a block to dst. first is the number of the first.
func decodeBlock(dst []entry, first uint64, b []byte) ([]entry, error) {
	if len(b) < 9 {
		return dst, errShort
	}
	e := entry{id: store.MessageID(binary.BigEndian.Uint64(b)), seq: first}
	for b = b[8:]; ; {
		if len(b) == 0 {
			return dst, errShort
		}
		e.bits, e.author, b = b[0], 0, b[1:]
		if e.bits&inRoom != 0 {
			author, n := binary.Uvarint(b)
			if n <= 0 {
				return dst, errShort
			}
			e.author, b = store.AccountID(author), b[n:]
		}
		dst = append(dst, e)
		if len(b) == 0 {
			return dst, nil
		}
		d, n := binary.Uvarint(b)
		if n <= 0 {
			return dst, errShort
		}
		e.id, e.seq, b = e.id+store.MessageID(d), e.seq+1, b[n:]
	}
}

// firstID returns the identity of the first entry of a block.
func firstID(b []byte) store.MessageID {
	if len(b) < 8 {
		return 0
	}
	return store.MessageID(binary.BigEndian.Uint64(b))
}
