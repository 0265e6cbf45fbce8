package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/store"
)

// writer is what Append keeps between calls. Guarded by Log.writing.
type writer struct {
	last  store.MessageID
	tails tails

	// Of the batch being staged, emptied by the next.
	rows    []row
	pairs   []newPair
	origins map[[originKeySize]byte]*originEntry
	buf     []byte
}

// row is a message that gets stored.
type row struct {
	*store.Append
	// view is what the sender's and the recipient's index entries hold; 0 means no entry.
	sent, received byte
	// swapped: the sender is the second party of the pair.
	swapped bool
	origin  *[originKeySize]byte
}

// newPair is a conversation that begins with this batch.
type newPair struct {
	pair         pair
	conversation store.ConversationID
}

func newWriter(conversations int) writer {
	return writer{
		tails:   newTails(conversations),
		origins: make(map[[originKeySize]byte]*originEntry),
	}
}

// Append implements store.MessageWriter. When ctx ends before the flush has returned, the log has failed:
// nobody knows what the disk holds.
func (l *Log) Append(ctx context.Context, now time.Time, batch []*store.Append, marks []store.Mark) error {
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
	}
	if err := l.space.room(now, size); err != nil {
		return err
	}
	w := &l.writer
	w.reset()
	for _, a := range batch {
		if err := l.stage(a, now); err != nil {
			// Numbers were given out that will not be stored.
			l.events.fail(fmt.Errorf("prepare a batch: %w", err))
			return l.Err()
		}
	}
	if len(w.rows) == 0 && len(marks) == 0 {
		return nil
	}
	b := l.db.NewBatchWithSize(size + 64*len(marks))
	w.write(b, marks)
	if err := l.commit(ctx, b); err != nil {
		l.events.fail(err)
		return l.Err()
	}
	l.visible.Store(uint64(w.last))
	return nil
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

func (w *writer) reset() {
	w.tails.age()
	clear(w.rows)
	w.rows = w.rows[:0]
	clear(w.pairs)
	w.pairs = w.pairs[:0]
	clear(w.origins)
}

// stage decides about one message and gives it its place.
func (l *Log) stage(a *store.Append, now time.Time) error {
	w := &l.writer
	r := row{Append: a}
	var entry *originEntry
	if a.OriginID != "" {
		key := originKey(a.Sender, a.OriginID)
		first, err := l.origin(&key)
		if err != nil {
			return err
		}
		if first != nil {
			answer(a, first)
			return nil
		}
		entry = &originEntry{hash: a.ContentHash}
		w.origins[key] = entry
		r.origin = &key
	}
	sender, recipient := sideOf(a.Sender), sideOf(a.Recipient)
	p, swapped := pairOf(sender, recipient)
	t, err := l.tail(p)
	if err != nil {
		return err
	}
	a.ID = store.NextMessageID(w.last, now)
	w.last = a.ID
	if t == nil {
		t = &tail{conversation: store.ConversationID(a.ID)}
		w.tails.put(p, t)
		w.pairs = append(w.pairs, newPair{p, t.conversation})
	}
	t.last++
	a.Conversation, a.Seq = t.conversation, t.last
	if entry != nil {
		entry.id, entry.conversation, entry.seq = a.ID, a.Conversation, a.Seq
	}
	r.swapped = swapped
	r.sent, r.received = views(a, sender == recipient)
	w.rows = append(w.rows, r)
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

// views returns what the index entries of both parties hold. A note to oneself has one entry, the recipient's.
func views(a *store.Append, note bool) (sent, received byte) {
	if a.Recipient.Account != 0 {
		if a.Flags&store.InRecipientArchive != 0 || note && a.Flags&store.InSenderArchive != 0 {
			received |= viewArchive
		}
		if a.Flags&store.ForOffline != 0 {
			received |= viewOffline
		}
	}
	if a.Sender.Account != 0 && !note && a.Flags&store.InSenderArchive != 0 {
		sent = viewArchive
	}
	return sent, received
}

// origin finds what was stored under an origin-id, in this batch or before; nil when nothing was.
func (l *Log) origin(key *[originKeySize]byte) (*originEntry, error) {
	if e := l.writer.origins[*key]; e != nil {
		return e, nil
	}
	value, closer, err := l.db.Get(key[:])
	if errors.Is(err, engine.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up an origin-id: %w", err)
	}
	defer closer.Close()
	e, err := decodeOrigin(value)
	if err != nil {
		return nil, fmt.Errorf("look up an origin-id: %w", err)
	}
	return &e, nil
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
	// Everything committed counts here, be it visible yet or not.
	c, err := l.openConversation(conversation, maxMessageID)
	if err != nil {
		return nil, err
	}
	t := &tail{conversation: conversation}
	if c.last() {
		t.last = c.seq
	}
	if err := c.close(); err != nil {
		return nil, err
	}
	w.tails.put(p, t)
	return t, nil
}

// write encodes the staged batch. Keys of one kind go together and in the order of the log: the engine inserts neighbours faster.
func (w *writer) write(b *engine.Batch, marks []store.Mark) {
	for i := range w.rows {
		m := &w.rows[i].Message
		op := b.SetDeferred(idKeySize, recordSize(m))
		idKey(op.Key[:0], keyMessage, uint64(m.ID))
		putRecord(op.Value, m)
		finish(op)
	}
	for i := range w.rows {
		r := &w.rows[i]
		op := b.SetDeferred(pairKeySize, conversationEntrySize)
		pairKey(op.Key[:0], keyConversation, uint64(r.Conversation), r.Seq)
		binary.BigEndian.PutUint64(op.Value, uint64(r.ID))
		op.Value[8] = byte(r.Flags)
		if r.swapped {
			op.Value[8] |= fromSecond
		}
		finish(op)
	}
	for i := range w.rows {
		if r := &w.rows[i]; r.received != 0 {
			setView(b, keyReceived, r.Recipient.Account, r.ID, r.received)
		}
	}
	for i := range w.rows {
		if r := &w.rows[i]; r.sent != 0 {
			setView(b, keySent, r.Sender.Account, r.ID, r.sent)
		}
	}
	for i := range w.rows {
		if r := &w.rows[i]; r.origin != nil {
			w.buf = appendOrigin(w.buf[:0], w.origins[*r.origin])
			set(b, r.origin[:], w.buf)
		}
	}
	for _, p := range w.pairs {
		w.buf = partiesKey(w.buf[:0], p.pair)
		set(b, w.buf, binary.BigEndian.AppendUint64(nil, uint64(p.conversation)))
	}
	for i := range marks {
		w.buf = appendMark(w.buf[:0], &marks[i])
		set(b, idKey(make([]byte, 0, idKeySize), keyMark, uint64(marks[i].Account)), w.buf)
	}
}

func setView(b *engine.Batch, prefix byte, account store.AccountID, id store.MessageID, view byte) {
	op := b.SetDeferred(pairKeySize, 1)
	pairKey(op.Key[:0], prefix, uint64(account), uint64(id))
	op.Value[0] = view
	finish(op)
}

func set(b *engine.Batch, key, value []byte) {
	op := b.SetDeferred(len(key), len(value))
	copy(op.Key, key)
	copy(op.Value, value)
	finish(op)
}

// finish ends a deferred write. It returns an error only for a batch with an index, which ours has not.
func finish(op *engine.DeferredBatchOp) { _ = op.Finish() }
