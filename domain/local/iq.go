package local

import (
	"context"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Handlers returns who answers the requests that this package knows: carbons and last activity.
func (d *Domain) Handlers() []service.Handler {
	return append(d.carbonsHandlers(), d.lastHandlers()...)
}

// answer has the hub of services answer an IQ request to the domain or to an account. Only the account that has asked
// gets the answer, and not another one that has taken its name meanwhile.
func (d *Domain) answer(ctx context.Context, o *router.Origin, iq *stanza.Stanza) *stanza.Error {
	if s := session.Of(o.Session); s != nil && s.Ended() {
		return nil // nobody is there to be answered
	}
	ctx, queued := session.WithReply(ctx)
	asker := service.Origin{Account: o.Account, Session: o.Session, Admin: o.Admin, Actor: o.Actor}
	result, refusal := d.config.Services.Answer(ctx, asker, iq)
	switch {
	case !d.ours(iq.From):
		if refusal != nil {
			return refusal
		}
		d.config.Forward(ctx, &stream.Packet{Stanza: iq.Reply(result...)})
	case refusal != nil:
		if !d.Reply(o.Account, iq.From, nil) {
			return nil
		}
		return refusal
	default:
		d.Reply(o.Account, iq.From, &stream.Packet{Stanza: iq.Reply(result...)})
	}
	queued()
	return nil
}

// Reply gives a packet to the resource of a full address, and reports whether it is there and of that account: what
// answers an account does not reach another one that has taken its name meanwhile. nil only asks.
func (d *Domain) Reply(account uint64, to jid.JID, p *stream.Packet) (there bool) {
	d.sessions.VisitResource(to, func(u *session.User, s *session.Session) {
		if there = u.Account() == account; there && p != nil {
			u.Send(s, p)
		}
	})
	return there
}
