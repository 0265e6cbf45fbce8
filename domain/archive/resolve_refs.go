package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

const (
	// resolveReach is how many messages of a conversation are looked through, from the newest on, for one that has no origin-id.
	resolveReach = 256
	// resolveStep is how many of them are read first: nearly always the message is among them.
	resolveStep = 32
)

// resolveRefs looks in the log for the messages that one from sender to recipient refers to. It runs on the sender's own goroutine.
func (a *Archive) resolveRefs(ctx context.Context, sender, recipient store.Party, r *refs) error {
	conversation, last, err := a.log.Conversation(ctx, sender, recipient)
	if errors.Is(err, store.ErrNotFound) {
		last = 0
	} else if err != nil {
		return fmt.Errorf("look for a conversation: %w", err)
	}
	s := resolver{Archive: a, sender: sender, recipient: recipient, refs: r, conversation: conversation}
	if err := s.byIdentity(ctx); err != nil || s.complete() {
		return err
	}
	return s.scan(ctx, last)
}

// resolveMarkers fills in which messages the read markers of an entry name. Who sends one has got the message, so it is stored; one that is
// not found moves nothing.
func (a *Archive) resolveMarkers(ctx context.Context, next *entry) error {
	r, m := next.refs, &next.message
	if err := a.resolveRefs(ctx, m.Sender, m.Recipient, r); err != nil {
		return err
	}
	if account := m.Sender.Account; account != 0 && r.deliveredAt+r.readAt != 0 {
		m.ReadMarkers = &store.ReadMarkers{Account: account, Device: next.envelope.Stanza.From.Resource(), Delivered: r.deliveredAt, Read: r.readAt}
	}
	return nil
}

// resolver is one search.
type resolver struct {
	*Archive
	sender, recipient store.Party
	refs              *refs
	conversation      store.ConversationID // 0: it has no message yet
}

// complete reports whether there is nothing left to look for.
func (s *resolver) complete() bool {
	r := s.refs
	return (r.delivered == "" || r.deliveredAt != 0) && (r.read == "" || r.readAt != 0) && (s.changed() == "" || r.target != nil)
}

// changed is the message of the sender's own that is edited or retracted, as the entry names it.
func (s *resolver) changed() string { return s.refs.edit + s.refs.retract } // never both

// byIdentity finds messages by origin-id (XEP-0359 §3.2) or stanza-id, which need no scan.
func (s *resolver) byIdentity(ctx context.Context) error {
	r := s.refs
	for _, marker := range []struct {
		id string
		at *uint64
	}{{r.delivered, &r.deliveredAt}, {r.read, &r.readAt}} {
		if marker.id == "" || *marker.at != 0 {
			continue
		}
		found, err := s.identified(ctx, s.recipient, marker.id)
		if err != nil {
			return err
		}
		if found != nil && found.Conversation == s.conversation && same(found.Sender, s.recipient) {
			*marker.at = found.Seq
		}
	}
	id := s.changed()
	if id == "" || r.target != nil {
		return nil
	}
	found, err := s.identified(ctx, s.sender, id)
	if found == nil && err == nil {
		if found, err = s.identified(ctx, s.recipient, id); found != nil && found.Conversation != s.conversation {
			found = nil // ids of the other party's messages to third parties are private
		}
	}
	if err != nil || found == nil {
		return err
	}
	if found.Conversation != s.conversation || !same(found.Sender, s.sender) {
		r.foreign = true
		return nil
	}
	r.target = found
	return nil
}

// identified returns the message of that origin-id or stanza-id, or nil.
func (s *resolver) identified(ctx context.Context, sender store.Party, text string) (*store.Message, error) {
	id, _, _, err := s.log.Origin(ctx, sender, originKey(text))
	if errors.Is(err, store.ErrNotFound) {
		named, ok := s.ParseStanzaID(text)
		if !ok {
			return nil, nil
		}
		id = store.MessageID(named)
	} else if err != nil {
		return nil, fmt.Errorf("look for an origin-id: %w", err)
	}
	m, err := s.log.Message(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case errors.Is(err, store.ErrDamaged):
		s.unreadable(&store.Message{ID: id}, err)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read a message that another one refers to: %w", err)
	}
	return &m, nil
}

