package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Refusals of the committer.
var (
	conflicting = stanza.Refuse(stanza.Conflict, "Another message was sent under this origin-id.")
	storageFull = stanza.Refuse(stanza.ResourceConstraint, "The server's storage is full. Try again later.")
)

// Run is the committer. It must be called once; its goroutine is the only writer of the log.
//
// It takes what arrived, stores it in one transaction, and then acknowledges it and hands it to those who deliver, in order. It reads
// nothing but what its own append returned, and waits for nobody else. When ctx ends it takes nothing more in, finishes everything that was put before, writes the delivery cursors and returns nil. It returns an
// error after the first failed transaction: nothing of that transaction nor of what came later is acknowledged,
// delivered or refused, because nobody knows what of it is stored. The caller must end the process.
func (a *Archive) Run(ctx context.Context) error {
	if a.router == nil {
		return errors.New("archive: Connect was not called")
	}
	defer a.queue.end() // whoever waits for room is released
	work := context.WithoutCancel(ctx)
	a.cursorTimer = time.NewTimer(a.config.CursorInterval)
	defer a.cursorTimer.Stop()
	a.cursorTimer.Stop()
	a.pause = a.newPause(ctx)
	defer a.pause.close()
	var spare []entry
	for ctx.Err() == nil {
		a.waitForBatch()
		entries := a.queue.take(spare)
		if len(entries) == 0 {
			spare = entries
			if err := a.wait(ctx, work); err != nil {
				return err
			}
			continue
		}
		if err := a.commitAll(work, entries); err != nil {
			return err
		}
		spare = a.reuse(entries)
	}
	a.queue.end()
	if err := a.commitAll(work, a.queue.take(nil)); err != nil {
		return err
	}
	return a.writeCursors(work)
}

// wait returns when there may be something to do, and writes the delivery cursors when they are due.
func (a *Archive) wait(ctx, work context.Context) error {
	select {
	case <-ctx.Done():
	case <-a.queue.wake:
	case <-a.cursors.wake:
		if !a.cursorArmed {
			a.cursorArmed = true
			a.cursorTimer.Reset(a.config.CursorInterval)
		}
	case <-a.cursorTimer.C:
		a.cursorArmed = false
		return a.writeCursors(work)
	}
	return nil
}

// reuse empties a slice of entries for the next swap. One that a burst made large is left to the garbage collector.
func (a *Archive) reuse(entries []entry) []entry {
	if cap(entries) > 2*a.config.BatchMessages {
		return nil
	}
	clear(entries)
	return entries[:0]
}

