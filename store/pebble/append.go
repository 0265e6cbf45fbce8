package pebble

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// tail is where a conversation goes on, and what an entry of it needs.
type tail struct {
	id store.ConversationID
	// key is without addresses that are not needed to tell its parties apart.
	key          store.ConversationKey
	last, rights uint64 // numbers of the last message, and of the last that changed rights
	// begins is the conversation when it is to be written with the next batch, nil when it is on disk. round is of the
	// last batch that it was to be written with.
	begins *conversation
	round  uint64
}

func newTail(known *conversation) *tail {
	t := &tail{id: known.id, key: known.key}
	for _, p := range [...]*store.Party{&t.key.A, &t.key.B} {
		if p.Account != 0 {
			p.JID = jid.JID{}
		}
	}
	t.key.Room = jid.JID{}
	return t
}

// size is about how much memory it takes, with its place in a map.
func (t *tail) size() int { return 192 + len(t.key.A.JID.String()) + len(t.key.B.JID.String()) }

// writer is what Append keeps between calls. Guarded by Log.writing.
type writer struct {
	last, lastMessage store.MessageID
	// epoch begins with the next batch; nil when it has begun.
	epoch *epoch
	// tails are the ends of the conversations that were written to lately, so that a message of a live conversation
	// costs no read, and reached are where the markers stand that were moved lately.
	tails   generations[store.ConversationID, *tail]
	reached generations[marker, uint64]

	// Of the batch that is being prepared, emptied by the next.
	entries []*tail // of each entry
	journal journal
	// messages are those of journal.positions.
	messages []*store.Message
	byKey    map[[originKeySize]byte]*origin
	moved    map[marker]*stagedMarker
	// retracted are messages of earlier batches, members and rights what changes in rooms.
	retracted []*retraction
	members   []memberChange
	rights    map[store.ConversationID]uint64
	// begun are the conversations that begin with it. round counts batches, refused ones too.
	begun []*tail
	round uint64
	// frozen and young are what was in memory when the batch began, seek what was on disk some time later: nothing
	// falls between them when index entries are written meanwhile. seek is nil until the batch has an origin-id.
	frozen, young *recent
	seek          *engine.Iterator
	buf           []byte
}

// memberChange is a member of a room as it is from the batch on.
type memberChange struct {
	conversation store.ConversationID
	store.Member
}

func newWriter(o *Options) writer {
	return writer{
		tails:   newGenerations[store.ConversationID](o.ConversationBytes/8*5, (*tail).size),
		reached: newGenerations[marker](o.ConversationBytes/8, func(uint64) int { return markerSize }),
		byKey:   make(map[[originKeySize]byte]*origin),
		moved:   make(map[marker]*stagedMarker),
		rights:  make(map[store.ConversationID]uint64),
	}
}

// reset begins a batch.
func (w *writer) reset() {
	w.tails.age()
	w.reached.age()
	w.entries = emptied(w.entries)
	j := &w.journal
	j.number++
	j.positions, j.origins, j.changes = j.positions[:0], emptied(j.origins), j.changes[:0]
	w.messages = emptied(w.messages)
	clear(w.byKey)
	clear(w.moved)
	w.retracted = emptied(w.retracted)
	w.members = emptied(w.members)
	clear(w.rights)
	w.begun = emptied(w.begun)
	w.round++
}

// emptied returns the slice without what it referred to.
func emptied[T any](s []T) []T {
	clear(s)
	return s[:0]
}

// next gives out an identity.
func (w *writer) next(now time.Time) store.MessageID {
	w.last = store.NextMessageID(w.last, now)
	return w.last
}

// notStored makes the end of a context what it means before anything was given to the engine.
func notStored(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("message log: %w: %w", store.ErrNotStored, err)
	}
	return err
}

