package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/store"
)

// packMessages is how many messages, and changes of markers, are gathered in memory before their index entries are
// written. The more there are, the more of them belong to one conversation and share a block. They take about 100 bytes
// each, and are read back at start.
const packMessages = 1 << 16

// packLimit is by how much the messages in memory may exceed packMessages before Append waits.
const packLimit = 4

// packBatchBytes is how much is given to the engine at a time. A commit has to wait for the batch before it.
const packBatchBytes = 64 << 10

// packing is the state of the goroutine that writes index entries. Owned by Append and Close.
type packing struct {
	// done is closed when the goroutine has ended; nil before the first.
	done chan struct{}
}

// packIfDue starts to write index entries when enough have gathered. When that falls far behind, it waits.
func (l *Log) packIfDue(ctx context.Context) error {
	for {
		frozen, waiting := l.recents.freeze(l.opts.packMessages)
		if frozen != nil {
			l.packing.done = make(chan struct{})
			go l.pack(frozen, l.packing.done)
			return nil
		}
		if waiting < packLimit*l.opts.packMessages {
			return nil
		}
		select {
		case <-l.packing.done:
		case <-l.events.failed:
			return l.Err()
		case <-ctx.Done():
			return fmt.Errorf("wait for the index: %w", context.Cause(ctx))
		}
	}
}

// pack writes the index entries of a frozen part. It needs no flush of its own: the entries come after the messages in
// the engine's log, and until the last of them is durable the journal entries are not gone.
func (l *Log) pack(r *recent, done chan<- struct{}) {
	defer close(done)
	defer func() {
		if p := recover(); p != nil {
			l.events.fail(fmt.Errorf("write the index: %v", p))
		}
	}()
	w := packer{log: l}
	conversations := slices.Sorted(maps.Keys(r.conversations))
	w.blocks(keyConversation, conversations, r)
	w.origins(r)
	w.names(conversations, r)
	w.accounts(keyReceived, slices.Sorted(maps.Keys(r.received)), r)
	w.accounts(keySent, slices.Sorted(maps.Keys(r.sent)), r)
	w.activity(r)
	w.markers(r)
	w.finish(r)
	if errors.Is(w.err, errClosed) {
		return // the journal has it all
	}
	if w.err != nil {
		l.events.fail(fmt.Errorf("write the index: %w", w.err))
		return
	}
	l.recents.drop(r.last)
}

// packer writes index entries in batches of a limited size. After the first error it does nothing.
type packer struct {
	log   *Log
	batch *engine.Batch
	// whole: what is added belongs together, in one batch.
	whole   bool
	err     error
	entries []entry
	buf     []byte
}

func (w *packer) blocks(prefix byte, keys []store.ConversationID, r *recent) {
	for _, key := range keys {
		w.list(prefix, uint64(key), r.index(prefix, uint64(key)))
	}
}

func (w *packer) accounts(prefix byte, keys []store.AccountID, r *recent) {
	for _, key := range keys {
		w.list(prefix, uint64(key), r.index(prefix, uint64(key)))
	}
}

// list writes one conversation's or account's entries. A part that is written again after a crash
// begins with the same entry, so that its blocks take the places of the former.
func (w *packer) list(prefix byte, number uint64, l list) {
	for begin := 0; begin < len(l.at); begin += blockEntries {
		w.entries = w.entries[:0]
		for i := begin; i < min(begin+blockEntries, len(l.at)); i++ {
			w.entries = append(w.entries, l.entry(i))
		}
		first := uint64(w.entries[0].id)
		if prefix == keyConversation {
			first = w.entries[0].seq
		}
		var key [pairKeySize]byte
		w.buf = appendBlock(w.buf[:0], w.entries)
		w.set(pairKey(key[:0], prefix, number, first), w.buf)
	}
}

