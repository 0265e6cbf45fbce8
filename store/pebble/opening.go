package pebble

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
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

// conversations remembers those that were used lately, so that finding one costs no read.
type conversations struct {
	// made is how many were opened since the log was, as far as readers can see.
	made atomic.Uint64
	// mu guards the rest. It is a leaf.
	mu    sync.Mutex
	byID  generations[store.ConversationID, *conversation]
	byKey generations[string, *conversation]
}

func (c *conversations) find(id store.ConversationID) *conversation {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, _ := c.byID.get(id)
	return known
}

func (c *conversations) findKey(key []byte) *conversation {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.byKey.young[string(key)]; ok {
		return known
	}
	known, _ := c.byKey.get(string(key))
	return known
}

func (c *conversations) put(key []byte, known *conversation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byID.age()
	c.byKey.age()
	c.byID.put(known.id, known)
	c.byKey.put(string(key), known)
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
	if known := l.conversations.find(id); known != nil {
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

// find returns the conversation with a key, or store.ErrNotFound.
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
		return nil, fmt.Errorf("conversation: %w", store.ErrNotFound)
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

// OpenConversation implements store.ConversationOpener.
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
	return l.begin(ctx, now, key, members, made)
}

// begin makes a conversation, unless another has been quicker: when it was looked for, so many had been made. It is not
// flushed: whatever is appended to it comes later in the engine's log.
func (l *Log) begin(
	ctx context.Context, now time.Time, key store.ConversationKey, members []store.Member, made uint64,
) (o store.Opened, err error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	done, err := l.use(ctx)
	if err != nil {
		return o, fmt.Errorf("open a conversation: %w", notStored(ctx, err))
	}
	defer done()
	if key.Kind == store.Direct {
		key = store.DirectKey(key.A, key.B)
	}
	if l.conversations.made.Load() != made {
		known, err := l.find(&key)
		if err == nil {
			return l.opened(known)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return o, err
		}
	}
	// What is kept must be no piece of the stanza that brought it.
	for _, j := range []*jid.JID{&key.A.JID, &key.B.JID, &key.Room} {
		*j = cloned(*j)
	}
	if err := l.room(ctx, now, 1000+100*len(members)); err != nil {
		return o, err
	}
	w := &l.writer
	known := &conversation{store.ConversationID(store.NextMessageID(store.MessageID(w.lastConversation), now)), key}
	b := l.db.NewBatch()
	id := binary.BigEndian.AppendUint64(nil, uint64(known.id))
	lookup := conversationKey(nil, &key)
	set(b, lookup, id)
	set(b, idKey(nil, keyOpened, uint64(known.id)), appendOpened(nil, &key))
	if key.Kind == store.Room {
		for i := range members {
			m := members[i].At(1)
			set(b, pairKey(nil, keyMember, uint64(known.id), uint64(m.Account)), appendMember(nil, &m))
			set(b, inKey(nil, m.Account, store.Room, known.id), nil)
		}
	}
	grown, err := l.listFor(ctx, b, known)
	if err != nil {
		return o, notStored(ctx, err)
	}
	if err := l.commit(context.WithoutCancel(ctx), b, engine.NoSync); err != nil {
		l.events.fail(err)
		return o, l.Err()
	}
	for _, account := range grown {
		l.large.add(account)
	}
	w.lastConversation = known.id
	l.conversations.put(lookup, known)
	l.conversations.made.Add(1)
	return store.Opened{ID: known.id, Key: key}, nil
}

// cloned returns an address with a text of its own.
func cloned(j jid.JID) jid.JID {
	if j.IsZero() {
		return j
	}
	own, err := jid.Parse(strings.Clone(j.String()))
	if err != nil {
		return j
	}
	return own
}

// listFor lists a direct conversation for its parties, and returns those that have become large with it.
func (l *Log) listFor(ctx context.Context, b *engine.Batch, known *conversation) (grown []store.AccountID, err error) {
	var key [markerKeySize]byte
	for i, p := range [2]store.Party{known.key.A, known.key.B} {
		if p.Account == 0 || i == 1 && known.key.A.Is(p) {
			continue
		}
		set(b, inKey(key[:0], p.Account, store.Direct, known.id), nil)
		grows, err := l.grows(ctx, p.Account, known.id)
		if err == nil && grows {
			grown = append(grown, p.Account)
			err = l.enlarge(ctx, b, p.Account)
		}
		if err != nil {
			return nil, err
		}
	}
	return grown, nil
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
	done, err := l.use(ctx)
	if err != nil {
		return store.Opened{}, fmt.Errorf("find a conversation: %w", err)
	}
	defer done()
	known, err := l.conversation(id)
	if err != nil {
		return store.Opened{}, err
	}
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
