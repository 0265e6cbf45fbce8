package pebble

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
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

// messages reads the given messages in their order. Damaged ones are left out, and named by the error.
func (l *Log) messages(ctx context.Context, ids []store.MessageID) ([]store.Message, error) {
	var (
		d       decoder
		found   = make([]store.Message, 0, len(ids))
		damaged []store.MessageID
		cause   error
	)
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m, err := l.message(id, &d)
		if err == nil {
			found = append(found, m)
			continue
		}
		if unreadable(err) {
			return nil, fmt.Errorf("message %d: %w", id, err)
		}
		if damaged = append(damaged, id); cause == nil {
			cause = err
		}
	}
	if damaged != nil {
		return found, l.damage(cause, damaged...)
	}
	return found, nil
}

// Since implements store.MessageReader.
func (l *Log) Since(ctx context.Context, after store.MessageID, limit int) ([]store.Message, error) {
	done, err := l.use(ctx)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	defer done()
	visible := l.visible.Load()
	if uint64(after) >= visible {
		return nil, nil
	}
	it, err := l.db.NewIter(&engine.IterOptions{
		LowerBound: idKey(nil, keyMessage, uint64(after)+1),
		UpperBound: idKey(nil, keyMessage, visible+1),
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
	for ok := it.First(); ok && len(found)+len(damaged) < limit; ok = it.Next() {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("read log: %w", err)
		}
		id := store.MessageID(binary.BigEndian.Uint64(it.Key()[1:]))
		m, err := l.decode(&d, id, it.Value())
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

// InHistory implements store.MessageReader.
func (l *Log) InHistory(ctx context.Context, owner store.AccountID, id store.MessageID) (bool, error) {
	done, err := l.use(ctx)
	if err != nil {
		return false, fmt.Errorf("look up history: %w", err)
	}
	defer done()
	if owner == 0 || id == 0 {
		return false, nil
	}
	for _, prefix := range [2]byte{keyReceived, keySent} {
		in := false
		err := l.walk(prefix, uint64(owner)).forward(id-1, func(e entry) bool {
			in = e.id == id && e.bits&viewArchive != 0
			return false
		})
		if err != nil {
			return false, fmt.Errorf("look up history: %w", err)
		}
		if in {
			return true, nil
		}
	}
	return false, nil
}

// DeliveryCursor implements store.MessageReader.
func (l *Log) DeliveryCursor(ctx context.Context, owner store.AccountID) (store.DeliveryCursor, error) {
	done, err := l.use(ctx)
	if err != nil {
		return store.DeliveryCursor{}, fmt.Errorf("read delivery cursor: %w", err)
	}
	defer done()
	return l.cursor(owner)
}

func (l *Log) cursor(owner store.AccountID) (store.DeliveryCursor, error) {
	value, closer, err := l.db.Get(idKey(make([]byte, 0, idKeySize), keyCursor, uint64(owner)))
	if errors.Is(err, engine.ErrNotFound) {
		return store.DeliveryCursor{}, nil
	}
	if err != nil {
		return store.DeliveryCursor{}, fmt.Errorf("read delivery cursor: %w", err)
	}
	defer closer.Close()
	m, err := decodeCursor(owner, value)
	if err != nil {
		return store.DeliveryCursor{}, fmt.Errorf("read delivery cursor of account %d: %w", owner, err)
	}
	return m, nil
}

// Undelivered implements store.MessageReader.
func (l *Log) Undelivered(ctx context.Context, owner store.AccountID, after store.MessageID, limit int) ([]store.Message, error) {
	done, err := l.use(ctx)
	if err != nil {
		return nil, fmt.Errorf("read undelivered messages: %w", err)
	}
	defer done()
	cursor, err := l.cursor(owner)
	if err != nil {
		return nil, err
	}
	var ids []store.MessageID
	for _, id := range cursor.Missed {
		if id == 0 || id <= after || id > cursor.Through {
			continue
		}
		err = l.walk(keyReceived, uint64(owner)).forward(id-1, func(e entry) bool {
			if e.id == id && e.bits&viewOffline != 0 {
				ids = append(ids, id)
			}
			return false
		})
		if err != nil {
			return nil, fmt.Errorf("read undelivered messages: %w", err)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	passed := 0
	err = l.walk(keyReceived, uint64(owner)).forward(max(after, cursor.Through), func(e entry) bool {
		if passed++; passed%checkEvery == 0 && ctx.Err() != nil {
			return false
		}
		if e.bits&viewOffline != 0 && len(ids) < limit {
			ids = append(ids, e.id)
		}
		return len(ids) < limit
	})
	if err = cmp.Or(err, ctx.Err()); err != nil {
		return nil, fmt.Errorf("read undelivered messages: %w", err)
	}
	return l.messages(ctx, ids[:min(len(ids), limit)])
}

// Bounds implements store.MessageReader.
func (l *Log) Bounds(ctx context.Context, owner store.AccountID) (first, last store.MessageID, err error) {
	done, err := l.use(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("find the bounds of an archive: %w", err)
	}
	defer done()
	for _, prefix := range [2]byte{keyReceived, keySent} {
		w := l.walk(prefix, uint64(owner))
		begin, end := store.MessageID(0), store.MessageID(0)
		archived := func(found *store.MessageID) func(entry) bool {
			return func(e entry) bool {
				if e.bits&viewArchive != 0 {
					*found = e.id
				}
				return *found == 0
			}
		}
		err = errors.Join(w.forward(0, archived(&begin)), w.backward(math.MaxUint64, archived(&end)))
		if err != nil {
			return 0, 0, fmt.Errorf("find the bounds of an archive: %w", err)
		}
		if begin != 0 && (first == 0 || begin < first) {
			first = begin
		}
		last = max(last, end)
	}
	if first == 0 {
		return 0, 0, fmt.Errorf("archive of account %d: %w", owner, store.ErrNotFound)
	}
	return first, last, nil
}

// Conversation implements store.MessageReader.
func (l *Log) Conversation(ctx context.Context, a, b store.Party) (store.ConversationID, uint64, error) {
	done, err := l.use(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("find a conversation: %w", err)
	}
	defer done()
	p, _ := pairOf(sideOf(a), sideOf(b))
	id, err := l.conversation(p)
	if err != nil {
		return 0, 0, err
	}
	last := uint64(0)
	err = l.walk(keyConversation, uint64(id)).backward(math.MaxUint64, func(e entry) bool {
		last = e.seq
		return false
	})
	if err != nil {
		return 0, 0, fmt.Errorf("find a conversation: %w", err)
	}
	if last == 0 {
		// It begins with a batch that is being flushed.
		return 0, 0, fmt.Errorf("conversation: %w", store.ErrNotFound)
	}
	return id, last, nil
}

// conversation looks a pair up, or returns store.ErrNotFound.
func (l *Log) conversation(p pair) (store.ConversationID, error) {
	var buf [128]byte
	value, closer, err := l.db.Get(partiesKey(buf[:0], p))
	if errors.Is(err, engine.ErrNotFound) {
		return 0, fmt.Errorf("conversation: %w", store.ErrNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("find a conversation: %w", err)
	}
	defer closer.Close()
	if len(value) != 8 {
		return 0, fmt.Errorf("find a conversation: %w", errShort)
	}
	return store.ConversationID(binary.BigEndian.Uint64(value)), nil
}

// Numbered implements store.MessageReader.
func (l *Log) Numbered(ctx context.Context, conversation store.ConversationID, first uint64, limit int) ([]store.Message, error) {
	done, err := l.use(ctx)
	if err != nil {
		return nil, fmt.Errorf("read a conversation: %w", err)
	}
	defer done()
	var ids []store.MessageID
	err = l.walk(keyConversation, uint64(conversation)).numbered(first, func(e entry) bool {
		if len(ids) < limit {
			ids = append(ids, e.id)
		}
		return len(ids) < limit
	})
	if err != nil {
		return nil, fmt.Errorf("read a conversation: %w", err)
	}
	return l.messages(ctx, ids)
}