// commitAll commits entries in batches within the configured bounds.
func (a *Archive) commitAll(ctx context.Context, entries []entry) error {
	for len(entries) > 0 {
		n := a.nextBatch(entries)
		if err := a.commit(ctx, entries[:n]); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// nextBatch returns how many of the entries make the next batch.
func (a *Archive) nextBatch(entries []entry) (n int) {
	bytes := 0
	for n < len(entries) && n < a.config.BatchMessages {
		next := &entries[n]
		if n > 0 && bytes+next.size() > a.config.BatchBytes {
			break
		}
		bytes += next.size()
		n++
		if next.uncertain() {
			break
		}
	}
	return n
}

// uncertain reports whether an entry may have to be stored once more, without its read markers: see commit. It is the last of its batch.
func (e *entry) uncertain() bool {
	return e.stored && e.refs != nil && e.refs.essential && e.message.ReadMarkers != nil
}

// commit stores one batch and then lets each of its messages go on, in order.
func (a *Archive) commit(ctx context.Context, entries []entry) error {
	batch := a.batch[:0]
	for i := range entries {
		if entries[i].stored {
			batch = append(batch, &entries[i].message)
		}
	}
	a.batch = batch
	release := a.inject(ctx, entries) // releaseAll, except in a build that injects a fault for tests to find
	full := false
	if len(batch) > 0 {
		var due []store.DeliveryCursor
		if a.now().Sub(a.lastCursors) >= a.config.CursorInterval {
			due = a.cursors.collect()
		}
		err := a.append(ctx, batch, due)
		if last := &entries[len(entries)-1]; err == nil && last.uncertain() && last.message.Stale {
			// Its read markers move nothing, but it has other content.
			last.message.ReadMarkers, last.message.Stale = nil, false
			err = a.append(ctx, batch[len(batch)-1:], nil)
			if errors.Is(err, store.ErrFull) {
				err, last.full = nil, true // what came before it is stored
			}
		}
		if full = errors.Is(err, store.ErrFull); err != nil && !full {
			return err
		}
	}
	release(ctx, entries, full)
	clear(batch)
	return nil
}

// append is the one call that writes to the log. Cursors that could not be written because the storage is full stay due.
func (a *Archive) append(ctx context.Context, batch []*store.Append, due []store.DeliveryCursor) error {
	ctx, cancel := context.WithTimeout(ctx, a.config.CommitTimeout)
	defer cancel()
	began := a.now()
	if err := a.log.Append(ctx, began, batch, due); err != nil {
		if errors.Is(err, store.ErrFull) {
			a.cursors.restore(due)
		}
		return fmt.Errorf("append %d messages and %d delivery cursors to the log: %w", len(batch), len(due), err)
	}
	if due != nil {
		a.lastCursors = began
		a.metrics.cursors.Add(float64(len(due)))
	}
	ended := a.now()
	a.rate.note(len(batch), ended.Sub(began), ended)
	a.metrics.commits.Inc()
	a.metrics.batchMessages.Observe(float64(len(batch)))
	a.metrics.commitSeconds.Observe(ended.Sub(began).Seconds())
	return nil
}

// releaseAll lets all messages of a batch go on, in order.
func (a *Archive) releaseAll(ctx context.Context, entries []entry, full bool) {
	durable := a.now()
	for i := range entries {
		next := &entries[i]
		if next.envelope != nil {
			a.release(ctx, next, durable, full || next.full)
		}
		if next.committed != nil {
			next.committed()
		}
	}
}

// release fills the receipt of one message, after its batch is durable or was refused for want of space, and hands the message to the router, which
// tells the sender and has it delivered by others. Nothing here waits or reads anything.
func (a *Archive) release(ctx context.Context, next *entry, durable time.Time, full bool) {
	e, m := next.envelope, &next.message
	switch {
	case !next.stored:
		a.metrics.transient.Inc()
		a.router.Resume(ctx, e)
		return
	case full:
		a.metrics.full.Inc()
		a.refuse(ctx, next, storageFull)
		return
	case m.Conflict:
		a.metrics.conflict.Inc()
		a.refuse(ctx, next, conflicting)
		return
	}
	a.metrics.durable.Observe(durable.Sub(next.accepted).Seconds())
	if m.Stale {
		// A read marker that moves nothing forward is acknowledged and not delivered.
		a.metrics.stale.Inc()
		a.router.Finish(e)
		return
	}
	e.Receipt.ID, e.Receipt.Seq, e.Receipt.Time = uint64(m.ID), m.Seq, m.ID.Time()
	if m.Duplicate {
		// It was delivered, or waits to be, under its first number.
		e.Receipt.Duplicate = true
		a.metrics.duplicate.Inc()
		a.router.Finish(e)
		return
	}
	a.metrics.stored.Inc()
	a.router.Resume(ctx, e)
}

// refuse sends the refusal to the sender. Of a moderation only the administrator is told, by the receipt: the sender in whose name it
// is made has sent nothing.
func (a *Archive) refuse(ctx context.Context, next *entry, refusal *stanza.Error) {
	if next.moderation {
		next.envelope.Receipt.Err = refusal
		a.router.Finish(next.envelope)
		return
	}
	a.router.Refuse(ctx, next.envelope, refusal)
}

// writeCursors writes the delivery cursors that are due, without messages. A full storage is no reason to stop: they stay due.
func (a *Archive) writeCursors(ctx context.Context) error {
	due := a.cursors.collect()
	if len(due) == 0 {
		return nil
	}
	err := a.append(ctx, nil, due)
	if errors.Is(err, store.ErrFull) {
		a.cursorArmed = true
		a.cursorTimer.Reset(10 * a.config.CursorInterval)
		return nil
	}
	return err
}
