package pebble

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// conversation is what never changes of one.
type conversation struct {
	id  store.ConversationID
	key store.ConversationKey
}

// accounts returns those of a direct conversation's parties, in order, 0 for parties without one.
func (c *conversation) accounts() []store.AccountID {
	return slices.Compact([]store.AccountID{c.key.A.Account, c.key.B.Account})
}

// size is about how much memory it takes in a map, with its key there.
func (c *conversation) size() int {
	return 256 + 2*(len(c.key.A.JID.String())+len(c.key.B.JID.String())+len(c.key.Room.String()))
}

// conversations are those to which nothing was appended yet, and those that were used lately: finding one of these
// costs no read.
type conversations struct {
	// opening is held while a conversation is made. It is taken before Log.writing.
	opening sync.Mutex
	// made is how many were opened since the log was, as far as readers can see.
	made atomic.Uint64
	// mu guards the rest. It is a leaf.
	mu sync.Mutex
	// last is the greatest identity that was given out.
	last store.ConversationID
	// unwritten are direct ones that are not on disk, since nothing was appended to them: they are written with the
	// first batch that has something of them. keys are what they are found by, and size is what they take.
	unwritten map[store.ConversationID]*conversation
	keys      map[string]*conversation
	size      int
	byID      generations[store.ConversationID, *conversation]
	byKey     generations[string, *conversation]
}

// maxUnwritten bounds the memory of conversations that nothing was appended to. What is beyond makes whoever opens the
// next one write all of them.
const maxUnwritten = 1 << 20

// find returns a conversation, nil when it is not in memory, and whether it is not on disk.
func (c *conversations) find(id store.ConversationID) (known *conversation, unwritten bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, unwritten = c.unwritten[id]; !unwritten {
		known, _ = c.byID.get(id)
	}
	return known, unwritten
}

func (c *conversations) findKey(key []byte) *conversation {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.keys[string(key)]; ok {
		return known
	}
	if known, ok := c.byKey.young[string(key)]; ok {
		return known
	}
	known, _ := c.byKey.get(string(key))
	return known
}

// put remembers one that is on disk.
func (c *conversations) put(key []byte, known *conversation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(string(key), known)
}

func (c *conversations) putLocked(key string, known *conversation) {
	c.byID.age()
	c.byKey.age()
	c.byID.put(known.id, known)
	c.byKey.put(key, known)
}

// add adds one that is not on disk.
func (c *conversations) add(now time.Time, k *store.ConversationKey) *conversation {
	key := string(conversationKey(nil, k))
	c.mu.Lock()
	defer c.mu.Unlock()
	known := &conversation{c.nextLocked(now), *k}
	c.unwritten[known.id], c.keys[key] = known, known
	c.size += known.size()
	c.made.Add(1)
	return known
}

func (c *conversations) next(now time.Time) store.ConversationID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nextLocked(now)
}

func (c *conversations) nextLocked(now time.Time) store.ConversationID {
	c.last = store.ConversationID(store.NextMessageID(store.MessageID(c.last), now))
	return c.last
}

// written is told of one that is on disk now.
func (c *conversations) written(known *conversation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unwritten[known.id] == nil {
		return
	}
	key := string(conversationKey(nil, &known.key))
	delete(c.unwritten, known.id)
	delete(c.keys, key)
	c.size -= known.size()
	c.putLocked(key, known)
}

// list returns those that are not on disk, none when they take less than that size.
func (c *conversations) list(size int) []*conversation {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size < size {
		return nil
	}
	return slices.Collect(maps.Values(c.unwritten))
}

// What an opened entry says of a conversation:
//
//	version      1 byte, openedVersion
//	kind         1 byte
//	of a direct one twice: account uvarint, length uvarint, address
//	of a room:   incarnation uvarint, length uvarint, address
const openedVersion = 1

func appendOpened(dst []byte, k *store.ConversationKey) []byte {
	dst = append(dst, openedVersion, byte(k.Kind))
	if k.Kind == store.Room {
		return appendAddress(binary.AppendUvarint(dst, k.Incarnation), k.Room)
	}
	return appendParty(appendParty(dst, k.A), k.B)
}

func decodeOpened(b []byte) (k store.ConversationKey, err error) {
	r := reader{b: b}
	r.version("conversation", openedVersion)
	k.Kind = store.ConversationKind(r.byte())
	var d decoder
	switch k.Kind {
	case store.Direct:
		k.A, k.B = d.party(&r), d.party(&r)
	case store.Room:
		k.Incarnation = r.uvarint()
		k.Room = d.address(&r)
	default:
		r.err = cmp.Or(r.err, fmt.Errorf("conversation is of kind %d", k.Kind))
	}
	return k, r.end()
}

