package local

import (
	"context"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// tooManyPresences is how far a session may go beyond its allowance of presence before it is ended.
const tooManyPresences = 200

// Presence is the stage that takes what clients say of their own presence and of their subscriptions.
func (d *Domain) Presence() router.Stage {
	return router.Stage{
		Name: "presence",
		Why: "after the sender is known and its forgeries are gone; before forwarding, because undirected presence " +
			"and subscriptions have no single address to be forwarded to",
		Run: d.ownPresence,
	}
}

func (d *Domain) ownPresence(ctx context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
	p := e.Stanza
	if p.Kind != stanza.Presence {
		return router.Continue, nil
	}
	if e.Origin.Session == nil {
		return router.Finish, stanza.Refuse(stanza.NotAllowed, "Only a bound resource has presence.")
	}
	s := d.sessions.Lookup(e.Origin.Address)
	if s == nil || e.Origin.Session != router.Session(s) {
		return router.Finish, nil // it has ended, or was replaced: nothing that it says is told any more
	}
	switch p.Type {
	case "", stanza.TypeUnavailable:
		if p.To.IsZero() {
			return router.Finish, d.undirected(ctx, s, p)
		}
		return router.Continue, d.directed(s, p)
	case stanza.TypeSubscribe, stanza.TypeSubscribed, stanza.TypeUnsubscribe, stanza.TypeUnsubscribed:
		if p.To.IsZero() {
			return router.Finish, stanza.Refuse(stanza.BadRequest, "A subscription needs the address of the contact.")
		}
		return router.Finish, d.contacts.Subscribe(ctx, s, p)
	}
	if p.To.IsZero() {
		return router.Finish, badRequest // a probe of nobody; an error is not answered
	}
	return router.Continue, nil
}

// directed records to whom directed presence was sent, so that they hear of the end (RFC 6121 §4.6.3).
func (d *Domain) directed(s *session.Session, p *stanza.Stanza) *stanza.Error {
	if p.To.Bare() == s.JID().Bare() {
		return nil // its own account sees it anyway
	}
	if !d.sessions.Direct(s, p.To, p.Type == "") {
		return stanza.Refuse(stanza.ResourceConstraint, "Presence was sent to too many addresses.")
	}
	return nil
}

// undirected sets the session's presence and has it told to others (RFC 6121 §4.2, §4.4, §4.5).
func (d *Domain) undirected(ctx context.Context, s *session.Session, p *stanza.Stanza) *stanza.Error {
	priority, refusal := priorityOf(p)
	if refusal != nil && p.Type == "" {
		return refusal
	}
	s.Broadcasting.Lock()
	defer s.Broadcasting.Unlock()
	if p.Type == "" {
		// Only becoming available costs: whoever leaves is always heard, and cannot leave more often than it came.
		debt := s.Budget.Spend(d.presences, max(0, d.config.Now().Sub(d.started)), 1)
		if debt > d.presences.Time(tooManyPresences) {
			d.sessions.KickResource(s.JID(), stream.Fail(stream.PolicyViolation, "Presence changes too often."))
		}
		if debt > 0 {
			return stanza.Refuse(stanza.PolicyViolation, "Presence changes too often.")
		}
	}
	change := d.sessions.SetPresence(s, p, priority)
	if change.Gone {
		return nil
	}
	if change.Replay != nil {
		// Deferred: messages wait aside until the replay is over, whatever becomes of the announcement.
		defer d.startReplay(change.Replay)
	}
	if rest := d.contacts.Announce(ctx, s, &change); rest != nil {
		d.later(rest)
	}
	return nil
}
