package c2s

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// bound is a client that has a resource: what waits to be written to it, what it has sent that is not yet stored, and
// its stream management. It is the session's Outbox. It outlives its connection when the stream can be resumed.
//
// The reader of the connection that is attached, the writer, the committer, whoever delivers to it and the sweeper all
// touch it under mu. Lock order: a user's mutex in session, then mu, then Server.mu. Nothing outside is called under
// mu.
type bound struct {
	srv     *Server
	session *session.Session // set by own, before the first attach
	origin  router.Origin    // as session
	// b.stored and b.delivered, made once.
	onStored, onDelivered func(*router.Envelope)

	undelivered atomic.Int32 // stanzas of the client whose delivery is not over
	awaiting    atomic.Int32 // who waits for undelivered to become 0

	mu   sync.Mutex // guards everything below
	cond sync.Cond  // on mu: something changed that the reader, a resumption or the end may wait for

	at    *conn // the connection, nil while there is none
	state state
	// broken: writing failed, or must not be tried any more; the reader is about to find out.
	broken bool
	// flushing: a writer is at work; there is never more than one.
	flushing bool
	// urgent: the stream error and footer do not wait for the queue.
	urgent    bool
	finalSent bool
	returned  bool // what was left was given back
	confirm   bool // urn:posthouse:confirm:1 is on
	pong      bool // a ping is to be answered
	reason    endReason
	last      *stream.Error // what the stream is closed with; nil is an orderly close
	timer     *time.Timer   // aborts a close that takes too long

	// queue holds, in order: sent entries that wait for <a/>, entries being written, and entries that wait.
	queue         fifo[entry]
	sent, writing int
	bytes         int      // of the whole queue, estimated
	pending       int      // bytes of the entries that wait
	control       [][]byte // elements to be written before the entries that wait
	acksOwed      int      // answers to <r/> that are due now
	progress      int64    // when the client last took something, in nanoseconds since the server's epoch

	flight  fifo[flying]
	handled uint32 // stanzas handled since stream management was enabled, modulo 2^32 (XEP-0198 §4)
	asks    []ask
	sm      *management // nil: not enabled
}

// state is the life of a bound client. It only rises.
type state uint8

const (
	live    state = iota // bound, with or without a connection
	closing              // a stream error or footer is pending
	ended                // the session is over; what still arrives is given back
)

var _ session.Outbox = (*bound)(nil)

func newBound(srv *Server) *bound {
	b := &bound{srv: srv}
	b.cond.L = &b.mu
	b.onStored, b.onDelivered = b.stored, b.delivered
	return b
}

// own tells b whose outbox it is. Until then it may be sent to and even closed, by who got to know it through the
// manager.
func (b *bound) own(s *session.Session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.session = s
	b.origin = router.Origin{Kind: router.Client, Account: s.Account(), Address: s.JID(), Session: s}
	b.cond.Broadcast()
}

// Send queues a packet. It never blocks. When the queue is full, the connection is cut off: a resumable session
// hibernates and ends when even then more arrives; any other is told <resource-constraint/> and ends, and what it did
// not get is given back.
func (b *bound) Send(p *stream.Packet) {
	size := p.Size()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.returned || b.state == closing && b.at != nil && b.over(burst) {
		// The session is over, or its close is still being written and the queue is full: what still comes goes back by
		// itself.
		b.srv.spawn(func() { b.giveBack([]*stream.Packet{p}) })
		return
	}
	b.push(entry{packet: p, size: size})
}

// push queues an entry and sees that it is written. b.mu is held.
func (b *bound) push(e entry) {
	if b.queue.len() == 0 {
		b.progress = b.srv.now()
	}
	b.queue.push(e)
	b.bytes += e.size
	b.pending += e.size
	if b.over(1) && b.state == live {
		b.overflow()
	}
	b.kick()
}

// over reports whether the queue is beyond its bound, taken so many times. One single entry is never too much. b.mu is
// held.
func (b *bound) over(times int) bool {
	c := &b.srv.config
	return b.queue.len() > times*c.QueueStanzas || b.bytes > times*c.QueueBytes && b.queue.len() > 1
}

