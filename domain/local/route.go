package local

import (
	"context"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// unavailable is the refusal of the delivery table. It is the same whether the account exists or not.
var unavailable = stanza.Refuse(stanza.ServiceUnavailable, "")

// broken is the answer when the store does not answer.
var broken = stanza.Refuse(stanza.InternalServerError, "")

// Route delivers to an address of this domain what has not passed the acceptance chain. It implements router.Route.
func (d *Domain) Route(ctx context.Context, p *stream.Packet) *stanza.Error {
	switch p.Stanza.Kind {
	case stanza.Message:
		return d.message(ctx, p)
	case stanza.Presence:
		return d.presence(ctx, p)
	default:
		return d.iq(ctx, &router.Origin{}, p)
	}
}

// message delivers a message of the server itself. Deciding and delivering are one step under the lock of the account,
// so that no session comes or goes in between.
func (d *Domain) message(ctx context.Context, p *stream.Packet) *stanza.Error {
	s := p.Stanza
	form := formOf(s.To)
	if form <= ToDomainResource {
		return d.outcome(decide(s.Kind, typeOf(s), form, NoAccount, p.ArchiveID != 0))
	}
	p = d.cleaned(p)
	action := Keep
	if !d.sessions.Visit(s.To, func(u *session.User) { action = d.deliver(u, p, form) }) || action == Keep ||
		action == Drop {
		// Sessions of a deleted account may be there for another moment, so that there is one does not prove the
		// account.
		return d.messageAbsent(ctx, p, form)
	}
	return d.outcome(action)
}

// deliver does what the table says, as far as it concerns sessions.
func (d *Domain) deliver(u *session.User, p *stream.Packet, form Form) Action {
	addressed, state := d.whoIsThere(u, p.Stanza, form)
	action := decide(p.Stanza.Kind, typeOf(p.Stanza), form, state, p.ArchiveID != 0)
	d.hand(u, p, action, addressed)
	return action
}

// whoIsThere returns the session that a message is addressed to, nil when it is not there or none is addressed, and the
// state of the address.
func (d *Domain) whoIsThere(u *session.User, s *stanza.Stanza, form Form) (addressed *session.Session, state State) {
	if form == ToFull {
		addressed = u.Match(s.To.Resource())
	}
	switch {
	case addressed != nil:
		return addressed, Match
	case u.Live():
		return nil, Live
	}
	return nil, Absent
}

// hand gives a message to the sessions that an action names, and copies of it to those that want carbons.
func (d *Domain) hand(u *session.User, p *stream.Packet, action Action, addressed *session.Session) {
	switch action {
	case Deliver:
		u.Send(addressed, p)
		if p.Role == stream.Live {
			d.sendReceived(u, p, addressed)
		}
	case DeliverLive:
		u.SendLive(p)
		d.sendReceived(u, p, nil)
	}
}

// messageAbsent deals with a message to an account of which no session was found that takes it. What is kept is kept
// before anybody who becomes live afterwards reads what was kept: see barrier.
func (d *Domain) messageAbsent(ctx context.Context, p *stream.Packet, form Form) *stanza.Error {
	s := p.Stanza
	account, ok, err := d.accounts.Lookup(ctx, s.To.Local())
	if err != nil {
		d.log.Warn("an account could not be looked up", "err", err)
		if p.ArchiveID != 0 {
			return nil // it is in the archive, not delivered to anybody: the next replay finds it
		}
		return broken
	}
	if !ok {
		return d.outcome(decide(s.Kind, typeOf(s), form, NoAccount, p.ArchiveID != 0))
	}
	keep := d.keep(s.To)
	keep.RLock()
	defer keep.RUnlock()
	action := Keep
	if !d.sessions.Visit(s.To, func(u *session.User) { action = d.deliver(u, p, form) }) {
		action = decide(s.Kind, typeOf(s), form, Absent, p.ArchiveID != 0)
	}
	if action == Keep {
		if d.offline == nil {
			return unavailable
		}
		d.offline.Kept(uint64(account), p.ArchiveID)
	}
	return d.outcome(action)
}

// outcome counts an action and returns what the sender is told.
func (d *Domain) outcome(a Action) *stanza.Error {
	d.metrics.actions[a].Inc()
	switch a {
	case Refuse:
		return unavailable
	case Undecided:
		return broken
	}
	return nil
}

// cleaned returns the packet without what its recipient should not see: the request not to be copied, which has been
// dealt with (XEP-0280 §8), and carbons from elsewhere (§11), which no server of another domain may say.
func (d *Domain) cleaned(p *stream.Packet) *stream.Packet {
	foreign := !d.ours(p.Stanza.From)
	unwanted := func(e *stanza.Element) bool {
		return e.Space == nsCarbons && (e.Local == "private" || foreign && (e.Local == "received" || e.Local == "sent"))
	}
	for i := range p.Stanza.Payload {
		if unwanted(&p.Stanza.Payload[i]) {
			c := p.Stanza.Copy()
			private := c.Child(nsCarbons, "private") != nil
			c.Remove(unwanted)
			if private {
				c.Payload = append(c.Payload, noCopy) // what is left says the same to whoever asks payload.Eligible
			}
			return &stream.Packet{Stanza: c, Own: p.Own, ArchiveID: p.ArchiveID, Also: p.Also, Role: p.Role}
		}
	}
	return p
}

// presence delivers presence that is addressed to somebody.
func (d *Domain) presence(ctx context.Context, p *stream.Packet) *stanza.Error {
	s := p.Stanza
	form, typ := formOf(s.To), typeOf(s)
	if form <= ToDomainResource || typ < 0 {
		return d.outcome(decide(s.Kind, typ, form, NoAccount, false))
	}
	action := Undecided
	var account uint64
	if d.sessions.Visit(s.To, func(u *session.User) {
		account = u.Account()
		var addressed *session.Session
		state := Live // for presence it makes no difference how many are live
		if form == ToFull {
			if addressed = u.Match(s.To.Resource()); addressed != nil {
				state = Match
			}
		}
		switch action = decide(s.Kind, typ, form, state, false); action {
		case Deliver:
			u.Send(addressed, p)
		case DeliverAvailable:
			u.SendAvailable(p)
		}
	}) {
		if action == Subscriptions {
			d.contacts.Receive(ctx, account, s)
		}
		return d.outcome(action)
	}
	if decide(s.Kind, typ, form, NoAccount, false) == decide(s.Kind, typ, form, Absent, false) {
		return d.outcome(decide(s.Kind, typ, form, Absent, false)) // no need to look the account up
	}
	id, ok, err := d.accounts.Lookup(ctx, s.To.Local())
	if err != nil {
		d.log.Warn("an account could not be looked up", "err", err)
		return broken
	}
	state := NoAccount
	if ok {
		state = Absent
	}
	action = decide(s.Kind, typ, form, state, false)
	switch action {
	case Subscriptions:
		d.contacts.Receive(ctx, uint64(id), s)
	case Deny:
		d.config.Forward(ctx, &stream.Packet{Stanza: &stanza.Stanza{
			Kind: stanza.Presence, Type: stanza.TypeUnsubscribed, ID: s.ID, From: s.To.Bare(), To: s.From.Bare(),
		}})
	}
	return d.outcome(action)
}

// iq delivers an IQ to the resource addressed, or answers it.
func (d *Domain) iq(ctx context.Context, o *router.Origin, p *stream.Packet) *stanza.Error {
	s := p.Stanza
	form, typ := formOf(s.To), typeOf(s)
	if form == ToDomainResource && !s.IsRequest() && d.sessions.Send(s.To, p) {
		return nil // an answer to what the domain itself has asked
	}
	state := NoAccount
	if form == ToFull && d.sessions.Lookup(s.To) != nil {
		state = Match
	}
	// For a bare address it makes no difference whether there is such an account: whoever answers must not let it show.
	action := decide(s.Kind, typ, form, state, false)
	switch action {
	case Answer:
		d.metrics.actions[action].Inc()
		return d.answer(ctx, o, s)
	case DeliverRequest:
		if !d.mayAsk(ctx, s) {
			action = Refuse
			break
		}
		fallthrough
	case Deliver:
		if !d.sessions.Send(s.To, p) && s.IsRequest() {
			action = Refuse // it has left meanwhile
		}
	}
	return d.outcome(action)
}

// mayAsk reports whether the sender may put an IQ request to a resource. Roster pushes come from the server alone
// (RFC 6121 §2.1.6): what looks like one is never delivered. A sender without a subscription would learn from an answer
// that the resource is there (§8.5.3.1, §11).
func (d *Domain) mayAsk(ctx context.Context, s *stanza.Stanza) bool {
	if s.Type == stanza.TypeSet && s.ChildNS(nsRoster) != nil {
		return false
	}
	if d.config.OpenRequests || s.From.Bare() == s.To.Bare() || s.From == d.config.Domain ||
		d.config.Services.Has(s.From.DomainJID()) {
		return true
	}
	if d.sessions.DirectedTo(s.To, s.From) {
		return true
	}
	sees, err := d.contacts.Sees(ctx, d.sessions.Connected(s.To), s.From.Bare())
	if err != nil {
		d.log.Warn("a roster could not be read", "err", err)
	}
	return sees
}

// send sends what the domain itself says: to a session of this domain at once, to others through the router.
func (d *Domain) send(ctx context.Context, s *stanza.Stanza) {
	p := &stream.Packet{Stanza: s}
	if d.ours(s.To) && s.To.IsFull() && d.sessions.Send(s.To, p) {
		return
	}
	d.config.Forward(ctx, p)
}

const nsRoster = "jabber:iq:roster"
