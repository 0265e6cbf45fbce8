package pebble

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/posthouse-im/posthouse/store"
)

// result is what a reader is going to return: a message, or a marker.
type result struct {
	id     store.MessageID
	marker *change
}

// History implements store.MessageReader. It first finds the identities in indexes, one more than asked for, then reads
// the messages.
func (l *Log) History(ctx context.Context, q store.HistoryQuery) (found []store.Message, more bool, err error) {
	done, err := l.use(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("read history: %w", err)
	}
	defer done()
	if q.Limit < 1 {
		return nil, false, fmt.Errorf("read history: limit is %d", q.Limit)
	}
	results, err := l.history(ctx, &q)
	if err != nil {
		return nil, false, fmt.Errorf("read history: %w", err)
	}
	if more = len(results) > q.Limit; more {
		results = results[:q.Limit]
	}
	found, cut, err := l.messages(ctx, results, q.Bytes)
	if q.Backward {
		slices.Reverse(found)
	}
	if err != nil {
		return found, more || cut, fmt.Errorf("read history: %w", err)
	}
	return found, more || cut, nil
}

// checkEvery is how many index entries are passed over between looks at the context.
const checkEvery = 1024

// search is a query on its way.
type search struct {
	*Log
	ctx  context.Context
	q    *store.HistoryQuery
	upto store.MessageID
	// results so far, of one source after the other.
	results []result
}

