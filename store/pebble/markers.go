package pebble

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/store"
)

// Markers are state, of which the log has the current one. A change is a few bytes in the journal entry of its batch,
// and in memory, where former changes stay in the lists until they are written to disk. Then only the current ones are,
// with an entry in the lists of those who see them, and the entries that they replace are deleted.

// marker names one.
type marker struct {
	conversation store.ConversationID
	account      store.AccountID
	kind         store.MarkerKind
}

// markerSize is about how much memory a marker takes that a map leads to.
const markerSize = 96

func (m marker) key(dst []byte) []byte {
	return append(pairKey(dst, keyMarker, uint64(m.conversation), uint64(m.account)), byte(m.kind))
}

// change is a marker as it is from its id on.
type change struct {
	marker
	id      store.MessageID
	through uint64
	// peer is the account of the other party of a direct conversation, 0 for none.
	peer store.AccountID
	room bool
}

func newChange(m marker, key *store.ConversationKey) change {
	c := change{marker: m, room: key.Kind == store.Room}
	if !c.room {
		p, _ := key.PartyOf(m.account)
		c.peer = key.Other(p).Account
	}
	return c
}

// private reports whether only the marker's owner sees it.
func (c *change) private() bool { return c.kind == store.MarkReadPrivate }

// changeList names a list of changes: those that an account sees in direct conversations, those of a room, or, for
// account 0, all.
type changeList struct {
	prefix byte // keyChanged or keyRoomChanged
	number uint64
}

// everything is the list of all markers.
var everything = changeList{keyChanged, 0} // constant

// lists calls visit for each list that the change is in.
func (c *change) lists(visit func(changeList)) {
	visit(everything)
	if c.room {
		visit(changeList{keyRoomChanged, uint64(c.conversation)})
		return
	}
	if c.account != 0 {
		visit(changeList{keyChanged, uint64(c.account)})
	}
	if c.peer != 0 && c.peer != c.account && !c.private() {
		visit(changeList{keyChanged, uint64(c.peer)})
	}
}

// A change, in the journal and as the value of a changed entry:
//
//	conversation  8 bytes
//	account       uvarint
//	kind          1 byte, plus changeInRoom in a room
//	through       uvarint
//	peer          uvarint
const changeInRoom = 1 << 7

func appendChange(dst []byte, c *change) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(c.conversation))
	dst = binary.AppendUvarint(dst, uint64(c.account))
	kind := byte(c.kind)
	if c.room {
		kind |= changeInRoom
	}
	dst = binary.AppendUvarint(append(dst, kind), c.through)
	return binary.AppendUvarint(dst, uint64(c.peer))
}

func (r *reader) change() (c change) {
	c.conversation = store.ConversationID(r.number())
	c.account = store.AccountID(r.uvarint())
	kind := r.byte()
	c.kind, c.room = store.MarkerKind(kind&^changeInRoom), kind&changeInRoom != 0
	c.through = r.uvarint()
	c.peer = store.AccountID(r.uvarint())
	return c
}

// The value of a marker entry: the id, 8 bytes, and through, uvarint.

func appendMarker(dst []byte, c *change) []byte {
	return binary.AppendUvarint(binary.BigEndian.AppendUint64(dst, uint64(c.id)), c.through)
}

func decodeMarker(b []byte) (id store.MessageID, through uint64, err error) {
	r := reader{b: b}
	id, through = store.MessageID(r.number()), r.uvarint()
	return id, through, r.end()
}

// marker finds a marker in memory.
func (r *recents) marker(m marker) (c change, found bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.markerLocked(m)
}

func (r *recents) markerLocked(m marker) (c change, found bool) {
	for _, part := range [2]*recent{r.young, r.frozen} {
		if part == nil {
			continue
		}
		if at, found := part.current[m]; found {
			return part.changes[at], true
		}
	}
	return c, false
}

// marker returns where a marker stands: its id and number, zero for nowhere. A damaged one is as if it had never been
// set: it will be again.
func (l *Log) marker(m marker) (id store.MessageID, through uint64, err error) {
	if c, found := l.recents.marker(m); found {
		return c.id, c.through, nil
	}
	var key [markerKeySize]byte
	value, closer, err := l.db.Get(m.key(key[:0]))
	if errors.Is(err, engine.ErrNotFound) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read a marker: %w", err)
	}
	defer closer.Close()
	id, through = l.stored(m, value)
	return id, through, nil
}

