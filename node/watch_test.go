package node

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// faultyLog is a message log that fills up, and fails.
type faultyLog struct {
	full   atomic.Bool
	blind  atomic.Bool
	failed chan struct{}
}

func (l *faultyLog) Failed() <-chan struct{} { return l.failed }
func (l *faultyLog) Err() error              { return errors.New("message log failed: input/output error") }
func (l *faultyLog) Full() (bool, error) {
	if l.blind.Load() {
		return false, errors.New("look at free space: stale file handle")
	}
	return l.full.Load(), nil
}

type busyListener struct{ busy atomic.Bool }

func (l *busyListener) Exhausted() bool { return l.busy.Load() }

// TestWatch: what goes wrong is told within a second, and so is its end; a failed store ends the node.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, busy := &faultyLog{failed: make(chan struct{})}, &busyListener{}
		h := NewHealth(nil)
		h.Phase("ready")
		database := &faultyLog{failed: make(chan struct{})}
		w := &watcher{
			health: h, log: log, database: database,
			accepting: []interface{ Exhausted() bool }{busy, &busyListener{}},
		}
		ended := make(chan error, 1)
		go func() { ended <- w.run(t.Context()) }()
		now := func() (string, map[string]string) {
			<-time.After(watchHealthInterval)
			synctest.Wait()
			r, ready := h.report()
			require.Equal(t, r.Status != "failing", ready)
			return r.Status, r.Troubles
		}
		status, troubles := now()
		require.Equal(t, "ready", status)
		require.Empty(t, troubles)

		log.full.Store(true)
		busy.busy.Store(true)
		status, troubles = now()
		require.Equal(t, "degraded", status)
		require.Contains(t, troubles["storage"], "the disk is full")
		require.Contains(t, troubles["connections"], "1 of 2 listeners")

		log.full.Store(false)
		log.blind.Store(true)
		busy.busy.Store(false)
		_, troubles = now()
		require.Equal(t, map[string]string{"storage": "look at free space: stale file handle"}, troubles)

		log.blind.Store(false)
		status, _ = now()
		require.Equal(t, "ready", status)

		close(log.failed)
		require.ErrorContains(t, <-ended, "input/output error")
		status, troubles = now()
		require.Equal(t, "failing", status)
		require.Contains(t, troubles["messages"], "input/output error")
	})
}

// TestWatchDatabase: a database that has failed ends the node.
func TestWatchDatabase(t *testing.T) {
	well, bad := &faultyLog{failed: make(chan struct{})}, &faultyLog{failed: make(chan struct{})}
	close(bad.failed)
	h := NewHealth(nil)
	h.Phase("ready")
	w := &watcher{health: h, log: well, database: bad}
	require.ErrorContains(t, w.run(t.Context()), "input/output error")
	r, _ := h.report()
	require.Equal(t, "failing", r.Status)
	require.Contains(t, r.Troubles, "accounts")
}

func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	well := &faultyLog{failed: make(chan struct{})}
	w := &watcher{health: NewHealth(nil), log: well, database: well}
	require.NoError(t, w.run(ctx))
}
