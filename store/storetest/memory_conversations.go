package storetest

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/posthouse-im/posthouse/store"
)

// markersOf names the markers of one account in one conversation.
type markersOf struct {
	conversation store.ConversationID
	account      store.AccountID
}

// markers is what was said: by all devices together, and by each, the last one first.
type markers struct {
	all     store.ReadMarkers
	devices []store.ReadMarkers
}

// maxDevices is how many devices a store remembers, see store.ReadMarkers.
const maxDevices = 16

// advance takes markers, and reports whether anything has moved.
func (p *markers) advance(said store.ReadMarkers) bool {
	said.Delivered = max(said.Delivered, said.Read)
	at := slices.IndexFunc(p.devices, func(d store.ReadMarkers) bool { return d.Device == said.Device })
	known := p.all // of a device that is not remembered all the account's markers are known
	if at >= 0 {
		known = p.devices[at]
	} else if len(p.devices) < maxDevices {
		known = store.ReadMarkers{}
	}
	if said.Delivered <= known.Delivered && said.Read <= known.Read {
		return false
	}
	said.Delivered, said.Read = max(said.Delivered, known.Delivered), max(said.Read, known.Read)
	if at >= 0 {
		p.devices = slices.Delete(p.devices, at, at+1)
	}
	p.devices = slices.Insert(p.devices, 0, said)
	p.devices = p.devices[:min(len(p.devices), maxDevices)]
	p.all.Account = said.Account
	p.all.Delivered, p.all.Read = max(p.all.Delivered, said.Delivered), max(p.all.Read, said.Read)
	return true
}

// lastSeq returns a conversation's last number.
func (m *Memory) lastSeq(a, b store.Party) (id store.ConversationID, last uint64) {
	for i := range m.messages {
		if old := &m.messages[i]; samePair(old, a, b) {
			id, last = old.Conversation, old.Seq
		}
	}
	return id, last
}

// retract takes a message's content out.
func (m *Memory) retract(id store.MessageID, remains []byte) {
	for i := range m.messages {
		if old := &m.messages[i]; old.ID == id && old.Flags&store.Retracted == 0 {
			old.Stanza = append([]byte{}, remains...)
			old.Flags = old.Flags&^store.Unread | store.Retracted
		}
	}
}

// view returns an owner's conversation, ok false when nothing of it is in the owner's archive.
func (m *Memory) view(owner store.AccountID, id store.ConversationID) (c store.Conversation, ok bool) {
	c = store.Conversation{ID: id, Own: store.ReadMarkers{Account: owner}}
	ownLast := uint64(0)
	for i := range m.messages {
		old := &m.messages[i]
		if old.Conversation != id {
			continue
		}
		mine := old.Sender.Account == owner
		if c.With == (store.Party{}) {
			if c.With = old.Sender; mine {
				c.With = old.Recipient
			}
		}
		if inHistory(owner, old) {
			c.Last, c.LastSeq = old.ID, old.Seq
		}
		if mine && old.Flags&store.Unread != 0 && inHistory(owner, old) {
			ownLast = old.Seq
		}
	}
	c.Peer.Account = c.With.Account
	for key, p := range m.markers {
		if key.conversation == id && key.account == owner {
			c.Own = p.all
		}
		if key.conversation == id && key.account == c.With.Account {
			c.Peer = p.all
		}
	}
	for i := range m.messages {
		if old := &m.messages[i]; old.Conversation == id && old.Sender.Account != owner && old.Flags&store.Unread != 0 &&
			inHistory(owner, old) && old.Seq > max(ownLast, c.Own.Read) {
			c.Unread = min(c.Unread+1, store.MaxUnread)
		}
	}
	return c, c.Last != 0
}

// Conversations implements store.ConversationReader.
func (m *Memory) Conversations(_ context.Context, owner store.AccountID, before store.MessageID, limit int) ([]store.Conversation, bool, error) {
	if limit < 1 {
		return nil, false, fmt.Errorf("limit is %d", limit)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	known := map[store.ConversationID]bool{}
	var found []store.Conversation
	for i := range m.messages {
		old := &m.messages[i]
		if known[old.Conversation] || owner == 0 || old.Sender.Account != owner && old.Recipient.Account != owner {
			continue
		}
		known[old.Conversation] = true
		if c, ok := m.view(owner, old.Conversation); ok && (before == 0 || c.Last < before) {
			found = append(found, c)
		}
	}
	slices.SortFunc(found, func(a, b store.Conversation) int { return cmp.Compare(b.Last, a.Last) })
	return found[:min(len(found), limit)], len(found) > limit, nil
}

// ConversationWith implements store.ConversationReader.
func (m *Memory) ConversationWith(_ context.Context, owner store.AccountID, with store.Party) (store.Conversation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if id, _ := m.lastSeq(store.Party{Account: owner}, with); id != 0 && owner != 0 {
		if c, ok := m.view(owner, id); ok {
			return c, nil
		}
	}
	return store.Conversation{}, fmt.Errorf("conversation: %w", store.ErrNotFound)
}

// ReadMarkersOf implements store.ConversationReader.
func (m *Memory) ReadMarkersOf(_ context.Context, conversation store.ConversationID, account store.AccountID) ([]store.ReadMarkers, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.markers[markersOf{conversation, account}]; p != nil {
		return slices.Clone(p.devices), nil
	}
	return nil, nil
}

// Origin implements store.ConversationReader.
func (m *Memory) Origin(_ context.Context, sender store.Party, originID string) (store.MessageID, store.ConversationID, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := m.origins[originOf(sender, originID)]
	if first == nil {
		return 0, 0, 0, fmt.Errorf("origin-id: %w", store.ErrNotFound)
	}
	return first.ID, first.Conversation, first.Seq, nil
}

// Last implements store.ConversationReader.
func (m *Memory) Last(context.Context) (store.MessageID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.messages); n > 0 {
		return m.messages[n-1].ID, nil
	}
	return 0, nil
}

// stale moves an entry's markers forward, or reports that there is nothing to move.
func (m *Memory) stale(a *store.Append, conversation store.ConversationID, last uint64) bool {
	said := *a.ReadMarkers
	said.Delivered, said.Read = min(said.Delivered, last), min(said.Read, last)
	key := markersOf{conversation, said.Account}
	p := m.markers[key]
	if p == nil {
		p = &markers{}
	}
	if !p.advance(said) {
		return true
	}
	m.markers[key] = p
	return false
}
