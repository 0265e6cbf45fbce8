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

// Delivered reports that a stored message reached a device of the account: it was written to a link without stream
// management, or acknowledged on one with it. Reports about messages that were not sent to the account, such as
// carbons of its own, have no effect. It may read the log once for an account that was not heard of
// for long; otherwise it takes less than a microsecond.
func (a *Archive) Delivered(account, id uint64) {
	a.cursors.delivered(store.AccountID(account), store.MessageID(id))
}

// Kept reports that no device of the account took the message. It waits for the account's next replay: a delivery cursor covers
// only what was reported as delivered, so there is nothing to change.
func (a *Archive) Kept(account, id uint64) { a.metrics.kept.Inc() }

// Replay gives to yield, in order, every message to the account that was not delivered to any device (XEP-0160),
// until there is none left, yield returns false, or ctx ends. Each is a copy with the time of its acceptance
// (XEP-0203) that may be sent as it is, and whose delivery is to be reported as usual.
//
// through is the last message that was considered: a live message of the account up to and including it was yielded
// or had been delivered before, a later one was not. It is 0 when nothing was considered.
func (a *Archive) Replay(ctx context.Context, account uint64, yield func(*stream.Packet) bool) (through uint64, err error) {
	owner := store.AccountID(account)
	before, err := a.cursors.snapshot(ctx, owner)
	if err != nil {
		return 0, fmt.Errorf("read the delivery cursor before a replay: %w", err)
	}
	if before.nothing() {
		return uint64(before.known), nil
	}
	var after store.MessageID
	for {
		page, err := a.log.Undelivered(ctx, owner, after, replayPage)
		page, err = salvage(page, err, a.unreadable)
		if err != nil {
			return uint64(after), fmt.Errorf("read undelivered messages: %w", err)
		}
		for i := range page {
			m := &page[i]
			after = m.ID
			if m.Stanza == nil || before.delivered(m.ID) {
				continue // it is damaged, or the delivery cursor in the log is older than what is known here
			}
			s, err := a.replayed(m)
			if err != nil {
				a.unreadable(m, err)
				continue
			}
			if !yield(&stream.Packet{Stanza: s, ArchiveID: uint64(m.ID), Role: stream.Replay}) {
				return uint64(after), nil
			}
		}
		if len(page) < replayPage {
			return uint64(after), nil
		}
	}
}

// replayed returns the stored message as it is sent late.
func (a *Archive) replayed(m *store.Message) (*stanza.Stanza, error) {
	s, err := xmlstream.Unmarshal(m.Stanza)
	if err != nil {
		return nil, err
	}
	s = a.Stamp(s, m.Recipient.JID, uint64(m.ID), m.Seq, m.Flags&store.InRecipientArchive != 0)
	// RFC 6120 leaves where among its siblings it stands open; XEP-0203 §4 asks for from as the entity that delayed it.
	s.Payload = append(s.Payload, stanza.New(nsDelay, "delay", "from", a.domain.String(), "stamp", stanza.FormatTime(m.ID.Time())))
	return s, nil
}
