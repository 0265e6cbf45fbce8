package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Part is something that runs for as long as the node does. Its functions are called from one goroutine, and may be
// nil.
type Part struct {
	// Name is for the log.
	Name string
	// Start begins the work and returns when the part is ready. ctx bounds the starting only. fail tells, later and at
	// most once, that the part has ended by itself: the node then stops and exits with that error. It never blocks.
	Start func(ctx context.Context, fail func(error)) error
	// Stop ends the work in order. When ctx ends, what remains is to be cut off, and Stop returns.
	Stop func(ctx context.Context) error
	// Within is the longest that Stop may take; 0 means what is left of the whole.
	Within time.Duration
}

// startTimeout bounds how long one part may take to start: opening a store after a crash reads its log.
const startTimeout = 2 * time.Minute

// Group starts parts in the order in which they were added, and stops them in reverse.
type Group struct {
	// Log receives what starts and stops.
	Log *slog.Logger
	// Timeout bounds the stopping of everything together; 0 means 25 s.
	Timeout time.Duration
	// Started, when not nil, is called when all parts have started.
	Started func()
	// Stopping, when not nil, is called before the first part is stopped.
	Stopping func()

	parts []Part
}

// Add appends a part. It is not to be called after Run.
func (g *Group) Add(p Part) { g.parts = append(g.parts, p) }

// Run starts all parts and waits until ctx ends or a part fails; then it stops what was started, in reverse. When hurry
// ends, too, whoever is still stopping is asked to cut it short. The error is the first failure, nil after an orderly
// end; a part that could not stop in time is an error.
func (g *Group) Run(ctx context.Context, hurry <-chan struct{}) error {
	failed := make(chan error, len(g.parts)) // a part fails at most once, so that sending never blocks
	started := 0
	var first error
	for _, p := range g.parts {
		if ctx.Err() != nil {
			break
		}
		if first = g.start(ctx, p, failed); first != nil {
			break
		}
		started++
	}
	if first == nil && ctx.Err() == nil {
		if g.Started != nil {
			g.Started()
		}
		select {
		case <-ctx.Done():
		case first = <-failed:
			g.Log.Error("a part of the node has failed; the node stops", "error", first)
		}
	}
	if g.Stopping != nil {
		g.Stopping()
	}
	return errors.Join(first, g.stop(g.parts[:started], hurry))
}

func (g *Group) start(ctx context.Context, p Part, failed chan<- error) error {
	if p.Start == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	began := time.Now()
	fail := func(err error) {
		select {
		case failed <- fmt.Errorf("%s: %w", p.Name, err):
		default:
		}
	}
	if err := p.Start(ctx, fail); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	g.Log.Debug("started", "part", p.Name, "took", time.Since(began))
	return nil
}

func (g *Group) stop(parts []Part, hurry <-chan struct{}) error {
	timeout := g.Timeout
	if timeout <= 0 {
		timeout = 25 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() { // ends when this function returns
		select {
		case <-hurry:
			cancel()
		case <-done:
		}
	}()
	var all []error
	for i := len(parts) - 1; i >= 0; i-- {
		if err := g.stopPart(ctx, parts[i]); err != nil {
			g.Log.Warn("a part did not stop in order", "part", parts[i].Name, "error", err)
			all = append(all, fmt.Errorf("stop %s: %w", parts[i].Name, err))
		}
	}
	return errors.Join(all...)
}

// stopPart does not wait for a part that ignores its deadline for longer than a second beyond it:
// the process is about to end, and the parts below it still want to close their files.
func (g *Group) stopPart(ctx context.Context, p Part) error {
	if p.Stop == nil {
		return nil
	}
	if p.Within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.Within)
		defer cancel()
	}
	began := time.Now()
	result := make(chan error, 1)
	go func() { result <- p.Stop(ctx) }() // ends with the part, or with the process
	select {
	case err := <-result:
		g.Log.Debug("stopped", "part", p.Name, "took", time.Since(began))
		return err
	case <-ctx.Done():
	}
	grace := time.NewTimer(time.Second)
	defer grace.Stop()
	select {
	case err := <-result:
		return err
	case <-grace.C:
		return errors.New("it was left behind at its deadline")
	}
}
