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

// packMessages is how many messages are gathered in memory before their index entries are written. The more there are, the more
// of them belong to one conversation and share a block. They take about 100 bytes each, and are read back at start.
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
	w.blocks(keyConversation, slices.Sorted(maps.Keys(r.conversations)), r)
	w.origins(r)
	w.accounts(keyReceived, slices.Sorted(maps.Keys(r.received)), r)
	w.accounts(keySent, slices.Sorted(maps.Keys(r.sent)), r)
	last := r.positions[len(r.positions)-1].id
	w.finish(r.positions[0].id, last)
	if errors.Is(w.err, errClosed) {
		return // the journal has it all
	}
	if w.err != nil {
		l.events.fail(fmt.Errorf("write the index: %w", w.err))
		return
	}
	l.recents.drop(last)
}

// packer writes index entries in batches of a limited size. After the first error it does nothing.
type packer struct {
	log     *Log
	batch   *engine.Batch
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

// finish declares the indexes complete through last, and drops the journal of the part.
func (w *packer) finish(first, last store.MessageID) {
	w.set([]byte{keyIndexed}, binary.BigEndian.AppendUint64(nil, uint64(last)))
	if w.err == nil {
		w.err = w.batch.DeleteRange(idKey(nil, keyJournal, uint64(first)), idKey(nil, keyJournal, uint64(last)+1), nil)
	}
	w.apply()
}

func (w *packer) set(key, value []byte) {
	if w.err != nil {
		return
	}
	if w.batch == nil {
		w.batch = w.log.db.NewBatch()
	}
	set(w.batch, key, value)
	if w.batch.Len() >= packBatchBytes && key[0] != keyIndexed {
		w.apply()
	}
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
