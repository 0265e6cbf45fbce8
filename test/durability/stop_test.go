package durability

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestStopUnderLoad ends nodes with SIGTERM under load: what was acknowledged is there, every client is told, and the
// node says that all went well, in time.
func TestStopUnderLoad(t *testing.T) {
	l := newServerLoad(t)
	acked := int64(0)
	rounds := scaled(t, 3)
	for round := 1; round <= rounds; round++ {
		p := l.server.startWell(t)
		check(t, l, p, 2*round-1, false)
		var began time.Time
		l.round(t.Context(), 2*round, 200+rand.IntN(500), func() {
			began = time.Now()
			p.cmd.Process.Signal(syscall.SIGTERM)
		})
		require.Zero(t, p.wait(t), "%s", p.log)
		took := time.Since(began)
		require.Less(t, took, 25*time.Second)
		require.Positive(t, l.conns.Load())
		require.Equal(t, l.conns.Load(), l.told.Load(), "every client must be told that the server stops: %s", p.log)
		acked += l.total.Load()
		t.Logf("%d messages acknowledged, stopped in %v, %d clients told", l.total.Load(), took, l.told.Load())
	}
	checkAll(t, l, 2*rounds+1)
	require.Greater(t, acked, int64(rounds*100), "the load was too light to mean anything")
}
