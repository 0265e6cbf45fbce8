package pebble

import (
	"encoding/binary"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/store"
)

// view walks over one account's R or S entries in rising order of id.
type view struct {
	it *engine.Iterator
	// The entry that it stands on, when the last move returned true.
	id   store.MessageID
	view byte

	prefix byte
	owner  store.AccountID
}

// openView begins a walk over the entries with after < id <= through.
func (l *Log) openView(prefix byte, owner store.AccountID, after, through store.MessageID) (*view, error) {
	_, upper := bounds(prefix, uint64(owner))
	if through < maxMessageID {
		upper = pairKey(nil, prefix, uint64(owner), uint64(through)+1)
	}
	it, err := l.db.NewIter(&engine.IterOptions{
		LowerBound: pairKey(nil, prefix, uint64(owner), uint64(after)+1), UpperBound: upper,
	})
	if err != nil {
		return nil, err
	}
	return &view{it: it, prefix: prefix, owner: owner}, nil
}

func (v *view) load(ok bool) bool {
	if !ok {
		return false
	}
	v.id = store.MessageID(secondNumber(v.it.Key()))
	v.view = 0
	if value := v.it.Value(); len(value) > 0 {
		v.view = value[0]
	}
	return true
}

func (v *view) first() bool { return v.load(v.it.First()) }
func (v *view) last() bool  { return v.load(v.it.Last()) }
func (v *view) next() bool  { return v.load(v.it.Next()) }
func (v *view) prev() bool  { return v.load(v.it.Prev()) }

// seek moves to the first entry at or after id.
func (v *view) seek(id store.MessageID) bool {
	var key [pairKeySize]byte
	return v.load(v.it.SeekGE(pairKey(key[:0], v.prefix, uint64(v.owner), uint64(id))))
}

func (v *view) firstArchived() bool {
	ok := v.first()
	for ok && v.view&viewArchive == 0 {
		ok = v.next()
	}
	return ok
}

func (v *view) lastArchived() bool {
	ok := v.last()
	for ok && v.view&viewArchive == 0 {
		ok = v.prev()
	}
	return ok
}

func (v *view) close() error { return v.it.Close() }

// conversation walks over the entries of one conversation in rising order of number, which is also
// that of identity. Entries beyond a limit are treated as not there.
type conversation struct {
	it *engine.Iterator
	// The entry that it stands on, when the last move returned true.
	seq   uint64
	id    store.MessageID
	flags byte

	number  store.ConversationID
	through store.MessageID
}

// openConversation begins a walk over the entries with id <= through.
func (l *Log) openConversation(number store.ConversationID, through store.MessageID) (*conversation, error) {
	lower, upper := bounds(keyConversation, uint64(number))
	it, err := l.db.NewIter(&engine.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	return &conversation{it: it, number: number, through: through}, nil
}

// load reads the entry under the iterator, whatever its id.
func (c *conversation) load(ok bool) bool {
	if !ok {
		return false
	}
	c.seq = secondNumber(c.it.Key())
	c.id, c.flags = 0, 0
	if value := c.it.Value(); len(value) >= conversationEntrySize {
		c.id = store.MessageID(binary.BigEndian.Uint64(value))
		c.flags = value[8]
	}
	return true
}

func (c *conversation) next() bool { return c.load(c.it.Next()) && c.id <= c.through }
func (c *conversation) prev() bool { return c.load(c.it.Prev()) }

// at moves to the first entry with that number or a greater one, whatever its id.
func (c *conversation) at(seq uint64) bool {
	var key [pairKeySize]byte
	return c.load(c.it.SeekGE(pairKey(key[:0], keyConversation, uint64(c.number), seq)))
}

// seekNumber moves to the first entry with that number or a greater one.
func (c *conversation) seekNumber(seq uint64) bool { return c.at(seq) && c.id <= c.through }

// last moves to the last entry.
func (c *conversation) last() bool {
	if !c.load(c.it.Last()) {
		return false
	}
	if c.id <= c.through {
		return true
	}
	if !c.search(c.through) {
		return false
	}
	return c.prev()
}

// after moves to the first entry with an id greater than the given one.
func (c *conversation) after(id store.MessageID) bool {
	if id == 0 {
		return c.load(c.it.First()) && c.id <= c.through
	}
	return c.search(id) && c.id <= c.through
}

// search moves to the first entry with an id greater than the given one, whatever the limit. Numbers rise with
// identities: it doubles the distance from the end, where most questions are about, until it has passed the place, then halves the range.
func (c *conversation) search(id store.MessageID) bool {
	if !c.load(c.it.Last()) || c.id <= id {
		return false
	}
	// The first entry at or after high has a greater id; the one at low, or low itself, has not.
	high, low := c.seq, uint64(0)
	for distance := uint64(1); distance < high; distance *= 2 {
		probe := high - distance
		if !c.at(probe) {
			return false
		}
		if c.id <= id {
			low = c.seq
			break
		}
		high = probe
	}
	for high-low > 1 {
		middle := low + (high-low)/2
		if !c.at(middle) {
			return false
		}
		if c.id > id {
			high = middle
		} else {
			low = c.seq
		}
	}
	return c.at(high)
}

func (c *conversation) close() error { return c.it.Close() }
