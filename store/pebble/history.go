package pebble

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/posthouse-im/posthouse/store"
)

// History implements store.MessageReader. It first finds the identities in an index, one more than asked for, then reads the messages.
func (l *Log) History(ctx context.Context, q store.HistoryQuery) (found []store.Message, more bool, err error) {
	done, err := l.use(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("read history: %w", err)
	}
	defer done()
	if q.Limit < 1 {
		return nil, false, fmt.Errorf("read history: limit is %d", q.Limit)
	}
	if visible := store.MessageID(l.visible.Load()); q.Before == 0 || q.Before > visible {
		q.Before = visible + 1
	}
	if q.Owner == 0 || q.After >= q.Before {
		return nil, false, nil
	}
	var ids []store.MessageID
	if q.With == (store.Party{}) {
		ids, err = l.historyOfAll(ctx, q)
	} else {
		ids, err = l.historyWith(ctx, q)
	}
	if err != nil {
		return nil, false, fmt.Errorf("read history: %w", err)
	}
	if more = len(ids) > q.Limit; more {
		ids = ids[:q.Limit]
	}
	if q.Backward {
		slices.Reverse(ids)
	}
	found, err = l.messages(ctx, ids)
	if err != nil {
		return found, more, fmt.Errorf("read history: %w", err)
	}
	return found, more, nil
}

// checkEvery is how many index entries are passed over between looks at the context.
const checkEvery = 1024

// historyOfAll merges what the owner received and what it sent. It returns up to Limit+1 identities in the query's direction.
func (l *Log) historyOfAll(ctx context.Context, q store.HistoryQuery) ([]store.MessageID, error) {
	received, err := l.openView(keyReceived, q.Owner, q.After, q.Before-1)
	if err != nil {
		return nil, err
	}
	defer received.close()
	sent, err := l.openView(keySent, q.Owner, q.After, q.Before-1)
	if err != nil {
		return nil, err
	}
	defer sent.close()
	var ids []store.MessageID
	step, earlier := (*view).next, func(a, b store.MessageID) bool { return a < b }
	r, s := received.first(), sent.first()
	if q.Backward {
		step, earlier = (*view).prev, func(a, b store.MessageID) bool { return a > b }
		r, s = received.last(), sent.last()
	}
	for n := 0; (r || s) && len(ids) <= q.Limit; n++ {
		if n%checkEvery == checkEvery-1 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if r && (!s || earlier(received.id, sent.id)) {
			if received.view&viewArchive != 0 {
				ids = append(ids, received.id)
			}
			r = step(received)
			continue
		}
		if sent.view&viewArchive != 0 {
			ids = append(ids, sent.id)
		}
		s = step(sent)
	}
	return ids, errors.Join(received.it.Error(), sent.it.Error())
}

// historyWith reads one conversation by number. A conversation that the owner's archive has no part of is passed over
// entry by entry, without reading its messages.
func (l *Log) historyWith(ctx context.Context, q store.HistoryQuery) ([]store.MessageID, error) {
	owner, with := side{account: q.Owner}, sideOf(q.With)
	p, ownerSecond := pairOf(owner, with)
	id, err := l.conversation(p)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := l.openConversation(id, q.Before-1)
	if err != nil {
		return nil, err
	}
	defer c.close()
	mine := func() bool {
		var bit store.MessageFlags
		if sentByOwner := (c.flags&fromSecond != 0) == ownerSecond; sentByOwner {
			bit = store.InSenderArchive
		} else {
			bit = store.InRecipientArchive
		}
		if owner == with {
			bit = store.InSenderArchive | store.InRecipientArchive
		}
		return store.MessageFlags(c.flags)&bit != 0
	}
	step, ok := (*conversation).next, false
	if q.Backward {
		step, ok = (*conversation).prev, c.last()
	} else {
		ok = c.after(q.After)
	}
	var ids []store.MessageID
	for n := 0; ok && c.id > q.After && len(ids) <= q.Limit; n++ {
		if n%checkEvery == checkEvery-1 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if mine() {
			ids = append(ids, c.id)
		}
		ok = step(c)
	}
	return ids, c.it.Error()
}
