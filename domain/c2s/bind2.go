package c2s

import (
	"crypto/rand"

	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// tagRandom is how many characters of five random bits follow the client's tag in a resource: nobody guesses them.
const tagRandom = 16

// bindInline binds a resource within the login (XEP-0386 §3.2) and reports whether it did, or has ended the stream.
// When the account has too many resources the login goes on without one: the client is told by what it does not find in
// <success/>, and may bind as in RFC 6120.
func (c *conn) bindInline(e *stanza.Element, s *success) bool {
	resource := rand.Text()[:tagRandom]
	if tag := e.ChildText(nsBind2, "tag"); tag != "" {
		if full, err := c.neg.bare.WithResource(tag + "~" + resource); err == nil {
			resource = full.Resource()
		}
	}
	b := newBound(c.srv)
	bound, refusal := c.srv.config.Sessions.Bind(session.Binding{
		Account: uint64(c.neg.account.ID), Bare: c.neg.bare, Resource: resource, Outbox: b, Device: c.neg.device,
		Basis: int64(c.neg.account.Basis),
	})
	if refusal != nil {
		return false
	}
	b.own(bound)
	if e.Child(payload.NSCarbons, "enable") != nil {
		c.srv.config.Sessions.SetCarbons(bound, true)
	}
	result := stanza.New(nsBind2, "bound")
	b.mu.Lock()
	b.confirm = e.Child(nsConfirm, "enable") != nil
	over := b.state != live // its login was overtaken, or somebody has ended it in this very moment
	if enable := e.Child(nsSM, "enable"); enable != nil && !over {
		result = result.With(b.startManagement(enable))
	}
	b.mu.Unlock()
	if over {
		c.notAttached(b)
		return true
	}
	s.parts = append(s.parts, result)
	c.holds.Store(b)
	first := c.opening(s.element(bound.JID()), c.featuresBound())
	attached := false
	if c.dec.Buffered() > 0 { // presence, most likely: its echo goes out with the answer
		attached = b.attachCorked(c, first)
	} else {
		c.send(first...) // here, for what a writer costs; there is none before attach
		if c.phase == phaseClosed {
			c.holds.Store(nil)
			b.Close(nil)
			return true
		}
		attached = b.attach(c)
	}
	if !attached {
		c.notAttached(b)
		return true
	}
	c.setBound(b)
	c.srv.config.Sessions.Supersede(bound)
	return true
}

// attachCorked is attach for a client that has said more: nothing is written before the next stanza was handled, or
// something else comes. That stanza waits for nothing but room in the archive's queue.
func (b *bound) attachCorked(c *conn, first [][]byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != live || b.at != nil || b.sm != nil && b.sm.claimed {
		return false
	}
	b.flushing = true // as a writer would
	b.attachLocked(c, first...)
	c.corked = b
	return true
}

// uncork writes what has gathered, and leaves the rest to a writer. It is called at the latest before feed returns.
func (c *conn) uncork() {
	b := c.corked
	if b == nil {
		return
	}
	c.corked = nil
	if b.writeTurns(nil, 2) { // the second finds nothing, as a rule
		b.srv.writers.work(b)
	}
}

// resumeInline resumes a stream within the login (XEP-0198 §9.2) and reports whether it did, or has ended the stream.
// Otherwise <failed/> is part of the success, and a resource is bound if the client asks for one.
func (c *conn) resumeInline(e *stanza.Element, s *success) bool {
	b, failure := c.claim(e)
	if c.phase == phaseClosed {
		return true
	}
	if b != nil {
		features := c.featuresBound()
		first := func(resumed stanza.Element) [][]byte {
			s.parts = append(s.parts, resumed)
			return c.opening(s.element(b.session.JID()), features)
		}
		if b.takeOver(c.neg.ctx, c, first) {
			c.resumed(b)
			return true
		}
		failure = failed(stanza.ItemNotFound)
	}
	c.srv.metrics.refused.Inc()
	s.parts = append(s.parts, failure)
	return false
}

// featuresBound is the list for a client that has its resource already.
func (c *conn) featuresBound() stanza.Element {
	return stanza.New(stanza.NSStream, "features").With(c.sessionFeatures()...)
}
