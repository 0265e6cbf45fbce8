package local

import (
	"context"
	"errors"
	"strconv"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

const nsLast = "jabber:iq:last"

// LastRoutes tells how long the server has been up, and how long ago an account was last online (XEP-0012 §3, §5),
// the latter only to the account itself and to those who are subscribed to its presence. Others get the same answer
// as for an account that does not exist.
func (d *Domain) LastRoutes() []router.IQRoute {
	return []router.IQRoute{
		{
			Target: router.ToServer, Type: stanza.TypeGet, Space: nsLast, Local: "query",
			Handle: func(context.Context, uint64, *stanza.Stanza) ([]stanza.Element, *stanza.Error) {
				return lastAnswer(int64(d.config.Now().Sub(d.started).Seconds()), ""), nil
			},
		},
		{
			Target: router.ToOwnAccount | router.ToOtherAccount, Type: stanza.TypeGet, Space: nsLast, Local: "query",
			Handle: d.lastOfAccount,
		},
	}
}

func lastAnswer(seconds int64, status string) []stanza.Element {
	q := stanza.New(nsLast, "query", "seconds", strconv.FormatInt(max(0, seconds), 10))
	if status != "" {
		q = q.WithText(status)
	}
	return []stanza.Element{q}
}

func (d *Domain) lastOfAccount(ctx context.Context, _ uint64, iq *stanza.Stanza) ([]stanza.Element, *stanza.Error) {
	account, refusal := d.shown(ctx, iq)
	if refusal != nil {
		return nil, refusal
	}
	online := false
	d.sessions.Visit(iq.To, func(u *session.User) {
		for s := range u.All {
			online = online || u.Presence(s) != nil
		}
	})
	if online {
		return lastAnswer(0, ""), nil // XEP-0012 §3, the case of a bare address with an available resource
	}
	if d.config.Activity == nil {
		return nil, unavailable
	}
	at, status, err := d.config.Activity.LastActivity(ctx, store.AccountID(account))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, unavailable
	case err != nil:
		d.log.Warn("the last activity could not be read", "err", err)
		return nil, broken
	}
	return lastAnswer(d.config.Now().Unix()-at, status), nil
}

// shown returns the account that a request is about when it shares presence with the requester, or is the requester.
func (d *Domain) shown(ctx context.Context, iq *stanza.Stanza) (account uint64, refusal *stanza.Error) {
	id, ok, err := d.accounts.Lookup(ctx, iq.To.Local())
	if err != nil {
		return 0, broken
	}
	if !ok {
		return 0, unavailable
	}
	if iq.From.Bare() == iq.To {
		return uint64(id), nil
	}
	sees, err := d.contacts.Sees(ctx, uint64(id), iq.From.Bare())
	if err != nil {
		d.log.Warn("a roster could not be read", "err", err)
		return 0, broken
	}
	if !sees {
		return 0, unavailable
	}
	return uint64(id), nil
}
