package storetest

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/posthouse-im/posthouse/store"
)

// Message implements store.MessageReader.
func (m *Memory) Message(_ context.Context, id store.MessageID) (store.Message, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := m.pick(func(m *store.Message) bool { return m.ID == id && m.Marker == nil })
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
	m.mu.Lock()
	defer m.mu.Unlock()
	found := m.pick(func(old *store.Message) bool {
		t, _ := m.talk(old.Conversation)
		return m.sees(q.Owner, old) && old.ID > q.After && (q.Before == 0 || old.ID < q.Before) &&
			(q.Markers || old.Marker == nil) &&
			(q.Conversation == old.Conversation || q.Conversation == 0 && (q.Kind == 0 || q.Kind == t.Key.Kind))
	})
	if q.Backward {
		slices.Reverse(found)
	}
	n, size := 0, 0
	for n < min(len(found), q.Limit) && (q.Bytes == 0 || size <= q.Bytes) {
		size += len(found[n].Stanza)
		n++
	}
	more := n < len(found)
	if found = found[:n]; q.Backward {
		slices.Reverse(found)
	}
	return found, more, nil
}

// InHistory implements store.MessageReader.
func (m *Memory) InHistory(_ context.Context, owner store.AccountID, id store.MessageID) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(
		m.pick(func(old *store.Message) bool { return old.ID == id && old.Marker == nil && m.sees(owner, old) }),
	) == 1, nil
}

// Undelivered implements store.MessageReader.
func (m *Memory) Undelivered(
	_ context.Context, owner store.AccountID, after store.MessageID, limit int,
) ([]store.Message, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := slices.DeleteFunc(m.undelivered(owner), func(old store.Message) bool { return old.ID <= after })
	return found[:min(len(found), limit)], nil
}

// Numbered implements store.MessageReader.
func (m *Memory) Numbered(_ context.Context, c store.ConversationID, first uint64, limit int) ([]store.Message, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := m.pick(func(m *store.Message) bool { return m.Conversation == c && m.Marker == nil && m.Seq >= first })
	return found[:min(len(found), limit)], nil
}

// Bounds implements store.MessageReader.
func (m *Memory) Bounds(_ context.Context, owner store.AccountID) (first, last store.MessageID, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := m.pick(func(old *store.Message) bool {
		t, _ := m.talk(old.Conversation)
		return t.Key.Kind == store.Direct && old.Marker == nil && m.sees(owner, old)
	})
	if len(found) == 0 {
		return 0, 0, fmt.Errorf("archive of account %d: %w", owner, store.ErrNotFound)
	}
	return found[0].ID, found[len(found)-1].ID, nil
}

// Since implements store.MessageReader.
func (m *Memory) Since(_ context.Context, after store.MessageID, limit int) ([]store.Message, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := m.pick(func(m *store.Message) bool { return m.ID > after })
	return found[:min(len(found), limit)], nil
}

// Cursor implements store.MessageReader.
func (m *Memory) Cursor(_ context.Context, owner store.AccountID) (store.DeliveryCursor, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.cursors[owner]
	c.Account, c.Missed = owner, slices.Clone(c.Missed)
	return c, nil
}

// Behind implements store.MessageReader.
func (m *Memory) Behind(_ context.Context, reached []store.Reached) (behind []store.AccountID, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range reached {
		isNew := func(old store.Message) bool { return old.ID > r.Through }
		if slices.ContainsFunc(m.pick(func(old *store.Message) bool { return m.sees(r.Account, old) }), isNew) ||
			slices.ContainsFunc(m.undelivered(r.Account), isNew) {
			behind = append(behind, r.Account)
		}
	}
	return behind, nil
}

// Last implements store.MessageReader.
func (m *Memory) Last(context.Context) (store.MessageID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last, nil
}

// Epoch implements store.MessageReader.
func (m *Memory) Epoch(_ context.Context, id store.MessageID) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.epoch(id)
}

func (m *Memory) epoch(id store.MessageID) (random uint64, err error) {
	if id > m.last {
		return 0, fmt.Errorf("position %d: %w", id, store.ErrNotFound)
	}
	for _, e := range m.epochs {
		if e.first < id {
			random = e.random
		}
	}
	return random, nil
}

// Holds implements store.MessageReader.
func (m *Memory) Holds(_ context.Context, id store.MessageID, epoch uint64) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	random, err := m.epoch(id)
	return id == 0 || err == nil && random == epoch, nil
}

// FindConversation implements store.ConversationReader.
func (m *Memory) FindConversation(_ context.Context, key store.ConversationKey) (store.Opened, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.find(key); t != nil {
		return t.Opened, nil
	}
	return store.Opened{}, fmt.Errorf("conversation: %w", store.ErrNotFound)
}

// ConversationByID implements store.ConversationReader.
func (m *Memory) ConversationByID(_ context.Context, id store.ConversationID) (store.Opened, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, err := m.talk(id)
	if err != nil {
		return store.Opened{}, err
	}
	return t.Opened, nil
}

