package limit_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/limit"
)

func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := limit.NewTurns[string](2, 1, 2*time.Second)
		enter := func(key string) func() {
			leave, ok := turns.Enter(t.Context(), key)
			require.True(t, ok)
			return leave
		}
		first, second := enter("a"), enter("a")
		other := enter("b")

		began := time.Now()
		_, ok := turns.Enter(t.Context(), "a")
		require.False(t, ok)
		require.Equal(t, 2*time.Second, time.Since(began), "it waits, and not for ever")

		third := make(chan func())
		go func() { third <- enter("a") }()
		synctest.Wait()
		began = time.Now()
		_, ok = turns.Enter(t.Context(), "a")
		require.False(t, ok)
		require.Zero(t, time.Since(began), "as many wait as may")
		first()
		(<-third)()
		second()
		require.Equal(t, 1, turns.Keys())
		other()
		require.Zero(t, turns.Keys(), "nothing is held of who does nothing")
	})
}