// stored decodes what is on disk of a marker.
func (l *Log) stored(m marker, value []byte) (store.MessageID, uint64) {
	id, through, err := decodeMarker(value)
	if err != nil {
		l.events.damaged.Inc()
		l.log.Error("a stored marker is damaged", "account", m.account, "conversation", m.conversation, "err", err)
		return 0, 0
	}
	return id, through
}

// span is what is wanted of a list: a range of identities with both its ends excluded, from which end, and how much.
type span struct {
	after, before store.MessageID
	backward      bool
	limit         int
}

// full reports whether there is enough.
func (s *span) full(found []change) bool { return len(found) >= s.limit }

// changes returns the current markers of a list in a span for which want is true, in the span's order.
func (l *Log) changes(ctx context.Context, of changeList, s span, want func(*change) bool) ([]change, error) {
	found, indexed := l.recents.changes(of, s, want)
	if s.after < indexed && !(s.backward && s.full(found)) {
		stored, err := l.storedChanges(ctx, of, s, indexed, want)
		if err != nil {
			return nil, fmt.Errorf("read markers: %w", err)
		}
		found = append(found, stored...)
	}
	slices.SortFunc(found, func(a, b change) int {
		if s.backward {
			a, b = b, a
		}
		return cmp.Compare(a.id, b.id)
	})
	return found[:min(len(found), s.limit)], nil
}

// changes is Log.changes of what is in memory, and where the indexes on disk end.
func (r *recents) changes(of changeList, s span, want func(*change) bool) (found []change, indexed store.MessageID) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	parts := [2]*recent{r.frozen, r.young}
	if s.backward {
		parts[0], parts[1] = r.young, r.frozen
	}
	for _, part := range parts {
		if part == nil {
			continue
		}
		at := part.lists[of]
		i, _ := slices.BinarySearchFunc(
			at, s.after+1, func(i int32, id store.MessageID) int { return cmp.Compare(part.changes[i].id, id) },
		)
		end, _ := slices.BinarySearchFunc(
			at, s.before, func(i int32, id store.MessageID) int { return cmp.Compare(part.changes[i].id, id) },
		)
		at = at[min(i, end):end]
		for i := range at {
			if s.full(found) {
				break
			}
			next := at[i]
			if s.backward {
				next = at[len(at)-1-i]
			}
			c := &part.changes[next]
			if now, _ := r.markerLocked(c.marker); now.id == c.id && want(c) {
				found = append(found, *c)
			}
		}
	}
	return found, r.indexed
}

// formerDelivered returns, by marker, how far those MarkDelivered of others came that an account saw at the identities,
// in rising order and up to one of them, and that were replaced since.
func (r *recents) formerDelivered(account store.AccountID, ids []store.MessageID,
	upto store.MessageID) (found map[marker]uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, part := range [2]*recent{r.frozen, r.young} {
		if part == nil || len(part.changes) == 0 {
			continue
		}
		at := part.lists[changeList{keyChanged, uint64(account)}]
		for _, id := range ids {
			i, in := slices.BinarySearchFunc(
				at, id, func(i int32, id store.MessageID) int { return cmp.Compare(part.changes[i].id, id) },
			)
			if !in || id > upto {
				continue
			}
			c := &part.changes[at[i]]
			now, _ := r.markerLocked(c.marker)
			if c.kind == store.MarkDelivered && c.account != account && now.id != id {
				if found == nil {
					found = map[marker]uint64{}
				}
				found[c.marker] = max(found[c.marker], c.through)
			}
		}
	}
	return found
}

