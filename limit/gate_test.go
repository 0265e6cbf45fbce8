package limit_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/limit"
)

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := limit.NewGate(1, 1)
		require.NoError(t, g.Enter(t.Context()))
		waited := make(chan error)
		go func() { waited <- g.Enter(t.Context()) }()
		synctest.Wait()
		require.Equal(t, []int{1, 1}, []int{g.Inside(), g.Waiting()})
		require.ErrorIs(t, g.Enter(t.Context()), limit.ErrBusy, "those who may wait are there")
		g.Leave()
		require.NoError(t, <-waited)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, g.Enter(ctx), context.DeadlineExceeded, "in vain")
		g.Leave()
		require.NoError(t, g.Enter(ctx), "whoever finds a slot does not ask for the time")
		require.Equal(t, []int{1, 0}, []int{g.Inside(), g.Waiting()})
	})
}

func TestGateIsNarrow(t *testing.T) {
	g := limit.NewGate(3, 1000)
	var inside, most atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 100 {
				if err := g.Enter(t.Context()); err != nil {
					t.Error(err)
					return
				}
				for n := inside.Add(1); ; {
					old := most.Load()
					if old >= n || most.CompareAndSwap(old, n) {
						break
					}
				}
				inside.Add(-1)
				g.Leave()
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, most.Load(), int64(3))
	require.Zero(t, g.Inside()+g.Waiting())
}