// conversation returns what is known of a conversation, or store.ErrNotFound.
func (l *Log) conversation(id store.ConversationID) (*conversation, error) {
	if known, _ := l.conversations.find(id); known != nil {
		return known, nil
	}
	value, err := l.get(idKey(nil, keyOpened, uint64(id)))
	if err == nil && value == nil {
		return nil, fmt.Errorf("conversation %d: %w", id, store.ErrNotFound)
	}
	var key store.ConversationKey
	if err == nil {
		key, err = decodeOpened(value)
	}
	if err != nil {
		return nil, fmt.Errorf("find conversation %d: %w", id, err)
	}
	known := &conversation{id, key}
	l.conversations.put(conversationKey(nil, &key), known)
	return known, nil
}

// errNotOpened: there is no conversation with that key.
var errNotOpened = fmt.Errorf("conversation: %w", store.ErrNotFound)

// find returns the conversation with a key, or errNotOpened.
func (l *Log) find(k *store.ConversationKey) (*conversation, error) {
	var buf [256]byte
	key := conversationKey(buf[:0], k)
	if known := l.conversations.findKey(key); known != nil {
		return known, nil
	}
	value, err := l.get(key)
	if err != nil {
		return nil, fmt.Errorf("find a conversation: %w", err)
	}
	if value == nil {
		return nil, errNotOpened
	}
	return l.conversation(store.ConversationID(firstID(value)))
}

// opened tells a caller what it wants to know of a conversation.
func (l *Log) opened(known *conversation) (o store.Opened, err error) {
	o = store.Opened{ID: known.id, Key: known.key}
	if o.Rights, err = l.rights(known, true); err != nil {
		return store.Opened{}, err
	}
	o.Last, err = l.lastSeq(known.id)
	return o, err
}

// lastSeq returns the number of a conversation's last message.
func (l *Log) lastSeq(id store.ConversationID) (last uint64, err error) {
	err = l.walk(keyConversation, uint64(id), math.MaxUint64).backward(math.MaxUint64, func(e entry) bool {
		last = e.seq
		return false
	})
	if err != nil {
		return 0, fmt.Errorf("find the end of a conversation: %w", err)
	}
	return last, nil
}

// OpenConversation implements store.ConversationOpener. A direct conversation is written together with the first batch
// that has something of it, and is in memory until then. A room is written here.
func (l *Log) OpenConversation(
	ctx context.Context, now time.Time, key store.ConversationKey, members []store.Member,
) (store.Opened, error) {
	made := l.conversations.made.Load()
	o, err := l.FindConversation(ctx, key)
	if !errors.Is(err, store.ErrNotFound) {
		return o, notStored(ctx, err)
	}
	if err := store.CheckMembers(members); err != nil {
		return o, fmt.Errorf("open a conversation: %w", err)
	}
	o, known, err := l.make(ctx, now, key, members, made)
	if err == nil && known != nil {
		err = cmp.Or(l.writeUnwritten(ctx, now), l.enlargeIfDue(ctx, known))
	}
	if err != nil {
		return o, notStored(ctx, fmt.Errorf("open a conversation: %w", err))
	}
	return o, nil
}

// make makes a conversation, unless another has been quicker: when it was looked for, so many had been made. known is
// nil when it has not made a direct one.
func (l *Log) make(
	ctx context.Context, now time.Time, key store.ConversationKey, members []store.Member, made uint64,
) (o store.Opened, known *conversation, err error) {
	l.conversations.opening.Lock()
	defer l.conversations.opening.Unlock()
	if key.Kind == store.Room {
		l.writing.Lock()
		defer l.writing.Unlock()
	} else {
		key = store.DirectKey(key.A, key.B)
	}
	done, err := l.use(ctx)
	if err != nil {
		return o, nil, err
	}
	defer done()
	if err := l.Err(); err != nil {
		return o, nil, err
	}
	if l.conversations.made.Load() != made {
		found, err := l.find(&key)
		if err == nil {
			o, err = l.opened(found)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return o, nil, err
		}
	}
	// What is kept must be no piece of the stanza that brought it.
	for _, j := range []*jid.JID{&key.A.JID, &key.B.JID, &key.Room} {
		*j = j.Clone()
	}
	if key.Kind == store.Room {
		o, err = l.makeRoom(ctx, now, &key, members)
		return o, nil, err
	}
	known = l.conversations.add(now, &key)
	return store.Opened{ID: known.id, Key: key}, known, nil
}

