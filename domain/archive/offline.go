package archive

import (
	"context"
	"fmt"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// nsDelay qualifies <delay/> (XEP-0203).
// replayPage is how many messages a replay reads at once.
const replayPage = 100

// Delivered reports that a stored message, or a marker of somebody else, reached a device of the account: it was
// written to a link without stream management, or acknowledged on one with it. It takes less than a microsecond.
func (a *Archive) Delivered(account, id uint64) {
	a.reports.add(store.AccountID(account), store.MessageID(id))
}

// Kept reports that no device of the account took the message. It waits for the account's next replay: a delivery
// cursor covers only what was reported as delivered, so there is nothing to change.
func (a *Archive) Kept(account, id uint64) { a.metrics.kept.Inc() }

// Replay gives to yield, in order, every message to the account, and every current marker of others, that was not
// delivered to any device (XEP-0160), until there is none left, yield returns false, or ctx ends. Each is a copy with
// the time of its acceptance (XEP-0203) that may be sent as it is, and whose delivery is to be reported as usual.
func (a *Archive) Replay(ctx context.Context, account uint64, yield func(*stream.Packet) bool) error {
	owner := store.AccountID(account)
	if err := a.reports.settle(ctx, owner); err != nil {
		return fmt.Errorf("write what was delivered before a replay: %w", err)
	}
	var after store.MessageID
	for {
		page, err := a.log.Undelivered(ctx, owner, after, replayPage)
		page, err = salvage(page, err, a.unreadable)
		if err != nil {
			return fmt.Errorf("read undelivered messages: %w", err)
		}
		for i := range page {
			after = page[i].ID
			more, err := a.replay(ctx, owner, &page[i], yield)
			if err != nil || !more {
				return err
			}
		}
		if len(page) < replayPage {
			return nil
		}
	}
}

// replay yields one message or marker. more is false when yield wants no more.
func (a *Archive) replay(ctx context.Context, owner store.AccountID, m *store.Message,
	yield func(*stream.Packet) bool) (more bool, err error) {
	if m.Marker != nil {
		return a.replayMarker(ctx, owner, m, yield)
	}
	if m.Stanza == nil { // it is damaged, which was told
		a.Delivered(uint64(owner), uint64(m.ID)) // it never can be, and is not to be looked at each time
		return true, nil
	}
	s, err := xmlstream.Unmarshal(m.Stanza)
	if err != nil {
		a.unreadable(m, err)
		a.Delivered(uint64(owner), uint64(m.ID))
		return true, nil
	}
	p := a.late(m, s)
	a.Stamp(p, s.To.Bare(), m.Seq, m.Flags&store.InRecipientArchive != 0)
	p.Own = append(p.Own, a.delay(m))
	return yield(p), nil
}

// replayMarker yields what a marker says. When that is nothing, the marker counts as delivered.
func (a *Archive) replayMarker(ctx context.Context, owner store.AccountID, m *store.Message,
	yield func(*stream.Packet) bool) (more bool, err error) {
	s, _, err := a.markerStanza(ctx, m)
	if err != nil {
		return false, err
	}
	// it has the number alone: nobody has asked for a receipt
	if m.Marker.Kind == store.MarkDelivered && len(s.Payload) == 1 {
		a.Delivered(uint64(owner), uint64(m.ID))
		return true, nil
	}
	all := apart(s)
	for i, s := range all {
		last := i == len(all)-1
		p := a.late(m, s)
		if last {
			a.Stamp(p, s.To, 0, true)
		} else {
			p.ArchiveID = 0 // when the last one is delivered, so are those before
		}
		p.Own = append(p.Own, a.delay(m))
		if !yield(p) {
			return false, nil
		}
	}
	return true, nil
}

// late returns a packet with a stanza that is sent late.
func (a *Archive) late(m *store.Message, s *stanza.Stanza) *stream.Packet {
	return &stream.Packet{Stanza: s, ArchiveID: uint64(m.ID), Role: stream.Replay}
}

// delay says when a message was accepted. RFC 6120 leaves where among its siblings it stands open; XEP-0203 §4 asks for
// from as the entity that delayed it.
func (a *Archive) delay(m *store.Message) stanza.Element {
	return stanza.New(nsDelay, "delay", "from", a.domain.String(), "stamp", stanza.FormatTime(m.ID.Time()))
}