// burst is how many times its bound a queue may hold while the client is taking things from it, and asleep the same for
// a session that hibernates, or is about to.
const (
	burst  = 4
	asleep = 2
)

// overflow applies the policy for a queue that is over its bound. b.mu is held, b.state is live.
func (b *bound) overflow() {
	switch {
	case b.at == nil:
		if b.over(asleep) {
			b.closeLocked(nil, endedByOverflow, true)
		}
	case b.broken:
		if b.over(burst) {
			b.closeLocked(nil, endedByOverflow, true)
		}
	case !b.over(burst) && b.srv.now()-b.progress < int64(stallTime):
		// The client is taking it.
	case !b.resumable():
		b.closeLocked(stream.Fail(stream.ResourceConstraint, "Too much waits for this client to read."),
			endedByOverflow, true)
	case b.over(asleep):
		b.closeLocked(nil, endedByOverflow, true)
		b.sever()
	default:
		b.reason = endedByOverflow
		b.sever()
	}
}

// sever cuts the connection without a stream error. b.mu is held.
func (b *bound) sever() {
	if b.at == nil || b.broken {
		return
	}
	b.broken = true
	b.cond.Broadcast()
	b.srv.spawn(b.at.abort)
}

// WaitRoom returns when less than half of the queue's bound is in use, unacknowledged stanzas included, and fails when
// ctx ends or the session does. While the session hibernates it waits. It must not be called on the goroutine that
// reads from this client, which is the one that takes its acknowledgements in.
func (b *bound) WaitRoom(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &b.srv.config
	err := b.wait(ctx, func() bool {
		return b.queue.len() <= c.QueueStanzas/2 && b.bytes <= c.QueueBytes/2 || b.state != live
	})
	if err == nil && b.state != live {
		err = errEnded
	}
	return err
}

// Detached reports whether the session waits for its client to resume it.
func (b *bound) Detached() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state == live && b.at == nil && b.sm != nil && b.sm.expires != 0 && !b.sm.claimed
}

// errEnded: the session is over.
var errEnded = errors.New("the session has ended")

// Close ends the stream with the given error, nil for an orderly close, after what is queued was written
// and what the client has sent was stored and acknowledged. It does not wait for that.
func (b *bound) Close(e *stream.Error) {
	reason := endedByAdmin
	if e != nil && e.Condition == stream.Conflict {
		reason = endedByConflict
	}
	b.shut(e, reason, false)
}

func (b *bound) shut(e *stream.Error, reason endReason, urgent bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == live {
		b.closeLocked(e, reason, urgent)
	}
}

// shutBy is shut for what one connection has done. It does nothing when the session has moved to another connection
// meanwhile, or is not yet on this one, and reports that.
func (b *bound) shutBy(c *conn, e *stream.Error, reason endReason) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != live {
		return true
	}
	if b.at != c {
		return false
	}
	b.closeLocked(e, reason, false)
	return true
}

// closeLocked begins the end. b.mu is held and b.state is live.
func (b *bound) closeLocked(e *stream.Error, reason endReason, urgent bool) {
	b.state, b.last, b.reason, b.urgent = closing, e, reason, urgent
	b.cond.Broadcast()
	if b.at == nil {
		b.srv.spawn(b.end)
		return
	}
	patience := b.srv.config.CloseTimeout
	if urgent {
		patience = min(patience, stallTime)
	}
	b.timer = time.AfterFunc(patience, b.giveUp)
	b.kick()
}

// giveUp cuts the connection of a session that takes too long to end.
func (b *bound) giveUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sever()
}

// resumable reports whether the session outlives its connection. b.mu is held.
func (b *bound) resumable() bool {
	return b.state == live && b.sm != nil && b.sm.max > 0 && !b.srv.draining.Load()
}

// attach gives b its first connection, with bytes to be written before anything else. It fails when the session is
// over, or its client was so quick that it resumes it elsewhere already.
func (b *bound) attach(c *conn, first ...[]byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != live || b.at != nil || b.sm != nil && b.sm.claimed {
		return false
	}
	b.attachLocked(c, first...)
	return true
}

