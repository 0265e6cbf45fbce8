package pebble

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/store"
)

// name is a digest of a conversation, an author in it and a stanza id: what a message is found by. It is a
// cryptographic one, so that nobody can make a message pass for another's.
type name uint64

func nameOf(conversation store.ConversationID, author store.Party, stanzaID string) name {
	var buf [256]byte
	text := binary.BigEndian.AppendUint64(buf[:0], uint64(conversation))
	text = binary.BigEndian.AppendUint64(text, uint64(author.Account))
	if author.Account == 0 {
		text = append(append(text, author.JID.String()...), 0)
	}
	digest := sha256.Sum256(append(text, stanzaID...))
	return name(binary.BigEndian.Uint64(digest[:]))
}

// Names have no order, so an entry for each would be written anew by compaction after compaction. Instead the names of
// a conversation share rows of some nameRow messages. A row belongs to a generation: the first nameRow numbers of the
// conversation, then eight times as many, and so on; the names of a generation are spread over 8^generation rows by the
// first bits of the name. A message is looked for in one row of each generation that the conversation has reached.
//
// What is written to a row is appended to it by the engine (its merge operator), so that nothing is read. A part that
// is written again after a crash is in it twice, which changes nothing.
const nameRow = 512

// generationOf returns that of a number in a conversation.
func generationOf(seq uint64) int { return (bits.Len64(seq/nameRow) + 2) / 3 }

// nameRowOf returns the row of a name in a generation.
func nameRowOf(n name, generation int) uint32 { return uint32(n >> (64 - min(3*generation, 32))) }

func namedKey(dst []byte, conversation store.ConversationID, generation int, row uint32) []byte {
	dst = append(idKey(dst, keyNamed, uint64(conversation)), byte(generation))
	return binary.BigEndian.AppendUint32(dst, row)
}

// namedSize is what a row has for a message: name and number, 8 bytes each.
const namedSize = 2 * 8

func appendNamed(dst []byte, n name, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, uint64(n)), seq)
}

// findNamed returns the number of the newest message of a name in a row, 0 for none.
func findNamed(row []byte, n name) (seq uint64, err error) {
	if len(row)%namedSize != 0 {
		return 0, errShort
	}
	for ; len(row) > 0; row = row[namedSize:] {
		if binary.BigEndian.Uint64(row) == uint64(n) {
			seq = max(seq, binary.BigEndian.Uint64(row[8:]))
		}
	}
	return seq, nil
}

// storedName returns the newest message of a name that is on disk, 0 for none.
func (l *Log) storedName(conversation store.ConversationID, n name) (seq uint64, id store.MessageID, err error) {
	last, err := l.lastSeq(conversation)
	if err != nil {
		return 0, 0, err
	}
	var buf [namedKeySize]byte
	for generation := generationOf(last); generation >= 0 && seq == 0 && err == nil; generation-- {
		row, closer, failed := l.db.Get(namedKey(buf[:0], conversation, generation, nameRowOf(n, generation)))
		if errors.Is(failed, engine.ErrNotFound) {
			continue
		}
		if failed != nil {
			return 0, 0, failed
		}
		seq, err = findNamed(row, n)
		err = cmp.Or(err, closer.Close())
	}
	if seq == 0 || err != nil {
		return 0, 0, err
	}
	err = l.walk(keyConversation, uint64(conversation), store.MessageID(l.visible.Load())).numbered(
		seq, func(e entry) bool {
			if e.seq == seq {
				id = e.id
			}
			return false
		},
	)
	return seq, id, err
}

// named is a message with the row that it goes to.
type named struct {
	generation int
	row        uint32
	name       name
	at         int32
}

// names writes where messages with stanza ids are.
func (w *packer) names(conversations []store.ConversationID, r *recent) {
	var in []named
	var key [namedKeySize]byte
	for _, conversation := range conversations {
		in = in[:0]
		for _, at := range r.conversations[conversation] {
			if p := &r.positions[at]; p.views&viewNamed != 0 {
				g := generationOf(p.seq)
				in = append(in, named{g, nameRowOf(p.name, g), p.name, at})
			}
		}
		slices.SortFunc(in, func(a, b named) int {
			return cmp.Or(a.generation-b.generation, cmp.Compare(a.row, b.row), cmp.Compare(a.name, b.name),
				int(a.at-b.at))
		})
		for len(in) > 0 {
			first, n := in[0], 0
			w.buf = w.buf[:0]
			for n < len(in) && in[n].generation == first.generation && in[n].row == first.row {
				if n+1 == len(in) || in[n+1].name != in[n].name { // else it is not the newest of its name
					p := &r.positions[in[n].at]
					w.buf = appendNamed(w.buf, p.name, p.seq)
				}
				n++
			}
			w.merge(namedKey(key[:0], conversation, first.generation, first.row), w.buf)
			in = in[n:]
		}
	}
}
