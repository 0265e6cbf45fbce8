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

// unanswered is the refusal when something that has to be asked before a message can be stored failed.
var unanswered = &stanza.Error{Type: stanza.Wait, Condition: stanza.InternalServerError, Text: "The message was not stored. Try again later."}

func (a *Archive) accept(ctx context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
	if e.Stanza.Kind != stanza.Message {
		return router.Continue, nil
	}
	var next entry
	next.envelope = e
	next.accepted = a.now()
	if err := a.prepare(ctx, &next); err != nil {
		a.logger.Error("a message could not be prepared for the archive", "account", e.Source.Account(), "error", err)
		next.refusal, next.stored = unanswered, false
	}
	if !a.queue.put(ctx, &next) {
		// The committer has ended or the connection is going away. The envelope is neither done nor refused: an answer
		// now could be taken for one to a message of the same connection that was not committed.
		a.metrics.stopped.Inc()
	}
	return router.Hold, nil
}

// prepare decides whether the message is to be stored and fills what the store is to be given.
func (a *Archive) prepare(ctx context.Context, next *entry) error {
	e := next.envelope
	s := e.Stanza
	meaning := payload.MeaningOf(s)
	if meaning.Storage == payload.Transient {
		return nil
	}
	m := &next.message
	m.Sender = store.Party{JID: s.From.Bare(), Account: store.AccountID(e.Source.Account())}
	to := s.To
	if to.IsZero() { // RFC 6120 §10.3.1: the sender's own account
		to = m.Sender.JID
	}
	m.Recipient = store.Party{JID: to.Bare()}
	if to.Domain() == a.domain.Domain() {
		if to.Local() == "" {
			return nil // the server itself keeps no history
		}
		account, ok, err := a.directory.Lookup(ctx, to.Local())
		if err != nil {
			return err
		}
		if !ok {
			return nil // it goes on unstored and is bounced by the rules of delivery
		}
		m.Recipient.Account = account
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
	next.refs, refs.admin = refs, administers(e.Source)
	if err := a.resolveRefs(ctx, m.Sender, m.Recipient, refs); err != nil {
		return err
	}
	return a.resolveEdits(ctx, refs, s, next.accepted)
}

// addArchives sets the flags of both sides' archives, as each of them wants it.
func (a *Archive) addArchives(ctx context.Context, m *store.Append, s *stanza.Stanza) error {
	if m.Sender.Account != 0 {
		other := s.To
		if other.IsZero() {
			other = m.Recipient.JID
		}
		keep, err := a.preferences.keeps(ctx, m.Sender.Account, other)
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
