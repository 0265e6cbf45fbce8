package archive

import (
	"context"
	"errors"
	"time"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// Refusals of edits and retractions.
var (
	notTheirs      = stanza.Refuse(stanza.Forbidden, "Only who sent a message may change it.")
	editTooLate    = stanza.Refuse(stanza.PolicyViolation, "The message is too old to be edited.")
	retractTooLate = stanza.Refuse(stanza.PolicyViolation, "The message is too old to be retracted.")
	notThere       = stanza.Refuse(stanza.ItemNotFound, "There is no such message, or not any more.")
)

// apply decides what an entry does to the message that it edits or retracts, or that it is refused.
func (a *Archive) apply(ctx context.Context, next *entry) (*stanza.Error, error) {
	c, m := next.change, &next.message
	target := c.target
	m.Retract, m.Remains, m.AlsoRetract = 0, nil, nil
	switch {
	case target == nil && c.foreign:
		return notTheirs, nil
	case target == nil && c.edit != "":
		return nil, nil // the original may not have been kept
	case target == nil, target.Flags&store.Retracted != 0:
		return notThere, nil
	}
	age := next.accepted.Sub(target.ID.Time())
	if c.edit != "" {
		if window := a.config.EditWindow; window > 0 && age > window && !c.admin {
			return editTooLate, nil
		}
		return nil, nil
	}
	if window := a.config.RetractWindow; window > 0 && age > window && !c.admin {
		return retractTooLate, nil
	}
	m.Retract = target.ID
	retraction := next.envelope.Stanza
	var err error
	if m.Remains, err = tombstone(target, retraction, c.by, next.accepted); err != nil {
		return nil, err
	}
	m.AlsoRetract, err = a.editsOf(ctx, target, func(m *store.Message) ([]byte, error) {
		return tombstone(m, retraction, c.by, next.accepted)
	})
	return nil, err
}

// alreadyStored reports whether a message of that origin-id was stored before.
func (a *Archive) alreadyStored(ctx context.Context, m *store.Append) (bool, error) {
	if m.OriginID == "" {
		return false, nil
	}
	_, err := a.log.Origin(ctx, m.Author, m.OriginID)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// tombstone is what is left of a message that was retracted (XEP-0424 §5): its addresses and ids, and in place of what
// it said the id of the message that retracted it, and when. by is the administrator who did it, zero for the sender.
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
	left := &stanza.Stanza{Kind: s.Kind, Type: s.Type, ID: s.ID, From: s.From, To: s.To,
		Payload: []stanza.Element{retracted}}
	if origin := s.Child(nsStanzaID, "origin-id"); origin != nil {
		left.Payload = append(left.Payload, *origin)
	}
	return xmlstream.Marshal(nil, left), nil
}
