// Package uplink declares the calls between the public layer and the domain: the call, the caller on whose behalf it is
// made, and the answer. public/uplink makes the calls and domain/ingress serves them. Neither imports the other,
// because they may run in different processes later.
package uplink

import (
	"context"
	"errors"
	"time"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Caller is on whose behalf a stanza is handed over.
type Caller struct {
	// Account is the identity of the account, as in store.AccountID; 0 for the domain itself.
	Account uint64
	// Bare is the account's bare address, or the domain.
	Bare jid.JID
	// Device names the device that speaks; "" for none.
	Device string
	// Basis is what it relies on that the account and the device may speak, as store.Basis.
	Basis int64
	// Admin: the caller may do what only administrators may, such as take back what others have said.
	Admin bool
	// Actor is who acts, for the audit log, such as "key:NAME"; "" for the account itself.
	Actor string
}

// ErrRevoked: the caller's account was changed, or its device signed out, after Caller.Basis. Nothing was done.
var ErrRevoked = errors.New("the account or the device was changed")

// Receipt tells what became of a message. It is given when the message is durable.
type Receipt struct {
	// StanzaID, Number and Time are set when the message was stored.
	StanzaID string
	Number   uint64
	Time     time.Time
	// Duplicate: it was stored before, and this repeats the first answer.
	Duplicate bool
}

// Domain is what the public layer calls: the domain's end of the uplink.
type Domain interface {
	// Send hands over a message or presence and returns when it is durable and on its way, or refused. An error that is
	// a *stanza.Error is the domain's refusal; any other means that it is not known what became of it.
	Send(ctx context.Context, c Caller, s *stanza.Stanza) (Receipt, error)
	// Ask hands over an IQ request and returns the payload of the result. As Send for errors. iq.ID must be unique
	// among the caller's requests that are on their way.
	Ask(ctx context.Context, c Caller, iq *stanza.Stanza) ([]stanza.Element, error)
	// Watch returns a channel on which something is sent after what the account can read has changed. It holds one
	// notice. stop must be called, and ends it.
	Watch(account uint64) (changed <-chan struct{}, stop func())
}