// scan looks through the end of the conversation, the newest first.
func (s *resolver) scan(ctx context.Context, last uint64) error {
	from := uint64(1)
	if last >= resolveReach {
		from = last - resolveReach + 1
	}
	for end := last; end >= from && end > 0 && !s.complete(); {
		first := from
		if step := uint64(resolveStep); end == last && end >= step {
			first = max(from, end-step+1)
		}
		found, err := s.log.Numbered(ctx, s.conversation, first, int(end-first+1))
		found, err = salvage(found, err, s.unreadable)
		if err != nil {
			return fmt.Errorf("look through a conversation: %w", err)
		}
		for i := len(found) - 1; i >= 0; i-- {
			s.compare(&found[i])
		}
		end = first - 1
	}
	return nil
}

// compare holds one message against what is looked for. The newest of an id counts: ids are unique within a stream only.
func (s *resolver) compare(m *store.Message) {
	r := s.refs
	mine, theirs := same(m.Sender, s.sender), same(m.Sender, s.recipient)
	if theirs && r.deliveredAt == 0 && called(m, r.delivered) {
		r.deliveredAt = m.Seq
	}
	if theirs && r.readAt == 0 && called(m, r.read) {
		r.readAt = m.Seq
	}
	if r.target == nil && called(m, s.changed()) {
		if mine {
			r.target = m
		} else {
			r.foreign = true
		}
	}
}

const (
	// editReach is how many messages after one that is retracted are looked through for its edits, and editStep how many are read at once.
	editReach = 5000
	editStep  = 50
	// editCount and editBytes bound the edits that go with one retraction, since all of it is one transaction.
	editCount = 200
	editBytes = 8 << 20
)

// resolveEdits looks for the edits of the message that is to be retracted. retraction is the stanza that retracts it, and at when.
func (a *Archive) resolveEdits(ctx context.Context, r *refs, retraction *stanza.Stanza, at time.Time) error {
	target := r.target
	if target == nil || r.retract == "" {
		return nil
	}
	original, err := xmlstream.Unmarshal(target.Stanza)
	if err != nil {
		return fmt.Errorf("read a message that is retracted: %w", err)
	}
	r.edits = nil
	seen, said := target.Seq, 0
	for end := target.Seq + editReach; seen < end && len(r.edits) < editCount && said < editBytes; {
		found, err := a.log.Numbered(ctx, target.Conversation, seen+1, editStep)
		n := len(found)
		var damage *store.DamagedError
		if errors.As(err, &damage) {
			n += len(damage.IDs)
			found, err = salvage(found, err, a.unreadable)
		}
		if err != nil {
			return fmt.Errorf("look for edits: %w", err)
		}
		for i := range found {
			m := &found[i]
			seen = max(seen, m.Seq)
			if !same(m.Sender, target.Sender) || !edits(m, original.ID, target.OriginID) {
				continue
			}
			left, err := tombstone(m, retraction, r.by, at)
			if err != nil {
				return err
			}
			r.edits = append(r.edits, store.Retraction{ID: m.ID, Remains: left})
			said += len(m.Stanza)
		}
		if n < editStep {
			return nil
		}
	}
	return nil
}

// edits reports whether a stored message replaces the one of that id or origin-id (XEP-0308 §3).
func edits(m *store.Message, id, originID string) bool {
	if m.Flags&store.Retracted != 0 || !bytes.Contains(m.Stanza, []byte(nsCorrect)) {
		return false
	}
	s, err := xmlstream.Unmarshal(m.Stanza)
	if err != nil {
		return false
	}
	replace := s.Child(nsCorrect, "replace")
	if replace == nil {
		return false
	}
	named := replace.Attr("id")
	return named != "" && (named == id || originKey(named) == originID)
}

// called reports whether a stored message's stanza has that id.
func called(m *store.Message, id string) bool {
	if id == "" || !strings.ContainsAny(id, "&<>'\"\t\r\n") && !bytes.Contains(m.Stanza, []byte(id)) {
		return false // what is written as it is would be there
	}
	s, err := xmlstream.Unmarshal(m.Stanza)
	return err == nil && s.ID == id
}
