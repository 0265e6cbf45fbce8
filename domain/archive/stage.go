package archive

import (
	"context"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// StageName is the stage's name in the acceptance chain and in metrics.
const StageName = "archive"

// Stage returns the archive's stage of the acceptance chain. It holds every message, stored or not, so that what one
// connection says is delivered in the order in which it was said; everything else passes at once.
func (a *Archive) Stage() router.Stage {
	return router.Stage{
		Name: StageName,
		Why:  "Everything before it may still change or refuse the stanza; nothing after it runs before the message is durable.",
		Run:  a.accept,
	}
}

// notStored is the refusal when something that has to be asked before a message can be stored failed.
var notStored = &stanza.Error{Type: stanza.Wait, Condition: stanza.InternalServerError, Text: "The message was not stored. Try again later."}

func (a *Archive) accept(ctx context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
	if e.Stanza.Kind != stanza.Message {
		return router.Continue, nil
	}
	next := entry{envelope: e, accepted: a.now()}
	if err := a.prepare(ctx, &next); err != nil {
		return router.Finish, a.unanswered(e, err)
	}
	if next.refs != nil && next.refs.changes() {
		return a.acceptChange(ctx, &next)
	}
	return router.Hold, a.put(ctx, &next)
}

// put reserves slots for the delivery of an entry and then puts it in the queue. It refuses what finds no slot in time. When the
// committer has ended, the envelope is neither done nor refused: an answer now could be taken for one to a message of the same
// connection that was not committed.
func (a *Archive) put(ctx context.Context, next *entry) *stanza.Error {
	size := next.size()
	if !next.stored {
		size = next.envelope.Stanza.Size()
	}
	if !a.router.Reserve(ctx, next.envelope, size) {
		a.metrics.refused.Inc()
		return crowded
	}
	if !a.queue.put(ctx, next) {
		a.router.Release(next.envelope)
		a.metrics.stopped.Inc()
	}
	return nil
}

// crowded is the refusal when too much waits to be delivered to the recipient, or in all.
var crowded = &stanza.Error{Type: stanza.Wait, Condition: stanza.ResourceConstraint, Text: "Too much waits to be delivered. Try again later."}

// unanswered logs why a message could not be prepared, and returns the refusal.
func (a *Archive) unanswered(e *router.Envelope, err error) *stanza.Error {
	a.logger.Error("a message could not be prepared for the archive", "account", e.Origin.Account, "error", err)
	a.metrics.refused.Inc()
	return notStored
}

// prepare decides whether the message is to be stored and fills what the store is to be given.
func (a *Archive) prepare(ctx context.Context, next *entry) error {
	e := next.envelope
	s := e.Stanza
	meaning := payload.MeaningOf(s)
	if meaning.Storage == payload.Transient || e.Target.Kind == router.Nobody {
		return nil
	}
	m := &next.message
	m.Sender = store.Party{JID: s.From.Bare(), Account: store.AccountID(e.Origin.Account)}
	m.Recipient = store.Party{JID: s.To.Bare(), Account: store.AccountID(e.Target.Account)}
	if m.Recipient.Account != 0 {
		m.Flags = store.ForOffline
	}
	if meaning.Storage == payload.Archived {
		if err := a.addArchives(ctx, m, s); err != nil {
			return err
		}
	}
	if m.Flags == 0 {
		return nil // no account of this domain is to keep it
	}
	e.Target.Archived = m.Flags&store.InRecipientArchive != 0
	if m.OriginID = originID(s); m.OriginID != "" {
		m.ContentHash = contentHash(s)
	}
	m.Stanza = xmlstream.Marshal(make([]byte, 0, s.Size()), s)
	next.stored = true
	if meaning.Unread {
		m.Flags |= store.Unread
	}
	refs := refsOf(&meaning)
	if refs == nil {
		return nil
	}
	next.refs, refs.admin = refs, e.Origin.Admin
	if refs.changes() {
		return nil // see acceptChange
	}
	return a.resolveMarkers(ctx, next)
}

// addArchives sets the flags of both sides' archives, as each of them wants it.
func (a *Archive) addArchives(ctx context.Context, m *store.Append, s *stanza.Stanza) error {
	if m.Sender.Account != 0 {
		keep, err := a.preferences.keeps(ctx, m.Sender.Account, s.To)
		if err != nil {
			return err
		}
		if keep {
			m.Flags |= store.InSenderArchive
		}
	}
	if m.Recipient.Account != 0 {
		keep, err := a.preferences.keeps(ctx, m.Recipient.Account, s.From)
		if err != nil {
			return err
		}
		if keep {
			m.Flags |= store.InRecipientArchive
		}
	}
	return nil
}
