package roster

import (
	"context"
	"slices"

	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// Announce tells the change of a session's presence to those who are due it (RFC 6121 §4.2, §4.4, §4.5).
// s.Broadcasting is held. When a session that has become available cannot take all at once that it is due, rest tells
// it what is left, as fast as its client reads: it is to be run on another goroutine than that which reads from the
// client, and ends with ctx, with the session, or when the session is not available any more. nil: nothing is left.
func (k *Contacts) Announce(ctx context.Context, s *session.Session, c *session.Change) (rest func(context.Context)) {
	o := owner{s.Account(), s.JID().Bare()}
	r, err := k.load(ctx, o.id)
	if err != nil {
		k.broken(o, err)
		r = &roster{} // its own devices still hear of it
	}
	switch {
	case c.Now.Type == stanza.TypeUnavailable:
		s.BeginWelcome() // an earlier one is over
		if c.Previous != nil {
			k.broadcast(ctx, o, r, c.Now)
		}
		k.endDirected(ctx, s, r, c.Previous != nil, c.Now)
	default:
		k.broadcast(ctx, o, r, c.Now)
		if c.Initial() {
			rest = k.welcome(ctx, s, o, r)
		}
	}
	if c.Now.Type == stanza.TypeUnavailable && c.Previous != nil {
		k.noteActivity(ctx, o, c.Now)
	}
	return rest
}

// Departed tells the end of a session that did not say goodbye (RFC 6121 §4.5.1). s.Broadcasting is held.
func (k *Contacts) Departed(ctx context.Context, s *session.Session, last *stanza.Stanza) {
	o := owner{s.Account(), s.JID().Bare()}
	gone := &stanza.Stanza{Kind: stanza.Presence, Type: stanza.TypeUnavailable, From: s.JID()}
	r, err := k.load(ctx, o.id)
	if err != nil {
		k.broken(o, err)
		r = &roster{}
	}
	if last != nil {
		k.broadcast(ctx, o, r, gone)
	}
	k.endDirected(ctx, s, r, last != nil, gone)
	if last != nil {
		k.noteActivity(ctx, o, gone)
	}
}

// broadcast sends presence to the contacts that are subscribed, and to the account's own available devices, the sender
// included (RFC 6121 §4.2.2, §4.4.2, §4.5.2).
func (k *Contacts) broadcast(ctx context.Context, o owner, r *roster, p *stanza.Stanza) {
	for i := range r.items {
		if r.items[i].From {
			k.tell(ctx, r.items[i].JID, p)
		}
	}
	k.sessions.SendAvailable(o.bare, addressed(p, o.bare))
}

// addressed returns presence as sent to one contact. The payload stays shared.
func addressed(p *stanza.Stanza, to jid.JID) *stream.Packet {
	out := *p
	out.To = to
	return &stream.Packet{Stanza: &out}
}

// tell sends presence to a contact that is subscribed to it by the sender's roster. Of an account of this domain, its
// own roster must say the same (RFC 6121 §4.2.3): it may be another account than the one that subscribed.
func (k *Contacts) tell(ctx context.Context, contact jid.JID, p *stanza.Stanza) {
	if !k.ours(contact) {
		k.metrics.broadcasts.Inc()
		k.config.Forward(ctx, addressed(p, contact))
		return
	}
	account := k.sessions.Connected(contact)
	if account == 0 {
		return
	}
	r, err := k.load(ctx, account)
	if err != nil {
		k.broken(owner{account, contact}, err)
		return
	}
	if it := r.find(p.From.Bare()); it == nil || !it.To {
		return
	}
	k.metrics.broadcasts.Inc()
	k.sessions.SendAvailable(contact, addressed(p, contact))
}

// endDirected tells those who got directed presence, and have not just been told by broadcast (RFC 6121 §4.6.3).
func (k *Contacts) endDirected(ctx context.Context, s *session.Session, r *roster, broadcast bool, p *stanza.Stanza) {
	for _, to := range k.sessions.TakeDirected(s) {
		if broadcast {
			if it := r.find(to.Bare()); it != nil && it.From {
				continue
			}
		}
		k.metrics.broadcasts.Inc()
		k.config.Forward(ctx, addressed(p, to))
	}
}

// welcome gives a session that has just become available the presence of its contacts and of its account's other
// devices, and the requests that wait (RFC 6121 §4.2.2, §4.3, §3.1.3), as far as it has room for it, and returns what
// gives it the rest.
func (k *Contacts) welcome(ctx context.Context, s *session.Session, o owner, r *roster) (rest func(context.Context)) {
	var found []*stream.Packet
	k.sessions.Visit(o.bare, func(u *session.User) {
		for other := range u.All {
			if p := u.Presence(other); p != nil && other != s {
				found = append(found, addressed(p, o.bare))
			}
		}
	})
	k.give(s, o, found)
	begun := s.BeginWelcome()
	for i := range r.items {
		found := k.due(ctx, s, o, &r.items[i])
		if len(found) > 0 && !s.HasRoom() {
			return func(ctx context.Context) { k.welcomeRest(ctx, s, o, r.items[i:], begun) }
		}
		k.give(s, o, found)
	}
	return nil
}

// welcomeRest goes on with a welcome. What a contact is to be shown as is looked up when there is room for it, since it
// may have changed while that was waited for.
func (k *Contacts) welcomeRest(ctx context.Context, s *session.Session, o owner, items []store.RosterItem,
	begun uint32) {
	for i := range items {
		if len(k.due(ctx, s, o, &items[i])) == 0 {
			continue
		}
		if s.WaitRoom(ctx) != nil || !s.WelcomeGoesOn(begun) {
			return
		}
		k.give(s, o, k.due(ctx, s, o, &items[i]))
	}
}

// give sends what was found to a session.
func (k *Contacts) give(s *session.Session, o owner, found []*stream.Packet) {
	if len(found) == 0 {
		return
	}
	k.sessions.Visit(o.bare, func(u *session.User) {
		for _, p := range found {
			u.Send(s, p)
		}
	})
}

// due returns what a session that becomes available is told of one contact.
func (k *Contacts) due(ctx context.Context, s *session.Session, o owner,
	it *store.RosterItem) (found []*stream.Packet) {
	if it.To {
		found = k.probe(ctx, s, it.JID, found)
	}
	if it.PendingIn {
		if p, err := xmlstream.Unmarshal(it.Request); err == nil {
			found = append(found, &stream.Packet{Stanza: p})
		} else { // stored by an older version, or without what it said: the request stands all the same
			found = append(found, &stream.Packet{Stanza: &stanza.Stanza{
				Kind: stanza.Presence, Type: stanza.TypeSubscribe, From: it.JID, To: o.bare,
			}})
		}
	}
	return found
}

// probe asks for the presence of a contact (RFC 6121 §4.3): an account of this domain is looked at directly, by the
// rules of §4.3.2; others are asked by a stanza.
func (k *Contacts) probe(ctx context.Context, s *session.Session, contact jid.JID,
	found []*stream.Packet) []*stream.Packet {
	if !k.ours(contact) {
		k.metrics.probes.Inc()
		k.config.Forward(ctx, &stream.Packet{Stanza: &stanza.Stanza{
			Kind: stanza.Presence, Type: stanza.TypeProbe, From: s.JID(), To: contact,
		}})
		return found
	}
	account := k.sessions.Connected(contact)
	if account == 0 {
		return found // the client takes everybody for unavailable until it hears otherwise
	}
	k.metrics.probes.Inc()
	if sees, err := k.Sees(ctx, account, s.JID().Bare()); err != nil || !sees {
		return found
	}
	k.sessions.Visit(contact, func(u *session.User) {
		if u.Account() != account {
			return
		}
		for other := range u.All {
			if p := u.Presence(other); p != nil {
				found = append(found, addressed(p, s.JID().Bare()))
			}
		}
	})
	return found
}

// probed answers a probe (RFC 6121 §4.3.2). Whoever is not subscribed gets what he gets from an account that does not
// exist: nothing about presence.
func (k *Contacts) probed(ctx context.Context, o owner, p *stanza.Stanza) {
	asker := p.From.Bare()
	k.metrics.probes.Inc()
	if asker != o.bare {
		sees, err := k.Sees(ctx, o.id, asker)
		if err != nil {
			k.broken(o, err)
			return
		}
		if !sees {
			k.forward(ctx, o, asker, stanza.TypeUnsubscribed)
			return
		}
	}
	var found []*stanza.Stanza
	k.sessions.Visit(o.bare, func(u *session.User) {
		for s := range u.All {
			if now := u.Presence(s); now != nil && (p.To.IsBare() || p.To == s.JID()) {
				found = append(found, now)
			}
		}
	})
	for _, now := range found {
		k.config.Forward(ctx, addressed(now, p.From))
	}
	if len(found) == 0 {
		k.config.Forward(ctx, &stream.Packet{Stanza: &stanza.Stanza{
			Kind: stanza.Presence, Type: stanza.TypeUnavailable, From: p.To, To: p.From,
		}})
	}
}

// showAvailable sends the presence of all of the account's devices to a contact that has just been approved.
func (k *Contacts) showAvailable(ctx context.Context, o owner, contact jid.JID) {
	k.show(ctx, o, contact, func(s *session.Session, now *stanza.Stanza) *stanza.Stanza { return now })
}

// showUnavailable sends unavailable presence of all available devices to a contact that may not see them any more.
func (k *Contacts) showUnavailable(ctx context.Context, o owner, contact jid.JID) {
	k.show(ctx, o, contact, func(s *session.Session, _ *stanza.Stanza) *stanza.Stanza {
		return &stanza.Stanza{Kind: stanza.Presence, Type: stanza.TypeUnavailable, From: s.JID()}
	})
}

// show sends the contact presence for each available session. It goes by the router: the contact's roster has just
// been changed, and presence is delivered whatever it says.
func (k *Contacts) show(ctx context.Context, o owner, contact jid.JID,
	what func(*session.Session, *stanza.Stanza) *stanza.Stanza) {
	var found []*stanza.Stanza
	k.sessions.Visit(o.bare, func(u *session.User) {
		for s := range u.All {
			if now := u.Presence(s); now != nil {
				found = append(found, what(s, now))
			}
		}
	})
	for _, p := range found {
		k.metrics.broadcasts.Inc()
		k.config.Forward(ctx, addressed(p, contact))
	}
}

// noteActivity records that the account went offline, with the status text that its last device sent when it left
// (XEP-0012 §4).
func (k *Contacts) noteActivity(ctx context.Context, o owner, last *stanza.Stanza) {
	if k.config.Activity == nil {
		return
	}
	online := false
	k.sessions.Visit(o.bare, func(u *session.User) {
		online = slices.ContainsFunc(slices.Collect(u.All),
			func(s *session.Session) bool { return u.Presence(s) != nil })
	})
	if online {
		return
	}
	status := ""
	if e := last.Child(stanza.NSClient, "status"); e != nil {
		status = e.Text()
	}
	if len(status) > maxStatus {
		status = ""
	}
	if err := k.config.Activity.SetLastActivity(ctx, store.AccountID(o.id), k.config.Now().Unix(), status); err != nil {
		k.log.Warn("the last activity could not be written", "account", store.AccountID(o.id), "err", err)
	}
}

// maxStatus is how long a status text is kept.
const maxStatus = 1024
