package archive

import (
	"context"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// entry is one message on its way through the committer.
type entry struct {
	// envelope is nil for an entry that only tells, by its change's outcome, that all before it are stored.
	envelope *router.Envelope
	accepted time.Time
	// stored says that message is to be stored; otherwise the entry only keeps its order.
	stored  bool
	message store.Append
	// said is the stanza as it came: what the author sends again is compared with that.
	said *stanza.Stanza
	// markers are what it moves, together with its message when that is stored.
	markers []*store.Append
	// receipt: the marker that says what was delivered comes of a receipt for one message (XEP-0184).
	receipt bool
	// tells: it says something beside what moves markers to those who are there, and is not stored.
	tells bool
	// change is what it does to an earlier message, nil for nothing, which is nearly always.
	change *change
	// moderation: the archive itself sends it, see Moderate, and it passes no further stage.
	moderation bool
}

// size is what the entry counts for in bounds of bytes.
func (e *entry) size() int { return len(e.message.Stanza) }

// queue holds what waits for the committer, in order of arrival. It is swapped whole, so that everything that
// arrived while the disk was busy is the next batch.
//
// Policy: when it is full, put waits. Nothing is ever dropped from it.
type queue struct {
	maxMessages, maxBytes int           // fixed
	wake                  chan struct{} // of one: the queue is no longer empty

	mu      sync.Mutex // guards the rest
	entries []entry
	bytes   int
	room    chan struct{} // closed when the queue was taken or ended; nil when nobody waits
	ended   bool
	over    chan struct{} // closed by end
}

func newQueue(maxMessages, maxBytes int) *queue {
	return &queue{maxMessages: maxMessages, maxBytes: maxBytes, wake: make(chan struct{}, 1), over: make(chan struct{})}
}

// put appends a copy of e, and waits while the queue is full. It reports false when e was not taken because the
// queue has ended or ctx is done.
func (q *queue) put(ctx context.Context, e *entry) bool {
	q.mu.Lock()
	for !q.ended && q.full(e.size()) {
		if q.room == nil {
			q.room = make(chan struct{})
		}
		room := q.room
		q.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return false
		}
		q.mu.Lock()
	}
	if q.ended {
		q.mu.Unlock()
		return false
	}
	q.entries = append(q.entries, *e)
	q.bytes += e.size()
	first := len(q.entries) == 1
	q.mu.Unlock()
	if first {
		select {
		case q.wake <- struct{}{}:
		default: // it is awake already
		}
	}
	return true
}

// full must be called with mu held. An empty queue takes anything.
func (q *queue) full(size int) bool {
	return len(q.entries) > 0 && (len(q.entries) >= q.maxMessages || q.bytes+size > q.maxBytes)
}

// take returns everything that waits and leaves spare, which must be empty, in its place.
func (q *queue) take(spare []entry) []entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.entries
	q.entries, q.bytes = spare, 0
	q.release()
	return taken
}

// end makes put fail from now on and releases everybody who waits in it. What was put before can still be taken.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.ended {
		q.ended = true
		close(q.over)
	}
	q.release()
}

// release must be called with mu held.
func (q *queue) release() {
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}

func (q *queue) depth() (messages, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.entries), q.bytes
}
