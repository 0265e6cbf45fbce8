package roster

import (
	"context"

	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// maxRequest is how large a request to subscribe is kept; a larger one is kept without what it says.
const maxRequest = 4 << 10

// Subscribe takes a subscription stanza that a session of an account sends (RFC 6121 §3, Appendix A.2).
func (k *Contacts) Subscribe(ctx context.Context, s *session.Session, p *stanza.Stanza) *stanza.Error {
	o := owner{s.Account(), s.JID().Bare()}
	contact := p.To.Bare()
	kind := kindOf(p.Type)
	if kind < 0 || contact == o.bare {
		return nil // everybody sees his own presence (§4.2.2); there is nothing to subscribe to
	}
	k.metrics.subscriptions.WithLabelValues("out", p.Type).Inc()
	if kind == subscribe && k.asked.Take(o.id, 1) > 0 {
		return stanza.Refuse(stanza.PolicyViolation, "Too many subscriptions were asked for.")
	}
	before, done, push, refusal := k.applyOutbound(ctx, o, contact, kind)
	if refusal != nil {
		return refusal
	}
	if kind == unsubscribed && before.From {
		k.showUnavailable(ctx, o, contact) // while the contact may still see it (§3.2.2)
	}
	push() // before the stanza is routed, since an answer may come at once
	if done.pass {
		// §3.1.2: from and to are bare, whatever the client wrote; the rest of the stanza is the client's own.
		out := *p
		out.From, out.To = o.bare, contact
		k.config.Forward(ctx, &stream.Packet{Stanza: &out})
	}
	if kind == subscribed && done.pass {
		k.showAvailable(ctx, o, contact) // §3.1.5
	}
	return nil
}

// applyOutbound changes the roster by a stanza that its owner sends. before is the item as it was.
func (k *Contacts) applyOutbound(ctx context.Context, o owner, contact jid.JID, kind int) (before store.RosterItem,
	done step, push func(), refusal *stanza.Error) {
	apply := k.within(ctx, o, func(it *store.RosterItem) error {
		done = outbound[kind][stateOf(it)]
		done.next.set(it)
		switch {
		case done.approve:
			it.Approved, it.Listed = true, true // §3.4.2
		case kind == unsubscribed:
			it.Approved = false // nothing remains of a request without a subscription
		}
		if kind == subscribe || kind == subscribed && done.pass {
			it.Listed = true // §3.1.2, §3.1.5
		}
		return nil
	})
	before, push, refusal = k.change(ctx, o, contact, k.config.MaxItems, apply)
	return before, done, push, refusal
}

// Receive takes a subscription stanza or a probe that was sent to an account of this domain (RFC 6121 §3, §4.3.2,
// Appendix A.3).
func (k *Contacts) Receive(ctx context.Context, account uint64, p *stanza.Stanza) {
	o := owner{account, p.To.Bare()}
	from := p.From.Bare()
	if p.Type == stanza.TypeProbe {
		k.probed(ctx, o, p)
		return
	}
	kind := kindOf(p.Type)
	if kind < 0 || from.IsZero() || from == o.bare {
		return
	}
	k.metrics.subscriptions.WithLabelValues("in", p.Type).Inc()
	in := *p
	in.From, in.To = from, o.bare
	before, done, push, ok := k.applyInbound(ctx, o, &in, kind)
	if !ok {
		return
	}
	if done.pass {
		k.deliver(o, &in, kind == subscribe)
	}
	if done.reply != "" {
		k.forward(ctx, o, from, done.reply)
	}
	push() // §3.1.6, §3.2.3, §3.3.3: after the presence that it follows from
	switch {
	case done.reply == stanza.TypeSubscribed:
		// Approved in advance (§3.4.3), or long ago and the contact's server has forgotten (§3.1.3).
		k.showAvailable(ctx, o, from)
	case kind == unsubscribe && before.From:
		k.showUnavailable(ctx, o, from) // §3.3.3
	}
}

// applyInbound changes the roster by a stanza that its owner is sent. ok is false when nothing may happen.
func (k *Contacts) applyInbound(ctx context.Context, o owner, in *stanza.Stanza, kind int) (before store.RosterItem,
	done step, push func(), ok bool) {
	before, push, refusal := k.change(ctx, o, in.From, k.config.MaxRequests, func(it *store.RosterItem) error {
		state, waited := stateOf(it), it.PendingIn
		done = inbound[kind][state]
		if next, due := approved[state]; kind == subscribe && it.Approved && due {
			done = step{next: next, reply: stanza.TypeSubscribed}
		}
		done.next.set(it)
		if it.PendingIn && !waited {
			it.Request = encodeRequest(in)
		}
		if !it.Listed && state != None && done.next == None {
			done.pass = false // §3.3.3: only the record of the request is removed; there is no subscription
		}
		return nil
	})
	return before, done, push, refusal == nil
}

// encodeRequest returns a request to subscribe in the form in which it waits.
func encodeRequest(p *stanza.Stanza) []byte {
	if b := xmlstream.Marshal(nil, p); len(b) <= maxRequest {
		return b
	}
	bare := *p
	bare.Payload = nil
	if len(bare.ID) > maxRequest/2 {
		bare.ID = ""
	}
	return xmlstream.Marshal(nil, &bare)
}

// deliver gives a subscription stanza to the account's devices: a request to those that are available (§3.1.3),
// anything else to those that are interested in the roster (§3.1.6, §3.2.3, §3.3.3).
func (k *Contacts) deliver(o owner, p *stanza.Stanza, request bool) {
	packet := &stream.Packet{Stanza: p}
	k.sessions.Visit(o.bare, func(u *session.User) {
		for s := range u.All {
			if request && u.Presence(s) != nil || !request && u.Interested(s) {
				u.Send(s, packet)
			}
		}
	})
}

// forward sends subscription presence of the account's own.
func (k *Contacts) forward(ctx context.Context, o owner, to jid.JID, kind string) {
	k.config.Forward(ctx, &stream.Packet{Stanza: &stanza.Stanza{Kind: stanza.Presence, Type: kind, From: o.bare,
		To: to}})
}
