package pebble

import (
	"errors"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/store"
)

// A walk visits the entries of one index in order: first the blocks on disk, as far as they are complete, then
// what is in memory; backward the other way round. A visit returns false to end the walk.
type walk struct {
	db         *engine.DB
	prefix     byte
	number     uint64
	upto       store.MessageID
	indexed    store.MessageID
	old, young list
	entries    []entry
}

// errStop ends a walk from inside.
var errStop = errors.New("enough")

// walk makes one that visits nothing beyond an identity. A reader that walks several indexes gives each the same, which
// it has found to be visible before: what becomes visible meanwhile would be seen in one of them and missed in another.
func (l *Log) walk(prefix byte, number uint64, upto store.MessageID) *walk {
	w := &walk{db: l.db, prefix: prefix, number: number, upto: upto}
	w.indexed, w.old, w.young = l.recents.lists(prefix, number)
	return w
}

// forward visits entries with an id greater than after.
func (w *walk) forward(after store.MessageID, visit func(entry) bool) error {
	return w.onward(after, func(it *engine.Iterator) bool { return w.blockWith(it, after) },
		func(e entry) bool { return e.id > after }, func(l list) int { return l.after(after) }, visit)
}

// numbered visits the entries of a conversation from number first on.
func (w *walk) numbered(first uint64, visit func(entry) bool) error {
	return w.onward(0, func(it *engine.Iterator) bool { return it.SeekLT(w.key(first+1)) || it.First() },
		func(e entry) bool { return e.seq >= first }, func(l list) int { return l.number(first) }, visit)
}

// onward visits what is wanted, beginning with the block that seek finds and the position that from finds in a list.
func (w *walk) onward(
	after store.MessageID, seek func(*engine.Iterator) bool, wanted func(entry) bool, from func(list) int,
	visit func(entry) bool,
) error {
	if after < w.indexed {
		err := w.blocks(seek, false, func(entries []entry) error {
			for _, e := range entries {
				if e.id > w.upto || wanted(e) && !visit(e) {
					return errStop
				}
			}
			return nil
		})
		if err != nil {
			return stopped(err)
		}
	}
	for _, l := range [2]list{w.old, w.young} {
		for i := from(l); i < len(l.at); i++ {
			if e := l.entry(i); e.id > w.upto || !visit(e) {
				return nil
			}
		}
	}
	return nil
}

// backward visits entries with an id less than before.
func (w *walk) backward(before store.MessageID, visit func(entry) bool) error {
	if w.upto < newest {
		before = min(before, w.upto+1)
	}
	last := min(before-1, w.indexed)
	return w.back(func(it *engine.Iterator) bool { return w.blockWith(it, last) },
		func(e entry) bool { return e.id < before }, func(l list) int { return l.after(before - 1) }, visit)
}

// numberedBack visits the entries of a conversation from number last down.
func (w *walk) numberedBack(last uint64, visit func(entry) bool) error {
	return w.back(
		func(it *engine.Iterator) bool { return it.SeekLT(w.key(last + 1)) },
		func(e entry) bool { return e.seq <= last && e.id <= w.upto }, func(l list) int { return l.number(last + 1) },
		visit,
	)
}

// back visits what is wanted, the other way round than onward; end finds the position in a list beyond the last.
func (w *walk) back(
	seek func(*engine.Iterator) bool, wanted func(entry) bool, end func(list) int, visit func(entry) bool,
) error {
	for _, l := range [2]list{w.young, w.old} {
		for i := end(l) - 1; i >= 0; i-- {
			if e := l.entry(i); wanted(e) && !visit(e) {
				return nil
			}
		}
	}
	if w.indexed == 0 {
		return nil
	}
	return stopped(w.blocks(seek, true, func(entries []entry) error {
		for i := len(entries) - 1; i >= 0; i-- {
			if wanted(entries[i]) && !visit(entries[i]) {
				return errStop
			}
		}
		return nil
	}))
}

func stopped(err error) error {
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

func (w *walk) key(second uint64) []byte { return pairKey(nil, w.prefix, w.number, second) }

// blocks opens the index on disk, seeks, and visits block after block. Entries beyond indexed are left out: they are
// what a crash interrupted, or what is in memory too.
func (w *walk) blocks(seek func(*engine.Iterator) bool, back bool, visit func([]entry) error) error {
	lower, upper := bounds(w.prefix, w.number)
	it, err := w.db.NewIter(&engine.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	defer it.Close()
	step := it.Next
	if back {
		step = it.Prev
	}
	for ok := seek(it); ok; ok = step() {
		w.entries, err = decodeBlock(w.entries[:0], secondNumber(it.Key()), it.Value())
		if err != nil {
			return err
		}
		for len(w.entries) > 0 && w.entries[len(w.entries)-1].id > w.indexed {
			w.entries = w.entries[:len(w.entries)-1]
		}
		if len(w.entries) == 0 && !back {
			break
		}
		if err := visit(w.entries); err != nil {
			return err
		}
	}
	return it.Error()
}

// blockWith moves to the last block that begins at or before id, else to the first.
func (w *walk) blockWith(it *engine.Iterator, id store.MessageID) bool {
	if w.prefix == keyConversation {
		return w.search(it, id)
	}
	return it.SeekLT(w.key(uint64(id)+1)) || it.First()
}

// search is blockWith in a conversation, whose blocks are found by number: numbers rise with identities. It doubles
// the distance from the end, where most questions are about, until it has passed the position, then halves the range.
func (w *walk) search(it *engine.Iterator, id store.MessageID) bool {
	if !it.Last() {
		return false
	}
	if firstID(it.Value()) <= id {
		return true
	}
	// The block at low begins at or before id, or low is 0; the one at high begins after it.
	high, low := secondNumber(it.Key()), uint64(0)
	for distance := uint64(blockEntries); distance < high && low == 0; distance *= 2 {
		if !it.SeekLT(w.key(high - distance + 1)) {
			break
		}
		if firstID(it.Value()) <= id {
			low = secondNumber(it.Key())
		} else {
			high = secondNumber(it.Key())
		}
	}
	for low+1 < high {
		middle := low + (high-low)/2
		// The block that holds the number in the middle, or the first.
		if !it.SeekLT(w.key(middle+1)) || secondNumber(it.Key()) <= low {
			// No block begins between low and middle.
			low = middle
			continue
		}
		if firstID(it.Value()) <= id {
			low = secondNumber(it.Key())
		} else {
			high = secondNumber(it.Key())
		}
	}
	return it.SeekLT(w.key(high)) || it.First()
}
