package storetest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/store"
)

// Memory is a message log that is as simple as can be: a slice, read from end to end. It is what other implementations
// are compared with, and what tests of other packages may use. It loses everything when it is gone.
type Memory struct {
	// IgnoreBasis plants a mistake for the suite to find: Append.Basis is not looked at. Set before the first use.
	IgnoreBasis bool

	// mu guards everything below.
	mu            sync.Mutex
	last          store.MessageID
	batches       uint64
	messages      []store.Message
	origins       map[origin]*store.Append
	cursors       map[store.AccountID]store.DeliveryCursor
	conversations []*talk // by ID, the first one being 1
	markers       map[markerKey]*store.Marker
	moves         map[store.MessageID]move // all that were ever made
	epochs        []epoch
}

type origin struct {
	account store.AccountID
	address string
	id      string
}

func originOf(author store.Party, id string) origin {
	key := origin{account: author.Account, id: id}
	if key.account == 0 {
		key.address = author.JID.String()
	}
	return key
}

// talk is a conversation.
type talk struct {
	store.Opened
	members map[store.AccountID]store.Member
}

type markerKey struct {
	conversation store.ConversationID
	account      store.AccountID
	kind         store.MarkerKind
}

// move is what a marker was at an identity.
type move struct {
	markerKey
	through uint64
}

// epoch is one time in which the log was open: positions after first belong to it.
type epoch struct {
	first  store.MessageID
	random uint64
}

var _ store.MessageLog = (*Memory)(nil)

// NewMemory returns an empty log.
func NewMemory() *Memory {
	m := &Memory{
		origins: map[origin]*store.Append{},
		cursors: map[store.AccountID]store.DeliveryCursor{},
		markers: map[markerKey]*store.Marker{},
		moves:   map[store.MessageID]move{},
	}
	m.Reopen()
	return m
}

// Reopen does what opening the log anew does: it notes an epoch.
func (m *Memory) Reopen() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epochs = slices.DeleteFunc(m.epochs, func(e epoch) bool { return e.first == m.last })
	m.epochs = append(m.epochs, epoch{m.last, rand.Uint64() | 1})
}

// Close does nothing.
func (m *Memory) Close() error { return nil }

// OpenConversation implements store.ConversationOpener.
func (m *Memory) OpenConversation(
	ctx context.Context, _ time.Time, key store.ConversationKey, members []store.Member,
) (store.Opened, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return store.Opened{}, fmt.Errorf("%w: %w", store.ErrNotStored, err)
	}
	if t := m.find(key); t != nil {
		return t.Opened, nil
	}
	t := &talk{
		Opened:  store.Opened{ID: store.ConversationID(len(m.conversations) + 1), Key: key},
		members: map[store.AccountID]store.Member{},
	}
	if err := store.CheckMembers(members); err != nil {
		return store.Opened{}, err
	}
	for _, member := range members {
		if key.Kind == store.Room {
			t.members[member.Account] = member.At(1)
		}
	}
	for _, p := range []store.Party{key.A, key.B} {
		if p.Account != 0 {
			t.members[p.Account] = store.Member{
				Account: p.Account,
				Role:    store.RoleMember,
				Access:  []store.Interval{{From: 1}},
			}
		}
	}
	m.conversations = append(m.conversations, t)
	return t.Opened, nil
}

func (m *Memory) find(key store.ConversationKey) *talk {
	for _, t := range m.conversations {
		k := &t.Key
		if k.Kind == key.Kind && k.A.Is(key.A) && k.B.Is(key.B) && k.Room == key.Room &&
			k.Incarnation == key.Incarnation {
			return t
		}
	}
	return nil
}

func (m *Memory) talk(id store.ConversationID) (*talk, error) {
	if id == 0 || id > store.ConversationID(len(m.conversations)) {
		return nil, fmt.Errorf("conversation %d: %w", id, store.ErrNotFound)
	}
	return m.conversations[id-1], nil
}

// Append implements store.MessageWriter.
func (m *Memory) Append(ctx context.Context, b *store.Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b.Number = 0
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", store.ErrNotStored, err)
	}
	for _, a := range b.Entries {
		if err := m.check(a); err != nil {
			return err
		}
	}
	before := m.last
	moved := map[markerKey][]*store.Append{}
	for _, a := range b.Entries {
		a.Reset()
		if a.Marker != nil {
			m.move(b.Now, a, moved)
		} else {
			m.append(b.Now, a, moved)
		}
	}
	if m.last > before {
		m.batches++
		b.Number = m.batches
	}
	return nil
}

func (m *Memory) check(a *store.Append) error {
	t, err := m.talk(a.Conversation)
	if err != nil {
		return err
	}
	known := t.Key.Kind == store.Room || t.Key.Has(a.Author) && a.Members == nil
	if a.Marker != nil {
		_, known = t.Key.PartyOf(a.Marker.Account)
		known = known || t.Key.Kind == store.Room && a.Marker.Account != 0
	}
	if !known {
		return fmt.Errorf("party: %w", store.ErrNotFound)
	}
	for _, change := range a.Markers {
		if change.Conversation != a.Conversation {
			return fmt.Errorf("a marker of another conversation: %w", store.ErrNotFound)
		}
		if err := m.check(change); err != nil {
			return err
		}
	}
	return store.CheckMembers(a.Members)
}

