package c2s

import (
	"context"
	"time"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// stanza takes a stanza of a bound client into the domain. A message goes on its way while the next item is read. An IQ
// that the server answers waits until what the client sent before is stored, so that it reads what it wrote; what goes
// to others waits until that is delivered, so that they see the client's order (RFC 6120 §10.1).
func (c *conn) stanza(ctx context.Context, item *stream.Item, now int64) {
	s, b := item.Stanza, c.bound
	c.srv.metrics.in[s.Kind].Inc()
	full := b.session.JID()
	if !s.From.IsZero() && s.From != full && s.From != full.Bare() { // RFC 6120 §8.1.2.1
		c.fail(stream.Fail(stream.InvalidFrom, ""))
		return
	}
	s.From = full
	if s.Lang == "" { // RFC 6120 §8.1.5
		s.Lang = c.lang
	}
	refusal := item.Malformed
	if refusal == nil && s.Kind == stanza.IQ {
		refusal = s.CheckIQ()
	}
	e := &router.Envelope{Stanza: s, Origin: &b.origin, Stored: b.onStored, Delivered: b.onDelivered}
	if !b.begin(ctx, c, e, now, c.waitsFor(s)) {
		return
	}
	switch {
	case refusal != nil:
		c.refuse(s, refusal)
	case s.Kind == stanza.IQ && c.ownIQ(ctx, s):
	default:
		c.srv.config.Router.Accept(ctx, e)
		return
	}
	b.stored(e)
	b.delivered(e)
}

// waits says what of that which a client has sent before a stanza waits for.
type waits uint8

const (
	forNothing waits = iota
	forStored
	forDelivered
)

func (c *conn) waitsFor(s *stanza.Stanza) waits {
	switch {
	case s.Kind == stanza.Message:
		return forNothing
	case s.Kind == stanza.IQ && (s.To.IsZero() || !s.To.IsFull() && s.To.Domain() == c.srv.config.Domain):
		return forStored // the domain answers, for itself or for an account
	}
	return forDelivered
}

// refuse answers a stanza with an error, where an answer is allowed.
func (c *conn) refuse(s *stanza.Stanza, e *stanza.Error) {
	if reply := s.ErrorReply(e); reply != nil {
		c.bound.Send(&stream.Packet{Stanza: reply})
	}
}

// begin counts a stanza as being on its way. It first waits: for room in flight and in the client's own queue, and for
// what the stanza must not overtake. It returns false when the session has ended or moved meanwhile.
func (b *bound) begin(ctx context.Context, c *conn, e *router.Envelope, now int64, w waits) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.flight.len()
	if n > 0 && w >= forStored || b.undelivered.Load() > 0 && w >= forDelivered || n >= b.srv.config.MaxInFlight ||
		b.choked() {
		most := b.srv.config.MaxInFlight / 2 // not one by one
		if w >= forStored {
			most = 0
		}
		b.awaiting.Add(1)
		err := b.wait(ctx, func() bool {
			return b.flight.len() <= most && (w < forDelivered || b.undelivered.Load() == 0) && !b.choked() ||
				b.state != live || b.at != c || b.broken
		})
		b.awaiting.Add(-1)
		if err != nil {
			c.phase = phaseClosed
			return false
		}
	}
	if b.state != live || b.at != c {
		c.phase = phaseClosed
		return false
	}
	b.flight.push(flying{envelope: e, since: now})
	b.undelivered.Add(1)
	return true
}

// delivered is Envelope.Delivered. It runs on a worker of the router.
func (b *bound) delivered(*router.Envelope) {
	if b.undelivered.Add(-1) == 0 && b.awaiting.Load() > 0 {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.cond.Broadcast()
	}
}

// deliveredTime bounds the wait for the delivery of what a session that ends has sent.
const deliveredTime = time.Second

// awaitDelivered waits until what the session has sent is delivered, so that others hear of its end after it, but not
// for long: that nothing gets on at one of them must not keep the session from ending.
func (b *bound) awaitDelivered() {
	if b.undelivered.Load() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(b.srv.background, deliveredTime)
	defer cancel()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.awaiting.Add(1)
	defer b.awaiting.Add(-1)
	_ = b.wait(ctx, func() bool { return b.undelivered.Load() == 0 }) // when it takes too long, the order is given up
}

// stored is Envelope.Stored: the stanza is durable or was handled, or refused. It runs on the goroutine of whoever
// finished the chain, for messages the archive's committer. h only counts the stanzas before the first that is not
// finished (XEP-0198 §4).
func (b *bound) stored(e *router.Envelope) {
	message := e.Stanza.Kind == stanza.Message
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.flight.len() {
		f := b.flight.at(i)
		if f.envelope != e {
			continue
		}
		f.envelope = nil
		if message {
			b.srv.metrics.ack.Observe(time.Duration(b.srv.now() - f.since).Seconds())
		}
		break
	}
	n := 0
	for n < b.flight.len() && b.flight.at(n).envelope == nil {
		n++
	}
	if n > 0 {
		b.flight.pop(n)
		b.land(n)
	}
	if b.confirm && message && e.Receipt.ID != 0 && e.Receipt.Err == nil && b.state != ended {
		b.push(entry{receipt: newReceipt(e), size: confirmationCost})
	}
	if b.acksOwed > 0 || b.state == closing {
		b.kick()
	}
}

// land counts n stanzas as handled and finds the <r/> that can be answered now. b.mu is held.
func (b *bound) land(n int) {
	if b.sm != nil {
		b.handled += uint32(n)
		due := 0
		for due < len(b.asks) && int32(b.handled-b.asks[due].at) >= 0 {
			b.acksOwed += b.asks[due].count
			due++
		}
		if due > 0 {
			b.asks = append(b.asks[:0], b.asks[due:]...)
		}
	}
	b.cond.Broadcast()
}

// ownIQ answers the requests that concern the connection itself. It reports whether s was one.
func (c *conn) ownIQ(ctx context.Context, s *stanza.Stanza) bool {
	if !s.IsRequest() || !c.toServer(s.To) {
		return false
	}
	e := &s.Payload[0]
	var refusal *stanza.Error
	var result []stanza.Element
	switch {
	case e.Space == nsSession && e.Local == "session" && s.Type == stanza.TypeSet:
		// RFC 3921 §3: nothing is left to be done; old clients wait for the answer.
	case e.Space == nsBind && e.Local == "bind":
		refusal = stanza.Refuse(stanza.NotAllowed, "A stream has one resource.") // RFC 6120 §7.1
	case e.Space == nsConfirm && s.Type == stanza.TypeSet:
		refusal = c.setConfirm(e)
	case e.Space == nsRegister && e.Local == "query":
		result, refusal = c.registerOwn(ctx, s)
	default:
		return false
	}
	if refusal != nil {
		c.refuse(s, refusal)
		return true
	}
	c.bound.Send(&stream.Packet{Stanza: s.Reply(result...)})
	if e.Space == nsRegister && s.Type == stanza.TypeSet {
		c.registrationChanged(e)
	}
	return true
}

// toServer reports whether an address is the server's, the client's own account's, or none, which means the account
// (RFC 6120 §10.3.3).
func (c *conn) toServer(to jid.JID) bool {
	return to.IsZero() || to.String() == c.srv.config.Domain || to == c.bound.session.JID().Bare()
}
