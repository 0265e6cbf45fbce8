package pebble

import (
	"sort"
	"sync"

	"github.com/posthouse-im/posthouse/store"
)

// recent holds the positions of messages that the indexes on disk do not have yet. It only grows: what a reader
// has found in it stays valid while Append adds to it. Guarded by recents.mu until it is frozen, then never changed.
type recent struct {
	positions []position
	origins   map[[originKeySize]byte]originEntry
	// The indexes: offsets into positions, in rising order.
	conversations map[store.ConversationID][]int32
	received      map[store.AccountID][]int32
	sent          map[store.AccountID][]int32
}

func newRecent() *recent {
	return &recent{
		origins:       make(map[[originKeySize]byte]originEntry),
		conversations: make(map[store.ConversationID][]int32),
		received:      make(map[store.AccountID][]int32),
		sent:          make(map[store.AccountID][]int32),
	}
}

func (r *recent) add(p *position) {
	at := int32(len(r.positions))
	r.positions = append(r.positions, *p)
	r.conversations[p.conversation] = append(r.conversations[p.conversation], at)
	if p.received != 0 {
		r.received[p.to] = append(r.received[p.to], at)
	}
	if p.sent != 0 {
		r.sent[p.from] = append(r.sent[p.from], at)
	}
}

// list is one index of one conversation or account in one recent.
type list struct {
	positions []position
	at        []int32
	prefix    byte
}

// index returns the list under an index key.
func (r *recent) index(prefix byte, number uint64) list {
	l := list{positions: r.positions, prefix: prefix}
	switch prefix {
	case keyConversation:
		l.at = r.conversations[store.ConversationID(number)]
	case keyReceived:
		l.at = r.received[store.AccountID(number)]
	case keySent:
		l.at = r.sent[store.AccountID(number)]
	}
	return l
}

func (l list) entry(i int) entry {
	p := &l.positions[l.at[i]]
	switch l.prefix {
	case keyReceived:
		return entry{id: p.id, bits: p.received}
	case keySent:
		return entry{id: p.id, bits: p.sent}
	}
	return entry{id: p.id, seq: p.seq, bits: p.flags}
}

// after returns the index in at of the first entry with an id greater than the given one.
func (l list) after(id store.MessageID) int {
	return sort.Search(len(l.at), func(i int) bool { return l.positions[l.at[i]].id > id })
}

// number returns the index in at of the first entry with that number or a greater one.
func (l list) number(seq uint64) int {
	return sort.Search(len(l.at), func(i int) bool { return l.positions[l.at[i]].seq >= seq })
}

// recents is the newest part of the indexes.
type recents struct {
	// mu guards everything below. Append holds it while it adds a batch that has been flushed, readers while they look up a list.
	mu sync.RWMutex
	// indexed is through which message the indexes on disk are complete. They may hold more, which is not to be read.
	indexed store.MessageID
	// frozen is being written to disk, nil when nothing is; young comes after it.
	frozen, young *recent
}

// lists returns where the indexes on disk end and what follows them under one key.
func (r *recents) lists(prefix byte, number uint64) (indexed store.MessageID, old, young list) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.frozen != nil {
		old = r.frozen.index(prefix, number)
	}
	return r.indexed, old, r.young.index(prefix, number)
}

// origin finds an origin-id in one part.
func (r *recent) origin(key *[originKeySize]byte) (e originEntry, found bool) {
	if r == nil {
		return e, false
	}
	e, found = r.origins[*key]
	return e, found
}

// origin finds what was sent under an origin-id, when it is not on disk.
func (r *recents) origin(key *[originKeySize]byte) (e originEntry, found bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if e, found = r.young.origin(key); found {
		return e, true
	}
	return r.frozen.origin(key)
}

// parts returns both parts, of which Append may read origins without further ado: nobody else adds to them.
func (r *recents) parts() (frozen, young *recent) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.frozen, r.young
}

// add appends a batch that has been flushed.
func (r *recents) add(positions []position, origins []*origin) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range positions {
		r.young.add(&positions[i])
	}
	for _, o := range origins {
		r.young.origins[o.key] = o.entry
	}
}

// freeze hands over the young part to be written, when it has at least size messages and none is being written.
// waiting is how many messages are in the young part otherwise.
func (r *recents) freeze(size int) (frozen *recent, waiting int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.young.positions); r.frozen != nil || n < size {
		return nil, n
	}
	r.frozen, r.young = r.young, newRecent()
	return r.frozen, 0
}

// drop forgets the frozen part: the indexes on disk have it.
func (r *recents) drop(indexed store.MessageID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen, r.indexed = nil, indexed
}
