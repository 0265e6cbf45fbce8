package archive

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/store/pebble"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// The whole archive on the engine that it runs on: again and again it is stopped in the middle of things and opened
// anew. Everything acknowledged is in both histories, once, in order, with dense numbers; everything that was not
// reported as delivered is replayed; what is sent again is known.
func TestOnPebble(t *testing.T) {
	path := t.TempDir()
	random := rand.New(rand.NewPCG(1, 2))
	acknowledged := map[string]router.Receipt{} // by origin-id
	var order []uint64
	delivered := map[uint64]bool{}
	for round := range 12 {
		log, err := pebble.Open(path, pebble.Options{})
		require.NoError(t, err)
		h := newHouse(t, log)
		stop := h.run(t)

		waiting := h.replay(t, juliet)
		have := map[uint64]bool{}
		for _, id := range waiting {
			have[id] = true
		}
		for _, id := range order {
			require.True(t, have[id] || delivered[id], "round %d: message %d is lost", round, id)
		}
		for key, first := range acknowledged {
			if random.IntN(10) == 0 {
				again := h.say(t, "romeo@verona.example/again", chat("juliet@verona.example", key, origin(key)))
				require.True(t, again.Duplicate)
				require.Equal(t, first.ID, again.ID)
				require.Equal(t, first.Seq, again.Seq)
			}
		}

		var mu sync.Mutex // guards what the sources share
		var wg sync.WaitGroup
		h.onRoute = func(p *stream.Packet) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, p.ArchiveID)
			if random.IntN(3) == 0 {
				delivered[p.ArchiveID] = true
				h.Delivered(juliet, p.ArchiveID)
			}
		}
		for source := range 4 {
			wg.Go(func() {
				for i := range 40 {
					key := fmt.Sprintf("%d-%d-%d", round, source, i)
					r := h.say(t, fmt.Sprintf("romeo@verona.example/%d", source),
						chat("juliet@verona.example", key, origin(key)))
					mu.Lock()
					acknowledged[key] = r
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for _, id := range waiting[:random.IntN(len(waiting)+1)] {
			h.Delivered(juliet, id)
			delivered[id] = true
		}
		if round%2 == 0 {
			require.NoError(t, stop()) // in order; otherwise cursors that are due are never written
		}
		require.NoError(t, log.Close())
		_ = stop()
	}

	log, err := pebble.Open(path, pebble.Options{})
	require.NoError(t, err)
	defer log.Close()
	h := newHouse(t, log)
	h.budget = newBudget(1, 1e9, h.now)
	require.Len(t, order, len(acknowledged))
	var got []uint64
	place := ""
	for {
		r := h.query(t, form("<max>250</max>"+place, "with", "juliet@verona.example"))
		got = append(got, r.ids...)
		if r.complete {
			break
		}
		place = "<after>" + r.last + "</after>"
	}
	require.Equal(t, order, got)
	seqs := map[uint64]bool{}
	for _, r := range acknowledged {
		seqs[r.Seq] = true
	}
	for i := range uint64(len(order)) {
		require.True(t, seqs[i+1], "number %d", i+1)
	}
}