// notAttached ends a connection whose session was over before it could be attached, or is resumed elsewhere: with the
// error that the session was closed with, such as that its device was signed out, else with <conflict/>.
func (c *conn) notAttached(b *bound) {
	c.holds.Store(nil)
	b.mu.Lock()
	why, reason := b.last, b.reason
	b.mu.Unlock()
	if why == nil {
		why, reason = stream.Fail(stream.Conflict, ""), endedByConflict
	}
	c.reason = reason
	c.fail(why)
}

// attachLocked is attach for who holds b.mu and has seen that b is live.
func (b *bound) attachLocked(c *conn, first ...[]byte) {
	b.at, b.broken, b.reason = c, false, endedByLink
	b.control = append(b.control, first...)
	b.pending = b.bytes
	b.progress = b.srv.now()
	b.srv.metrics.sessions[c.transport].Inc()
	b.kick()
}

// detach takes the connection away. What was being written may or may not have arrived. b.mu is held.
func (b *bound) detach() {
	b.srv.metrics.sessions[b.at.transport].Dec()
	b.at = nil
	b.sent += b.writing
	b.writing = 0
	b.control, b.acksOwed, b.asks, b.pong = nil, 0, nil, false
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	b.cond.Broadcast()
}

// gone is called by the reader of c when it has ended, with the link closed: the session hibernates or ends.
func (b *bound) gone(c *conn) {
	b.mu.Lock()
	if b.at == c {
		b.broken = true
	}
	for b.at == c && b.flushing { // the link is closed, so this is short
		b.cond.Wait()
	}
	if b.at != c {
		b.mu.Unlock()
		return
	}
	if b.resumable() && !c.fatal {
		b.detach()
		if b.hibernate() {
			b.mu.Unlock()
			return
		}
	}
	if b.state == live {
		b.state = closing
	}
	b.mu.Unlock()
	b.end()
}

// end ends the session: it is unbound, and what was never seen to arrive is given back. It runs once.
func (b *bound) end() {
	b.mu.Lock()
	if b.state == ended {
		b.mu.Unlock()
		return
	}
	b.state = ended
	if b.at != nil {
		b.detach()
	} else {
		b.wake()
	}
	for b.flushing || b.session == nil {
		b.cond.Wait()
	}
	b.cond.Broadcast()
	handled, exact := b.handled, b.flight.len() == 0
	b.mu.Unlock()
	b.awaitDelivered()

	b.srv.metrics.ended[b.reason].Inc()
	b.srv.retire(b, handled, exact)
	b.srv.config.Sessions.Unbind(b.session)

	b.mu.Lock()
	left := b.takeAll()
	b.returned = true
	b.mu.Unlock()
	b.giveBack(left)
}

// takeAll empties the queue and returns its packets in order. b.mu is held.
func (b *bound) takeAll() []*stream.Packet {
	var out []*stream.Packet
	for i := range b.queue.len() {
		if p := b.queue.at(i).packet; p != nil {
			out = append(out, p)
		}
	}
	b.queue = fifo[entry]{}
	b.sent, b.writing, b.bytes, b.pending = 0, 0, 0, 0
	return out
}

// pop drops n entries from the front, and appends to ids those that were stored, for the caller to report as delivered
// when it has let go of mu. b.mu is held.
func (b *bound) pop(n int, ids []uint64) []uint64 {
	for i := range n {
		e := b.queue.at(i)
		b.bytes -= e.size
		if e.packet != nil {
			for id := range e.packet.Stored {
				ids = append(ids, id)
			}
		}
	}
	b.queue.pop(n)
	b.progress = b.srv.now()
	return ids
}

// report tells the marker. b.mu is not held.
func (b *bound) report(ids []uint64) {
	if m := b.srv.config.Marker; m != nil {
		for _, id := range ids {
			m.Delivered(b.session.Account(), id)
		}
	}
}

// wait blocks until ready, called under b.mu, says so, or ctx is done. b.mu is held, and let go of meanwhile.
func (b *bound) wait(ctx context.Context, ready func() bool) error {
	if ready() {
		return nil
	}
	stop := context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.cond.Broadcast()
	})
	defer stop()
	for !ready() {
		if err := ctx.Err(); err != nil {
			return err
		}
		b.cond.Wait()
	}
	return nil
}