// Members implements store.ConversationReader.
func (m *Memory) Members(
	_ context.Context, id store.ConversationID, after store.AccountID, limit int,
) (found []store.Member, more bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, err := m.talk(id)
	if err != nil {
		return nil, false, err
	}
	for account, member := range t.members {
		if account > after {
			found = append(found, member.At(0))
		}
	}
	slices.SortFunc(found, func(a, b store.Member) int { return cmp.Compare(a.Account, b.Account) })
	return found[:min(len(found), limit)], len(found) > limit, nil
}

// Member implements store.ConversationReader.
func (m *Memory) Member(_ context.Context, id store.ConversationID, account store.AccountID) (store.Member, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, err := m.talk(id)
	if err != nil {
		return store.Member{}, err
	}
	member, in := t.members[account]
	if !in {
		return store.Member{}, fmt.Errorf("member: %w", store.ErrNotFound)
	}
	return member.At(0), nil
}

// view returns an owner's conversation, ok false when the owner was never in it.
func (m *Memory) view(owner store.AccountID, t *talk) (c store.Conversation, ok bool) {
	member, in := t.members[owner]
	if !in {
		return c, false
	}
	c = store.Conversation{ID: t.ID, Kind: t.Key.Kind, Room: t.Key.Room, Member: member.At(0)}
	self, _ := t.Key.PartyOf(owner)
	if c.Kind == store.Direct {
		c.With = t.Key.Other(self)
	}
	through := func(account store.AccountID, kind store.MarkerKind) uint64 {
		if mk := m.markers[markerKey{t.ID, account, kind}]; mk != nil {
			return mk.Through
		}
		return 0
	}
	c.Own.Read = max(through(owner, store.MarkRead), through(owner, store.MarkReadPrivate))
	c.Own.Delivered = max(through(owner, store.MarkDelivered), c.Own.Read)
	if c.Kind == store.Direct {
		c.Peer.Read = through(c.With.Account, store.MarkRead)
		c.Peer.Delivered = max(through(c.With.Account, store.MarkDelivered), c.Peer.Read)
	}
	for _, old := range m.messages {
		if old.Conversation != t.ID || !m.sees(owner, &old) {
			continue
		}
		c.Last, c.LastSeq = old.ID, old.Seq
		switch {
		case old.Flags&store.Unread == 0:
		case old.Author.Account == owner:
			c.Unread = 0
		case old.Seq > c.Own.Read:
			c.Unread++
		}
	}
	c.Unread = min(c.Unread, store.MaxUnread)
	return c, true
}

// Conversations implements store.ConversationReader.
func (m *Memory) Conversations(
	_ context.Context, owner store.AccountID, before store.MessageID, limit int,
) (found []store.Conversation, more bool, err error) {
	if limit < 1 {
		return nil, false, fmt.Errorf("limit is %d", limit)
	}
	if before == 0 {
		before = math.MaxUint64
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.conversations {
		if c, ok := m.view(owner, t); ok && c.Last != 0 && c.Last < before {
			found = append(found, c)
		}
	}
	slices.SortFunc(found, func(a, b store.Conversation) int { return cmp.Compare(b.Last, a.Last) })
	return found[:min(len(found), limit)], len(found) > limit, nil
}

// ConversationOf implements store.ConversationReader.
func (m *Memory) ConversationOf(
	_ context.Context, owner store.AccountID, id store.ConversationID,
) (store.Conversation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, err := m.talk(id)
	if err != nil {
		return store.Conversation{}, err
	}
	c, ok := m.view(owner, t)
	if !ok {
		return store.Conversation{}, fmt.Errorf("conversation: %w", store.ErrNotFound)
	}
	return c, nil
}

// Markers implements store.ConversationReader.
func (m *Memory) Markers(
	_ context.Context, id store.ConversationID, from store.AccountID, limit int,
) (found []store.Marker, more bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.talk(id); err != nil {
		return nil, false, err
	}
	for key, mk := range m.markers {
		if key.conversation == id && key.account >= from {
			found = append(found, *mk)
		}
	}
	slices.SortFunc(found, func(a, b store.Marker) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Kind, b.Kind))
	})
	accounts := map[store.AccountID]bool{}
	for i := range found {
		if accounts[found[i].Account] = true; len(accounts) > limit {
			return found[:i], true, nil
		}
	}
	return found, false, nil
}

// Origin implements store.ConversationReader.
func (m *Memory) Origin(_ context.Context, author store.Party, originID string) (store.Sent, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.origins[originOf(author, originID)]
	if a == nil {
		return store.Sent{}, fmt.Errorf("origin-id: %w", store.ErrNotFound)
	}
	return store.Sent{ID: a.ID, Conversation: a.Conversation, Seq: a.Seq, ContentHash: a.ContentHash}, nil
}

// Named implements store.ConversationReader.
func (m *Memory) Named(
	_ context.Context, id store.ConversationID, author store.Party, name string,
) (seq uint64, message store.MessageID, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, named := range []func(*store.Message) string{
		func(m *store.Message) string { return m.StanzaID },
		func(m *store.Message) string { return m.OriginID },
	} {
		for i := range m.messages {
			if old := &m.messages[i]; old.Conversation == id && old.Author.Is(author) && name != "" &&
				named(old) == name {
				seq, message = old.Seq, old.ID
			}
		}
	}
	if seq == 0 {
		return 0, 0, fmt.Errorf("message: %w", store.ErrNotFound)
	}
	return seq, message, nil
}
