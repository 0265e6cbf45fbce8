package local

import (
	"context"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

const nsCarbons = payload.NSCarbons

// noCopy is the hint that a message is not to be copied (XEP-0334 §4.3).
var noCopy = stanza.New(payload.NSHints, "no-copy")

// Carbons is the step of delivery that copies what an account sends to its other devices (XEP-0280 §8).
func (d *Domain) Carbons() router.Delivery {
	return router.Delivery{
		Name: "carbons",
		Why: "in the order of the author's account: a copy carries the stanza-id of the author's archive, and these " +
			"rise at each device",
		Run: d.carbons,
	}
}

func (d *Domain) carbons(_ context.Context, e *router.Envelope) {
	s := e.Stanza
	if e.Whole != nil {
		s = e.Whole
	}
	if s.To.Bare() == s.From.Bare() {
		return // what goes to the own account reaches its devices by Deliver
	}
	var p *stream.Packet
	d.sessions.Visit(s.From, func(u *session.User) {
		if u.Account() != e.Origin.Account {
			return // another account by the same name
		}
		for other := range u.All {
			if !u.Carbons(other) || other.JID() == s.From {
				continue
			}
			if p == nil {
				if !payload.Eligible(s) {
					return
				}
				p = &stream.Packet{Stanza: s, ArchiveID: e.Receipt.ID}
				if e.Whole == nil {
					p.Content = &e.Content
				}
				d.stamp(p, s.From.Bare(), e.Receipt.Seq, true)
			}
			u.Send(other, p.Carbon(other.JID(), true))
		}
	})
}

// sendReceived copies a message to the sessions that want carbons and did not get it by the delivery rules
// (XEP-0280 §7). addressed is the session that it was delivered to, nil when it went to all that are live.
func (d *Domain) sendReceived(u *session.User, p *stream.Packet, addressed *session.Session) {
	eligible := false
	for other := range u.All {
		if !u.Carbons(other) || other == addressed || addressed == nil && u.IsLive(other) ||
			other.JID() == p.Stanza.From {
			continue
		}
		if !eligible {
			if eligible = payload.Eligible(p.Stanza); !eligible {
				return
			}
		}
		u.Send(other, p.Carbon(other.JID(), false))
	}
}

// carbonsHandlers lets a client turn carbons on and off (XEP-0280 §4, §5).
func (d *Domain) carbonsHandlers() []service.Handler {
	set := func(local string, on bool) service.Handler {
		return service.Handler{
			At: service.AtDomain | service.AtAccount, Type: stanza.TypeSet, Space: nsCarbons, Local: local,
			From: service.Self,
			Handle: func(_ context.Context, r *service.Request) ([]stanza.Element, *stanza.Error) {
				s := session.Of(r.Session)
				if s == nil || !d.sessions.SetCarbons(s, on) {
					return nil, stanza.Refuse(stanza.NotAllowed, "")
				}
				return nil, nil
			},
		}
	}
	return []service.Handler{set("enable", true), set("disable", false)}
}
