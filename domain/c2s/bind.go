package c2s

import (
	"time"

	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// bind handles the request for a resource (RFC 6120 §7).
func (c *conn) bind(item *stream.Item) {
	s := item.Stanza
	refuse := func(e *stanza.Error) {
		if c.failure() {
			return
		}
		s.From, s.To = jid.JID{}, jid.JID{}
		c.send(c.codec.AppendStanza(nil, s.ErrorReply(e)))
	}
	if item.Malformed != nil {
		refuse(item.Malformed)
		return
	}
	if s.CheckIQ() != nil || !s.To.IsZero() && s.To.String() != c.srv.config.Domain && s.To != c.neg.bare {
		refuse(stanza.Refuse(stanza.BadRequest, ""))
		return
	}
	resource := s.Payload[0].ChildText(nsBind, "resource")
	if resource != "" { // none, or an empty one: the server makes one (§7.6)
		full, err := c.neg.bare.WithResource(resource)
		if err != nil { // §7.7.2.1
			refuse(stanza.Refuse(stanza.BadRequest, "The resource is not valid (RFC 7622 §3.4)."))
			return
		}
		resource = full.Resource()
	}
	b := newBound(c.srv)
	bound, refusal := c.srv.config.Sessions.Bind(session.Binding{
		Account: uint64(c.neg.account.ID), Bare: c.neg.bare, Resource: resource, Outbox: b, Device: c.neg.device,
		Basis: int64(c.neg.account.Basis),
	})
	if refusal != nil {
		refuse(refusal)
		return
	}
	b.own(bound)
	result := &stanza.Stanza{Kind: stanza.IQ, Type: stanza.TypeResult, ID: s.ID, Payload: []stanza.Element{
		stanza.New(nsBind, "bind").With(stanza.New(nsBind, "jid").WithText(bound.JID().String())),
	}}
	c.holds.Store(b)
	if !b.attach(c, c.codec.AppendStanza(nil, result)) {
		// Somebody bound the same address, or ended the account, in this very moment.
		c.notAttached(b)
		return
	}
	c.setBound(b)
	c.srv.config.Sessions.Supersede(bound)
}

// setBound ends the negotiation: from here on the writer writes.
func (c *conn) setBound(b *bound) {
	c.neg.cancel()
	c.neg = nil
	c.bound, c.phase = b, phaseBound
	c.expectBytes(c.srv.config.IdleTimeout > 0)
	_ = c.link.SetReadDeadline(time.Time{})
	if k := c.kicked.Load(); k != nil { // it came before there was a writer to say it
		c.reason = k.reason
		c.fail(k.err)
	}
}
