package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/store"
)

// writer is what Append keeps between calls. Guarded by Log.writing.
type writer struct {
	last    store.MessageID
	tails   tails
	markers markersCache

	// Of the batch being written, emptied by the next.
	messages  []*store.Message
	positions []position
	origins   []*origin
	byKey     map[[originKeySize]byte]*origin
	pairs     []newPair
	// retracted are messages of earlier batches.
	retracted []*retraction
	// frozen and young are what was in memory when the batch began, seek what was on disk some time later: nothing falls between
	// them when index entries are written meanwhile. seek is nil until the batch has an origin-id.
	frozen, young *recent
	seek          *engine.Iterator
	buf           []byte
}

// newPair is a conversation that begins with this batch.
type newPair struct {
	pair              pair
	conversation      store.ConversationID
	sender, recipient store.Party
}

func newWriter(conversations int) writer {
	return writer{tails: newTails(conversations), byKey: make(map[[originKeySize]byte]*origin)}
}

// reset begins a batch.
func (w *writer) reset() {
	w.tails.age()
	w.markers.age()
	clear(w.messages)
	w.messages = w.messages[:0]
	w.positions = w.positions[:0]
	clear(w.origins)
	w.origins = w.origins[:0]
	clear(w.byKey)
	clear(w.pairs)
	w.pairs = w.pairs[:0]
	clear(w.retracted)
	w.retracted = w.retracted[:0]
}

// Append implements store.MessageWriter. When ctx ends before the flush has returned, the log has failed:
// it is not known what was stored.
func (l *Log) Append(ctx context.Context, now time.Time, batch []*store.Append, cursors []store.DeliveryCursor) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	done, err := l.use(ctx)
	if err != nil {
		return fmt.Errorf("message log: %w", err)
	}
	defer done()
	if err := l.Err(); err != nil {
		return err
	}
	size := 0
	for _, a := range batch {
		// Half as much again for the index entries.
		size += maxRecordSize(&a.Message) + 160
		if a.Retract != 0 {
			size += len(a.Remains) + 400
		}
		for i := range a.AlsoRetract {
			size += len(a.AlsoRetract[i].Remains) + 400
		}
		if a.ReadMarkers != nil {
			size += 400
		}
	}
	if err := l.space.room(now, size); err != nil {
		return err
	}
	err = l.roomInMemory(ctx)
	if errors.Is(err, store.ErrFull) {
		return err
	}
	if err == nil {
		err = l.append(ctx, now, batch, cursors, size)
	}
	if err != nil {
		// Numbers were given out that may not have been stored.
		l.events.fail(err)
		return l.Err()
	}
	return nil
}

func (l *Log) append(ctx context.Context, now time.Time, batch []*store.Append, cursors []store.DeliveryCursor, size int) error {
	if err := l.packIfDue(ctx); err != nil {
		return err
	}
	w := &l.writer
	before := w.last
	w.reset()
	if err := l.assignAll(batch, now); err != nil {
		return fmt.Errorf("prepare a batch: %w", err)
	}
	if len(w.messages) == 0 && len(cursors) == 0 {
		return nil
	}
	b := l.db.NewBatchWithSize(size + 64*len(cursors))
	w.write(b, cursors)
	l.publish(w.writeAnew(b))
	if err := l.commit(ctx, b); err != nil {
		return err
	}
	l.visible.Store(uint64(w.last))
	l.recents.add(w.positions, w.origins)
	l.pending.Store(nil)
	l.checkpoint(before)
	return nil
}

func (l *Log) assignAll(batch []*store.Append, now time.Time) (err error) {
	l.writer.frozen, l.writer.young = l.recents.parts()
	for _, a := range batch {
		if err = l.assign(a, now); err != nil {
			break
		}
	}
	if seek := l.writer.seek; seek != nil {
		l.writer.seek = nil
		err = errors.Join(err, seek.Close())
	}
	return err
}