// history returns up to Limit+1 results in the query's direction.
func (l *Log) history(ctx context.Context, q *store.HistoryQuery) ([]result, error) {
	s := &search{Log: l, ctx: ctx, q: q, upto: store.MessageID(l.visible.Load())}
	if q.Before == 0 || q.Before > s.upto {
		q.Before = s.upto + 1
	}
	if q.Owner == 0 || q.After >= q.Before-1 {
		return nil, nil
	}
	var err error
	if q.Conversation == 0 {
		err = s.all()
	} else {
		err = s.one()
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(s.results, func(a, b result) int {
		if q.Backward {
			a, b = b, a
		}
		return cmp.Compare(a.id, b.id)
	})
	return s.results[:min(len(s.results), q.Limit+1)], nil
}

// all merges what the owner received, what it sent, and the rooms it is in.
func (s *search) all() error {
	if s.q.Kind != store.Room {
		archived := func(e entry) bool { return e.bits&viewArchive != 0 }
		for _, prefix := range [2]byte{keyReceived, keySent} {
			if err := s.collect(s.walk(prefix, uint64(s.q.Owner), s.upto), archived); err != nil {
				return err
			}
		}
		if err := s.markers(changeList{keyChanged, uint64(s.q.Owner)}, func(*change) bool { return true }); err != nil {
			return err
		}
	}
	if s.q.Kind == store.Direct {
		return nil
	}
	rooms, err := s.memberships(s.ctx, s.q.Owner, store.Room)
	for i := range rooms {
		err = cmp.Or(err, s.room(&rooms[i]))
	}
	return err
}

// one searches one conversation. One that the owner's archive has no part of is passed over entry by entry, without
// reading its messages.
func (s *search) one() error {
	known, err := s.conversation(s.q.Conversation)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	m, in, err := s.memberOf(known, s.q.Owner)
	if err != nil || !in {
		return err
	}
	if known.key.Kind == store.Room {
		return s.room(&membership{known, m})
	}
	v := newSide(known, s.q.Owner)
	if err := s.collect(s.walk(keyConversation, uint64(known.id), s.upto), v.archived); err != nil {
		return err
	}
	return s.markers(
		changeList{keyChanged, uint64(s.q.Owner)}, func(c *change) bool { return c.conversation == known.id },
	)
}

// collect adds up to Limit+1 wanted identities of an index in the query's direction.
func (s *search) collect(w *walk, wanted func(entry) bool) error {
	visit := s.visit(wanted)
	var err error
	if s.q.Backward {
		err = w.backward(s.q.Before, visit)
	} else {
		err = w.forward(s.q.After, visit)
	}
	return cmp.Or(err, s.ctx.Err())
}

// visit takes what is wanted until there is enough.
func (s *search) visit(wanted func(entry) bool) func(entry) bool {
	taken, passed := 0, 0
	return func(e entry) bool {
		if passed++; passed%checkEvery == 0 && s.ctx.Err() != nil {
			return false
		}
		if e.id <= s.q.After || e.id >= s.q.Before {
			return false
		}
		if wanted(e) {
			s.results = append(s.results, result{id: e.id})
			taken++
		}
		return taken <= s.q.Limit
	}
}

// room adds what a member may read of a room, interval by interval.
func (s *search) room(m *membership) error {
	if err := s.roomMessages(m); err != nil {
		return err
	}
	return s.markers(changeList{keyRoomChanged, uint64(m.id)}, func(c *change) bool {
		return c.account == s.q.Owner || !c.private() && m.MayRead(c.through)
	})
}

func (s *search) roomMessages(m *membership) error {
	w := s.walk(keyConversation, uint64(m.id), s.upto)
	// edge is the number of the range's first entry, which is the last when the search goes backward.
	edge := uint64(0)
	find := func(e entry) bool { edge = e.seq; return false }
	var err error
	if s.q.Backward {
		err = w.backward(s.q.Before, find)
	} else {
		err = w.forward(s.q.After, find)
	}
	if err != nil || edge == 0 {
		return err
	}
	had := len(s.results)
	enough := func() bool { return len(s.results)-had > s.q.Limit }
	visit := s.visit(func(entry) bool { return true })
	if s.q.Backward {
		for _, i := range slices.Backward(m.Access) {
			if i.From > edge || enough() {
				continue
			}
			last := edge
			if i.Through != 0 {
				last = min(last, i.Through)
			}
			err = cmp.Or(err, w.numberedBack(last, func(e entry) bool { return e.seq >= i.From && visit(e) }))
		}
		return cmp.Or(err, s.ctx.Err())
	}
	for _, i := range m.Access {
		if i.Through != 0 && i.Through < edge || enough() {
			continue
		}
		through := cmp.Or(i.Through, math.MaxUint64)
		err = cmp.Or(err, w.numbered(max(i.From, edge), func(e entry) bool { return e.seq <= through && visit(e) }))
	}
	return cmp.Or(err, s.ctx.Err())
}

// markers adds the current markers of a list that are wanted, when the query asks for any.
func (s *search) markers(of changeList, want func(*change) bool) error {
	if !s.q.Markers {
		return nil
	}
	found, err := s.changes(s.ctx, of, span{s.q.After, s.q.Before, s.q.Backward, s.q.Limit + 1}, want)
	for i := range found {
		s.results = append(s.results, result{id: found[i].id, marker: &found[i]})
	}
	return err
}

// side is one party's side of a direct conversation.
type side struct {
	// second: the party is the second of the pair. alone: it is both.
	second, alone bool
	with          store.Party
}

// newSide returns that of an account that is a party.
func newSide(known *conversation, account store.AccountID) side {
	k := &known.key
	self, _ := k.PartyOf(account)
	return side{second: !k.A.Is(self), alone: k.A.Is(k.B), with: k.Other(self)}
}

// archived tells whether an entry of the conversation is in the party's archive.
func (v *side) archived(e entry) bool {
	bit := store.InRecipientArchive
	if v.own(e) {
		bit = store.InAuthorArchive
	}
	if v.alone {
		bit = store.InAuthorArchive | store.InRecipientArchive
	}
	return store.MessageFlags(e.bits)&bit != 0
}

// own tells whether the party has sent it.
func (v *side) own(e entry) bool { return v.alone || (e.bits&fromSecond != 0) == v.second }

// InHistory implements store.MessageReader.
func (l *Log) InHistory(ctx context.Context, owner store.AccountID, id store.MessageID) (bool, error) {
	done, err := l.use(ctx)
	if err != nil {
		return false, fmt.Errorf("look up history: %w", err)
	}
	defer done()
	upto := store.MessageID(l.visible.Load())
	if owner == 0 || id == 0 || id > upto {
		return false, nil
	}
	for _, prefix := range [2]byte{keyReceived, keySent} {
		in, err := l.has(prefix, owner, id, viewArchive)
		if in || err != nil {
			return in, err
		}
	}
	var d decoder
	m, err := l.message(id, &d)
	if errors.Is(err, errMissing) {
		return false, nil
	}
	if err != nil {
		return false, l.damage(err, id)
	}
	known, err := l.conversation(m.Conversation)
	if err != nil || known.key.Kind != store.Room {
		return false, err
	}
	member, in, err := l.memberOf(known, owner)
	return in && member.MayRead(m.Seq), err
}

// has reports whether an account's index has an entry with one of the bits at that identity.
func (l *Log) has(prefix byte, owner store.AccountID, id store.MessageID, bits byte) (in bool, err error) {
	err = l.walk(prefix, uint64(owner), newest).forward(id-1, func(e entry) bool {
		in = e.id == id && e.bits&bits != 0
		return false
	})
	if err != nil {
		return false, fmt.Errorf("look up an index: %w", err)
	}
	return in, nil
}

// Bounds implements store.MessageReader.
func (l *Log) Bounds(ctx context.Context, owner store.AccountID) (first, last store.MessageID, err error) {
	done, err := l.use(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("find the bounds of an archive: %w", err)
	}
	defer done()
	upto := store.MessageID(l.visible.Load())
	for _, prefix := range [2]byte{keyReceived, keySent} {
		w := l.walk(prefix, uint64(owner), upto)
		begin, end := store.MessageID(0), store.MessageID(0)
		archived := func(found *store.MessageID) func(entry) bool {
			return func(e entry) bool {
				if e.bits&viewArchive != 0 {
					*found = e.id
				}
				return *found == 0
			}
		}
		err = errors.Join(w.forward(0, archived(&begin)), w.backward(newest, archived(&end)))
		if err != nil {
			return 0, 0, fmt.Errorf("find the bounds of an archive: %w", err)
		}
		if begin != 0 && (first == 0 || begin < first) {
			first = begin
		}
		last = max(last, end)
	}
	if first == 0 {
		return 0, 0, fmt.Errorf("archive of account %d: %w", owner, store.ErrNotFound)
	}
	return first, last, nil
}
