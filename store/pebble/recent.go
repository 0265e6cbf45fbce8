package pebble

import (
	"sort"
	"sync"

	"github.com/posthouse-im/posthouse/store"
)

// recent holds what the indexes on disk do not have yet. It only grows: what a reader has found in it stays valid while
// Append adds to it. Guarded by recents.mu until it is frozen, then never changed.
type recent struct {
	// first and last are the identities of the first and last message or change of a marker, lastMessage is that of the
	// last message, 0 for none. batch is the number of the last batch.
	first, last, lastMessage store.MessageID
	batch                    uint64

	positions []position
	origins   map[[originKeySize]byte]originEntry
	// names are positions in positions, and so are the indexes, in rising order.
	names         map[name]int32
	conversations map[store.ConversationID][]int32
	received      map[store.AccountID][]int32
	sent          map[store.AccountID][]int32

	// changes of markers. current and the lists are positions in changes, the lists in rising order. What is replaced
	// by a later change stays in them.
	changes []change
	current map[marker]int32
	lists   map[changeList][]int32
}

// newRecent returns one that follows another, for as many messages as there were in that; nil for the first.
func newRecent(after *recent) *recent {
	var positions, names int
	if after != nil {
		positions, names = len(after.positions), len(after.names)
	}
	r := &recent{
		positions:     make([]position, 0, positions),
		origins:       make(map[[originKeySize]byte]originEntry),
		names:         make(map[name]int32, names),
		conversations: make(map[store.ConversationID][]int32),
		received:      make(map[store.AccountID][]int32),
		sent:          make(map[store.AccountID][]int32),
		current:       make(map[marker]int32),
		lists:         make(map[changeList][]int32),
	}
	if after != nil {
		r.last, r.lastMessage, r.batch = after.last, after.lastMessage, after.batch
	}
	return r
}

// size is how many messages and changes of markers there are.
func (r *recent) size() int { return len(r.positions) + len(r.changes) }

// add adds a batch, through the identity last.
func (r *recent) add(j *journal, last store.MessageID) {
	for i := range j.positions {
		r.addPosition(&j.positions[i])
		r.note(j.positions[i].id)
		r.lastMessage = j.positions[i].id
	}
	for _, o := range j.origins {
		r.origins[o.key] = o.entry
	}
	for i := range j.changes {
		r.addChange(&j.changes[i])
		r.note(j.changes[i].id)
	}
	r.last, r.batch = last, j.number
}

func (r *recent) note(id store.MessageID) {
	if r.first == 0 || id < r.first {
		r.first = id
	}
}

func (r *recent) addPosition(p *position) {
	at := int32(len(r.positions))
	r.positions = append(r.positions, *p)
	r.conversations[p.conversation] = append(r.conversations[p.conversation], at)
	if p.views&viewReceived != 0 {
		r.received[p.to] = append(r.received[p.to], at)
	}
	if p.views&viewSent != 0 {
		r.sent[p.from] = append(r.sent[p.from], at)
	}
	if p.views&viewNamed != 0 {
		r.names[p.name] = at
	}
}

func (r *recent) addChange(c *change) {
	at := int32(len(r.changes))
	r.changes = append(r.changes, *c)
	r.current[c.marker] = at
	c.lists(func(l changeList) { r.lists[l] = append(r.lists[l], at) })
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

func (l list) position(i int) *position { return &l.positions[l.at[i]] }

func (l list) entry(i int) entry {
	p := l.position(i)
	switch l.prefix {
	case keyReceived:
		return entry{id: p.id, bits: p.views & viewReceived}
	case keySent:
		return entry{id: p.id, bits: viewArchive}
	}
	e := entry{id: p.id, seq: p.seq, bits: p.flags}
	if p.flags&inRoom != 0 {
		e.author = p.from
	}
	return e
}

// after returns the position of the first entry with an id greater than the given one.
func (l list) after(id store.MessageID) int {
	return sort.Search(len(l.at), func(i int) bool { return l.position(i).id > id })
}

// number returns the position of the first entry with that number or a greater one.
func (l list) number(seq uint64) int {
	return sort.Search(len(l.at), func(i int) bool { return l.position(i).seq >= seq })
}

// recents is the newest part of the indexes.
type recents struct {
	// mu guards everything below. Append holds it while it adds a batch that has been flushed, readers while they look
	// something up.
	mu sync.RWMutex
	// indexed is through which identity the indexes on disk are complete. They may hold more, which is not to be read.
	indexed store.MessageID
	// frozen is being written to disk, nil when nothing is; young comes after it.
	frozen, young *recent
	// epochs are those of the log, in rising order.
	epochs []epoch
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

// both returns where the indexes on disk end, and what an account has received and sent since, the newer part first.
func (r *recents) both(account store.AccountID) (indexed store.MessageID, parts [][2]list) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, part := range [2]*recent{r.young, r.frozen} {
		if part != nil {
			parts = append(
				parts, [2]list{part.index(keyReceived, uint64(account)), part.index(keySent, uint64(account))},
			)
		}
	}
	return r.indexed, parts
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

// named finds the newest message with a stanza id, when it is not on disk.
func (r *recents) named(n name) (seq uint64, id store.MessageID) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, part := range [2]*recent{r.young, r.frozen} {
		if part == nil {
			continue
		}
		if at, found := part.names[n]; found {
			return part.positions[at].seq, part.positions[at].id
		}
	}
	return 0, 0
}

// parts returns both parts, of which Append may read what it likes: nobody else adds to them.
func (r *recents) parts() (frozen, young *recent) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.frozen, r.young
}

// add appends a batch that has been flushed, and the epoch that began with it, if one did.
func (r *recents) add(j *journal, last store.MessageID, began *epoch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.young.add(j, last)
	if began != nil {
		r.epochs = append(r.epochs, *began)
	}
}

// freeze hands over the young part to be written, when it has at least that size and none is being written.
// waiting is the size of the young part otherwise.
func (r *recents) freeze(size int) (frozen *recent, waiting int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.young.size(); r.frozen != nil || n < size {
		return nil, n
	}
	r.frozen, r.young = r.young, newRecent(r.young)
	return r.frozen, 0
}

// drop forgets the frozen part: the indexes on disk have it.
func (r *recents) drop(indexed store.MessageID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen, r.indexed = nil, indexed
}
