package node

import (
	"slices"

	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/wire/payload"
)

// makeServices makes the hub of what answers IQ requests. It is given its handlers when all parts are there.
func (a *assembly) makeServices() (err error) {
	c := a.Config.Service
	c.Domain = a.domain
	c.Accounts = a.auth.Directory()
	c.Contacts = a.contacts
	c.Available = a.sessions.Available
	c.Turn = a.turns.Enter
	c.Version = a.Version
	c.Log = a.Log
	// XEP-0160 §4; XEP-0077: also where nobody can register, passwords are changed by it (§3.3).
	c.Features = []string{"msgoffline", "jabber:iq:register"}
	c.AccountFeatures = slices.Clone(accountFeatures)
	a.services, err = service.New(c)
	return err
}

// accountFeatures are what every account announces beside its handlers.
var accountFeatures = []string{
	"urn:posthouse:confirm:1",
	"urn:posthouse:position:1",
	payload.NSStanzaID,               // XEP-0359 §4
	payload.NSRetract,                // XEP-0424 §2
	payload.NSRetract + "#tombstone", // XEP-0424 §5
}

// handlers is the table of who answers which IQ request to the domain or to an account.
func (a *assembly) handlers() [][]service.Handler {
	return [][]service.Handler{
		a.contacts.Handlers(),
		a.devices.Handlers(),
		a.archive.Handlers(),
		a.conversations.Handlers(),
		a.admin.Handlers(),
		a.local.Handlers(),
		a.services.Basics(),
	}
}
