// Package router owns the way of a stanza through the domain: the acceptance chain that everything entering
// passes once (Accept), the domain table (Forward), and the table that turns refusals into bounces.
//
// It has no goroutines: stages run on the goroutine of whoever calls Accept, or Resume after a stage held the
// envelope. It knows its siblings only as the interfaces below.
package router

import (
	"context"
	"time"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Source is who a stanza comes from: a bound connection of this domain.
type Source interface {
	// JID returns the bound full address.
	JID() jid.JID
	// Account returns the identity of the account, as in store.AccountID.
	Account() uint64
}

// Receipt tells the source what became of its stanza. Err is nil when it was accepted.
type Receipt struct {
	// ID, Seq and Time are set when the message was stored: its position in the log, its number in its
	// conversation, and the server's time of acceptance.
	ID   uint64
	Seq  uint64
	Time time.Time
	// Duplicate: the message was stored before, and this repeats the first answer.
	Duplicate bool
	Err       *stanza.Error
	// Bounced is why it could not be delivered after it was accepted; nil when it could. The source was sent it as a bounce.
	Bounced *stanza.Error
}

// Envelope carries one stanza through the acceptance chain. It is owned by the stage that runs.
type Envelope struct {
	Stanza *stanza.Stanza
	Source Source
	// Receipt is what Done will be told; stages fill it.
	Receipt Receipt
	// Done is called exactly once, after the stanza was delivered or refused, on whichever goroutine finished
	// the chain. It must not block. Refusals have been bounced to the source by then. It may be nil.
	Done func(e *Envelope)

	next int // index of the stage to run
}

// Verdict is a stage's decision.
type Verdict uint8

// The verdicts.
const (
	// Continue with the next stage.
	Continue Verdict = iota
	// Hold: the stage keeps the envelope and will call Router.Resume or Router.Refuse later.
	Hold
	// Finish: the stage has dealt with the stanza; nothing is forwarded and Done is called.
	Finish
)

// Stage is one step of the acceptance chain. An error refuses the stanza.
type Stage struct {
	Name string
	// Why says why the stage stands where it stands.
	Why string
	Run func(ctx context.Context, e *Envelope) (Verdict, *stanza.Error)
}

// Route delivers to the addresses of a domain. An error is bounced to the sender. Route must not block on a network peer.
type Route interface {
	Route(ctx context.Context, p *stream.Packet) *stanza.Error
}
