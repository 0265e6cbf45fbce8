package local

import (
	"context"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

const nsVersion = "jabber:iq:version"

// VersionRoutes says what software this is (XEP-0092). The operating system is not told (§5).
func (d *Domain) VersionRoutes() []router.IQRoute {
	return []router.IQRoute{{
		Target: router.ToServer, Type: stanza.TypeGet, Space: nsVersion, Local: "query",
		Handle: func(context.Context, uint64, *stanza.Stanza) ([]stanza.Element, *stanza.Error) {
			q := stanza.New(nsVersion, "query").With(stanza.New(nsVersion, "name").WithText("Posthouse"))
			if v := d.config.Version; v != "" && !d.config.HideVersion {
				q = q.With(stanza.New(nsVersion, "version").WithText(v))
			} else {
				q = q.With(stanza.New(nsVersion, "version").WithText("unstated")) // the element is required (§3)
			}
			return []stanza.Element{q}, nil
		},
	}}
}
