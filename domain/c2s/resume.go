package c2s

import (
	"context"
	"strconv"
	"time"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// endedStream remembers a stream that can be resumed no more, so that a late <resume/> can be told what was handled
// (XEP-0198 §5). The state of streams lives in this process only: after a restart nothing can be resumed, and
// clients catch up from the archive.
type endedStream struct {
	account uint64
	handled uint32
}

// hibernate keeps the session for its client to resume. It reports false when the session must end instead.
// b.mu is held and b has no connection.
func (b *bound) hibernate() bool {
	b.sm.expires = b.srv.now() + int64(b.sm.max)
	if !b.srv.sleep(b) {
		return false
	}
	b.srv.metrics.sessions[hibernating].Inc()
	return true
}

// wake ends hibernation. b.mu is held.
func (b *bound) wake() {
	if b.srv.awake(b) {
		b.srv.metrics.sessions[hibernating].Dec()
	}
}

// expired is the sweeper's: whether a hibernating session is over; if so it is closing and must be ended.
func (b *bound) expired(now int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	// so that h is exact
	if b.state != live || b.at != nil || b.sm.claimed || now < b.sm.expires || b.flight.len() > 0 {
		return false
	}
	b.state, b.reason = closing, endedByExpiry
	return true
}

// resume handles <resume/> on a stream that is authenticated and not bound (XEP-0198 §5).
func (c *conn) resume(ctx context.Context, e *stanza.Element) {
	b, failure := c.claim(e)
	if c.phase == phaseClosed {
		return
	}
	first := func(resumed stanza.Element) [][]byte { return [][]byte{c.codec.AppendElement(nil, &resumed)} }
	switch {
	case b == nil:
		c.refuseResume(failure)
	case !b.takeOver(ctx, c, first):
		c.refuseResume(failed(stanza.ItemNotFound))
	default:
		c.resumed(b)
	}
}

// resumed ends the negotiation with a session that was there before. The login by which it was resumed must be good,
// too.
func (c *conn) resumed(b *bound) {
	basis := int64(c.neg.account.Basis)
	c.srv.metrics.resumed.Inc()
	c.setBound(b)
	c.srv.config.Sessions.Confirm(b.session, basis)
}

// claim finds the session that <resume/> asks for, and reserves it. Without one, failure is the answer, or the stream
// was ended. A device cannot resume the stream of another one, which would outlive its own sign-out.
func (c *conn) claim(e *stanza.Element) (claimed *bound, failure stanza.Element) {
	id, okID := parseStreamID(e.Attr("previd"))
	h, okH := parseH(e)
	if !okH {
		return nil, failed(stanza.BadRequest)
	}
	b, past, foreign := c.srv.stream(id, uint64(c.neg.account.ID))
	if foreign {
		c.srv.config.Log.Warn("a client tried to resume the stream of another account", "event", "resume_foreign",
			"account", c.neg.account.ID, "remote", c.link.Remote().Addr().String())
	}
	if !okID || b == nil || c.neg.device != "" && b.session.Device() != c.neg.device {
		answer := failed(stanza.ItemNotFound)
		if past != nil {
			answer.Attrs = []stanza.Attr{{Local: "h", Value: strconv.FormatUint(uint64(past.handled), 10)}}
		}
		return nil, answer
	}
	ok, wrong := b.claim(h)
	switch {
	case wrong != nil:
		c.fail(wrong)
		return nil, failure
	case !ok:
		return nil, failed(stanza.ItemNotFound)
	}
	return b, failure
}

// refuseResume answers that there is nothing to resume; the client may bind a resource instead.
func (c *conn) refuseResume(answer stanza.Element) {
	c.srv.metrics.refused.Inc()
	if c.failure() {
		return
	}
	c.send(c.codec.AppendElement(nil, &answer))
}

// claim reserves the session for one of those who want to resume it, takes it from its old connection and drops what h
// acknowledges.
func (b *bound) claim(h uint32) (ok bool, failure *stream.Error) {
	var buf [32]uint64
	b.mu.Lock()
	if b.state != live || b.sm.claimed {
		b.mu.Unlock()
		return false, nil
	}
	n, below, failure := b.newlyAcked(h)
	if failure != nil || below { // below: what it lacks is not here any more
		b.mu.Unlock()
		return false, failure
	}
	b.sm.claimed = true
	old, busy := b.at, b.flushing
	if old != nil {
		b.detach()
		b.hibernate() // should it fail, takeOver deals with it
	}
	ids := b.take(n, buf[:0])
	b.mu.Unlock()
	if old != nil {
		old.supersede(busy)
	}
	b.report(ids)
	return true, nil
}

// takeOver attaches a claimed session to c, when all that its old connection has sent is handled, so that h is exact.
// first makes what is written before anything else.
func (b *bound) takeOver(ctx context.Context, c *conn, first func(resumed stanza.Element) [][]byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.holds.Store(b) // before it is asleep no more, so that whoever looks for it finds it
	err := b.wait(ctx, func() bool { return b.flight.len() == 0 || b.state != live })
	b.sm.claimed = false
	if b.state == live && err != nil && b.srv.draining.Load() {
		b.closeLocked(nil, endedByShutdown, true)
	}
	if err != nil || b.state != live {
		c.holds.Store(nil)
		return false
	}
	b.wake()
	b.sent, b.sm.askedAt, b.sm.unasked = 0, 0, 0 // what is left is sent again, in order, and then what came meanwhile
	resumed := stanza.New(nsSM, "resumed", "previd", b.sm.id.String(), "h", strconv.FormatUint(uint64(b.handled), 10))
	b.attachLocked(c, first(resumed)...)
	return true
}

// supersede ends a connection whose session was resumed over another one (XEP-0198 §5: conflict). busy says that
// a write on it is under way, so that nothing more can be said there.
func (c *conn) supersede(busy bool) {
	if busy {
		c.srv.spawn(c.abort)
		return
	}
	c.srv.spawn(func() {
		t := time.AfterFunc(c.srv.config.CloseTimeout, c.abort)
		defer t.Stop()
		e := stream.Fail(stream.Conflict, "The stream was resumed over another connection.")
		if err := c.link.Send([][]byte{c.codec.AppendError(nil, e), c.codec.AppendClose(nil)}); err != nil {
			c.abort()
			return
		}
		c.closeWritten(e)
	})
}

// giveBack returns packets to whoever can still do something with them.
func (b *bound) giveBack(packets []*stream.Packet) {
	s := b.srv
	if len(packets) == 0 {
		return
	}
	s.metrics.returned.Add(float64(len(packets)))
	if s.config.Returner == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			s.panicked("return", p)
		}
	}()
	ctx, cancel := context.WithTimeout(s.background, returnTimeout)
	defer cancel()
	s.config.Returner.Return(ctx, b.session, packets)
}
