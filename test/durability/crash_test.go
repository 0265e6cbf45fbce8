package durability

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// pairs is how many conversations carry the load.
const pairs = 8

// TestKill ends the process with SIGKILL at random moments under load, again and again on the same data.
func TestKill(t *testing.T) {
	h := newHouse(t, binary(t, ""), t.TempDir(), "full")
	h.addUsers(t, 2*pairs)
	l := newLoad(h, pairs)
	acked := int64(0)
	for round := 1; round <= 10; round++ {
		p := h.start(t)
		l.round(t.Context(), 2*round, 200+rand.IntN(2000), p.kill)
		require.Equal(t, -1, p.wait(t), "it should have been killed: %s", p.log)
		acked += l.total.Load()
		check(t, l, 2*round+1)
	}
	require.Greater(t, acked, int64(1000), "the load was too light to mean anything")
	t.Logf("10 kills, %d messages acknowledged, none lost", acked)
}

// check starts a node on what is left, and looks.
func check(t *testing.T, l *load, round int) {
	t.Helper()
	p := l.house.start(t)
	violations, err := l.verify(t.Context(), round)
	require.NoError(t, err, "%s", p.log)
	require.Empty(t, violations)
	p.kill()
	p.wait(t)
}

// TestKillAtFlush ends the process exactly when one of its threads is about to flush for the n-th time.
func TestKillAtFlush(t *testing.T) {
	strace := requireTool(t, "strace")
	h := newHouse(t, binary(t, ""), t.TempDir(), "full")
	h.addUsers(t, 2*pairs)
	l := newLoad(h, pairs)
	killed := 0
	for round, n := range []int{1, 2, 3, 5, 8, 12, 17, 23, 30, 40} {
		p := h.start(t, strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync",
			"-e", fmt.Sprintf("inject=fsync,fdatasync:signal=SIGKILL:when=%d", n))
		l.round(t.Context(), 2*round+2, 20000, p.kill)
		if p.wait(t); l.total.Load() < 20000 {
			killed++
		}
		check(t, l, 2*round+3)
	}
	require.Greater(t, killed, 5, "the injected kills did not happen")
}

// TestFailedFlush makes a flush fail: from then on nothing may be acknowledged, and the node must exit with an error.
func TestFailedFlush(t *testing.T) {
	strace := requireTool(t, "strace")
	h := newHouse(t, binary(t, ""), t.TempDir(), "full")
	h.addUsers(t, 2*pairs)
	l := newLoad(h, pairs)
	for round, n := range []int{6, 15, 25} {
		p := h.start(t, strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync",
			"-e", fmt.Sprintf("inject=fsync,fdatasync:error=EIO:when=%d", n))
		l.round(t.Context(), 2*round+2, 1<<30, func() {})
		require.Greater(t, p.wait(t), 0, "after a failed flush the node must exit with an error: %s", p.log)
		check(t, l, 2*round+3)
	}
}

// TestCheckFindsEarlyAcknowledgement: a node that acknowledges before it commits must be found out.
func TestCheckFindsEarlyAcknowledgement(t *testing.T) {
	h := newHouse(t, binary(t, "plant_early_ack"), t.TempDir(), "full")
	h.addUsers(t, 2*pairs)
	l := newLoad(h, pairs)
	for round := 1; round <= 10; round++ {
		p := h.start(t)
		l.round(t.Context(), 2*round, 200+rand.IntN(500), p.kill)
		p.wait(t)
		p = h.start(t)
		violations, err := l.verify(t.Context(), 2*round+1)
		require.NoError(t, err)
		p.kill()
		p.wait(t)
		if len(violations) > 0 {
			t.Logf("found in round %d: %v", round, violations)
			return
		}
	}
	t.Fatal("ten kills of a node that acknowledges too early, and no loss was found")
}

func requireTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	require.NoError(t, err, "this test needs %s: run test/setup.sh", name)
	return path
}
