package node

import (
	"context"
	"fmt"
	"time"
)

// watchHealthInterval is how often the node looks at itself, and so how late its health may be.
const watchHealthInterval = time.Second

// watcher looks at what can go wrong beside the work that it goes wrong for, and tells the health. Its goroutine is
// that of run.
type watcher struct {
	health *Health
	// log is the message log.
	log interface {
		Failed() <-chan struct{}
		Err() error
		Full() (bool, error)
	}
	// database is the store of everything else.
	database interface {
		Failed() <-chan struct{}
		Err() error
	}
	// accepting are the public listeners.
	accepting []interface{ Exhausted() bool }
}

// run ends with ctx, or with one of the stores: a node that cannot store has to stop, also when nobody sends anything
// just now.
func (w *watcher) run(ctx context.Context) error {
	tick := time.NewTicker(watchHealthInterval)
	defer tick.Stop()
	for {
		w.look()
		select {
		case <-ctx.Done():
			return nil
		case <-w.log.Failed():
			w.health.Fail("messages", w.log.Err().Error())
			return w.log.Err()
		case <-w.database.Failed():
			w.health.Fail("accounts", w.database.Err().Error())
			return w.database.Err()
		case <-tick.C:
		}
	}
}

func (w *watcher) look() {
	full, err := w.log.Full()
	switch {
	case err != nil:
		w.health.Degrade("storage", err.Error())
	case full:
		w.health.Degrade(
			"storage",
			"the disk is full: messages that have to be stored are refused until there is more space than "+
				"messages.reserve_bytes")
	default:
		w.health.Degrade("storage", "")
	}
	waiting := 0
	for _, l := range w.accepting {
		if l.Exhausted() {
			waiting++
		}
	}
	text := ""
	if waiting > 0 {
		text = fmt.Sprintf("out of file descriptors: %d of %d listeners refuse connections", waiting, len(w.accepting))
	}
	w.health.Degrade("connections", text)
}
