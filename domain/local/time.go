package local

import (
	"context"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

const nsTime = "urn:xmpp:time"

// TimeRoutes tells the server's time (XEP-0202).
func (d *Domain) TimeRoutes() []router.IQRoute {
	return []router.IQRoute{{
		Target: router.ToServer, Type: stanza.TypeGet, Space: nsTime, Local: "time",
		Handle: func(context.Context, uint64, *stanza.Stanza) ([]stanza.Element, *stanza.Error) {
			now := d.config.Now()
			return []stanza.Element{stanza.New(nsTime, "time").With(
				stanza.New(nsTime, "tzo").WithText(now.Format("-07:00")),
				stanza.New(nsTime, "utc").WithText(now.UTC().Format("2006-01-02T15:04:05Z")),
			)}, nil
		},
	}}
}
