package pebble

import (
	"context"
	"errors"
	"fmt"
	"slices"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/store"
)

// Message implements store.MessageReader.
func (l *Log) Message(ctx context.Context, id store.MessageID) (store.Message, error) {
	done, err := l.use(ctx)
	if err != nil {
		return store.Message{}, fmt.Errorf("read message: %w", err)
	}
	defer done()
	if uint64(id) > l.visible.Load() {
		return store.Message{}, fmt.Errorf("message %d: %w", id, store.ErrNotFound)
	}
	var d decoder
	m, err := l.message(id, &d)
	if errors.Is(err, errMissing) {
		return store.Message{}, fmt.Errorf("message %d: %w", id, store.ErrNotFound)
	}
	if err != nil {
		return store.Message{}, l.damage(err, id)
	}
	return m, nil
}

// message reads one record. Its error is errMissing, or says how the record is damaged, or is the disk's.
func (l *Log) message(id store.MessageID, d *decoder) (store.Message, error) {
	var key [idKeySize]byte
	value, closer, err := l.db.Get(idKey(key[:0], keyMessage, uint64(id)))
	if errors.Is(err, engine.ErrNotFound) {
		return store.Message{}, errMissing
	}
	if err != nil {
		return store.Message{}, &readError{err}
	}
	m, err := l.decode(d, id, value)
	if e := closer.Close(); err == nil && e != nil {
		err = &readError{e}
	}
	return m, err
}

// decode decodes a record that the engine has. A retraction is not seen before it is durable.
func (l *Log) decode(d *decoder, id store.MessageID, value []byte) (store.Message, error) {
	m, err := d.decode(id, value)
	if err != nil || m.Flags&store.Retracted == 0 {
		return m, err
	}
	var buf [idKeySize]byte
	if before := l.durable(idKey(buf[:0], keyMessage, uint64(id)), nil); before != nil {
		return d.decode(id, before)
	}
	return m, nil
}

// readError is an error of the engine, as against one of a record's content.
type readError struct{ error }

func (e *readError) Unwrap() error { return e.error }

// unreadable tells an error of the disk from a damaged record.
func unreadable(err error) bool {
	var read *readError
	return errors.As(err, &read) && !engine.IsCorruptionError(err)
}

// damage turns the error of one record into one for the caller and counts it.
func (l *Log) damage(err error, ids ...store.MessageID) error {
	if unreadable(err) {
		return fmt.Errorf("read message %d: %w", ids, err)
	}
	d := &store.DamagedError{IDs: ids, Cause: err}
	l.events.damaged.Add(float64(len(ids)))
	l.log.Error("stored messages are damaged", "ids", ids, "err", err)
	return d
}

// messages reads the given results in their order, until their stanzas are longer than size; 0 reads all. cut tells
// that some were left. Damaged ones are left out, and named by the error.
func (l *Log) messages(ctx context.Context, results []result, size int) (found []store.Message, cut bool, err error) {
	var (
		d       decoder
		damaged []store.MessageID
		cause   error
	)
	found = make([]store.Message, 0, len(results))
	read := 0
	for _, r := range results {
		if size > 0 && read > size {
			cut = true
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
		var m store.Message
		var err error
		if r.marker == nil {
			m, err = l.message(r.id, &d)
		} else if m, err = l.result(r.marker); err != nil {
			return nil, false, err
		}
		if err == nil {
			found = append(found, m)
			read += len(m.Stanza)
			continue
		}
		if unreadable(err) {
			return nil, false, fmt.Errorf("message %d: %w", r.id, err)
		}
		if damaged = append(damaged, r.id); cause == nil {
			cause = err
		}
	}
	if damaged != nil {
		slices.Sort(damaged)
		return found, cut, l.damage(cause, damaged...)
	}
	return found, cut, nil
}

// Since implements store.MessageReader.
func (l *Log) Since(ctx context.Context, after store.MessageID, limit int) ([]store.Message, error) {
	done, err := l.use(ctx)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	defer done()
	upto := store.MessageID(l.visible.Load())
	if after >= upto {
		return nil, nil
	}
	markers, err := l.changes(
		ctx, everything, span{after: after, before: upto + 1, limit: limit}, func(*change) bool { return true },
	)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	it, err := l.db.NewIter(&engine.IterOptions{
		LowerBound: idKey(nil, keyMessage, uint64(after)+1),
		UpperBound: idKey(nil, keyMessage, uint64(upto)+1),
	})
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	defer it.Close()
	var (
		d       decoder
		found   []store.Message
		damaged []store.MessageID
		cause   error
	)
	// The two are merged: whichever is next.
	for ok := it.First(); (ok || len(markers) > 0) && len(found)+len(damaged) < limit; {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("read log: %w", err)
		}
		id := newest
		if ok {
			id = store.MessageID(firstNumber(it.Key()))
		}
		var m store.Message
		if len(markers) > 0 && markers[0].id < id {
			m, err = l.result(&markers[0])
			if err != nil {
				return nil, fmt.Errorf("read log: %w", err)
			}
			markers = markers[1:]
		} else {
			m, err = l.decode(&d, id, it.Value())
			ok = it.Next()
		}
		if err == nil {
			found = append(found, m)
			continue
		}
		if damaged = append(damaged, id); cause == nil {
			cause = err
		}
	}
	if err := it.Error(); err != nil {
		return found, l.damage(&readError{err}, damaged...)
	}
	if damaged != nil {
		return found, l.damage(cause, damaged...)
	}
	return found, nil
}