// makeRoom writes a room. It is not flushed: whatever is appended to it comes later in the engine's log.
func (l *Log) makeRoom(
	ctx context.Context, now time.Time, key *store.ConversationKey, members []store.Member,
) (store.Opened, error) {
	if err := l.room(ctx, now, 1000+100*len(members)); err != nil {
		return store.Opened{}, err
	}
	known := &conversation{l.conversations.next(now), *key}
	b := l.db.NewBatch()
	known.write(b)
	for i := range members {
		m := members[i].At(1)
		set(b, pairKey(nil, keyMember, uint64(known.id), uint64(m.Account)), appendMember(nil, &m))
		set(b, inKey(nil, m.Account, store.Room, known.id), nil)
	}
	if err := l.commitUnflushed(ctx, b); err != nil {
		return store.Opened{}, err
	}
	l.conversations.put(conversationKey(nil, key), known)
	l.conversations.made.Add(1)
	return store.Opened{ID: known.id, Key: *key}, nil
}

// write adds to a batch what a conversation is found by. It may be written more than once.
func (c *conversation) write(b *engine.Batch) {
	var key [markerKeySize]byte
	var buf [512]byte
	set(b, conversationKey(buf[:0], &c.key), binary.BigEndian.AppendUint64(nil, uint64(c.id)))
	set(b, idKey(key[:0], keyOpened, uint64(c.id)), appendOpened(buf[:0], &c.key))
	if c.key.Kind != store.Direct {
		return
	}
	for _, account := range c.accounts() {
		if account != 0 {
			set(b, inKey(key[:0], account, store.Direct, c.id), nil)
		}
	}
}

// writeUnwritten writes the conversations that nothing was appended to, when they take more than they may.
func (l *Log) writeUnwritten(ctx context.Context, now time.Time) error {
	if len(l.conversations.list(maxUnwritten)) == 0 {
		return nil
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	done, err := l.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := l.room(ctx, now, 2*maxUnwritten); err != nil {
		return err
	}
	return l.writeAll(ctx, l.conversations.list(maxUnwritten)) // none when another was quicker
}

// keepUnwritten writes the conversations that nothing was appended to before the log is closed. Nobody was promised
// that they are kept: they are not when the disk is full.
func (l *Log) keepUnwritten() error {
	if full, err := l.Full(); err != nil || full {
		return nil
	}
	return l.writeAll(context.Background(), l.conversations.list(0))
}

// writeAll writes conversations. It is called with writing held.
func (l *Log) writeAll(ctx context.Context, all []*conversation) error {
	if len(all) == 0 {
		return nil
	}
	b := l.db.NewBatch()
	for _, known := range all {
		known.write(b)
	}
	if err := l.commitUnflushed(ctx, b); err != nil {
		return err
	}
	for _, known := range all {
		l.conversations.written(known)
	}
	return nil
}

// commitUnflushed applies a batch that becomes durable with the next that is flushed. An error is the end of the log.
func (l *Log) commitUnflushed(ctx context.Context, b *engine.Batch) error {
	if err := l.commit(context.WithoutCancel(ctx), b, engine.NoSync); err != nil {
		l.events.fail(err)
		return l.Err()
	}
	return nil
}

// FindConversation implements store.ConversationReader.
func (l *Log) FindConversation(ctx context.Context, key store.ConversationKey) (store.Opened, error) {
	done, err := l.use(ctx)
	if err != nil {
		return store.Opened{}, fmt.Errorf("find a conversation: %w", err)
	}
	defer done()
	if key.Kind == store.Direct {
		key = store.DirectKey(key.A, key.B)
	}
	known, err := l.find(&key)
	if err != nil {
		return store.Opened{}, err
	}
	return l.opened(known)
}

// ConversationByID implements store.ConversationReader.
func (l *Log) ConversationByID(ctx context.Context, id store.ConversationID) (store.Opened, error) {
	known, done, err := l.useOf(ctx, id)
	if err != nil {
		return store.Opened{}, fmt.Errorf("find a conversation: %w", err)
	}
	defer done()
	return l.opened(known)
}

// lastOpened returns the greatest identity of a conversation.
func (l *Log) lastOpened() (last store.ConversationID, err error) {
	it, err := l.db.NewIter(&engine.IterOptions{LowerBound: []byte{keyOpened}, UpperBound: []byte{keyOpened + 1}})
	if err != nil {
		return 0, err
	}
	if it.Last() {
		last = store.ConversationID(firstNumber(it.Key()))
	}
	return last, it.Close()
}
