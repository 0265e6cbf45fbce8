package node

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// recorder notes what happens to parts, in order.
type recorder struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (r *recorder) note(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, " ")
}

func (r *recorder) part(name string, startErr error) Part {
	return Part{
		Name:  name,
		Start: func(context.Context, func(error)) error { r.note("+" + name); return startErr },
		Stop:  func(context.Context) error { r.note("-" + name); return nil },
	}
}

func newGroup(parts ...Part) *Group {
	g := &Group{Log: slog.New(slog.DiscardHandler)}
	for _, p := range parts {
		g.Add(p)
	}
	return g
}

func TestGroupOrder(t *testing.T) {
	var r recorder
	ctx, cancel := context.WithCancel(t.Context())
	g := newGroup(r.part("a", nil), r.part("b", nil), Part{Name: "nothing"}, r.part("c", nil))
	g.Started = func() { r.note("started"); cancel() }
	g.Stopping = func() { r.note("stopping") }
	require.NoError(t, g.Run(ctx, nil))
	require.Equal(t, "+a +b +c started stopping -c -b -a", r.String())
}

func TestGroupStartFails(t *testing.T) {
	var r recorder
	g := newGroup(r.part("a", nil), r.part("b", errors.New("no port")), r.part("c", nil))
	require.EqualError(t, g.Run(t.Context(), nil), "start b: no port")
	require.Equal(t, "+a +b -a", r.String(), "what did not start is not stopped, what comes after is not started")
}

func TestGroupPartFails(t *testing.T) {
	var r recorder
	var fail func(error)
	bad := Part{Name: "bad", Start: func(_ context.Context, f func(error)) error { fail = f; return nil }}
	g := newGroup(r.part("a", nil), bad)
	g.Started = func() {
		fail(errors.New("the disk is gone"))
		fail(errors.New("once more"))
		fail(errors.New("and again, which must not block"))
	}
	require.EqualError(t, g.Run(t.Context(), nil), "bad: the disk is gone")
	require.Equal(t, "+a -a", r.String())
}

// TestGroupDeadlines: a part that hangs is left behind, and those below it still stop.
func TestGroupDeadlines(t *testing.T) {
	const hangs, obeys = true, false
	for _, test := range []struct {
		name   string
		hangs  bool
		within time.Duration
		hurry  time.Duration
		took   time.Duration
	}{
		{"its own deadline", hangs, 3 * time.Second, 0, 4 * time.Second},
		{"the deadline of everything", hangs, 0, 0, 26 * time.Second},
		{"obedient at the deadline", obeys, 0, 0, 25 * time.Second},
		{"in a hurry", obeys, 0, 2 * time.Second, 2 * time.Second},
		{"hanging in a hurry", hangs, 0, 2 * time.Second, 3 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r recorder
				release := make(chan struct{})
				defer close(release)
				slow := Part{Name: "slow", Within: test.within, Stop: func(ctx context.Context) error {
					if test.hangs {
						<-release
					}
					<-ctx.Done()
					return nil
				}}
				hurry := make(chan struct{})
				if test.hurry > 0 {
					time.AfterFunc(test.hurry, func() { close(hurry) })
				}
				began := time.Now()
				g := newGroup(r.part("store", nil), slow)
				err := g.stop(g.parts, hurry)
				require.Equal(t, test.hangs, err != nil)
				require.Equal(t, test.took, time.Since(began))
				require.Equal(t, "-store", r.String())
			})
		})
	}
}

func TestLoop(t *testing.T) {
	var r recorder
	ctx, cancel := context.WithCancel(t.Context())
	g := newGroup(
		Loop("clock", func(ctx context.Context) error { r.note("running"); <-ctx.Done(); r.note("ended"); return nil }))
	g.Started = cancel
	require.NoError(t, g.Run(ctx, nil))
	require.Equal(t, "running ended", r.String())

	// In a hurry, what ends at once has still ended in order.
	ctx, cancel = context.WithCancel(t.Context())
	g = newGroup(Loop("clock", func(ctx context.Context) error { <-ctx.Done(); return nil }))
	g.Started = cancel
	hurry := make(chan struct{})
	close(hurry)
	require.NoError(t, g.Run(ctx, hurry))

	g = newGroup(Loop("clock", func(context.Context) error { return errors.New("sprung") }))
	err := g.Run(t.Context(), nil)
	require.ErrorContains(t, err, "clock: ended by itself")
	require.ErrorContains(t, err, "sprung")
}
