package pebble

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/store"
)

// listed is a conversation with the newest message of it that a member may see.
type listed struct {
	membership
	last entry
}

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
	p := &page{Log: l, ctx: ctx, owner: owner, before: before, limit: limit + 1, upto: store.MessageID(l.visible.Load())}
	if p.before == 0 || p.before > p.upto {
		p.before = p.upto + 1
	}
	if err := cmp.Or(p.rooms(), p.direct()); err != nil {
		return nil, false, fmt.Errorf("list conversations: %w", err)
	}
	slices.SortFunc(p.found, func(a, b listed) int { return cmp.Compare(b.last.id, a.last.id) })
	more := len(p.found) > limit
	found := make([]store.Conversation, 0, min(len(p.found), limit))
	for i := range p.found[:cap(found)] {
		c, err := l.view(ctx, &p.found[i], p.upto)
		if err != nil {
			return nil, false, fmt.Errorf("list conversations: %w", err)
		}
		found = append(found, c)
	}
	return found, more, nil
}

// page is a page of a list on its way.
type page struct {
	*Log
	ctx          context.Context
	owner        store.AccountID
	before, upto store.MessageID
	limit        int
	found        []listed
	// last are the newest messages of the direct conversations that were looked at.
	last map[store.ConversationID]store.MessageID
}

// rooms looks at all that the owner is or was in.
func (p *page) rooms() error {
	in, err := p.Log.rooms(p.ctx, p.owner)
	if err != nil {
		return err
	}
	for i := range in {
		last, err := p.newest(p.ctx, &in[i], p.upto)
		if err != nil {
			return err
		}
		if last.id != 0 && last.id < p.before {
			p.found = append(p.found, listed{in[i], last})
		}
	}
	return nil
}

// direct goes through the messages of the owner that are in memory, and then through the activity of earlier parts, newest first. The first
// that is met of a conversation is its newest message, unless that lies beyond the page's beginning.
func (p *page) direct() error {
	p.last = make(map[store.ConversationID]store.MessageID)
	met := 0
	indexed, err := p.inMemory(func(at *position) error { return p.meet(at.conversation, at.id, &met) }, &met)
	if err != nil || met >= p.limit || indexed == 0 {
		return err
	}
	lower, upper := bounds(keyActivity, uint64(p.owner))
	if p.before <= indexed {
		lower = pairKey(nil, keyActivity, uint64(p.owner), ^uint64(p.before-1))
	}
	it, err := p.db.NewIter(&engine.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok && met < p.limit; ok = it.Next() {
		id := store.MessageID(^secondNumber(it.Key()))
		if id > indexed || len(it.Value()) != 8 {
			continue // it is in memory too
		}
		conversation := store.ConversationID(binary.BigEndian.Uint64(it.Value()))
		if err := p.meet(conversation, id, &met); err != nil {
			return err
		}
		if p.last[conversation] > id {
			p.passed.add(it.Key())
		}
	}
	return it.Error()
}

// inMemory visits the owner's messages in memory, newest first, until the page is full, and returns where the indexes on disk end.
func (p *page) inMemory(visit func(*position) error, met *int) (indexed store.MessageID, err error) {
	indexed, parts := p.recents.both(p.owner)
	for _, part := range parts {
		var ends [2]int
		for i := range part {
			ends[i] = part[i].after(p.before - 1)
		}
		for passed := 1; ends[0]+ends[1] > 0 && *met < p.limit; passed++ {
			if passed%checkEvery == 0 && p.ctx.Err() != nil {
				return 0, p.ctx.Err()
			}
			next := 0
			if ends[0] == 0 || ends[1] > 0 && part[1].position(ends[1]-1).id > part[0].position(ends[0]-1).id {
				next = 1
			}
			ends[next]--
			if part[next].entry(ends[next]).bits&viewArchive == 0 {
				continue
			}
			if err := visit(part[next].position(ends[next])); err != nil {
				return 0, err
			}
		}
	}
	return indexed, nil
}

// meet takes a direct conversation that has a message at id, the first time.
func (p *page) meet(id store.ConversationID, at store.MessageID, met *int) error {
	if _, known := p.last[id]; known {
		return nil
	}
	if err := p.ctx.Err(); err != nil {
		return err
	}
	known, err := p.conversation(id)
	if err != nil {
		return err
	}
	m := membership{known, partyMember(p.owner)}
	last, err := p.newest(p.ctx, &m, p.upto)
	if err != nil {
		return err
	}
	p.last[id] = last.id
	if last.id != 0 && last.id < p.before {
		p.found = append(p.found, listed{m, last})
		*met++
	}
	return nil
}

// newest finds the newest message of a conversation that a member may see; the zero entry when there is none.
func (l *Log) newest(ctx context.Context, m *membership, upto store.MessageID) (last entry, err error) {
	if m.key.Kind == store.Room {
		for _, i := range slices.Backward(m.Access) {
			through := cmp.Or(i.Through, maxSeq)
			err = l.walk(keyConversation, uint64(m.id), upto).numberedBack(through, func(e entry) bool {
				if e.seq >= i.From {
					last = e
				}
				return false
			})
			if err != nil || last.id != 0 {
				break
			}
		}
		return last, err
	}
	v := newSide(m.conversation, m.Account)
	passed := 0
	err = l.walk(keyConversation, uint64(m.id), upto).backward(newest, func(e entry) bool {
		if v.archived(e) {
			last = e
			return false
		}
		passed++
		return passed%checkEvery != 0 || ctx.Err() == nil
	})
	return last, cmp.Or(err, ctx.Err())
}

// passed are keys of activity entries that are not those of a newest message any more. Readers find them, and the writer of indexes
// deletes them. What does not fit is found again.
type passed struct {
	// mu guards keys. It is a leaf.
	mu   sync.Mutex
	keys [][]byte
}

// maxPassed bounds them.
const maxPassed = 4096

func (p *passed) add(key []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.keys) < maxPassed {
		p.keys = append(p.keys, slices.Clone(key))
	}
}

