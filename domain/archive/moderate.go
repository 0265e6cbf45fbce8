package archive

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// nsAdmin qualifies what administrators ask of the domain.
const nsAdmin = "urn:posthouse:admin:1"

// maxReason is how many bytes the reason of a moderation may have.
const maxReason = 1024

// Moderated tells what a moderation did.
type Moderated struct {
	// Message is the retraction, and Number its number in the conversation; Original is the message that was retracted.
	Message, Original uint64
	Number            uint64
	// Sender and Recipient are the parties of the conversation, as the original has them.
	Sender, Recipient jid.JID
}

// AnswerModerate answers <moderate xmlns='urn:posthouse:admin:1' id='STANZA-ID'><reason/></moderate>, which names a
// message of any conversation. It does not ask who may: whoever routes to it lets only administrators come here.
func (a *Archive) AnswerModerate(ctx context.Context, r *service.Request) ([]stanza.Element, *stanza.Error) {
	request := r.Payload()
	done, refusal := a.Moderate(ctx, r.From.Bare(), request.Attr("id"), request.ChildText(nsAdmin, "reason"))
	if refusal != nil {
		return nil, refusal
	}
	return []stanza.Element{stanza.New(nsAdmin, "moderated", "id", a.StanzaID(done.Original), "by",
		a.StanzaID(done.Message))}, nil
}

// Moderate takes the content out of a stored message in the name of its sender, on behalf of an administrator, and
// returns when that is durable. The retraction goes the way of any message in that conversation, with its own number,
// from the sender's address to the recipient; it says by whom it was moderated (XEP-0425 §4), which no client can
// claim. reason, "" for none, is shown to both parties.
func (a *Archive) Moderate(ctx context.Context, by jid.JID, stanzaID, reason string) (Moderated, *stanza.Error) {
	id, ok := a.ParseStanzaID(stanzaID)
	if !ok {
		return Moderated{}, notThere
	}
	if len(reason) > maxReason || !stanza.ValidText(reason) {
		return Moderated{}, badQuery("The reason is too long, or no text.")
	}
	next, err := a.moderation(ctx, by, store.MessageID(id), reason)
	switch {
	case errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDamaged):
		return Moderated{}, notThere
	case err != nil:
		return Moderated{}, a.failed("moderate a message", 0, err)
	}
	done := make(chan router.Receipt, 1)
	next.envelope.Stored = func(e *router.Envelope) { done <- e.Receipt }
	decide := func(ctx context.Context) (*stanza.Error, error) { return a.decideModeration(ctx, next) }
	if refusal := a.decideAndPut(ctx, next, decide); refusal != nil {
		a.router.Release(next.envelope)
		return Moderated{}, refusal
	}
	select {
	case r := <-done:
		if r.Err != nil {
			return Moderated{}, r.Err
		}
		s := next.envelope.Stanza
		return Moderated{Message: r.ID, Original: id, Number: r.Seq, Sender: s.From, Recipient: s.To}, nil
	default:
		return Moderated{}, notStored // it may yet be
	}
}

// decideModeration decides about a moderation as the message is now.
func (a *Archive) decideModeration(ctx context.Context, next *entry) (*stanza.Error, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	if err := a.rest(ctx, &next.message); err != nil {
		return nil, err
	}
	var err error
	if next.change.target, err = a.message(ctx, next.change.target.ID); err != nil {
		return nil, err
	}
	return a.apply(ctx, next)
}

// moderation makes the entry of a moderation.
func (a *Archive) moderation(ctx context.Context, by jid.JID, id store.MessageID, reason string) (*entry, error) {
	original, err := a.log.Message(ctx, id)
	if err != nil {
		return nil, err
	}
	if original.Flags&store.Retracted != 0 {
		return nil, store.ErrNotFound
	}
	was, err := xmlstream.Unmarshal(original.Stanza)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	named := was.ID // as the sender's own device would name it (XEP-0424 §4)
	if origin := was.Child(nsStanzaID, "origin-id"); origin != nil {
		named = origin.Attr("id")
	}
	opened, err := a.log.ConversationByID(ctx, original.Conversation)
	if err != nil {
		return nil, err
	}
	other := opened.Key.Other(original.Author)
	retract := stanza.New(nsRetract, "retract", "id",
		named).With(stanza.New(nsModerate, "moderated", "by", by.String()))
	if reason != "" {
		retract = retract.With(stanza.New(nsRetract, "reason").WithText(reason))
	}
	s := &stanza.Stanza{
		Kind: stanza.Message, Type: stanza.TypeChat, ID: rand.Text(), From: original.Author.JID, To: other.JID,
		Payload: []stanza.Element{
			retract, stanza.New(payload.NSFallback, "fallback", "for", nsRetract), // XEP-0428
			stanza.New(stanza.NSClient, "body").WithText("A message was taken back by those who run this server."),
			stanza.New(payload.NSHints, "store"),
		},
	}
	next := &entry{envelope: a.moderationEnvelope(ctx, by, s, original.Author, other), accepted: a.now(), stored: true,
		moderation: true}
	next.change = &change{retract: named, by: by, admin: true, target: &original, other: other}
	m := &next.message
	m.Conversation, m.Author, m.StanzaID = original.Conversation, original.Author, s.ID
	m.Flags = original.Flags & (store.InAuthorArchive | store.InRecipientArchive)
	if other.Account != 0 {
		m.Flags |= store.ForOffline
	}
	next.envelope.Target.Conversation = uint64(original.Conversation)
	next.envelope.Target.Archived = m.Flags&store.InRecipientArchive != 0
	m.Stanza = xmlstream.Marshal(nil, s)
	return next, nil
}

// moderationEnvelope is that of a retraction, which goes to both parties as far as the accounts are still those of
// then.
func (a *Archive) moderationEnvelope(ctx context.Context, by jid.JID, s *stanza.Stanza, author,
	other store.Party) *router.Envelope {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	origin := &router.Origin{Kind: router.Server, Address: s.From, Admin: true, Actor: by.String()}
	if a.still(ctx, author) {
		origin.Account = uint64(author.Account)
	}
	e := &router.Envelope{Stanza: s, Origin: origin}
	_, refusal := a.router.Resolve(ctx, e)
	if refusal != nil || store.AccountID(e.Target.Account) != other.Account {
		e.Target = router.Target{}
	}
	return e
}

// still reports whether the party's address belongs to the same account as when the message was stored.
func (a *Archive) still(ctx context.Context, p store.Party) bool {
	account, ok, err := a.directory.Lookup(ctx, p.JID.Local())
	return err == nil && ok && account == p.Account && account != 0
}
