package storetest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/store"
)

// Memory is a message log that is as simple as can be: a slice, read from end to end. It is what other implementations are
// compared with, and what tests of other packages may use. It loses everything when it is gone.
type Memory struct {
	// mu guards everything below.
	mu       sync.Mutex
	messages []store.Message
	origins  map[origin]*store.Append
	cursors  map[store.AccountID]store.DeliveryCursor
	markers  map[markersOf]*markers
}

type origin struct {
	account store.AccountID
	address string
	id      string
}

func originOf(sender store.Party, id string) origin {
	key := origin{account: sender.Account, id: id}
	if key.account == 0 {
		key.address = sender.JID.String()
	}
	return key
}

var _ store.MessageLog = (*Memory)(nil)

// NewMemory returns an empty log.
func NewMemory() *Memory {
	return &Memory{
		origins: map[origin]*store.Append{}, cursors: map[store.AccountID]store.DeliveryCursor{}, markers: map[markersOf]*markers{},
	}
}

// Close does nothing.
func (m *Memory) Close() error { return nil }

// same reports whether two parties are one: the same account or, without accounts, the same address.
func same(a, b store.Party) bool {
	return a.Account == b.Account && (a.Account != 0 || a.JID == b.JID)
}

func samePair(m *store.Message, a, b store.Party) bool {
	return same(m.Sender, a) && same(m.Recipient, b) || same(m.Sender, b) && same(m.Recipient, a)
}

// Append implements store.MessageWriter.
func (m *Memory) Append(ctx context.Context, now time.Time, batch []*store.Append, cursors []store.DeliveryCursor) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, a := range batch {
		m.append(now, a)
	}
	for _, cursor := range cursors {
		cursor.Missed = slices.Clone(cursor.Missed)
		m.cursors[cursor.Account] = cursor
	}
	return nil
}

func (m *Memory) append(now time.Time, a *store.Append) {
	key := originOf(a.Sender, a.OriginID)
	if first := m.origins[key]; a.OriginID != "" && first != nil {
		if a.Conflict = first.ContentHash != a.ContentHash; !a.Conflict {
			a.Duplicate = true
			a.ID, a.Conversation, a.Seq = first.ID, first.Conversation, first.Seq
		}
		return
	}
	var last store.MessageID
	if n := len(m.messages); n > 0 {
		last = m.messages[n-1].ID
	}
	conversation, number := m.lastSeq(a.Sender, a.Recipient)
	if a.ReadMarkers != nil && m.stale(a, conversation, number) {
		a.Stale = true
		return
	}
	a.ID = store.NextMessageID(last, now)
	if a.Conversation, a.Seq = conversation, number+1; number == 0 {
		a.Conversation = store.ConversationID(a.ID)
	}
	kept := a.Message
	kept.Stanza = slices.Clone(kept.Stanza)
	m.messages = append(m.messages, kept)
	m.retract(a.Retract, a.Remains)
	for _, also := range a.AlsoRetract {
		m.retract(also.ID, also.Remains)
	}
	if a.OriginID != "" {
		first := *a
		m.origins[key] = &first
	}
}

// pick returns up to limit messages for which want is true.
func (m *Memory) pick(limit int, want func(*store.Message) bool) (found []store.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.messages {
		if len(found) < limit && want(&m.messages[i]) {
			found = append(found, m.messages[i])
		}
	}
	return found
}

// all is more than there are messages.
const all = 1 << 30

func inHistory(owner store.AccountID, m *store.Message) bool {
	return owner != 0 && (m.Sender.Account == owner && m.Flags&store.InSenderArchive != 0 ||
		m.Recipient.Account == owner && m.Flags&store.InRecipientArchive != 0)
}

// Message implements store.MessageReader.
func (m *Memory) Message(_ context.Context, id store.MessageID) (store.Message, error) {
	found := m.pick(1, func(m *store.Message) bool { return m.ID == id })
	if len(found) == 0 {
		return store.Message{}, fmt.Errorf("message %d: %w", id, store.ErrNotFound)
	}
	return found[0], nil
}

// History implements store.MessageReader.
func (m *Memory) History(_ context.Context, q store.HistoryQuery) ([]store.Message, bool, error) {
	if q.Limit < 1 {
		return nil, false, fmt.Errorf("limit is %d", q.Limit)
	}
	found := m.pick(all, func(m *store.Message) bool {
		return inHistory(q.Owner, m) && m.ID > q.After && (q.Before == 0 || m.ID < q.Before) &&
			(q.With == store.Party{} || samePair(m, store.Party{Account: q.Owner}, q.With))
	})
	if len(found) <= q.Limit {
		return found, false, nil
	}
	if q.Backward {
		return found[len(found)-q.Limit:], true, nil
	}
	return found[:q.Limit], true, nil
}

// InHistory implements store.MessageReader.
func (m *Memory) InHistory(_ context.Context, owner store.AccountID, id store.MessageID) (bool, error) {
	return len(m.pick(1, func(m *store.Message) bool { return m.ID == id && inHistory(owner, m) })) == 1, nil
}

// Undelivered implements store.MessageReader.
func (m *Memory) Undelivered(ctx context.Context, owner store.AccountID, after store.MessageID, limit int) ([]store.Message, error) {
	cursor, err := m.DeliveryCursor(ctx, owner)
	if err != nil {
		return nil, err
	}
	return m.pick(limit, func(m *store.Message) bool {
		return owner != 0 && m.Recipient.Account == owner && m.Flags&store.ForOffline != 0 && m.ID > after &&
			(m.ID > cursor.Through || slices.Contains(cursor.Missed, m.ID))
	}), nil
}

// Conversation implements store.MessageReader.
func (m *Memory) Conversation(_ context.Context, a, b store.Party) (store.ConversationID, uint64, error) {
	found := m.pick(all, func(m *store.Message) bool { return samePair(m, a, b) })
	if len(found) == 0 {
		return 0, 0, fmt.Errorf("conversation: %w", store.ErrNotFound)
	}
	return found[0].Conversation, uint64(len(found)), nil
}

// Numbered implements store.MessageReader.
func (m *Memory) Numbered(_ context.Context, c store.ConversationID, first uint64, limit int) ([]store.Message, error) {
	return m.pick(limit, func(m *store.Message) bool { return m.Conversation == c && m.Seq >= first }), nil
}

// Bounds implements store.MessageReader.
func (m *Memory) Bounds(_ context.Context, owner store.AccountID) (first, last store.MessageID, err error) {
	found := m.pick(all, func(m *store.Message) bool { return inHistory(owner, m) })
	if len(found) == 0 {
		return 0, 0, fmt.Errorf("archive of account %d: %w", owner, store.ErrNotFound)
	}
	byID := func(a, b store.Message) int { return cmp.Compare(a.ID, b.ID) }
	return slices.MinFunc(found, byID).ID, slices.MaxFunc(found, byID).ID, nil
}

// Since implements store.MessageReader.
func (m *Memory) Since(_ context.Context, after store.MessageID, limit int) ([]store.Message, error) {
	return m.pick(limit, func(m *store.Message) bool { return m.ID > after }), nil
}

// DeliveryCursor implements store.MessageReader.
func (m *Memory) DeliveryCursor(_ context.Context, owner store.AccountID) (store.DeliveryCursor, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	cursor := m.cursors[owner]
	cursor.Missed = slices.Clone(cursor.Missed)
	return cursor, nil
}