// room makes sure that there is room for a write of about that size, on disk and in memory.
func (l *Log) room(ctx context.Context, now time.Time, size int) error {
	if err := l.Err(); err != nil {
		return err
	}
	if err := l.space.room(now, size); err != nil {
		return err
	}
	return notStored(ctx, l.roomInMemory(ctx))
}

// Append implements store.MessageWriter. When ctx ends before the flush has returned, the log has failed:
// it is not known what was stored.
func (l *Log) Append(ctx context.Context, b *store.Batch) error {
	b.Number = 0
	l.writing.Lock()
	defer l.writing.Unlock()
	l.lose(ctx, b)
	done, err := l.use(ctx)
	if err != nil {
		return notStored(ctx, fmt.Errorf("message log: %w", err))
	}
	defer done()
	l.writer.reset()
	size, err := l.prepare(ctx, b)
	if err == nil {
		if err = l.append(ctx, b, size); err != nil {
			// Numbers were given out that may not have been stored.
			l.events.fail(err)
			return l.Err()
		}
	}
	if b.Number == 0 {
		l.writer.journal.number--
	}
	return err
}

// prepare does what can be refused, before any number is given out. size is about what the batch takes.
func (l *Log) prepare(ctx context.Context, b *store.Batch) (size int, err error) {
	if err := l.tailsOf(b); err != nil {
		return 0, err
	}
	size = batchSize(b)
	for _, t := range l.writer.begun {
		size += 2 * t.begins.size()
	}
	if err := l.room(ctx, b.Now, size); err != nil {
		return 0, err
	}
	return size, notStored(ctx, l.packIfDue(ctx))
}

// batchSize is an upper bound of what a batch takes, half as much again for the index entries.
func batchSize(b *store.Batch) int {
	size := 0
	for _, a := range b.Entries {
		size += maxRecordSize(&a.Message) + 160*(1+len(a.Markers))
		if a.Retract != 0 {
			size += len(a.Remains) + 400
		}
		for i := range a.AlsoRetract {
			size += len(a.AlsoRetract[i].Remains) + 400
		}
		size += 1500 * len(a.Members)
	}
	return size
}

// tailsOf finds the conversations of the entries, and refuses what belongs nowhere before any number is given out.
func (l *Log) tailsOf(b *store.Batch) error {
	w := &l.writer
	for _, a := range b.Entries {
		t, err := l.tail(a.Conversation)
		if err != nil {
			return fmt.Errorf("message log: %w", err)
		}
		if err := belongs(a, &t.key); err != nil {
			return fmt.Errorf("message log: conversation %d: %w", t.id, err)
		}
		w.entries = append(w.entries, t)
		if t.begins != nil && t.round != w.round {
			t.round = w.round
			w.begun = append(w.begun, t)
		}
	}
	return nil
}

func belongs(a *store.Append, key *store.ConversationKey) error {
	known := key.Kind == store.Room || a.Members == nil && key.Has(a.Author)
	if a.Marker != nil {
		_, known = key.PartyOf(a.Marker.Account)
		known = known || key.Kind == store.Room && a.Marker.Account != 0
	}
	if !known {
		return fmt.Errorf("an entry of somebody who is no party of it: %w", store.ErrNotFound)
	}
	for _, m := range a.Markers {
		if m.Conversation != a.Conversation {
			return fmt.Errorf("a marker of another one: %w", store.ErrNotFound)
		}
		if err := belongs(m, key); err != nil {
			return err
		}
	}
	return store.CheckMembers(a.Members)
}

// tail finds the end of a conversation, or store.ErrNotFound when nobody has opened it.
func (l *Log) tail(id store.ConversationID) (*tail, error) {
	w := &l.writer
	if t, known := w.tails.get(id); known {
		return t, nil
	}
	known, unwritten := l.conversations.find(id)
	if unwritten {
		t := newTail(known)
		t.begins = known
		w.tails.put(id, t)
		return t, nil
	}
	known, err := l.conversation(id)
	if err != nil {
		return nil, err
	}
	t := newTail(known)
	if t.rights, err = l.rights(known, false); err != nil {
		return nil, err
	}
	if t.last, err = l.lastSeq(id); err != nil {
		return nil, err
	}
	w.tails.put(id, t)
	return t, nil
}