func (w *packer) origins(r *recent) {
	keys := make([][originKeySize]byte, 0, len(r.origins))
	for key := range r.origins {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b [originKeySize]byte) int { return bytes.Compare(a[:], b[:]) })
	for _, key := range keys {
		e := r.origins[key]
		w.buf = appendOrigin(w.buf[:0], &e)
		w.set(key[:], w.buf)
	}
}

// markers writes the current ones, and takes what they replace out of the lists.
func (w *packer) markers(r *recent) {
	var buf [markerKeySize]byte
	for at := range r.changes {
		c := &r.changes[at]
		if w.err != nil || r.current[c.marker] != int32(at) {
			continue
		}
		key := c.marker.key(buf[:0])
		var old store.MessageID
		if value, err := w.log.get(key); err != nil {
			w.err = err
			return
		} else if value != nil {
			old, _, _ = decodeMarker(value) // a damaged one is replaced; what it had in lists is not current
		}
		// One piece: an entry that is not current must not be left in a list.
		w.whole = true
		w.buf = appendMarker(w.buf[:0], c)
		w.set(key, w.buf)
		w.buf = appendChange(w.buf[:0], c)
		var listed [pairKeySize]byte
		c.lists(func(l changeList) {
			if old != 0 && old != c.id {
				w.delete(pairKey(listed[:0], l.prefix, l.number, uint64(old)))
			}
			w.set(pairKey(listed[:0], l.prefix, l.number, uint64(c.id)), w.buf)
		})
		w.whole = false
	}
}

// indexedEnd is the value of the indexed entry: through which identity the indexes are complete, the last message by
// then, and the last batch, 8 bytes each.
type indexedEnd struct {
	last, lastMessage store.MessageID
	batch             uint64
}

func appendIndexed(dst []byte, e *indexedEnd) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.last))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.lastMessage))
	return binary.BigEndian.AppendUint64(dst, e.batch)
}

func decodeIndexed(b []byte) (e indexedEnd, err error) {
	r := reader{b: b}
	e = indexedEnd{store.MessageID(r.number()), store.MessageID(r.number()), r.number()}
	return e, r.end()
}

// finish declares the indexes complete, and drops the journal of the part.
func (w *packer) finish(r *recent) {
	w.whole = true
	w.set([]byte{keyIndexed}, appendIndexed(nil, &indexedEnd{r.last, r.lastMessage, r.batch}))
	if w.err == nil {
		w.err = w.batch.DeleteRange(
			idKey(nil, keyJournal, uint64(r.first)), idKey(nil, keyJournal, uint64(r.last)+1), nil,
		)
	}
	w.apply()
}

func (w *packer) set(key, value []byte) {
	if b := w.room(); b != nil {
		set(b, key, value)
	}
}

// merge adds a value to what is under a key: the engine appends it.
func (w *packer) merge(key, value []byte) {
	if b := w.room(); b != nil {
		w.err = b.Merge(key, value, nil)
	}
}

func (w *packer) delete(key []byte) {
	if b := w.room(); b != nil {
		w.err = b.Delete(key, nil)
	}
}

// room returns a batch with room for another entry, nil after an error.
func (w *packer) room() *engine.Batch {
	if w.err == nil && w.batch != nil && w.batch.Len() >= packBatchBytes && !w.whole {
		w.apply()
	}
	if w.err != nil {
		return nil
	}
	if w.batch == nil {
		w.batch = w.log.db.NewBatch()
	}
	return w.batch
}

// apply gives the batch to the engine.
func (w *packer) apply() {
	if w.err != nil || w.batch == nil {
		return
	}
	if w.err = w.log.packerMayGoOn(); w.err != nil {
		return
	}
	if w.err = w.log.db.Apply(w.batch, engine.NoSync); w.err == nil {
		// A failed commit is reported as success, see Fatalf.
		w.err = w.log.Err()
	}
	if w.err == nil {
		w.err = w.batch.Close()
	}
	w.batch = nil
}
