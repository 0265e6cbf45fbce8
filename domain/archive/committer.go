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

// Run is the committer. It must be called once; its goroutine is the only one that appends to the log.
//
// It takes what arrived, stores it in one transaction, and then acknowledges it and hands it to those who deliver, in
// order. It reads nothing but what its own append returned, and waits for nobody else. When ctx ends it takes nothing
// more in, finishes everything that was put before, and returns nil when the reports of delivery are written, too. It
// returns an error after the first failed transaction: nothing of that transaction nor of what came later is
// acknowledged, delivered or refused, because nobody knows what of it is stored. The caller must end the process.
func (a *Archive) Run(ctx context.Context) error {
	if a.router == nil {
		return errors.New("archive: Connect was not called")
	}
	defer close(a.ended)
	defer a.queue.end() // whoever waits for room is released
	reporting, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	reported := make(chan error, 1)
	go func() { reported <- a.reports.run(reporting, a.config.CursorInterval) }() // ends with stop, which is waited for
	err := a.work(ctx, reported)
	stop()
	return errors.Join(err, <-reported)
}

// work commits until ctx ends or something fails. reported has the error of who writes reports when that ended early.
func (a *Archive) work(ctx context.Context, reported chan error) error {
	work := context.WithoutCancel(ctx)
	a.pause = a.newPause(ctx)
	defer a.pause.close()
	var spare []entry
	for ctx.Err() == nil {
		a.waitForBatch()
		entries := a.queue.take(spare)
		if len(entries) == 0 {
			spare = entries
			select {
			case <-ctx.Done():
			case <-a.queue.wake:
			case err := <-reported:
				reported <- nil
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
	return a.commitAll(work, a.queue.take(nil))
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
	}
	return n
}

// commit stores one batch and then lets each of its messages go on, in order.
func (a *Archive) commit(ctx context.Context, entries []entry) error {
	b := &a.batch
	b.Entries = b.Entries[:0]
	for i := range entries {
		if entries[i].stored {
			b.Entries = append(b.Entries, &entries[i].message)
		} else {
			b.Entries = append(b.Entries, entries[i].markers...)
		}
	}
	release := a.inject(ctx, entries) // releaseAll, except in a build that injects a fault for tests to find
	var refusal *stanza.Error
	if len(b.Entries) > 0 {
		err := a.append(ctx, b)
		switch {
		case errors.Is(err, store.ErrFull):
			refusal = storageFull
		case errors.Is(err, store.ErrNotStored):
			refusal = notStored
		case err != nil:
			return err
		}
	}
	release(ctx, entries, refusal)
	clear(b.Entries)
	return nil
}

// appendTries is how often a batch is given to a log that did not store it for a reason that may pass.
const appendTries = 3

// append is the one call that appends to the log.
func (a *Archive) append(ctx context.Context, b *store.Batch) (err error) {
	ctx, cancel := context.WithTimeout(ctx, a.config.CommitTimeout)
	defer cancel()
	for range appendTries {
		b.Now = a.now()
		if err = a.log.Append(ctx, b); !errors.Is(err, store.ErrNotStored) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("append %d messages to the log: %w", len(b.Entries), err)
	}
	ended := a.now()
	a.rate.note(len(b.Entries), ended.Sub(b.Now), ended)
	a.metrics.commits.Inc()
	a.metrics.batchMessages.Observe(float64(len(b.Entries)))
	a.metrics.commitSeconds.Observe(ended.Sub(b.Now).Seconds())
	return nil
}

// releaseAll lets all messages of a batch go on, in order. refusal is why nothing of the batch was stored, nil when it
// was.
func (a *Archive) releaseAll(ctx context.Context, entries []entry, refusal *stanza.Error) {
	durable := a.now()
	for i := range entries {
		next := &entries[i]
		if c := next.change; c != nil {
			overtaken := refusal == nil && next.message.Overtaken
			if overtaken {
				if !c.outcome.settle(true) {
					a.refuse(ctx, next, busy) // nobody waits to decide it anew
				}
				continue
			}
			a.releaseOne(ctx, next, durable, refusal)
			c.outcome.settle(false)
			continue
		}
		a.releaseOne(ctx, next, durable, refusal)
	}
}

// releaseOne fills the receipt of one message, after its batch is durable or was refused, and hands the message to the
// router, which tells the sender and has it delivered by others. Nothing here waits or reads anything.
func (a *Archive) releaseOne(ctx context.Context, next *entry, durable time.Time, refusal *stanza.Error) {
	e, m := next.envelope, &next.message
	switch {
	case e == nil:
		return
	case !next.stored && len(next.markers) == 0:
		a.metrics.transient.Inc()
		a.router.Resume(ctx, e)
		return
	case refusal != nil:
		a.metrics.full.Inc()
		a.refuse(ctx, next, refusal)
		return
	case m.Conflict:
		a.metrics.conflict.Inc()
		a.refuse(ctx, next, conflicting)
		return
	}
	a.metrics.durable.Observe(durable.Sub(next.accepted).Seconds())
	a.noteMarkers(next)
	if !next.stored {
		a.releaseMarker(ctx, next)
		return
	}
	if m.Duplicate {
		// It was delivered, or waits to be, under its first number.
		e.Receipt.ID, e.Receipt.Seq, e.Receipt.Time = uint64(m.ID), m.Seq, m.ID.Time()
		e.Receipt.Duplicate = true
		a.metrics.duplicate.Inc()
		a.router.Finish(e)
		return
	}
	next.identify()
	a.noteReceipt(next)
	e.Receipt.ID, e.Receipt.Seq, e.Receipt.Time = uint64(m.ID), m.Seq, m.ID.Time()
	e.Target.Add(uint64(m.ID))
	a.metrics.stored.Inc()
	a.router.Resume(ctx, e)
}

// releaseMarker is releaseOne for what moves markers, and is no message.
func (a *Archive) releaseMarker(ctx context.Context, next *entry) {
	e := next.envelope
	moved, shown := next.identify()
	tells := a.noteReceipt(next) || next.tells
	switch {
	case moved:
		a.metrics.marked.Inc()
	case !tells:
		// It moves nothing forward: acknowledged, and nobody is told.
		a.metrics.stale.Inc()
		a.router.Finish(e)
		return
	}
	e.Target.Archived = e.Target.ID != 0
	e.Target.Own = e.Target.Own || !shown && !tells
	a.router.Resume(ctx, e)
}

// refuse sends the refusal to the sender. Of a moderation only the administrator is told, by the receipt: the sender in
// whose name it is made has sent nothing.
func (a *Archive) refuse(ctx context.Context, next *entry, refusal *stanza.Error) {
	if next.moderation {
		next.envelope.Receipt.Err = refusal
		a.router.Finish(next.envelope)
		return
	}
	a.router.Refuse(ctx, next.envelope, refusal)
}
