package pebble

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/store"
)

// Deliver implements store.MessageWriter.
func (l *Log) Deliver(ctx context.Context, reports []store.Delivered) error {
	l.delivering.Lock()
	defer l.delivering.Unlock()
	done, err := l.use(ctx)
	if err != nil {
		return notStored(ctx, fmt.Errorf("report deliveries: %w", err))
	}
	defer done()
	if err := l.Err(); err != nil {
		return err
	}
	full, err := l.Full()
	if err != nil {
		return err
	}
	if full {
		return fmt.Errorf("report deliveries: %w", store.ErrFull)
	}
	if err := l.roomInMemory(ctx); err != nil {
		return notStored(ctx, err)
	}
	b := l.db.NewBatch()
	var written []store.DeliveryCursor
	for i := range reports {
		c, err := l.deliver(ctx, b, &reports[i])
		if err != nil {
			return notStored(ctx, fmt.Errorf("report deliveries: %w", err))
		}
		written = append(written, c)
	}
	if b.Empty() {
		return nil
	}
	if err := l.commitUnflushed(ctx, b); err != nil {
		return err
	}
	l.cursors.changed(written)
	return nil
}

// deliver merges one report, and returns the account's cursor after it.
func (l *Log) deliver(
	ctx context.Context, b *engine.Batch, r *store.Delivered,
) (c store.DeliveryCursor, err error) {
	before, err := l.cursor(r.Account)
	if err != nil {
		return c, err
	}
	upto := store.MessageID(l.visible.Load())
	c = store.DeliveryCursor{Account: r.Account, Through: before.Through}
	ids := slices.Sorted(slices.Values(inject(r.IDs, &before)))
	for _, id := range ids {
		if id <= upto {
			c.Through = max(c.Through, id)
		}
	}
	// More than that is not needed: what is beyond was reported, or is one missed too many.
	open, err := l.undelivered(ctx, &before, 0, c.Through, store.MaxMissed+1+len(ids))
	if err != nil {
		return c, err
	}
	reported := func(u result) bool { _, in := slices.BinarySearch(ids, u.id); return in }
	for _, u := range open {
		if !reported(u) {
			c.Missed = append(c.Missed, u.id)
		}
	}
	if len(c.Missed) > store.MaxMissed {
		c.Through = c.Missed[store.MaxMissed] - 1
		c.Missed = c.Missed[:store.MaxMissed]
	}
	var key [pairKeySize]byte
	former := l.recents.formerDelivered(r.Account, ids, upto)
	for _, u := range open {
		if m := u.marker; m != nil && m.kind == store.MarkDelivered && u.id <= c.Through && reported(u) {
			set(b, toldKey(m.marker), binary.AppendUvarint(nil, m.through))
			delete(former, m.marker)
		}
	}
	for m, through := range former {
		told, err := l.told(m)
		if err != nil {
			return c, err
		}
		if through > told {
			set(b, toldKey(m), binary.AppendUvarint(nil, through))
		}
	}
	if c.Through != before.Through || !slices.Equal(c.Missed, before.Missed) {
		set(b, idKey(key[:0], keyCursor, uint64(r.Account)), appendCursor(nil, &c))
	}
	return c, nil
}

// Cursor implements store.MessageReader.
func (l *Log) Cursor(ctx context.Context, owner store.AccountID) (store.DeliveryCursor, error) {
	done, err := l.use(ctx)
	if err != nil {
		return store.DeliveryCursor{}, fmt.Errorf("read delivery cursor: %w", err)
	}
	defer done()
	return l.cursor(owner)
}

// Undelivered implements store.MessageReader.
func (l *Log) Undelivered(
	ctx context.Context, owner store.AccountID, after store.MessageID, limit int,
) ([]store.Message, error) {
	done, err := l.use(ctx)
	if err != nil {
		return nil, fmt.Errorf("read undelivered messages: %w", err)
	}
	defer done()
	cursor, err := l.cursor(owner)
	if err != nil {
		return nil, err
	}
	found, err := l.undelivered(ctx, &cursor, after, newest, limit)
	if err != nil {
		return nil, fmt.Errorf("read undelivered messages: %w", err)
	}
	messages, _, err := l.messages(ctx, found, 0)
	return messages, err
}

// undelivered returns up to limit messages and markers after one identity, up to another, that the cursor does not
// cover, in rising order.
func (l *Log) undelivered(
	ctx context.Context, c *store.DeliveryCursor, after, upto store.MessageID, limit int,
) ([]result, error) {
	upto = min(upto, store.MessageID(l.visible.Load()))
	if c.Account == 0 || limit < 1 {
		return nil, nil
	}
	var found []result
	for _, id := range c.Missed {
		if id <= after || id > c.Through || id > upto {
			continue
		}
		missed, err := l.missed(ctx, c.Account, id)
		if err != nil {
			return nil, err
		}
		found = append(found, missed...)
	}
	after = max(after, c.Through)
	if after >= upto {
		return found[:min(len(found), limit)], nil
	}
	taken, passed := 0, 0
	err := l.walk(keyReceived, uint64(c.Account), upto).forward(after, func(e entry) bool {
		if passed++; passed%checkEvery == 0 && ctx.Err() != nil {
			return false
		}
		if e.bits&viewOffline != 0 {
			found = append(found, result{id: e.id})
			taken++
		}
		return taken < limit
	})
	if err = cmp.Or(err, ctx.Err()); err != nil {
		return nil, err
	}
	markers, err := l.changes(
		ctx, changeList{keyChanged, uint64(c.Account)}, span{after: after, before: upto + 1, limit: limit},
		others(c.Account),
	)
	for i := range markers {
		found = append(found, result{id: markers[i].id, marker: &markers[i]})
	}
	slices.SortFunc(found, func(a, b result) int { return cmp.Compare(a.id, b.id) })
	return found[:min(len(found), limit)], err
}

// others wants the markers of others than the account.
func others(account store.AccountID) func(*change) bool {
	return func(c *change) bool { return c.account != account }
}

// missed returns what a cursor says was missed, none when it is a marker that was replaced.
func (l *Log) missed(ctx context.Context, owner store.AccountID, id store.MessageID) ([]result, error) {
	in, err := l.has(keyReceived, owner, id, viewOffline)
	if err != nil {
		return nil, err
	}
	if in {
		return []result{{id: id}}, nil
	}
	markers, err := l.changes(
		ctx, changeList{keyChanged, uint64(owner)}, span{after: id - 1, before: id + 1, limit: 1}, others(owner),
	)
	if err != nil || len(markers) == 0 {
		return nil, err
	}
	return []result{{id: id, marker: &markers[0]}}, nil
}

// Behind implements store.MessageReader.
func (l *Log) Behind(ctx context.Context, reached []store.Reached) (behind []store.AccountID, err error) {
	done, err := l.use(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for what is new: %w", err)
	}
	defer done()
	for _, r := range reached {
		found, err := l.history(ctx, &store.HistoryQuery{Owner: r.Account, After: r.Through, Limit: 1, Markers: true})
		if err == nil && len(found) == 0 {
			var c store.DeliveryCursor
			if c, err = l.cursor(r.Account); err == nil {
				found, err = l.undelivered(ctx, &c, r.Through, newest, 1)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("look for what is new: %w", err)
		}
		if len(found) > 0 {
			behind = append(behind, r.Account)
		}
	}
	return behind, nil
}
