package c2s

import (
	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// fifo is a queue in a slice. The zero value is empty and holds no memory; an idle one gives its memory back
// when it has grown beyond what a quiet conversation needs.
type fifo[T any] struct {
	items []T
	head  int
}

// keepItems is the capacity that an empty fifo may keep.
const keepItems = 8

func (q *fifo[T]) len() int    { return len(q.items) - q.head }
func (q *fifo[T]) at(i int) *T { return &q.items[q.head+i] }
func (q *fifo[T]) push(v T) {
	if q.head > 0 && len(q.items) == cap(q.items) && q.head >= len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

// pop drops the first n items.
func (q *fifo[T]) pop(n int) {
	clear(q.items[q.head : q.head+n])
	q.head += n
	if q.head < len(q.items) {
		return
	}
	q.head = 0
	if cap(q.items) > keepItems {
		q.items = nil
		return
	}
	q.items = q.items[:0]
}

// entry is one thing that waits for a client: a packet, or a confirmation that is made when it is written.
type entry struct {
	packet  *stream.Packet
	receipt *receipt
	size    int // estimated bytes
}

// flying is a stanza of the client on its way through the acceptance chain. A finished one that has to wait for
// earlier ones has a nil envelope.
type flying struct {
	envelope *router.Envelope
	since    int64 // nanoseconds since the server's epoch
}

// ask is a number of <r/> that are answered when so many stanzas are handled.
type ask struct {
	at    uint32
	count int
}

// confirmationCost is what a confirmation takes, about.
const confirmationCost = 400
