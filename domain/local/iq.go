package local

import (
	"context"
	"fmt"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Name names an element.
type Name struct{ Space, Local string }

// iqTable finds the handler of a request. It is made once.
type iqTable map[Name][]router.IQRoute

// Answer sets the table of who answers which IQ request, from lists that are visible in one place. It is called once,
// before the first stanza. It fails when two routes claim the same request.
func (d *Domain) Answer(lists ...[]router.IQRoute) error {
	table := iqTable{}
	for _, list := range lists {
		for _, r := range list {
			name := Name{r.Space, r.Local}
			for _, other := range table[name] {
				if other.Target&r.Target != 0 && (other.Type == r.Type || other.Type == "" || r.Type == "") {
					return fmt.Errorf("local: two IQ routes for %s %s", r.Space, r.Local)
				}
			}
			table[name] = append(table[name], r)
		}
	}
	d.table = table
	d.disco = d.discover(lists)
	return nil
}

// Extensions returns the routes of the small extensions of this package.
func (d *Domain) Extensions() []router.IQRoute {
	var out []router.IQRoute
	for _, list := range [][]router.IQRoute{
		d.DiscoRoutes(), d.CarbonsRoutes(), d.PingRoutes(), d.VersionRoutes(), d.TimeRoutes(), d.LastRoutes(),
	} {
		out = append(out, list...)
	}
	return out
}

// answer answers an IQ request on behalf of the domain or of an account that exists.
func (d *Domain) answer(ctx context.Context, iq *stanza.Stanza) *stanza.Error {
	if refusal := iq.CheckIQ(); refusal != nil { // from clients, the address stage has seen to it
		return refusal
	}
	target, account := d.target(iq), uint64(0)
	if d.ours(iq.From) {
		account = d.sessions.Connected(iq.From)
	}
	if target == router.ToOwnAccount && account == 0 {
		return unavailable // it has left meanwhile
	}
	payload := &iq.Payload[0]
	for _, r := range d.table[Name{payload.Space, payload.Local}] {
		if r.Target&target == 0 || r.Type != "" && r.Type != iq.Type {
			continue
		}
		ctx, queued := session.WithReply(ctx)
		result, refusal := r.Handle(ctx, account, iq)
		if refusal != nil {
			return refusal
		}
		d.send(ctx, iq.Reply(result...))
		queued()
		return nil
	}
	return unavailable // RFC 6120 §8.4: nobody here understands it
}

// target says whom an IQ to the domain or to a bare address concerns.
func (d *Domain) target(iq *stanza.Stanza) router.Target {
	switch iq.To {
	case d.config.Domain:
		return router.ToServer
	case iq.From.Bare():
		return router.ToOwnAccount
	}
	return router.ToOtherAccount
}
