package archive

import (
	"context"
	"errors"

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
		Why: "Everything before it may still change or refuse the stanza; nothing after it runs before the message " +
			"is durable.",
		Run: a.accept,
	}
}

// notStored is the refusal when something that has to be asked before a message can be stored failed.
var notStored = &stanza.Error{Type: stanza.Wait, Condition: stanza.InternalServerError,
	Text: "The message was not stored. Try again later."}

func (a *Archive) accept(ctx context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
	if e.Stanza.Kind != stanza.Message {
		return router.Continue, nil
	}
	next := entry{envelope: e, accepted: a.now()}
	if err := a.prepare(ctx, &next); err != nil {
		return router.Finish, a.unanswered(e, err)
	}
	if next.change != nil {
		return a.acceptChange(ctx, &next)
	}
	return router.Hold, a.put(ctx, &next)
}

// put reserves slots for the delivery of an entry and then puts it in the queue. It refuses what finds no slot in time.
func (a *Archive) put(ctx context.Context, next *entry) *stanza.Error {
	if !a.reserve(ctx, next) {
		return crowded
	}
	a.enqueue(ctx, next)
	return nil
}

func (a *Archive) reserve(ctx context.Context, next *entry) bool {
	size := next.size()
	if !next.stored {
		size = next.envelope.Stanza.Size()
	}
	if !a.router.Reserve(ctx, next.envelope, size) {
		a.metrics.refused.Inc()
		return false
	}
	return true
}

// enqueue puts an entry in the queue. When the committer has ended, the envelope is neither done nor refused: an answer
// now could be taken for one to a message of the same connection that was not committed.
func (a *Archive) enqueue(ctx context.Context, next *entry) bool {
	if a.queue.put(ctx, next) {
		return true
	}
	a.router.Release(next.envelope)
	a.metrics.stopped.Inc()
	return false
}

// crowded is the refusal when too much waits to be delivered to the recipient, or in all.
var crowded = &stanza.Error{Type: stanza.Wait, Condition: stanza.ResourceConstraint,
	Text: "Too much waits to be delivered. Try again later."}

// unanswered logs why a message could not be prepared, and returns the refusal.
func (a *Archive) unanswered(e *router.Envelope, err error) *stanza.Error {
	if errors.Is(err, store.ErrFull) {
		a.metrics.full.Inc()
		return storageFull
	}
	a.logger.Error("a message could not be prepared for the archive",
		"account", store.AccountID(e.Origin.Account), "error", err)
	a.metrics.refused.Inc()
	return notStored
}

// prepare decides whether the message is to be stored and fills what the store is to be given.
func (a *Archive) prepare(ctx context.Context, next *entry) error {
	e := next.envelope
	next.said = e.Stanza
	meaning := payload.MeaningOf(e.Stanza)
	if e.Target.Kind == router.Nobody {
		return nil
	}
	author := store.Party{JID: e.Stanza.From.Bare(), Account: store.AccountID(e.Origin.Account)}
	other := store.Party{JID: e.Stanza.To.Bare(), Account: store.AccountID(e.Target.Account)}
	if meaning.Storage == payload.Transient {
		if !meaning.Marks || e.Stanza.Type == stanza.TypeError {
			return nil // an error may contain what it answers, which somebody else has said
		}
		return a.hideRead(ctx, e, author, other)
	}
	if author.Account == 0 && other.Account == 0 {
		return nil
	}
	id, err := a.conversations.open(ctx, next.accepted, author, other)
	if err != nil {
		return err
	}
	e.Target.Conversation = uint64(id)
	if meaning.Marks {
		if err := a.prepareMarkers(ctx, next, &meaning, author, other); err != nil {
			return err
		}
		if err := a.hideRead(ctx, e, author, other); err != nil || !meaning.Says {
			return err
		}
	}
	return a.prepareMessage(ctx, next, &meaning, author, other)
}

// prepareMessage fills a message that is to be stored. It is not stored when no account of this domain is to keep it.
func (a *Archive) prepareMessage(ctx context.Context, next *entry, meaning *payload.Meaning, author,
	other store.Party) error {
	e, m := next.envelope, &next.message
	s := e.Stanza
	m.Author = author
	if other.Account != 0 {
		m.Flags = store.ForOffline
	}
	if meaning.Storage == payload.Archived {
		if err := a.addArchives(ctx, m, other.Account, s); err != nil {
			return err
		}
	}
	if m.Flags == 0 {
		next.tells = true
		return nil
	}
	m.Conversation = store.ConversationID(e.Target.Conversation)
	e.Target.Archived = m.Flags&store.InRecipientArchive != 0
	m.Markers = next.markers
	if m.OriginID = originID(s); m.OriginID != "" {
		m.ContentHash = contentHash(next.said)
	}
	m.StanzaID = originKey(s.ID)
	m.Stanza = xmlstream.MarshalContent(make([]byte, 0, s.Size()), s, &e.Content)
	next.stored = true
	if meaning.Unread {
		m.Flags |= store.Unread
	}
	if meaning.Edits+meaning.Retracts != "" {
		next.change = &change{edit: meaning.Edits, retract: meaning.Retracts, other: other, admin: e.Origin.Admin}
	}
	return nil
}

// addArchives sets the flags of both sides' archives, as each of them wants it.
func (a *Archive) addArchives(ctx context.Context, m *store.Append, recipient store.AccountID, s *stanza.Stanza) error {
	if m.Author.Account != 0 {
		keep, err := a.preferences.keeps(ctx, m.Author.Account, s.To)
		if err != nil {
			return err
		}
		if keep {
			m.Flags |= store.InAuthorArchive
		}
	}
	if recipient != 0 {
		keep, err := a.preferences.keeps(ctx, recipient, s.From)
		if err != nil {
			return err
		}
		if keep {
			m.Flags |= store.InRecipientArchive
		}
	}
	return nil
}
