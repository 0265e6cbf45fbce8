// Package router owns the path of a stanza through the domain: the acceptance chain, which everything that enters the
// domain passes once (Accept); the domain table (Forward); the delivery of accepted stanzas; and the table that turns
// refusals into error replies.
//
// Goroutines: stages run on the goroutine of the caller of Accept, or of Resume after a stage has held the envelope.
// Stored messages are delivered by the router's own workers, which Close ends; see delivery. The package knows its
// siblings only by the interfaces below.
package router

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Receipt tells the origin what became of its stanza. Err is nil when it was accepted.
type Receipt struct {
	// ID, Seq and Time are set when something was stored: a message's identity in the log, its number in its
	// conversation, and the server's time of acceptance. What only moved markers has the identity of the last, and no
	// number.
	ID   uint64
	Seq  uint64
	Time time.Time
	// Duplicate: the message was stored before, and this repeats the first answer.
	Duplicate bool
	Err       *stanza.Error
}

// Envelope carries one stanza through the acceptance chain and on to its delivery. It is owned by the stage that runs;
// once it was stored nobody changes it any more.
type Envelope struct {
	// Stanza is what goes to whom it is addressed.
	Stanza *stanza.Stanza
	// Whole is what the author's own devices are told, when it is more than others are; nil means Stanza. Set by the
	// archive.
	Whole  *stanza.Stanza
	Origin *Origin
	// Target is found by the stage resolve.
	Target Target
	// Receipt is what Stored will be told; stages fill it.
	Receipt Receipt
	// Content is shared by all packets of the stanza as it was accepted.
	Content stream.Content
	// Stored is called exactly once, when it is certain what became of the stanza: a message is durable, or was found
	// not to be one for keeping; anything else was delivered; or it was refused. For a message that is on the archive's
	// committer, and waits for no delivery. It must not block. It may be nil.
	Stored func(e *Envelope)
	// Delivered is called exactly once, after Stored, when all that the stanza causes at its recipient and at the
	// author's other devices was done. It must not block. It may be nil.
	Delivered func(e *Envelope)

	next  int   // index of the stage to run
	route Route // of the target; nil before resolve
	// Slots that were reserved, both nil for none; they are the same when recipient and author are.
	recipient, author *keyQueue
	bytes             int32        // of each slot
	jobs              atomic.Int32 // that have not been done
}

// Verdict is a stage's decision.
type Verdict uint8

// The verdicts.
const (
	// Continue with the next stage.
	Continue Verdict = iota
	// Hold: the stage keeps the envelope and will call Router.Resume, Router.Refuse or Router.Finish later.
	Hold
	// Finish: the stage has dealt with the stanza, and nothing is delivered.
	Finish
)

// Stage is one step of the acceptance chain. An error refuses the stanza.
type Stage struct {
	Name string
	// Why says why the stage stands where it stands.
	Why string
	Run func(ctx context.Context, e *Envelope) (Verdict, *stanza.Error)
}

// Delivery is one step of what is done for an account after a message was accepted. It may not refuse anything any
// more.
type Delivery struct {
	Name string
	// Why says why the step stands where it stands.
	Why string
	Run func(ctx context.Context, e *Envelope)
}

// Route answers for the addresses of a domain. It must not block on a network peer.
type Route interface {
	// Resolve finds e.Target, and refuses or finishes what can for certain not be delivered. Whatever has to be looked
	// up is looked up here: it runs on the sender's goroutine, before anything is stored.
	Resolve(ctx context.Context, e *Envelope) (Verdict, *stanza.Error)
	// Deliver gives an accepted stanza to e.Target, which Resolve has found. A message is never refused here; for
	// presence and IQ an error is bounced to the sender.
	Deliver(ctx context.Context, e *Envelope) *stanza.Error
	// Route delivers what has not passed the chain. An error is bounced to the sender.
	Route(ctx context.Context, p *stream.Packet) *stanza.Error
}