// storedChanges is Log.changes of what is on disk and was not replaced since.
func (l *Log) storedChanges(
	ctx context.Context, of changeList, s span, indexed store.MessageID, want func(*change) bool,
) (found []change, err error) {
	it, err := l.db.NewIter(&engine.IterOptions{
		LowerBound: pairKey(nil, of.prefix, of.number, uint64(s.after)+1),
		UpperBound: pairKey(nil, of.prefix, of.number, uint64(min(s.before, indexed+1))),
	})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	first, next := it.First, it.Next
	if s.backward {
		first, next = it.Last, it.Prev
	}
	passed := 0
	for ok := first(); ok && !s.full(found); ok = next() {
		if passed++; passed%checkEvery == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		r := reader{b: it.Value()}
		c := r.change()
		c.id = store.MessageID(secondNumber(it.Key()))
		if err := r.end(); err != nil {
			l.events.damaged.Inc()
			l.log.Error("a stored marker is damaged", "id", c.id, "err", err)
			continue
		}
		if now, replaced := l.recents.marker(c.marker); replaced && now.id != c.id || !want(&c) {
			continue
		}
		found = append(found, c)
	}
	return found, it.Error()
}

// result is what a change looks like to a reader.
func (l *Log) result(c *change) (store.Message, error) {
	known, err := l.conversation(c.conversation)
	if err != nil {
		return store.Message{}, err
	}
	m := store.Message{
		ID: c.id, Conversation: c.conversation, Author: store.Party{Account: c.account},
		Marker: &store.Marker{Account: c.account, Kind: c.kind, Through: c.through, ID: c.id},
	}
	if p, ok := known.key.PartyOf(c.account); ok {
		m.Author = p
	}
	if c.kind == store.MarkDelivered && !c.room {
		m.Marker.Told, err = l.told(c.marker)
	}
	return m, err
}

func toldKey(m marker) []byte {
	return pairKey(make([]byte, 0, pairKeySize), keyTold, uint64(m.conversation), uint64(m.account))
}

// told returns through which number others were told of a MarkDelivered.
func (l *Log) told(m marker) (uint64, error) {
	value, err := l.get(toldKey(m))
	if err != nil {
		return 0, fmt.Errorf("read what was told of: %w", err)
	}
	through, _ := binary.Uvarint(value)
	return through, nil
}

// standing is where an account's markers in a conversation stand, by kind.
type standing struct {
	through [store.MarkReadPrivate + 1]uint64
	known   [store.MarkReadPrivate + 1]bool
}

// standings are those of the owner and of the other party.
type standings struct{ own, peer standing }

