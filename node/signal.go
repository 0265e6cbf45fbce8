package node

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// Signals turns the signals of the process into what the node does about them. Its goroutine ends with Close.
//
// The first SIGTERM or SIGINT ends the context: the node drains. The second closes Hurry: what is left is cut short,
// and what was acknowledged is safe all the same. SIGHUP asks for a reload; a storm of them is one reload after the one
// that runs. SIGQUIT keeps its meaning in Go: the stacks of all goroutines, and the end.
type Signals struct {
	// Hurry is closed by the second request to stop.
	Hurry chan struct{}
	// Reload receives when files should be read again. It holds one request at most.
	Reload chan struct{}

	in   chan os.Signal
	done chan struct{}
}

// WatchSignals begins to listen. The returned context ends with the first request to stop, or with ctx.
func WatchSignals(ctx context.Context, log *slog.Logger) (context.Context, *Signals) {
	ctx, cancel := context.WithCancel(ctx)
	s := newSignals()
	signal.Notify(s.in, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	go s.run(cancel, log)
	return ctx, s
}

func newSignals() *Signals {
	return &Signals{
		Hurry: make(chan struct{}), Reload: make(chan struct{}, 1),
		in: make(chan os.Signal, 16), done: make(chan struct{}),
	}
}

func (s *Signals) run(cancel context.CancelFunc, log *slog.Logger) {
	defer close(s.done)
	defer cancel()
	stops := 0
	for sig := range s.in {
		if sig == syscall.SIGHUP {
			select {
			case s.Reload <- struct{}{}:
			default: // one is waiting already
			}
			continue
		}
		switch stops++; stops {
		case 1:
			log.Info("stopping; once more to hurry", "signal", sig.String())
			cancel()
		case 2:
			log.Warn("stopping in a hurry", "signal", sig.String())
			close(s.Hurry)
		}
	}
}

// Close stops listening. Signals then have their ordinary effect again.
func (s *Signals) Close() {
	signal.Stop(s.in)
	close(s.in)
	<-s.done
}
