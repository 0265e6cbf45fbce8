package pebble

import (
	"context"
	"encoding/binary"
	"fmt"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/store"
)

// A member of a room:
//
//	version  1 byte, memberVersion
//	role     1 byte
//	then for each interval: from and through, uvarint each
//
// The members of a direct conversation are its parties: nothing is stored of them.
const memberVersion = 2

func appendMember(dst []byte, m *store.Member) []byte {
	dst = append(dst, memberVersion, byte(m.Role))
	for _, i := range m.Access {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, i.From), i.Through)
	}
	return dst
}

func decodeMember(account store.AccountID, b []byte) (store.Member, error) {
	r := reader{b: b}
	r.version("member", memberVersion)
	m := store.Member{Account: account, Role: store.Role(r.byte())}
	for len(r.b) > 0 && r.err == nil {
		m.Access = append(m.Access, store.Interval{From: r.uvarint(), Through: r.uvarint()})
	}
	return m, r.err
}

// partyMember is the membership of a direct conversation's party.
func partyMember(account store.AccountID) store.Member {
	return store.Member{Account: account, Role: store.RoleMember, Access: []store.Interval{{From: 1}}}
}

// memberOf returns an account's membership of a conversation; in is false when it never was in it.
func (l *Log) memberOf(known *conversation, account store.AccountID) (m store.Member, in bool, err error) {
	if account == 0 {
		return m, false, nil
	}
	if known.key.Kind == store.Direct {
		_, in = known.key.PartyOf(account)
		return partyMember(account), in, nil
	}
	key := pairKey(nil, keyMember, uint64(known.id), uint64(account))
	value, err := l.get(key)
	if err == nil {
		value = l.durable(key, value)
	}
	if err == nil && value != nil {
		m, err = decodeMember(account, value)
	}
	if err != nil {
		return m, false, fmt.Errorf("read a member: %w", err)
	}
	return m, value != nil, nil
}

// Member implements store.ConversationReader.
func (l *Log) Member(ctx context.Context, id store.ConversationID, account store.AccountID) (store.Member, error) {
	known, done, err := l.useOf(ctx, id)
	if err != nil {
		return store.Member{}, fmt.Errorf("read a member: %w", err)
	}
	defer done()
	m, in, err := l.memberOf(known, account)
	if err == nil && !in {
		err = fmt.Errorf("member: %w", store.ErrNotFound)
	}
	if err != nil {
		return store.Member{}, err
	}
	return m, nil
}

// Members implements store.ConversationReader.
func (l *Log) Members(
	ctx context.Context, id store.ConversationID, after store.AccountID, limit int,
) (found []store.Member, more bool, err error) {
	known, done, err := l.useOf(ctx, id)
	if err != nil {
		return nil, false, fmt.Errorf("list members: %w", err)
	}
	defer done()
	if known.key.Kind == store.Room {
		found, err = l.members(id, after, limit+1)
	} else {
		for _, account := range known.accounts() {
			if account > after {
				found = append(found, partyMember(account))
			}
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("list members: %w", err)
	}
	return found[:min(len(found), limit)], len(found) > limit, nil
}

// members reads those of a room.
func (l *Log) members(id store.ConversationID, after store.AccountID, limit int) (found []store.Member, err error) {
	_, upper := bounds(keyMember, uint64(id))
	it, err := l.db.NewIter(
		&engine.IterOptions{LowerBound: pairKey(nil, keyMember, uint64(id), uint64(after)+1), UpperBound: upper},
	)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	for ok := it.First(); ok && len(found) < limit; ok = it.Next() {
		value := l.durable(it.Key(), it.Value())
		if value == nil {
			continue
		}
		m, err := decodeMember(store.AccountID(secondNumber(it.Key())), value)
		if err != nil {
			return nil, err
		}
		found = append(found, m)
	}
	return found, it.Error()
}

// membership is a room that an account is or was in.
type membership struct {
	*conversation
	store.Member
}

// memberships returns the conversations of a kind that an account is or was in.
func (l *Log) memberships(
	ctx context.Context, account store.AccountID, kind store.ConversationKind,
) (found []membership, err error) {
	it, err := l.db.NewIter(&engine.IterOptions{
		LowerBound: inKey(nil, account, kind, 0), UpperBound: inKey(nil, account, kind+1, 0),
	})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		known, err := l.conversation(store.ConversationID(binary.BigEndian.Uint64(it.Key()[idKeySize+1:])))
		if err != nil {
			return nil, err
		}
		m, in, err := l.memberOf(known, account)
		if err != nil {
			return nil, err
		}
		if in { // else it becomes one with a batch that is being flushed
			found = append(found, membership{known, m})
		}
	}
	return found, it.Error()
}

// rights returns the number of the last entry that changed a room's members or rights: to a reader, as it was when all
// that is visible had been flushed.
func (l *Log) rights(known *conversation, toReader bool) (uint64, error) {
	if known.key.Kind != store.Room {
		return 0, nil
	}
	key := idKey(nil, keyRights, uint64(known.id))
	value, err := l.get(key)
	if err != nil {
		return 0, fmt.Errorf("read the rights number of a room: %w", err)
	}
	if toReader {
		value = l.durable(key, value)
	}
	number, _ := binary.Uvarint(value)
	return number, nil
}
