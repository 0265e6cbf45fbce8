package local

import (
	"context"

	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// nowhere is an outbox that costs nothing.
type nowhere struct{}

func (nowhere) Send(*stream.Packet) {}
func (nowhere) Close(*stream.Error) {}

func (nowhere) WaitRoom(context.Context) error { return nil }
func (nowhere) Detached() bool                 { return false }

func bindTo(full string, o session.Outbox) session.Binding {
	j := jid.MustParse(full)
	return session.Binding{Account: 1, Bare: j.Bare(), Resource: j.Resource(), Outbox: o}
}