func (l *Log) append(ctx context.Context, b *store.Batch, size int) error {
	w := &l.writer
	before, beforeMessage := w.last, w.lastMessage
	if err := l.assignAll(b); err != nil {
		return fmt.Errorf("prepare a batch: %w", err)
	}
	if w.last == before {
		return nil
	}
	changed := l.db.NewBatchWithSize(size)
	w.write(changed)
	for _, t := range w.begun {
		t.begins.write(changed)
	}
	anew, err := l.writeAnew(changed)
	if err != nil {
		return fmt.Errorf("prepare a batch: %w", err)
	}
	mode := engine.Sync
	if l.opts.Durability == DurabilityRelaxed {
		mode = engine.NoSync
	}
	l.publish(anew)
	if err := l.commit(ctx, changed, mode); err != nil {
		return err
	}
	l.recents.add(&w.journal, w.last, w.epoch)
	for _, t := range w.begun {
		l.conversations.written(t.begins)
		t.begins = nil
	}
	l.visible.Store(uint64(w.last))
	l.pending.Store(nil)
	w.epoch = nil
	b.Number = w.journal.number
	if n := len(w.messages); n > 0 {
		w.lastMessage = w.messages[n-1].ID
	}
	l.checkpoint(beforeMessage)
	return nil
}

func (l *Log) assignAll(b *store.Batch) (err error) {
	w := &l.writer
	w.frozen, w.young = l.recents.parts()
	for i, a := range b.Entries {
		if err = l.assign(a, w.entries[i], b.Now); err != nil {
			break
		}
	}
	if seek := w.seek; seek != nil {
		w.seek = nil
		err = errors.Join(err, seek.Close())
	}
	for _, s := range w.moved {
		w.journal.changes = append(w.journal.changes, s.change)
		w.reached.put(s.marker, s.through)
	}
	slices.SortFunc(w.journal.changes, func(a, b change) int { return cmp.Compare(a.id, b.id) })
	return err
}

// commit applies the batch and waits for the flush that mode asks for. The engine may panic on a write error or
// never return, so it works in a goroutine of its own, which is left behind only when the log has failed.
func (l *Log) commit(ctx context.Context, b *engine.Batch, mode *engine.WriteOptions) error {
	applied := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				applied <- fmt.Errorf("write a batch: %v", p)
			}
		}()
		err := l.db.Apply(b, mode)
		if err == nil {
			// A failed commit is reported as success, see Fatalf.
			err = l.Err()
		}
		if err == nil {
			err = b.Close()
		}
		applied <- err
	}()
	select {
	case err := <-applied:
		return err
	case <-l.events.failed:
		return l.Err()
	case <-ctx.Done():
		select {
		case err := <-applied:
			return err
		default:
			return fmt.Errorf("wait for a batch to be flushed: %w", context.Cause(ctx))
		}
	}
}

