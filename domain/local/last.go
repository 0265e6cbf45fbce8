package local

import (
	"context"
	"errors"
	"strconv"

	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

const nsLast = "jabber:iq:last"

// lastHandlers tells how long the server has been up, and how long ago an account was last online (XEP-0012 §3, §5),
// the latter only to the account itself and to those who are subscribed to its presence.
func (d *Domain) lastHandlers() []service.Handler {
	return []service.Handler{
		{
			At: service.AtDomain, Type: stanza.TypeGet, Space: nsLast, Local: "query",
			Handle: func(context.Context, *service.Request) ([]stanza.Element, *stanza.Error) {
				return lastAnswer(int64(d.config.Now().Sub(d.started).Seconds()), ""), nil
			},
		},
		{At: service.AtAccount, Type: stanza.TypeGet, Space: nsLast, Local: "query", From: service.Subscriber,
			Handle: d.lastOfAccount},
	}
}

func lastAnswer(seconds int64, status string) []stanza.Element {
	q := stanza.New(nsLast, "query", "seconds", strconv.FormatInt(max(0, seconds), 10))
	if status != "" {
		q = q.WithText(status)
	}
	return []stanza.Element{q}
}

func (d *Domain) lastOfAccount(ctx context.Context, r *service.Request) ([]stanza.Element, *stanza.Error) {
	account, refusal := r.Target(ctx)
	if refusal != nil {
		return nil, refusal
	}
	if len(d.sessions.Available(r.IQ.To)) > 0 {
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
