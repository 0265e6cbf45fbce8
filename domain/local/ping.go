package local

import (
	"context"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// PingRoutes answers pings of the server, and of the own account on its behalf (XEP-0199 §4.1, §4.2).
func (d *Domain) PingRoutes() []router.IQRoute {
	return []router.IQRoute{{
		Target: router.ToServer | router.ToOwnAccount, Type: stanza.TypeGet, Space: "urn:xmpp:ping", Local: "ping",
		Handle: func(context.Context, uint64, *stanza.Stanza) ([]stanza.Element, *stanza.Error) { return nil, nil },
	}}
}