// assign decides about one entry and gives it its identity and number.
func (l *Log) assign(a *store.Append, t *tail, now time.Time) error {
	w := &l.writer
	a.Reset()
	if a.Marker != nil {
		return l.move(a, t, now)
	}
	var o *origin
	if a.OriginID != "" {
		o = &origin{key: originKey(a.Author, a.OriginID), entry: originEntry{hash: a.ContentHash}}
		first, known, err := l.origin(&o.key)
		if err != nil {
			return err
		}
		if known {
			answer(a, &first)
			return nil
		}
	}
	if a.Overtaken = a.Basis != 0 && t.last > a.Basis || a.Judged && t.rights > a.RightsBasis; a.Overtaken {
		return nil
	}
	for _, m := range a.Markers {
		if err := l.move(m, t, now); err != nil {
			return err
		}
	}
	a.ID = w.next(now)
	t.last++
	a.Seq = t.last
	if o != nil {
		o.entry.id, o.entry.conversation, o.entry.seq = a.ID, a.Conversation, a.Seq
		w.journal.origins = append(w.journal.origins, o)
		w.byKey[o.key] = o
	}
	if len(a.Members) > 0 {
		a.Flags |= store.Rights
		for _, m := range a.Members {
			w.members = append(w.members, memberChange{t.id, m.At(a.Seq)})
		}
	}
	if a.Flags&store.Rights != 0 {
		t.rights = a.Seq
		w.rights[t.id] = a.Seq
	}
	w.messages = append(w.messages, &a.Message)
	w.journal.positions = append(w.journal.positions, newPosition(&a.Message, &t.key))
	if a.Retract != 0 {
		if err := l.retract(a.Retract, a.Remains, a.ID); err != nil {
			return err
		}
	}
	for i := range a.AlsoRetract {
		if err := l.retract(a.AlsoRetract[i].ID, a.AlsoRetract[i].Remains, a.ID); err != nil {
			return err
		}
	}
	return nil
}

// answer tells the caller that the origin-id is known.
func answer(a *store.Append, first *originEntry) {
	if a.ContentHash != first.hash || a.Conversation != first.conversation {
		a.Conflict = true
		return
	}
	a.Duplicate = true
	a.ID, a.Seq = first.id, first.seq
}

// origin finds what was stored under an origin-id: in this batch, lately, or before.
func (l *Log) origin(key *[originKeySize]byte) (e originEntry, known bool, err error) {
	w := &l.writer
	if o := w.byKey[*key]; o != nil {
		return o.entry, true, nil
	}
	for _, r := range [2]*recent{w.young, w.frozen} {
		if e, known = r.origin(key); known {
			return e, true, nil
		}
	}
	if w.seek == nil {
		// Most answers are no: filters give them without reading a block, on the last level too.
		w.seek, err = l.db.NewIter(&engine.IterOptions{
			LowerBound: []byte{keyOrigin}, UpperBound: []byte{keyOrigin + 1}, UseL6Filters: true,
		})
		if err != nil {
			return e, false, fmt.Errorf("look up an origin-id: %w", err)
		}
	}
	if w.seek.SeekPrefixGE(key[:]) {
		e, err = decodeOrigin(w.seek.Value())
		known = true
	} else {
		err = w.seek.Error()
	}
	if err != nil {
		return e, false, fmt.Errorf("look up an origin-id: %w", err)
	}
	return e, known, nil
}

// write encodes the batch. The messages come first and in the order of the log: the engine inserts neighbours faster.
func (w *writer) write(b *engine.Batch) {
	for _, m := range w.messages {
		op := b.SetDeferred(idKeySize, recordSize(m))
		idKey(op.Key[:0], keyMessage, uint64(m.ID))
		putRecord(op.Value, m)
		finish(op)
	}
	var key [idKeySize]byte
	w.buf = appendJournal(w.buf[:0], &w.journal)
	set(b, idKey(key[:0], keyJournal, uint64(w.last)), w.buf)
	if e := w.epoch; e != nil {
		w.buf = binary.BigEndian.AppendUint64(w.buf[:0], e.random)
		set(b, idKey(key[:0], keyEpoch, uint64(e.before)), w.buf)
	}
}

func set(b *engine.Batch, key, value []byte) {
	op := b.SetDeferred(len(key), len(value))
	copy(op.Key, key)
	copy(op.Value, value)
	finish(op)
}

// finish ends a deferred write. It returns an error only for a batch with an index, which ours has not.
func finish(op *engine.DeferredBatchOp) { _ = op.Finish() }

// newest is more than any identity, and maxSeq than any number.
const (
	newest store.MessageID = math.MaxUint64
	maxSeq uint64          = math.MaxUint64 - 1
)