// commit applies the batch and waits for the flush that Durability asks for. The engine may panic on a write error or
// never return, so it works in a goroutine of its own, which is left behind only when the log has failed.
func (l *Log) commit(ctx context.Context, b *engine.Batch) error {
	mode := engine.Sync
	if l.opts.Durability == DurabilityRelaxed {
		mode = engine.NoSync
	}
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

// assign decides about one message and gives it its identity, conversation and number.
func (l *Log) assign(a *store.Append, now time.Time) error {
	w := &l.writer
	var o *origin
	if a.OriginID != "" {
		o = &origin{key: originKey(a.Sender, a.OriginID), entry: originEntry{hash: a.ContentHash}}
		first, known, err := l.origin(&o.key)
		if err != nil {
			return err
		}
		if known {
			answer(a, &first)
			return nil
		}
	}
	sender, recipient := sideOf(a.Sender), sideOf(a.Recipient)
	p, swapped := pairOf(sender, recipient)
	t, err := l.tail(p)
	if err != nil {
		return err
	}
	if a.ReadMarkers != nil {
		if a.Stale, err = l.stale(*a.ReadMarkers, t); a.Stale || err != nil {
			return err
		}
	}
	a.ID = store.NextMessageID(w.last, now)
	w.last = a.ID
	if t == nil {
		t = &tail{conversation: store.ConversationID(a.ID)}
		w.tails.put(p, t)
		w.pairs = append(w.pairs, newPair{p, t.conversation, a.Sender, a.Recipient})
	}
	t.last++
	a.Conversation, a.Seq = t.conversation, t.last
	if o != nil {
		o.entry.id, o.entry.conversation, o.entry.seq = a.ID, a.Conversation, a.Seq
		w.origins = append(w.origins, o)
		w.byKey[o.key] = o
	}
	w.messages = append(w.messages, &a.Message)
	w.positions = append(w.positions, newPosition(&a.Message, swapped, sender == recipient))
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
	if a.ContentHash != first.hash {
		a.Conflict = true
		return
	}
	a.Duplicate = true
	a.ID, a.Conversation, a.Seq = first.id, first.conversation, first.seq
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

// tail finds the end of a conversation; nil when it has not begun.
func (l *Log) tail(p pair) (*tail, error) {
	w := &l.writer
	if t := w.tails.get(p); t != nil {
		return t, nil
	}
	conversation, err := l.conversation(p)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	t := &tail{conversation: conversation}
	err = l.walk(keyConversation, uint64(conversation)).backward(math.MaxUint64, func(e entry) bool {
		t.last = e.seq
		return false
	})
	if err != nil {
		return nil, fmt.Errorf("find the end of a conversation: %w", err)
	}
	w.tails.put(p, t)
	return t, nil
}

// write encodes the batch. The messages come first and in the order of the log: the engine inserts neighbours faster.
func (w *writer) write(b *engine.Batch, cursors []store.DeliveryCursor) {
	for _, m := range w.messages {
		op := b.SetDeferred(idKeySize, recordSize(m))
		idKey(op.Key[:0], keyMessage, uint64(m.ID))
		putRecord(op.Value, m)
		finish(op)
	}
	var key [idKeySize]byte
	if len(w.messages) > 0 {
		w.buf = appendJournal(w.buf[:0], w.positions, w.origins)
		set(b, idKey(key[:0], keyJournal, uint64(w.last)), w.buf)
	}
	for _, p := range w.pairs {
		var conversation [8]byte
		binary.BigEndian.PutUint64(conversation[:], uint64(p.conversation))
		w.buf = partiesKey(w.buf[:0], p.pair)
		set(b, w.buf, conversation[:])
		membersOf(p.pair, p.conversation, p.sender, p.recipient, func(account store.AccountID, m *member) {
			var key [pairKeySize]byte
			w.buf = appendMember(w.buf[:0], m)
			set(b, pairKey(key[:0], keyMember, uint64(account), uint64(m.conversation)), w.buf)
		})
	}
	for i := range cursors {
		w.buf = appendCursor(w.buf[:0], &cursors[i])
		set(b, idKey(key[:0], keyCursor, uint64(cursors[i].Account)), w.buf)
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
