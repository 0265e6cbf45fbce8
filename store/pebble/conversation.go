package pebble

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// A conversation in the list of an account:
//
//	version 1 byte, memberVersion
//	second  1 byte: 1 when the account is the second party of the pair, or when it is both
//	other   account uvarint, then the address
//
// It is written when the conversation begins, and never changes.
const memberVersion = 1

// member is one party's side of a conversation.
type member struct {
	conversation store.ConversationID
	with         store.Party
	// second: the account is the second party of the pair. alone: it is both.
	second, alone bool
}

const (
	memberSecond = 1 << 0
	memberAlone  = 1 << 1
)

func appendMember(dst []byte, m *member) []byte {
	bits := byte(0)
	if m.second {
		bits |= memberSecond
	}
	if m.alone {
		bits |= memberAlone
	}
	dst = binary.AppendUvarint(append(dst, memberVersion, bits), uint64(m.with.Account))
	return append(dst, m.with.JID.String()...)
}

func decodeMember(conversation store.ConversationID, b []byte) (member, error) {
	m := member{conversation: conversation}
	if len(b) < 3 {
		return m, errShort
	}
	if b[0] != memberVersion {
		return m, fmt.Errorf("conversation of an account has version %d, this program knows %d", b[0], memberVersion)
	}
	m.second, m.alone = b[1]&memberSecond != 0, b[1]&memberAlone != 0
	r := reader{b: b[2:]}
	m.with.Account = store.AccountID(r.uvarint())
	if r.err == nil && len(r.b) > 0 {
		m.with.JID, r.err = jid.Parse(string(r.b))
	}
	return m, r.err
}

// membersOf calls visit for the accounts of a conversation that has begun with a message from sender to recipient.
func membersOf(p pair, conversation store.ConversationID, sender, recipient store.Party, visit func(store.AccountID, *member)) {
	alone := p.first == p.second
	for i, of := range [2]store.Party{sender, recipient} {
		if of.Account == 0 || alone && i == 1 {
			continue
		}
		m := member{conversation: conversation, with: recipient, second: p.first != sideOf(of), alone: alone}
		if i == 1 {
			m.with = sender
		}
		visit(of.Account, &m)
	}
}

// archived tells whether an entry of the conversation is in the account's archive.
func (m *member) archived(e entry) bool {
	bit := store.InRecipientArchive
	if m.own(e) {
		bit = store.InSenderArchive
	}
	if m.alone {
		bit = store.InSenderArchive | store.InRecipientArchive
	}
	return store.MessageFlags(e.bits)&bit != 0
}

// own tells whether the account has sent it.
func (m *member) own(e entry) bool { return m.alone || (e.bits&fromSecond != 0) == m.second }

// Conversations implements store.ConversationReader.
func (l *Log) Conversations(ctx context.Context, owner store.AccountID, before store.MessageID, limit int) ([]store.Conversation, bool, error) {
	done, err := l.use(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("list conversations: %w", err)
	}
	defer done()
	if limit < 1 {
		return nil, false, fmt.Errorf("list conversations: limit is %d", limit)
	}
	if owner == 0 {
		return nil, false, nil
	}
	listed, err := l.members(ctx, owner, before)
	if err != nil {
		return nil, false, fmt.Errorf("list conversations: %w", err)
	}
	slices.SortFunc(listed, func(a, b memberAt) int { return cmp.Compare(b.last.id, a.last.id) })
	more := len(listed) > limit
	listed = listed[:min(len(listed), limit)]
	found := make([]store.Conversation, 0, len(listed))
	for i := range listed {
		c, err := l.view(ctx, owner, &listed[i].member, listed[i].last)
		if err != nil {
			return nil, false, fmt.Errorf("list conversations: %w", err)
		}
		found = append(found, c)
	}
	return found, more, nil
}

// memberAt is a conversation with the newest message of it that is in the account's archive.
type memberAt struct {
	member
	last entry
}

// members reads the list of an account, as far as there is something in its archive, with a newest message before the given one.
func (l *Log) members(ctx context.Context, owner store.AccountID, before store.MessageID) ([]memberAt, error) {
	lower, upper := bounds(keyMember, uint64(owner))
	it, err := l.db.NewIter(&engine.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var listed []memberAt
	for ok := it.First(); ok; ok = it.Next() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		conversation := store.ConversationID(secondNumber(it.Key()))
		if uint64(conversation) > l.visible.Load() || before != 0 && uint64(conversation) >= uint64(before) {
			break // it begins with a batch that is being flushed, or after the position that was asked for
		}
		m, err := decodeMember(conversation, it.Value())
		if err != nil {
			return nil, err
		}
		last, err := l.lastArchived(ctx, &m)
		if err != nil {
			return nil, err
		}
		if last.id != 0 && (before == 0 || last.id < before) {
			listed = append(listed, memberAt{m, last})
		}
	}
	return listed, it.Error()
}

// lastArchived finds the newest message of a conversation that is in the account's archive; the zero entry when there is none.
func (l *Log) lastArchived(ctx context.Context, m *member) (last entry, err error) {
	passed := 0
	err = l.walk(keyConversation, uint64(m.conversation)).backward(math.MaxUint64, func(e entry) bool {
		if m.archived(e) {
			last = e
			return false
		}
		passed++
		return passed%checkEvery != 0 || ctx.Err() == nil
	})
	return last, cmp.Or(err, ctx.Err())
}

