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
	if q.Before == 0 {
		q.Before = math.MaxUint64
	}
	if q.Owner == 0 || q.After >= q.Before-1 {
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

// historyOfAll merges what the owner received and what it sent.
func (l *Log) historyOfAll(ctx context.Context, q store.HistoryQuery) ([]store.MessageID, error) {
	archived := func(e entry) bool { return e.bits&viewArchive != 0 }
	ids, err := collect(ctx, l.walk(keyReceived, uint64(q.Owner)), q, archived)
	if err != nil {
		return nil, err
	}
	sent, err := collect(ctx, l.walk(keySent, uint64(q.Owner)), q, archived)
	if err != nil {
		return nil, err
	}
	ids = append(ids, sent...)
	slices.Sort(ids)
	if q.Backward {
		slices.Reverse(ids)
	}
	return ids[:min(len(ids), q.Limit+1)], nil
}

// collect returns up to Limit+1 wanted identities of an index in the query's direction.
func collect(ctx context.Context, w *walk, q store.HistoryQuery, wanted func(entry) bool) ([]store.MessageID, error) {
	var ids []store.MessageID
	passed := 0
	visit := func(e entry) bool {
		if passed++; passed%checkEvery == 0 && ctx.Err() != nil {
			return false
		}
		if e.id <= q.After || e.id >= q.Before {
			return false
		}
		if wanted(e) {
			ids = append(ids, e.id)
		}
		return len(ids) <= q.Limit
	}
	var err error
	if q.Backward {
		err = w.backward(q.Before, visit)
	} else {
		err = w.forward(q.After, visit)
	}
	return ids, cmp.Or(err, ctx.Err())
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
	return collect(ctx, l.walk(keyConversation, uint64(id)), q, func(e entry) bool {
		bit := store.InRecipientArchive
		if sentByOwner := (e.bits&fromSecond != 0) == ownerSecond; sentByOwner {
			bit = store.InSenderArchive
		}
		if owner == with {
			bit = store.InSenderArchive | store.InRecipientArchive
		}
		return store.MessageFlags(e.bits)&bit != 0
	})
}
