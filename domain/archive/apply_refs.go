package archive

import (
	"context"
	"errors"
	"time"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// Refusals of edits and retractions.
var (
	notTheirs      = stanza.Refuse(stanza.Forbidden, "Only who sent a message may change it.")
	editTooLate    = stanza.Refuse(stanza.NotAcceptable, "The message is too old to be edited.")
	retractTooLate = stanza.Refuse(stanza.NotAcceptable, "The message is too old to be retracted.")
	notThere       = stanza.Refuse(stanza.ItemNotFound, "There is no such message, or not any more.")
)

// resolveTimeout bounds the reads for one message that refers to others.
const resolveTimeout = 10 * time.Second

// awaits reports whether an entry can only be decided after those that wait before it in the batch were stored: one of
// them may be what it refers to, or retracts that.
func awaits(waiting []entry, next *entry) bool {
	if next.refs.done && next.refs.edit+next.refs.retract == "" {
		return false // nearly always: who sends a marker has got the message, so it is stored
	}
	for i := range waiting {
		w := &waiting[i]
		if w.stored && sameConversation(&w.message.Message, &next.message.Message) && (w.message.Retract != 0 || next.refs.likely(w) || next.refs.retract != "" && w.refs != nil && w.refs.edit != "") {
			return true
		}
	}
	return false
}

func sameConversation(a, b *store.Message) bool {
	return same(a.Sender, b.Sender) && same(a.Recipient, b.Recipient) || same(a.Sender, b.Recipient) && same(a.Recipient, b.Sender)
}

// applyRefs decides, on the committer's goroutine and with everything stored that came before, what an entry does to the
// messages that it refers to, or that it is refused.
func (a *Archive) applyRefs(ctx context.Context, next *entry) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	refusal, err := a.decideRefs(ctx, next)
	if err == nil && refusal != nil {
		var known bool
		if known, err = a.alreadyStored(ctx, &next.message); known {
			return // it was sent again: the log has the first answer
		}
	}
	if err != nil {
		a.logger.Error("a message could not be checked against the one that it refers to", "account", uint64(next.message.Sender.Account), "error", err)
		refusal = unanswered
	}
	if refusal != nil {
		next.refusal, next.stored = refusal, false
	}
}

func (a *Archive) decideRefs(ctx context.Context, next *entry) (*stanza.Error, error) {
	r, m := next.refs, &next.message
	if !r.done {
		if err := a.resolveRefs(ctx, m.Sender, m.Recipient, r); err != nil {
			return nil, err
		}
	}
	if account := m.Sender.Account; account != 0 && r.deliveredAt+r.readAt != 0 {
		m.ReadMarkers = &store.ReadMarkers{Account: account, Device: next.envelope.Stanza.From.Resource(), Delivered: r.deliveredAt, Read: r.readAt}
	}
	switch {
	case r.edit+r.retract == "":
		return nil, nil
	case r.target == nil && r.foreign:
		return notTheirs, nil
	case r.target == nil && r.edit != "":
		return nil, nil // the original may not have been kept
	case r.target == nil:
		return notThere, nil
	}
	// It was read before those that came first were stored.
	target, err := a.log.Message(ctx, r.target.ID)
	switch {
	case errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDamaged):
		return notThere, nil
	case err != nil:
		return nil, err
	case target.Flags&store.Retracted != 0:
		return notThere, nil
	}
	age := next.accepted.Sub(target.ID.Time())
	if r.edit != "" {
		if window := a.config.EditWindow; window > 0 && age > window && !r.admin {
			return editTooLate, nil
		}
		return nil, nil
	}
	if window := a.config.RetractWindow; window > 0 && age > window && !r.admin {
		return retractTooLate, nil
	}
	m.Retract = target.ID
	retraction := next.envelope.Stanza
	if m.Remains, err = tombstone(&target, retraction, r.by, next.accepted); err != nil {
		return nil, err
	}
	err = a.resolveEdits(ctx, r, retraction, next.accepted)
	m.AlsoRetract = r.edits
	return nil, err
}

// alreadyStored reports whether a message of that origin-id was stored before.
func (a *Archive) alreadyStored(ctx context.Context, m *store.Append) (bool, error) {
	if m.OriginID == "" {
		return false, nil
	}
	_, _, _, err := a.log.Origin(ctx, m.Sender, m.OriginID)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// tombstone is what is left of a message that was retracted (XEP-0424 §5): its addresses and ids, and in place of what it said the id of the
// message that retracted it, and when. by is the administrator who did it, zero for the sender.
func tombstone(m *store.Message, retraction *stanza.Stanza, by jid.JID, at time.Time) ([]byte, error) {
	s, err := xmlstream.Unmarshal(m.Stanza)
	if err != nil {
		return nil, err
	}
	retracted := stanza.New(nsRetract, "retracted", "stamp", stanza.FormatTime(at))
	id := retraction.ID
	if origin := retraction.Child(nsStanzaID, "origin-id"); id == "" && origin != nil {
		id = origin.Attr("id")
	}
	if id != "" {
		retracted.Attrs = append(retracted.Attrs, stanza.Attr{Local: "id", Value: id})
	}
	if !by.IsZero() { // XEP-0425 §5
		retracted = retracted.With(stanza.New(nsModerate, "moderated", "by", by.String()))
	}
	left := &stanza.Stanza{Kind: s.Kind, Type: s.Type, ID: s.ID, From: s.From, To: s.To, Payload: []stanza.Element{retracted}}
	if origin := s.Child(nsStanzaID, "origin-id"); origin != nil {
		left.Payload = append(left.Payload, *origin)
	}
	return xmlstream.Marshal(nil, left), nil
}

// administers reports whether a source may retract at any time.
func administers(s router.Source) bool {
	admin, ok := s.(interface{ Admin() bool })
	return ok && admin.Admin()
}
