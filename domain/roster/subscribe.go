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
	before, done, refusal := k.applyOutbound(ctx, o, contact, kind)
	if refusal != nil || !done.pass {
		return refusal
	}
	// §3.1.2: from and to are bare, whatever the client wrote; the rest of the stanza is the client's own.
	out := *p
	out.From, out.To = o.bare, contact
	k.config.Forward(ctx, &stream.Packet{Stanza: &out})
	switch {
	case kind == subscribed:
		k.showAvailable(ctx, o, contact) // §3.1.5
	case kind == unsubscribed && before.From:
		k.showUnavailable(ctx, o, contact) // §3.2.2
	}
	return nil
}

// applyOutbound changes the roster by a stanza that its owner sends. before is the item as it was.
func (k *Contacts) applyOutbound(ctx context.Context, o owner, contact jid.JID, kind int) (before store.RosterItem, done step, refusal *stanza.Error) {
	mu := k.lock(o.id)
	mu.Lock()
	defer mu.Unlock()
	r, err := k.load(ctx, o.id)
	if err != nil {
		return before, done, k.broken(o, err)
	}
	before = store.RosterItem{JID: contact}
	have := r.find(contact)
	if have != nil {
		before = *have
	}
	state := stateOf(&before)
	done = outbound[kind][state]
	item := before
	done.next.set(&item)
	switch {
	case done.approve:
		item.Approved, item.Listed = true, true // §3.4.2
	case kind == unsubscribed:
		item.Approved = false
	}
	if kind == subscribe || kind == subscribed && done.pass {
		item.Listed = true // §3.1.2, §3.1.5
	}
	switch {
	case !item.Listed && have != nil && done.next == None:
		refusal = k.remove(ctx, o, r, have) // a stranger's request, declined
	case changed(&before, &item):
		refusal = k.save(ctx, o, r, item)
	}
	return before, done, refusal
}

// changed reports whether subscription or visibility differ.
func changed(a, b *store.RosterItem) bool {
	return stateOf(a) != stateOf(b) || a.Approved != b.Approved || a.Listed != b.Listed
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
	before, done, ok := k.applyInbound(ctx, o, &in, kind)
	if !ok {
		return
	}
	if done.pass {
		k.deliver(o, &in, kind == subscribe)
	}
	if done.reply != "" {
		k.forward(ctx, o, from, done.reply)
	}
	switch {
	case done.reply == stanza.TypeSubscribed:
		// Approved in advance (§3.4.3), or long ago and the contact's server has forgotten (§3.1.3).
		k.showAvailable(ctx, o, from)
	case kind == unsubscribe && before.From:
		k.showUnavailable(ctx, o, from) // §3.3.3
	}
}

// applyInbound changes the roster by a stanza that its owner is sent. ok is false when nothing may happen.
func (k *Contacts) applyInbound(ctx context.Context, o owner, in *stanza.Stanza, kind int) (before store.RosterItem, done step, ok bool) {
	mu := k.lock(o.id)
	mu.Lock()
	defer mu.Unlock()
	r, err := k.load(ctx, o.id)
	if err != nil {
		k.broken(o, err)
		return before, done, false
	}
	before = store.RosterItem{JID: in.From}
	have := r.find(in.From)
	if have != nil {
		before = *have
	}
	state := stateOf(&before)
	done = inbound[kind][state]
	if next, due := approved[state]; kind == subscribe && before.Approved && due {
		done = step{next: next, reply: stanza.TypeSubscribed}
	}
	if have == nil && kind == subscribe && r.unlisted() >= k.config.MaxRequests {
		return before, done, false
	}
	item := before
	done.next.set(&item)
	if item.PendingIn && !before.PendingIn {
		item.Request = encodeRequest(in)
	}
	switch {
	case !item.Listed && have != nil && done.next == None:
		done.pass = false // §3.3.3: only the record of a stranger's request goes
		ok = k.remove(ctx, o, r, have) == nil
	case changed(&before, &item):
		ok = k.save(ctx, o, r, item) == nil
	default:
		ok = true
	}
	return before, done, ok
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
	k.config.Forward(ctx, &stream.Packet{Stanza: &stanza.Stanza{Kind: stanza.Presence, Type: kind, From: o.bare, To: to}})
}
