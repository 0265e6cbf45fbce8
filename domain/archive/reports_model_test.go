package archive

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// world is a model of one account's deliveries, beside the real thing.
type world struct {
	log   store.MessageLog
	h     *house
	tb    testing.TB
	clock time.Time

	all       []uint64        // stored for juliet, in order
	delivered map[uint64]bool // reported
	written   map[uint64]bool // reported before the last time that reports were written
	forgot    bool            // a bound was passed: repetitions are allowed
}

func newWorld(tb testing.TB) *world {
	w := &world{log: memory(), tb: tb, clock: noon, delivered: map[uint64]bool{}, written: map[uint64]bool{}}
	w.start()
	return w
}

func (w *world) start() {
	w.h = newHouse(w.tb, w.log, func(c *Config) { c.Now = func() time.Time { return w.clock } })
}

func (w *world) undelivered() (out []uint64) {
	for _, id := range w.all {
		if !w.delivered[id] {
			out = append(out, id)
		}
	}
	return out
}

func (w *world) say(t *rapid.T) {
	n := rapid.SampledFrom([]int{1, 1, 1, 2, 3, 3, 5, 8, 13, 20, 100, 5 * store.MaxMissed}).Draw(t, "messages")
	for i := range n {
		to := "juliet@verona.example"
		if i%7 == 5 {
			to = "nurse@verona.example"
		}
		w.h.accept(context.Background(), from("romeo@verona.example/o"), chat(to, "x"))
	}
	w.h.onRoute = func(p *stream.Packet) {
		if p.Stanza.To.Local() == "juliet" {
			w.all = append(w.all, p.ArchiveID)
		}
	}
	w.h.step(t)
	w.h.delivered = nil
	if len(w.undelivered()) > store.MaxMissed {
		w.forgot = true
	}
}

// deliver reports some of the undelivered, oldest first mostly, or something that is none of hers.
func (w *world) deliver(t *rapid.T) {
	list := w.undelivered()
	if len(list) == 0 {
		w.h.Delivered(juliet, rapid.Uint64Range(1, 1<<62).Draw(t, "another id"))
		return
	}
	n := rapid.IntRange(1, len(list)).Draw(t, "count")
	if rapid.Bool().Draw(t, "from the end") {
		slices.Reverse(list)
	}
	skip := rapid.IntRange(2, 20).Draw(t, "skip")
	for i, id := range list[:n] {
		if i%skip == skip-1 {
			continue
		}
		w.h.Delivered(juliet, id)
		w.delivered[id] = true
	}
}

func (w *world) write(t *rapid.T) {
	require.NoError(t, w.h.flushReports())
	w.noteWritten()
}

func (w *world) noteWritten() {
	w.written = map[uint64]bool{}
	for id := range w.delivered {
		w.written[id] = true
	}
}

func (w *world) crash(t *rapid.T) {
	w.start()
	w.check(t, w.written)
	// Devices that got a message twice report it twice.
	for id := range w.delivered {
		if !w.written[id] {
			w.h.Delivered(juliet, id)
		}
	}
}

// check replays, and finds every message that was not delivered, in order, and nothing that is known to be.
func (w *world) check(t *rapid.T, known map[uint64]bool) {
	got := w.h.replay(t, juliet)
	require.True(t, slices.IsSorted(got))
	have := map[uint64]bool{}
	for _, id := range got {
		require.False(t, have[id], "message %d twice in one replay", id)
		have[id] = true
		if !w.forgot {
			require.False(t, known[id], "message %d comes again", id)
		}
	}
	for _, id := range w.undelivered() {
		require.True(t, have[id], "message %d is lost", id)
	}
}

// Never lost, whatever happens: messages come, are delivered out of order, reports are written or not, the process
// crashes.
func TestReportsNeverLose(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		rt.Repeat(map[string]func(*rapid.T){
			"say":     w.say,
			"deliver": w.deliver,
			"write":   w.write,
			"crash":   w.crash,
			"wait":    func(*rapid.T) { w.clock = w.clock.Add(time.Second) },
			"replay": func(t *rapid.T) {
				w.check(t, w.delivered)
				w.noteWritten() // a replay writes first
			},
		})
		w.crash(rt)
	})
}
