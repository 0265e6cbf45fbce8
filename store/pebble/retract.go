package pebble

import (
	"cmp"
	"encoding/binary"
	"slices"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/store"
)

// A retracted message's record is written anew, in its place, without its content. The index keeps what it says of the
// message, since its blocks and the positions in memory never change; that the message does not count any more is said
// by an entry of its own:
//
//	retracted | conversation | number → the id of the message that took the content out, 8 bytes
//
// A reader that counts looks whether there are such entries in its range. One whose message it may not see yet it
// leaves out.

// retraction is a stored message whose content is taken out by the batch.
type retraction struct {
	message store.Message // as it is from now on
	by      store.MessageID
	before  []byte // the record that is there
}

// retract takes the content out of a message for the sake of the message by. A message that is not there, or has no
// content any more, is left as it is; so is a damaged one, whose other fields are unknown.
func (l *Log) retract(id store.MessageID, remains []byte, by store.MessageID) error {
	w := &l.writer
	if at, found := slices.BinarySearchFunc(
		w.messages, id, func(m *store.Message, id store.MessageID) int { return cmp.Compare(m.ID, id) },
	); found {
		if m := *w.messages[at]; takenOut(&m, remains) {
			w.messages[at] = &m // the caller's is left as it is
			p := &w.journal.positions[at]
			p.flags = p.flags&(fromSecond|inRoom) | byte(m.Flags)
		}
		return nil
	}
	if slices.ContainsFunc(w.retracted, func(r *retraction) bool { return r.message.ID == id }) {
		return nil
	}
	var key [idKeySize]byte
	before, err := l.get(idKey(key[:0], keyMessage, uint64(id)))
	if err != nil && !engine.IsCorruptionError(err) {
		return err
	}
	if err == nil && before == nil {
		return nil
	}
	r := &retraction{by: by, before: before}
	if err == nil {
		var d decoder
		r.message, err = d.decode(id, before)
	}
	if err != nil {
		_ = l.damage(err, id) // it is counted and logged
		return nil
	}
	if takenOut(&r.message, remains) {
		w.retracted = append(w.retracted, r)
	}
	return nil
}

// takenOut takes the content out, and reports whether there was any.
func takenOut(m *store.Message, remains []byte) bool {
	if m.Flags&store.Retracted != 0 {
		return false
	}
	m.Flags = m.Flags&^store.Unread | store.Retracted
	m.Stanza = remains
	return true
}

// writeAnew encodes what the batch changes of what was there: messages that are retracted, members and rights. It
// returns what was there; nil when nothing changes.
func (l *Log) writeAnew(b *engine.Batch) (pending, error) {
	w := &l.writer
	if len(w.retracted)+len(w.members)+len(w.rights) == 0 {
		return nil, nil
	}
	p := make(pending)
	var key [markerKeySize]byte
	for _, r := range w.retracted {
		op := b.SetDeferred(idKeySize, recordSize(&r.message))
		idKey(op.Key[:0], keyMessage, uint64(r.message.ID))
		putRecord(op.Value, &r.message)
		p[string(op.Key)] = r.before
		finish(op)
		set(b, pairKey(key[:0], keyRetracted, uint64(r.message.Conversation), r.message.Seq),
			binary.BigEndian.AppendUint64(nil, uint64(r.by)))
	}
	change := func(key, value []byte) error {
		if _, twice := p[string(key)]; !twice {
			before, err := l.get(key)
			if err != nil {
				return err
			}
			p[string(key)] = before
		}
		set(b, key, value)
		return nil
	}
	for i := range w.members {
		m := &w.members[i]
		w.buf = appendMember(w.buf[:0], &m.Member)
		if err := change(pairKey(key[:0], keyMember, uint64(m.conversation), uint64(m.Account)), w.buf); err != nil {
			return nil, err
		}
		set(b, inKey(key[:0], m.Account, store.Room, m.conversation), nil)
	}
	for id, number := range w.rights {
		w.buf = binary.AppendUvarint(w.buf[:0], number)
		if err := change(idKey(key[:0], keyRights, uint64(id)), w.buf); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// retractedFrom returns which numbers of a conversation, from one on, do not count any more.
func (l *Log) retractedFrom(conversation store.ConversationID, first uint64) (map[uint64]bool, error) {
	_, upper := bounds(keyRetracted, uint64(conversation))
	it, err := l.db.NewIter(&engine.IterOptions{
		LowerBound: pairKey(nil, keyRetracted, uint64(conversation), first), UpperBound: upper,
	})
	if err != nil {
		return nil, err
	}
	var found map[uint64]bool
	for ok := it.First(); ok; ok = it.Next() {
		if uint64(firstID(it.Value())) > l.visible.Load() {
			continue
		}
		if found == nil {
			found = make(map[uint64]bool)
		}
		found[secondNumber(it.Key())] = true
	}
	return found, it.Close()
}

// pending holds, for keys that a batch writes anew, what was there before; nil for nothing. The engine shows a write
// before it is flushed: a reader looks here after it has read one of these keys. Nobody changes it once it is
// published.
type pending map[string][]byte

// publish makes it known before the engine has the batch. It is withdrawn when the batch is durable.
func (l *Log) publish(p pending) {
	if p != nil {
		l.pending.Store(&p)
	}
}

// durable returns what the value of a key was when everything that is visible had been flushed.
func (l *Log) durable(key, value []byte) []byte {
	p := l.pending.Load()
	if p == nil {
		return value
	}
	if before, ok := (*p)[string(key)]; ok {
		return before
	}
	return value
}
