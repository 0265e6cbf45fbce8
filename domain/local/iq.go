package local

import (
	"context"

	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Handlers returns who answers the requests that this package knows: carbons and last activity.
func (d *Domain) Handlers() []service.Handler {
	return append(d.carbonsHandlers(), d.lastHandlers()...)
}

// answer has the hub of services answer an IQ request to the domain or to an account.
func (d *Domain) answer(ctx context.Context, iq *stanza.Stanza) *stanza.Error {
	account := uint64(0)
	if d.ours(iq.From) {
		account = d.sessions.Connected(iq.From)
	}
	ctx, queued := session.WithReply(ctx)
	result, refusal := d.config.Services.Answer(ctx, account, iq)
	if refusal != nil {
		return refusal
	}
	d.send(ctx, iq.Reply(result...))
	queued()
	return nil
}