// standings finds the markers of the owner, and of other parties, in conversations. All that is in memory is looked at
// before what is on disk, so that what is written to disk meanwhile is not missed.
func (l *Log) standings(in []listed) ([]standings, error) {
	found := make([]standings, len(in))
	each := func(do func(id store.ConversationID, account store.AccountID, s *standing) error) error {
		for i := range in {
			c := &in[i]
			err := do(c.id, c.Account, &found[i].own)
			if err == nil && c.key.Kind == store.Direct {
				v := newSide(c.conversation, c.Account)
				err = do(c.id, v.with.Account, &found[i].peer)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	_ = each(func(id store.ConversationID, account store.AccountID, s *standing) error {
		l.recents.standing(id, account, s)
		return nil
	})
	it, err := l.db.NewIter(&engine.IterOptions{LowerBound: []byte{keyMarker}, UpperBound: []byte{keyMarker + 1}})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	err = each(func(id store.ConversationID, account store.AccountID, s *standing) error {
		var buf [pairKeySize]byte
		of := pairKey(buf[:0], keyMarker, uint64(id), uint64(account))
		for ok := it.SeekGE(of); ok && bytes.HasPrefix(it.Key(), of); ok = it.Next() {
			kind := it.Key()[pairKeySize]
			if int(kind) < len(s.known) && !s.known[kind] {
				_, s.through[kind] = l.stored(marker{id, account, store.MarkerKind(kind)}, it.Value())
			}
		}
		return it.Error()
	})
	if err != nil {
		return nil, fmt.Errorf("read markers: %w", err)
	}
	return found, nil
}

// standing finds what is in memory.
func (r *recents) standing(id store.ConversationID, account store.AccountID, s *standing) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for kind := store.MarkDelivered; kind <= store.MarkReadPrivate; kind++ {
		if c, known := r.markerLocked(marker{id, account, kind}); known {
			s.through[kind], s.known[kind] = c.through, true
		}
	}
}

// Markers implements store.ConversationReader.
func (l *Log) Markers(
	ctx context.Context, id store.ConversationID, from store.AccountID, limit int,
) (found []store.Marker, more bool, err error) {
	known, done, err := l.useOf(ctx, id)
	if err != nil {
		return nil, false, fmt.Errorf("list markers: %w", err)
	}
	defer done()
	accounts := known.accounts()
	if known.key.Kind == store.Room {
		if accounts, err = l.marking(id, from, limit+1); err != nil {
			return nil, false, fmt.Errorf("list markers: %w", err)
		}
	}
	slices.Sort(accounts)
	told := 0 // accounts that have any
	for _, account := range slices.Compact(accounts) {
		if account < from {
			continue
		}
		var of []store.Marker
		for kind := store.MarkDelivered; kind <= store.MarkReadPrivate; kind++ {
			at, through, err := l.marker(marker{id, account, kind})
			if err != nil {
				return nil, false, err
			}
			if at == 0 {
				continue
			}
			m := store.Marker{Account: account, Kind: kind, Through: through, ID: at}
			if kind == store.MarkDelivered && known.key.Kind == store.Direct {
				if m.Told, err = l.told(marker{id, account, kind}); err != nil {
					return nil, false, err
				}
			}
			of = append(of, m)
		}
		if len(of) > 0 && told == limit {
			return found, true, nil
		}
		if len(of) > 0 {
			told++
			found = append(found, of...)
		}
	}
	return found, false, nil
}

// marking returns the first accounts that have a marker in a room, from one on, and may return others.
func (l *Log) marking(id store.ConversationID, from store.AccountID, limit int) ([]store.AccountID, error) {
	accounts := l.recents.marking(id)
	_, upper := bounds(keyMarker, uint64(id))
	it, err := l.db.NewIter(
		&engine.IterOptions{LowerBound: pairKey(nil, keyMarker, uint64(id), uint64(from)), UpperBound: upper},
	)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	stored := 0
	for ok := it.First(); ok && stored < limit; ok = it.Next() {
		account := store.AccountID(secondNumber(it.Key()))
		if len(accounts) == 0 || accounts[len(accounts)-1] != account {
			accounts = append(accounts, account)
			stored++
		}
	}
	return accounts, it.Error()
}

// marking returns the accounts that have moved a marker in a room lately.
func (r *recents) marking(id store.ConversationID) (accounts []store.AccountID) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, part := range [2]*recent{r.young, r.frozen} {
		if part == nil {
			continue
		}
		for _, at := range part.lists[changeList{keyRoomChanged, uint64(id)}] {
			accounts = append(accounts, part.changes[at].account)
		}
	}
	slices.Sort(accounts)
	return slices.Compact(accounts)
}

// stagedMarker is a marker that the batch moves.
type stagedMarker struct {
	change
	// by is the entry that moved it last, and earlier those that it was merged with.
	by      *store.Append
	earlier []*store.Append
}

// move decides about one change of a marker.
func (l *Log) move(a *store.Append, t *tail, now time.Time) error {
	w := &l.writer
	m := marker{a.Conversation, a.Marker.Account, a.Marker.Kind}
	through := min(a.Marker.Through, t.last)
	s := w.moved[m]
	known, err := l.reached(m, s)
	if err != nil {
		return err
	}
	if a.Stale = through <= known; a.Stale {
		return nil
	}
	if s == nil {
		s = &stagedMarker{change: newChange(m, &t.key)}
		w.moved[m] = s
	} else {
		s.earlier = append(s.earlier, s.by)
	}
	a.ID = w.next(now)
	s.id, s.through, s.by = a.ID, through, a
	for _, e := range s.earlier {
		e.ID, e.Merged = a.ID, true
	}
	return nil
}

// reached returns how far a marker has come, for Append.
func (l *Log) reached(m marker, s *stagedMarker) (uint64, error) {
	if s != nil {
		return s.through, nil
	}
	w := &l.writer
	if through, known := w.reached.get(m); known {
		return through, nil
	}
	_, through, err := l.marker(m)
	if err == nil {
		w.reached.put(m, through)
	}
	return through, err
}
