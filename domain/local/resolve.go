package local

import (
	"context"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// tryLater is the answer to a message when the store does not answer.
var tryLater = &stanza.Error{
	Type: stanza.Wait, Condition: stanza.InternalServerError, Text: "The message was not stored. Try again later.",
}

// Resolve finds the account that a message is addressed to, and refuses what the table would refuse, before anything is
// stored. Presence and IQ are decided where they are delivered, which is at once. It implements router.Route.
func (d *Domain) Resolve(ctx context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
	s := e.Stanza
	form := formOf(s.To)
	e.Target.Kind = router.TheServer
	if form >= ToBare {
		e.Target.Kind = router.AnAccount
	}
	if s.Kind != stanza.Message {
		return router.Continue, nil
	}
	state := NoAccount
	if form >= ToBare {
		account, ok, err := d.accounts.Lookup(ctx, s.To.Local())
		if err != nil {
			d.log.Warn("an account could not be looked up", "err", err)
			return router.Finish, tryLater
		}
		if ok {
			state, e.Target.Account = Absent, uint64(account)
		}
	}
	action := d.foresee(s, form, state)
	switch {
	case action == Refuse && d.config.Known != nil && d.config.Known(ctx, e):
		return router.Finish, nil // it is the repetition of what was accepted while it could be delivered
	case action == Refuse || action == Undecided:
		return router.Finish, d.outcome(action)
	case action == Drop && state == NoAccount:
		e.Target.Kind = router.Nobody
		d.outcome(action)
	}
	return router.Continue, nil
}

// foresee returns what the table says now of a message that is not stored yet. It is Refuse only when that will not
// change: to whom it goes, and whether it waits, is decided when it is delivered.
func (d *Domain) foresee(s *stanza.Stanza, form Form, state State) Action {
	action := decide(s.Kind, typeOf(s), form, state, false)
	if action != Refuse || form != ToFull || state == NoAccount {
		return action
	}
	if d.connected(s.To) {
		state = Match
	} else if concernsAccount(s) {
		return decideAccepted(s, form, state, false)
	}
	return decide(s.Kind, typeOf(s), form, state, false)
}

// connected reports whether a resource is there to get messages.
func (d *Domain) connected(full jid.JID) (there bool) {
	d.sessions.Visit(full, func(u *session.User) { there = u.Match(full.Resource()) != nil })
	return there
}

// concernsAccount reports whether a message has its effect also when the resource that it is addressed to has left: a
// receipt (XEP-0184 §5.3), a marker (XEP-0333 §6) or an invitation (XEP-0045 §7.8, XEP-0249) is for the person, and
// addressed to the resource only because what it answers came from there.
func concernsAccount(s *stanza.Stanza) bool {
	for i := range s.Payload {
		e := &s.Payload[i]
		switch row := payload.Of(e); {
		case row.Relation == payload.Delivered, row.Relation == payload.Read, e.Space == payload.NSConference,
			row.Carbon == payload.CopiedInvite && e.Child(payload.NSMUCUser, "invite") != nil:
			return true
		}
	}
	return false
}

// Deliver delivers an accepted stanza. It implements router.Route.
func (d *Domain) Deliver(ctx context.Context, e *router.Envelope) *stanza.Error {
	p := &stream.Packet{Stanza: e.Stanza}
	switch e.Stanza.Kind {
	case stanza.Message:
		d.accepted(ctx, e)
		return nil
	case stanza.IQ:
		return d.iq(ctx, e.Origin, p)
	}
	return d.presence(ctx, p)
}

// stamp adds to a packet with an accepted message what the owner of the archive by is told of it.
func (d *Domain) stamp(p *stream.Packet, by jid.JID, seq uint64, archived bool) {
	if p.ArchiveID != 0 && d.config.Stamp != nil {
		d.config.Stamp(p, by, seq, archived)
	}
}

// accepted delivers an accepted message to the account that Resolve has found. It looks nothing up but the account's
// sessions, here and at other nodes. Deciding and delivering are one step under the lock of the account, so that no
// session comes or goes in between.
func (d *Domain) accepted(ctx context.Context, e *router.Envelope) {
	s, id, account := e.Stanza, e.Target.ID, e.Target.Account
	p := &stream.Packet{Stanza: s, Content: &e.Content, ArchiveID: id, Also: e.Target.Also}
	d.stamp(p, s.To.Bare(), e.Receipt.Seq, e.Target.Archived)
	p = d.cleaned(p)
	form := formOf(s.To)
	action := d.give(account, p, form)
	elsewhere := d.sessions.Elsewhere(ctx, session.Frame{Account: account, Packet: p}, func(there *session.Entry) bool {
		return there.Live() && action != Deliver || there.Carbons || form == ToFull && there.Resource == s.To.Resource()
	})
	if action == Keep && !elsewhere {
		// Once more under the lock that whoever becomes live passes: see keep.
		lock := d.keep(s.To)
		lock.RLock()
		defer lock.RUnlock()
		if action = d.give(account, p, form); action == Keep && d.offline != nil {
			d.offline.Kept(account, id)
		}
	}
	d.outcome(action)
}

// give delivers an accepted message to the sessions of the account that are to have it.
func (d *Domain) give(account uint64, p *stream.Packet, form Form) Action {
	action := decideAccepted(p.Stanza, form, Absent, p.ArchiveID != 0)
	d.sessions.Visit(p.Stanza.To, func(u *session.User) {
		if u.Account() == account { // and not another account by the same name
			addressed, state := d.whoIsThere(u, p.Stanza, form)
			action = decideAccepted(p.Stanza, form, state, p.ArchiveID != 0)
			d.hand(u, p, action, addressed)
		}
	})
	return action
}