// move is Append of a marker.
func (m *Memory) move(now time.Time, a *store.Append, moved map[markerKey][]*store.Append) {
	t, _ := m.talk(a.Conversation)
	key := markerKey{a.Conversation, a.Marker.Account, a.Marker.Kind}
	through := min(a.Marker.Through, t.Last)
	old := m.markers[key]
	if old == nil {
		old = &store.Marker{Account: key.account, Kind: key.kind}
	}
	if a.Stale = through <= old.Through; a.Stale {
		return
	}
	a.ID = store.NextMessageID(m.last, now)
	m.last = a.ID
	m.markers[key] = &store.Marker{Account: key.account, Kind: key.kind, Through: through, ID: a.ID, Told: old.Told}
	m.moves[a.ID] = move{key, through}
	for _, earlier := range moved[key] {
		if earlier.ID != a.ID {
			delete(m.moves, earlier.ID)
		}
		earlier.ID, earlier.Merged = a.ID, true
	}
	moved[key] = append(moved[key], a)
}

func (m *Memory) append(now time.Time, a *store.Append, moved map[markerKey][]*store.Append) {
	t, _ := m.talk(a.Conversation)
	key := originOf(a.Author, a.OriginID)
	if first := m.origins[key]; a.OriginID != "" && first != nil {
		if a.Conflict = first.ContentHash != a.ContentHash || first.Conversation != a.Conversation; !a.Conflict {
			a.Duplicate = true
			a.ID, a.Seq = first.ID, first.Seq
		}
		return
	}
	if a.Basis != 0 && t.Last > a.Basis && !m.IgnoreBasis || a.Judged && t.Rights > a.RightsBasis {
		a.Overtaken = true
		return
	}
	for _, change := range a.Markers {
		m.move(now, change, moved)
	}
	a.ID = store.NextMessageID(m.last, now)
	m.last = a.ID
	t.Last++
	a.Seq = t.Last
	if len(a.Members) > 0 {
		a.Flags |= store.Rights
	}
	for _, member := range a.Members {
		t.members[member.Account] = member.At(a.Seq)
	}
	if a.Flags&store.Rights != 0 {
		t.Rights = a.Seq
	}
	kept := a.Message
	kept.Stanza = bytes.Clone(kept.Stanza)
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

// retract takes a message's content out.
func (m *Memory) retract(id store.MessageID, remains []byte) {
	for i := range m.messages {
		if old := &m.messages[i]; old.ID == id && old.Flags&store.Retracted == 0 {
			old.Stanza = append([]byte{}, remains...)
			old.Flags = old.Flags&^store.Unread | store.Retracted
		}
	}
}

// Deliver implements store.MessageWriter.
func (m *Memory) Deliver(ctx context.Context, reports []store.Delivered) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", store.ErrNotStored, err)
	}
	for _, r := range reports {
		c := m.cursors[r.Account]
		c.Account = r.Account
		through := c.Through
		for _, id := range r.IDs {
			if id <= m.last {
				through = max(through, id)
			}
		}
		var missed []store.MessageID
		for _, old := range m.undelivered(r.Account) {
			if reported := slices.Contains(r.IDs, old.ID); !reported && old.ID <= through {
				missed = append(missed, old.ID)
			}
		}
		if len(missed) > store.MaxMissed {
			through = missed[store.MaxMissed] - 1
			missed = missed[:store.MaxMissed]
		}
		for _, id := range r.IDs {
			m.told(r.Account, id)
		}
		c.Through, c.Missed = through, missed
		m.cursors[r.Account] = c
	}
	return nil
}

// told notes that an account was told of a marker, when the identity is that of one of the other party, current or not.
func (m *Memory) told(account store.AccountID, id store.MessageID) {
	moved, known := m.moves[id]
	if !known || moved.kind != store.MarkDelivered || moved.account == account {
		return
	}
	t, _ := m.talk(moved.conversation)
	if t.Key.Kind == store.Direct && (t.Key.A.Account == account || t.Key.B.Account == account) {
		current := m.markers[moved.markerKey]
		current.Told = max(current.Told, moved.through)
	}
}

// undelivered returns what Undelivered does, without a limit.
func (m *Memory) undelivered(owner store.AccountID) []store.Message {
	c := m.cursors[owner]
	return m.pick(func(old *store.Message) bool {
		t, _ := m.talk(old.Conversation)
		if owner == 0 || t.Key.Kind != store.Direct || old.ID <= c.Through && !slices.Contains(c.Missed, old.ID) {
			return false
		}
		if old.Marker != nil {
			return old.Marker.Account != owner && m.sees(owner, old)
		}
		return old.Flags&store.ForOffline != 0 && t.Key.Other(old.Author).Account == owner
	})
}

// pick returns the messages and current markers for which want is true, in the order of the log.
func (m *Memory) pick(want func(*store.Message) bool) []store.Message {
	all := slices.Clone(m.messages)
	for key, mk := range m.markers {
		current := *mk
		t, _ := m.talk(key.conversation)
		author, ok := t.Key.PartyOf(mk.Account)
		if !ok {
			author = store.Party{Account: mk.Account}
		}
		all = append(all, store.Message{ID: mk.ID, Conversation: key.conversation, Author: author, Marker: &current})
	}
	slices.SortFunc(all, func(a, b store.Message) int { return cmp.Compare(a.ID, b.ID) })
	return slices.DeleteFunc(all, func(m store.Message) bool { return !want(&m) })
}

// sees reports whether it is in what the owner sees.
func (m *Memory) sees(owner store.AccountID, old *store.Message) bool {
	t, _ := m.talk(old.Conversation)
	member, in := t.members[owner]
	switch mk := old.Marker; {
	case !in:
		return false
	case mk != nil:
		return mk.Account == owner ||
			mk.Kind != store.MarkReadPrivate && (t.Key.Kind == store.Direct || member.MayRead(mk.Through))
	case t.Key.Kind == store.Room:
		return member.MayRead(old.Seq)
	}
	other := t.Key.Other(old.Author).Account == owner
	return old.Author.Account == owner && old.Flags&store.InAuthorArchive != 0 ||
		other && old.Flags&store.InRecipientArchive != 0
}
