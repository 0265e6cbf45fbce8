package durability

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestKillOffline ends the process while all recipients are away, and again while what waited is brought to them. They
// log in as clients that know nothing of archives: whatever was acknowledged comes to them by itself, in order. It
// comes again only after a crash, and then under the same stanza-id.
func TestKillOffline(t *testing.T) {
	l := newServerLoad(t)
	for _, p := range l.pairs {
		p.online = false
	}
	people := recipients(l)
	acked := int64(0)
	rounds := scaled(t, 4)
	for round := 1; round <= rounds; round++ {
		// The load, with nobody there to receive it.
		p := l.server.startWell(t)
		l.round(t.Context(), 3*round, 200+rand.IntN(400), p.kill)
		crash(t, p, people)
		acked += l.total.Load()

		// They come back, and the node ends while they receive.
		p = l.server.startWell(t)
		enough := l.total.Load() * int64(1+rand.IntN(8)) / 10
		var received atomic.Int64
		require.NoError(t, each(people, func(r *recipient) error {
			a, err := r.enter(t.Context())
			if err != nil {
				return nil // the node has ended before
			}
			for {
				n, err := a.Next()
				if err != nil {
					r.drop(a)
					return nil
				}
				if r.take(n) != "" && received.Add(1) == enough {
					p.kill()
				}
			}
		}))
		crash(t, p, people)

		// They come back once more and receive the rest. Then they have everything, also after an orderly stop.
		for i := range 2 {
			p = l.server.startWell(t)
			require.NoError(t, each(people, func(r *recipient) error {
				return r.receive(t, fmt.Sprintf("%d.1", 3*round+1+i))
			}), "%s", p.log)
			stop(t, p)
		}
	}
	checkAll(t, l, 3*rounds+3)
	judgeInboxes(t, people)
	require.Greater(t, acked, int64(rounds*100), "the load was too light to mean anything")
}

// receive logs in, receives what waits and one message more, and leaves in order.
func (r *recipient) receive(t *testing.T, last string) error {
	a, err := r.enter(t.Context())
	if err != nil {
		return err
	}
	defer a.Cut()
	if err := r.load.mark(t.Context(), r.pair, last); err != nil {
		return err
	}
	if err := r.readTo(a, last); err != nil {
		return err
	}
	if r.managed { // XEP-0198 §7: say what was received before leaving
		if err := a.Write(fmt.Sprintf("<a xmlns='%s' h='%d'/>", nsSM, r.handled)); err != nil {
			return err
		}
	}
	return a.Leave()
}

func judgeInboxes(t *testing.T, people []*recipient) {
	t.Helper()
	var violations []string
	received, repeats := 0, 0
	for _, r := range people {
		r.inbox.judge(r.pair, func(format string, args ...any) {
			violations = append(violations, fmt.Sprintf("%s: ", user(r.pair.recipient()))+fmt.Sprintf(format, args...))
		})
		for _, stream := range r.inbox.streams {
			received += len(stream.entries)
		}
		repeats += r.inbox.repeats()
	}
	require.Empty(t, violations[:min(len(violations), 20)])
	t.Logf("%d messages received, %d of them more than once, after a crash", received, repeats)
}