// Numbered implements store.MessageReader.
func (l *Log) Numbered(
	ctx context.Context, conversation store.ConversationID, first uint64, limit int,
) ([]store.Message, error) {
	done, err := l.use(ctx)
	if err != nil {
		return nil, fmt.Errorf("read a conversation: %w", err)
	}
	defer done()
	var results []result
	err = l.walk(
		keyConversation, uint64(conversation), store.MessageID(l.visible.Load()),
	).numbered(
		first,
		func(e entry) bool {
			if len(results) < limit {
				results = append(results, result{id: e.id})
			}
			return len(results) < limit
		},
	)
	if err != nil {
		return nil, fmt.Errorf("read a conversation: %w", err)
	}
	messages, _, err := l.messages(ctx, results, 0)
	return messages, err
}

// Last implements store.MessageReader.
func (l *Log) Last(ctx context.Context) (store.MessageID, error) {
	done, err := l.use(ctx)
	if err != nil {
		return 0, fmt.Errorf("find the last message: %w", err)
	}
	defer done()
	return store.MessageID(l.visible.Load()), nil
}

// Origin implements store.ConversationReader.
func (l *Log) Origin(ctx context.Context, author store.Party, originID string) (store.Sent, error) {
	done, err := l.use(ctx)
	if err != nil {
		return store.Sent{}, fmt.Errorf("look up an origin-id: %w", err)
	}
	defer done()
	e, err := l.sent(author, originID)
	return store.Sent{ID: e.id, Conversation: e.conversation, Seq: e.seq, ContentHash: e.hash}, err
}

// errNoOrigin: nobody has sent anything under that origin-id.
var errNoOrigin = fmt.Errorf("origin-id: %w", store.ErrNotFound)

// sent returns what was sent under an origin-id, or errNoOrigin.
func (l *Log) sent(author store.Party, originID string) (e originEntry, err error) {
	if originID == "" {
		return e, errNoOrigin
	}
	key := originKey(author, originID)
	if e, known := l.recents.origin(&key); known {
		return e, nil
	}
	// What is packed was taken out of memory after it was written, so that nothing falls between the two.
	value, err := l.get(key[:])
	if err == nil && value == nil {
		return e, errNoOrigin
	}
	if err == nil {
		e, err = decodeOrigin(value)
	}
	if err != nil {
		return e, fmt.Errorf("look up an origin-id: %w", err)
	}
	return e, nil
}

// Named implements store.ConversationReader.
func (l *Log) Named(
	ctx context.Context, id store.ConversationID, author store.Party, text string,
) (uint64, store.MessageID, error) {
	done, err := l.use(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("look up a stanza id: %w", err)
	}
	defer done()
	e, err := l.sent(author, text)
	if err == nil && e.conversation == id {
		return e.seq, e.id, nil
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return 0, 0, err
	}
	n := nameOf(id, author, text)
	if seq, id := l.recents.named(n); id != 0 {
		return seq, id, nil
	}
	seq, message, err := l.storedName(id, n) // as above
	if err != nil {
		return 0, 0, fmt.Errorf("look up a stanza id: %w", err)
	}
	if message == 0 {
		return 0, 0, fmt.Errorf("stanza id: %w", store.ErrNotFound)
	}
	return seq, message, nil
}
