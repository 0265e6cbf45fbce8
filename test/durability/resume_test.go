package durability

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/script"
)

// TestKillWhileResuming ends the process while both sides of every conversation lose their connections and resume their
// streams all the time. Until then resumption is exact: the sender learns what was handled and sends the rest, the
// recipient gets everything once. After it no stream can be resumed, and still nothing is lost.
func TestKillWhileResuming(t *testing.T) {
	l := newServerLoad(t)
	l.burst = 4
	people := recipients(l)
	for _, r := range people {
		r.managed = true
		r.pair.again = false // what the server says on resumption must do, without origin-ids
	}
	acked, resumed := int64(0), 0
	const resumptions = 25
	rounds := scaled(t, 4)
	for round := 1; round <= rounds; round++ {
		p := l.server.startWell(t)
		w := &wandering{load: l, round: 3 * round, messages: int64(200 + rand.IntN(200)), resumptions: resumptions +
			rand.IntN(20), enough: sync.OnceFunc(p.kill)}
		w.run(t.Context(), people)
		require.Empty(t, w.violations)
		crash(t, p, people)
		acked += l.total.Load()
		resumed += w.resumed

		p = l.server.startWell(t)
		require.NoError(t, each(people, func(r *recipient) error {
			if err := r.refused(t.Context()); err != nil {
				return err
			}
			return r.receive(t, fmt.Sprintf("%d.1", 3*round+1))
		}), "%s", p.log)
		stop(t, p)
	}
	checkAll(t, l, 3*rounds+3)
	judgeInboxes(t, people)
	require.Greater(t, acked, int64(rounds*100), "the load was too light to mean anything")
	require.GreaterOrEqual(t, resumed, rounds*resumptions, "too few streams were resumed to mean anything")
	t.Logf("%d kills, %d messages acknowledged, %d resumptions", rounds, acked, resumed)
}

// refused makes sure that a stream of the node that has ended is not resumed.
func (r *recipient) refused(ctx context.Context) error {
	if r.stream == "" {
		return nil
	}
	a, err := script.Connect(ctx, r.load.server.endpoints, script.TCP, user(r.pair.recipient()), password)
	if err != nil {
		return err
	}
	defer a.Cut()
	if _, ok, err := a.Resume(r.stream, r.handled); err != nil || ok {
		return fmt.Errorf("%s: a stream was resumed that ended with the node: %w", a.Name, err)
	}
	return a.Bind("d") // XEP-0198 §5: the client may go on with a new session
}

// wandering is a round of load over connections that break and streams that are resumed.
type wandering struct {
	load  *load
	round int
	// enough is called when there were so many acknowledgements and so many resumptions.
	messages    int64
	resumptions int
	enough      func()

	mu         sync.Mutex // guards what follows
	violations []string
	resumed    int
}

func (w *wandering) bad(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

func (w *wandering) didResume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resumed++
}

// progress ends the round in time.
func (w *wandering) progress() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.load.total.Load() >= w.messages && w.resumed >= w.resumptions {
		w.enough()
	}
}

func (w *wandering) run(ctx context.Context, people []*recipient) {
	w.load.total.Store(0)
	var all sync.WaitGroup
	for _, r := range people {
		all.Go(func() { w.receive(ctx, r) })
		all.Go(func() { w.send(ctx, r.pair) })
	}
	all.Wait()
	w.enough()
}

// errRefused: there was nothing to resume.
var errRefused = errors.New("the stream was not resumed")

// resume connects again.
func (w *wandering) resume(ctx context.Context, person int, stream string, handled uint32) (*script.Client, uint32,
	error) {
	a, err := script.Connect(ctx, w.load.server.endpoints, script.TCP, user(person), password)
	if err != nil {
		return nil, 0, err
	}
	h, ok, err := a.Resume(stream, handled)
	if err == nil && !ok {
		w.bad("%s: the stream %s could not be resumed", a.Name, stream)
		err = errRefused
	}
	if err != nil {
		a.Cut()
		return nil, 0, err
	}
	w.didResume()
	return a, h, nil
}

// receive acts as a recipient until the node has ended.
func (w *wandering) receive(ctx context.Context, r *recipient) {
	r.stream = ""
	a, err := r.enter(ctx)
	for err == nil {
		for range 1 + rand.IntN(60) {
			var n *script.Element
			if n, err = a.Next(); err != nil {
				break
			}
			r.take(n)
		}
		r.drop(a)
		if err == nil {
			a, _, err = w.resume(ctx, r.pair.recipient(), r.stream, r.handled)
		}
	}
}

// send acts as a sender until the node has ended.
func (w *wandering) send(ctx context.Context, p *pair) {
	a, err := w.load.server.connect(ctx, p.sender())
	if err != nil {
		return
	}
	enabled := enable(a)
	if enabled == nil {
		a.Cut()
		return
	}
	stream := enabled.Attr("id")
	s := &sending{load: w.load, pair: p, round: w.round, client: a, next: 1}
	for {
		for range 1 + rand.IntN(12) {
			if err = s.step(); err != nil {
				break
			}
			w.progress()
		}
		for _, n := range s.client.Break() {
			s.take(n)
		}
		if err != nil {
			return
		}
		a, h, err := w.resume(ctx, p.sender(), stream, s.client.Handled)
		if err != nil {
			return
		}
		s.client = a
		if int(h) < s.acked || int(h) > len(s.stream) {
			w.bad("%s: %d handled at resumption, %d acknowledged before, %d sent", a.Name, h, s.acked, len(s.stream))
			return
		}
		s.acknowledged(int(h))
		// What was not handled is sent again, on the same stream (XEP-0198 §5).
		s.queue = append(slices.Clone(s.stream[h:]), s.queue...)
		s.stream = s.stream[:h]
	}
}
