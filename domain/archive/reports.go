package archive

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/store"
)

// maxReports bounds the reports of delivery that wait, over all accounts.
const maxReports = 1 << 18

// reports gathers what has reached devices, and writes it to the log, which keeps how far each account's messages were
// delivered.
//
// Policy: beyond maxReports a report is dropped and counted, which can only be while the log takes none. What it was
// about is delivered once more, as after a crash: never lost.
type reports struct {
	log     store.MessageWriter
	metrics *metrics
	wake    chan struct{} // of one: something waits

	mu      sync.Mutex // guards the rest
	waiting map[store.AccountID][]store.MessageID
	count   int // of all that waits
	// writing has the accounts whose reports are being written, each with a channel that is closed when that is over.
	writing map[store.AccountID]chan struct{}
}

func newReports(log store.MessageWriter, m *metrics) *reports {
	return &reports{
		log: log, metrics: m, wake: make(chan struct{}, 1),
		waiting: map[store.AccountID][]store.MessageID{}, writing: map[store.AccountID]chan struct{}{},
	}
}

// add notes that a message, or a marker of somebody else, reached a device of the account.
func (r *reports) add(account store.AccountID, id store.MessageID) {
	r.mu.Lock()
	if r.count >= maxReports {
		r.mu.Unlock()
		r.metrics.reportsDropped.Inc()
		return
	}
	r.waiting[account] = append(r.waiting[account], id)
	r.count++
	first := r.count == 1
	r.mu.Unlock()
	if first {
		r.awake()
	}
}

// run writes reports, an interval after the first of them, until ctx ends and then a last time. What a log that is full
// or busy does not take is tried again; it returns any other error.
func (r *reports) run(ctx context.Context, interval time.Duration) error {
	work := context.WithoutCancel(ctx)
	timer := time.NewTimer(interval)
	defer timer.Stop()
	timer.Stop()
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return r.flush(work)
		}
		timer.Reset(interval)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		if err := r.flush(work); err != nil {
			return err
		}
	}
}

// flush writes all that waits, but for accounts that somebody else is writing.
func (r *reports) flush(ctx context.Context) error {
	r.mu.Lock()
	taken := r.waiting
	r.waiting = map[store.AccountID][]store.MessageID{}
	for account := range r.writing {
		if ids := taken[account]; ids != nil {
			r.waiting[account] = ids
			delete(taken, account)
		}
	}
	return r.write(ctx, taken)
}

// settle writes what was reported for one account before. It waits for what is being written.
func (r *reports) settle(ctx context.Context, account store.AccountID) error {
	for {
		r.mu.Lock()
		busy := r.writing[account]
		if busy == nil {
			break
		}
		r.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ids := r.waiting[account]
	if len(ids) == 0 {
		r.mu.Unlock()
		return nil
	}
	delete(r.waiting, account)
	return r.write(ctx, map[store.AccountID][]store.MessageID{account: ids})
}

// write hands reports to the log, as one call. It is called with mu held and returns without it.
func (r *reports) write(ctx context.Context, taken map[store.AccountID][]store.MessageID) error {
	over := make(chan struct{})
	list := make([]store.Delivered, 0, len(taken))
	for account, ids := range taken {
		r.count -= len(ids)
		r.writing[account] = over
		list = append(list, store.Delivered{Account: account, IDs: ids})
	}
	r.mu.Unlock()
	var err error
	if len(list) > 0 {
		err = r.log.Deliver(ctx, list)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for account, ids := range taken {
		delete(r.writing, account)
		if errors.Is(err, store.ErrFull) || errors.Is(err, store.ErrNotStored) {
			r.waiting[account] = append(ids, r.waiting[account]...)
			r.count += len(ids)
		}
	}
	close(over)
	if r.count > 0 { // it came meanwhile, or was not taken
		r.awake()
	}
	switch {
	case errors.Is(err, store.ErrFull) || errors.Is(err, store.ErrNotStored):
		return nil
	case err != nil:
		return fmt.Errorf("write reports of delivery to the log: %w", err)
	}
	r.metrics.cursors.Add(float64(len(list)))
	return nil
}

func (r *reports) awake() {
	select {
	case r.wake <- struct{}{}:
	default: // it is already
	}
}
