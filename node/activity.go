package node

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/sqlite"
)

// activityInterval is how long a logout may stay unwritten, and so what a crash may forget of it.
const activityInterval = 2 * time.Second

// maxActivities bounds what waits to be written; beyond it, the oldest knowledge in the store stays as it is.
const maxActivities = 100_000

// activityWriter writes when accounts were last online, many at once, so that a logout does not cost a flush of its
// own. It implements store.LastActivity.
type activityWriter struct {
	store *sqlite.Store
	log   *slog.Logger

	mu      sync.Mutex // guards pending
	pending map[store.AccountID]store.Activity
}

func newActivityWriter(s *sqlite.Store, log *slog.Logger) *activityWriter {
	return &activityWriter{store: s, log: log, pending: map[store.AccountID]store.Activity{}}
}

// LastActivity implements store.LastActivity.
func (w *activityWriter) LastActivity(ctx context.Context, owner store.AccountID) (seconds int64, status string,
	err error) {
	w.mu.Lock()
	a, ok := w.pending[owner]
	w.mu.Unlock()
	if ok {
		return a.Seconds, a.Status, nil
	}
	return w.store.LastActivity(ctx, owner)
}

// SetLastActivity implements store.LastActivity. It does not wait for the disk.
func (w *activityWriter) SetLastActivity(_ context.Context, owner store.AccountID, seconds int64, status string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.pending[owner]; known || len(w.pending) < maxActivities {
		w.pending[owner] = store.Activity{Seconds: seconds, Status: status}
	}
	return nil
}

// run writes until ctx ends, and then once more.
func (w *activityWriter) run(ctx context.Context) error {
	tick := time.NewTicker(activityInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), activityInterval)
			defer cancel()
			w.flush(last)
			return nil
		case <-tick.C:
			w.flush(ctx)
		}
	}
}

// flush writes what waits. What cannot be written is tried again, unless it is known better by then.
func (w *activityWriter) flush(ctx context.Context) {
	w.mu.Lock()
	all := maps.Clone(w.pending)
	w.mu.Unlock()
	if len(all) == 0 {
		return
	}
	if err := w.store.SetActivities(ctx, all); err != nil {
		w.log.Warn("cannot write when accounts were last online; it is tried again", "accounts", len(all), "error", err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, a := range all {
		if w.pending[id] == a {
			delete(w.pending, id)
		}
	}
}