func (p *passed) take() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	keys := p.keys
	p.keys = nil
	return keys
}

// ConversationOf implements store.ConversationReader.
func (l *Log) ConversationOf(ctx context.Context, owner store.AccountID, id store.ConversationID) (store.Conversation, error) {
	done, err := l.use(ctx)
	if err != nil {
		return store.Conversation{}, fmt.Errorf("find a conversation: %w", err)
	}
	defer done()
	known, err := l.conversation(id)
	if err != nil {
		return store.Conversation{}, err
	}
	member, in, err := l.memberOf(known, owner)
	if err != nil {
		return store.Conversation{}, err
	}
	if !in {
		return store.Conversation{}, fmt.Errorf("conversation: %w", store.ErrNotFound)
	}
	upto := store.MessageID(l.visible.Load())
	c := listed{membership: membership{known, member}}
	if c.last, err = l.newest(ctx, &c.membership, upto); err != nil {
		return store.Conversation{}, fmt.Errorf("find a conversation: %w", err)
	}
	found, err := l.view(ctx, &c, upto)
	if err != nil {
		return store.Conversation{}, fmt.Errorf("find a conversation: %w", err)
	}
	return found, nil
}

// view puts together what a member sees of a conversation.
func (l *Log) view(ctx context.Context, in *listed, upto store.MessageID) (c store.Conversation, err error) {
	k, owner := &in.key, in.Account
	c = store.Conversation{ID: in.id, Kind: k.Kind, Room: k.Room, Last: in.last.id, LastSeq: in.last.seq, Member: in.Member}
	own, err := l.markersOf(in.id, owner)
	if err != nil {
		return c, err
	}
	c.Own.Read = max(own.read, own.private)
	c.Own.Delivered = max(own.delivered, c.Own.Read)
	seen := func(e entry) (visible, own bool) { return in.MayRead(e.seq), e.author == owner }
	if k.Kind == store.Direct {
		v := newSide(in.conversation, owner)
		c.With = v.with
		peer, err := l.markersOf(in.id, v.with.Account)
		if err != nil {
			return c, err
		}
		c.Peer = store.ReadMarkers{Read: peer.read, Delivered: max(peer.delivered, peer.read)}
		if v.alone {
			return c, nil
		}
		seen = func(e entry) (visible, own bool) { return v.archived(e), v.own(e) }
	}
	c.Unread, err = l.unread(ctx, in.id, c.Own.Read, upto, seen)
	return c, err
}

// unread counts what others have sent after a number and after the member's own last message, from the end backward. It reads the
// index and no message.
func (l *Log) unread(ctx context.Context, id store.ConversationID, read uint64, upto store.MessageID, seen func(entry) (visible, own bool)) (n int, err error) {
	var retracted map[uint64]bool
	var looked bool
	passed := 0
	var failed error
	err = l.walk(keyConversation, uint64(id), upto).backward(newest, func(e entry) bool {
		if passed++; passed%checkEvery == 0 && ctx.Err() != nil || e.seq <= read {
			return false
		}
		visible, own := seen(e)
		if store.MessageFlags(e.bits)&store.Unread == 0 || !visible {
			return true
		}
		if !looked {
			looked = true
			if retracted, failed = l.retractedFrom(id, read+1); failed != nil {
				return false
			}
		}
		switch {
		case retracted[e.seq]:
			return true
		case own:
			return false
		}
		n++
		return n < store.MaxUnread
	})
	return n, cmp.Or(err, failed, ctx.Err())
}
