package archive

import (
	"slices"

	"github.com/posthouse-im/posthouse/cache"
	"github.com/posthouse-im/posthouse/store"
)

// A receipt is for one message (XEP-0184), and a marker for all through one. So a receipt that comes after one for a
// later message moves nothing, and is told to those who are there; but a second device's receipt for what the first has
// told of is not. What tells them apart is held in memory for accounts that have sent receipts lately. What is not
// known counts as not told.

const (
	// maxReceivers bounds the members whose receipts are held, some 200 bytes each.
	maxReceivers = 1 << 14
	// maxSkipped bounds the ranges that are held of each.
	maxSkipped = 8
)

// receiver is a member of a conversation that sends receipts.
type receiver struct {
	conversation store.ConversationID
	account      store.AccountID
}

// receipts is what a receiver's receipts have passed over: ranges of numbers, with both their ends, in rising order.
type receipts struct {
	through uint64
	skipped [][2]uint64
}

// move notes that the marker has come through a number, single by a receipt for that one message.
func (r *receipts) move(through uint64, single bool) {
	if !single {
		r.skipped = r.skipped[:0]
	} else if through > r.through+1 {
		r.add(r.through+1, through-1)
	}
	r.through = max(r.through, through)
}

// take reports whether a number was passed over, and notes that it is told now.
func (r *receipts) take(number uint64) bool {
	at, in := slices.BinarySearchFunc(r.skipped, number, func(s [2]uint64, n uint64) int {
		switch {
		case n < s[0]:
			return 1
		case n > s[1]:
			return -1
		}
		return 0
	})
	if !in {
		return false
	}
	first, last := r.skipped[at][0], r.skipped[at][1]
	r.skipped = slices.Delete(r.skipped, at, at+1)
	if last > number {
		r.skipped = slices.Insert(r.skipped, at, [2]uint64{number + 1, last})
	}
	if first < number {
		r.skipped = slices.Insert(r.skipped, at, [2]uint64{first, number - 1})
	}
	r.trim()
	return true
}

func (r *receipts) add(first, last uint64) {
	r.skipped = append(r.skipped, [2]uint64{first, last})
	r.trim()
}

// trim forgets the oldest: they count as told.
func (r *receipts) trim() {
	if n := len(r.skipped) - maxSkipped; n > 0 {
		r.skipped = slices.Delete(r.skipped, 0, n)
	}
}

// noteReceipt notes what an entry's receipt has moved, and reports whether it moves nothing but is for a message that
// was passed over. It is for the committer.
func (a *Archive) noteReceipt(next *entry) (late bool) {
	for _, m := range next.markers {
		if m.Marker.Kind != store.MarkDelivered {
			continue
		}
		key := receiver{m.Conversation, m.Marker.Account}
		r, known := a.receipts.Get(key)
		if !known {
			r = &receipts{}
			a.receipts.Set(key, r, cache.Forever)
		}
		switch {
		case !m.Stale:
			r.move(m.Marker.Through, next.receipt)
		case next.receipt && m.Marker.Through > r.through:
			r.move(m.Marker.Through, true) // it had come further than is known
			late = true
		case next.receipt:
			late = r.take(m.Marker.Through)
		}
	}
	return late
}
