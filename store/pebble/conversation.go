package pebble

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/posthouse-im/posthouse/store"
)

// listed is a conversation with the newest message of it that a member may see.
type listed struct {
	membership
	last entry
}

// Conversations implements store.ConversationReader.
func (l *Log) Conversations(
	ctx context.Context, owner store.AccountID, before store.MessageID, limit int,
) ([]store.Conversation, bool, error) {
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
	p := &page{
		Log:    l,
		ctx:    ctx,
		owner:  owner,
		before: before,
		limit:  limit + 1,
		upto:   store.MessageID(l.visible.Load()),
	}
	if p.before == 0 || p.before > p.upto {
		p.before = p.upto + 1
	}
	if err := cmp.Or(p.look(store.Room), p.direct()); err != nil {
		return nil, false, fmt.Errorf("list conversations: %w", err)
	}
	slices.SortFunc(p.found, func(a, b listed) int { return cmp.Compare(b.last.id, a.last.id) })
	more := len(p.found) > limit
	found, err := l.views(ctx, p.found[:min(len(p.found), limit)], p.upto)
	if err != nil {
		return nil, false, fmt.Errorf("list conversations: %w", err)
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

// look looks at all that the owner is or was in, of a kind.
func (p *page) look(kind store.ConversationKind) error {
	in, err := p.memberships(p.ctx, p.owner, kind)
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

// direct finds direct conversations.
func (p *page) direct() error {
	if !p.large.has(p.owner) {
		return p.look(store.Direct)
	}
	return p.byActivity()
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

// ConversationOf implements store.ConversationReader.
func (l *Log) ConversationOf(
	ctx context.Context, owner store.AccountID, id store.ConversationID,
) (store.Conversation, error) {
	known, done, err := l.useOf(ctx, id)
	if err != nil {
		return store.Conversation{}, fmt.Errorf("find a conversation: %w", err)
	}
	defer done()
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
	found, err := l.views(ctx, []listed{c}, upto)
	if err != nil {
		return store.Conversation{}, fmt.Errorf("find a conversation: %w", err)
	}
	return found[0], nil
}

// views puts together what a member sees of conversations.
func (l *Log) views(ctx context.Context, in []listed, upto store.MessageID) ([]store.Conversation, error) {
	markers, err := l.standings(in)
	if err != nil {
		return nil, err
	}
	found := make([]store.Conversation, len(in))
	for i := range in {
		if found[i], err = l.view(ctx, &in[i], &markers[i], upto); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (l *Log) view(
	ctx context.Context, in *listed, m *standings, upto store.MessageID,
) (c store.Conversation, err error) {
	k := &in.key
	c = store.Conversation{
		ID:      in.id,
		Kind:    k.Kind,
		Room:    k.Room,
		Last:    in.last.id,
		LastSeq: in.last.seq,
		Member:  in.Member,
	}
	c.Own.Read = max(m.own.through[store.MarkRead], m.own.through[store.MarkReadPrivate])
	c.Own.Delivered = max(m.own.through[store.MarkDelivered], c.Own.Read)
	c.Peer.Read = m.peer.through[store.MarkRead]
	c.Peer.Delivered = max(m.peer.through[store.MarkDelivered], c.Peer.Read)
	seen := func(e entry) (visible, own bool) { return in.MayRead(e.seq), e.author == in.Account }
	if k.Kind == store.Direct {
		v := newSide(in.conversation, in.Account)
		if c.With = v.with; v.alone {
			return c, nil
		}
		seen = func(e entry) (visible, own bool) { return v.archived(e), v.own(e) }
	}
	c.Unread, err = l.unread(ctx, in.id, c.Own.Read, upto, seen)
	return c, err
}

// unread counts what others have sent after a number and after the member's own last message, from the end backward. It
// reads the index and no message.
func (l *Log) unread(
	ctx context.Context, id store.ConversationID, read uint64, upto store.MessageID,
	seen func(entry) (visible, own bool),
) (n int, err error) {
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