// ConversationWith implements store.ConversationReader.
func (l *Log) ConversationWith(ctx context.Context, owner store.AccountID, with store.Party) (store.Conversation, error) {
	done, err := l.use(ctx)
	if err != nil {
		return store.Conversation{}, fmt.Errorf("find a conversation: %w", err)
	}
	defer done()
	none := fmt.Errorf("conversation: %w", store.ErrNotFound)
	if owner == 0 {
		return store.Conversation{}, none
	}
	p, _ := pairOf(side{account: owner}, sideOf(with))
	id, err := l.conversation(p)
	if err != nil {
		return store.Conversation{}, err
	}
	value, err := l.get(pairKey(nil, keyMember, uint64(owner), uint64(id)))
	if err == nil && value == nil {
		return store.Conversation{}, none
	}
	var m member
	if err == nil {
		m, err = decodeMember(id, value)
	}
	var last entry
	if err == nil {
		last, err = l.lastArchived(ctx, &m)
	}
	if err != nil {
		return store.Conversation{}, fmt.Errorf("find a conversation: %w", err)
	}
	if last.id == 0 {
		return store.Conversation{}, none
	}
	c, err := l.view(ctx, owner, &m, last)
	if err != nil {
		return c, fmt.Errorf("find a conversation: %w", err)
	}
	return c, nil
}

// view puts together what one party sees of a conversation.
func (l *Log) view(ctx context.Context, owner store.AccountID, m *member, last entry) (c store.Conversation, err error) {
	c = store.Conversation{ID: m.conversation, With: m.with, Last: last.id, LastSeq: last.seq}
	own, err := l.markers(markersOf{m.conversation, owner})
	if err != nil {
		return c, err
	}
	peer := own
	if !m.alone {
		if peer, err = l.markers(markersOf{m.conversation, m.with.Account}); err != nil {
			return c, err
		}
		c.Unread, err = l.unread(ctx, m, own.all.Read)
	}
	c.Own, c.Peer = own.all, peer.all
	return c, err
}

// unread counts what the other party has sent after the owner's read marker and the owner's own last message, from the end backward. It reads the
// index and no message.
func (l *Log) unread(ctx context.Context, m *member, read uint64) (n int, err error) {
	var retracted map[uint64]bool
	var looked bool
	passed := 0
	var failed error
	err = l.walk(keyConversation, uint64(m.conversation)).backward(math.MaxUint64, func(e entry) bool {
		if passed++; passed%checkEvery == 0 && ctx.Err() != nil || e.seq <= read {
			return false
		}
		if store.MessageFlags(e.bits)&store.Unread == 0 || !m.archived(e) {
			return true
		}
		if !looked {
			looked = true
			if retracted, failed = l.retractedFrom(m.conversation, read+1); failed != nil {
				return false
			}
		}
		switch {
		case retracted[e.seq]:
			return true
		case m.own(e):
			return false
		}
		n++
		return n < store.MaxUnread
	})
	return n, cmp.Or(err, failed, ctx.Err())
}

// ReadMarkersOf implements store.ConversationReader.
func (l *Log) ReadMarkersOf(ctx context.Context, conversation store.ConversationID, account store.AccountID) ([]store.ReadMarkers, error) {
	done, err := l.use(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the markers of a conversation: %w", err)
	}
	defer done()
	p, err := l.markers(markersOf{conversation, account})
	return p.devices, err
}

// markers reads the markers of an account in a conversation.
func (l *Log) markers(o markersOf) (*markers, error) {
	var buf [pairKeySize]byte
	key := o.key(buf[:0])
	value, err := l.get(key)
	if err != nil {
		return nil, fmt.Errorf("read the markers of a conversation: %w", err)
	}
	return l.decodeMarkers(o, l.durable(key, value)), nil
}

// Origin implements store.ConversationReader.
func (l *Log) Origin(ctx context.Context, sender store.Party, originID string) (store.MessageID, store.ConversationID, uint64, error) {
	done, err := l.use(ctx)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("look up an origin-id: %w", err)
	}
	defer done()
	key := originKey(sender, originID)
	e, known := l.recents.origin(&key)
	if !known {
		// What is packed was taken out of memory after it was written, so that nothing falls between the two.
		value, err := l.get(key[:])
		if err == nil && value == nil || originID == "" {
			return 0, 0, 0, fmt.Errorf("origin-id: %w", store.ErrNotFound)
		}
		if err == nil {
			e, err = decodeOrigin(value)
		}
		if err != nil {
			return 0, 0, 0, fmt.Errorf("look up an origin-id: %w", err)
		}
	}
	return e.id, e.conversation, e.seq, nil
}

// Last implements store.ConversationReader.
func (l *Log) Last(ctx context.Context) (store.MessageID, error) {
	done, err := l.use(ctx)
	if err != nil {
		return 0, fmt.Errorf("find the last message: %w", err)
	}
	defer done()
	return store.MessageID(l.visible.Load()), nil
}

// begun finds the parties of a conversation by its messages, for a log that has no lists of accounts yet: the first one that
// is not damaged. ok is false when all are.
func (l *Log) begun(conversation store.ConversationID) (sender, recipient store.Party, ok bool, err error) {
	var d decoder
	var failed error
	err = l.walk(keyConversation, uint64(conversation)).forward(0, func(e entry) bool {
		m, err := l.message(e.id, &d)
		if ok = err == nil; ok {
			sender, recipient = m.Sender, m.Recipient
		}
		if unreadable(err) {
			failed = err
		}
		return !ok && failed == nil
	})
	return sender, recipient, ok, cmp.Or(err, failed)
}
