package durability

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pairs is how many conversations carry the load.
const pairs = 8

// newServerLoad makes a server with accounts, and a load for it.
func newServerLoad(t *testing.T) *load {
	t.Helper()
	s := newServer(t, t.TempDir(), "full")
	s.addUsers(t, 2*pairs)
	return newLoad(s, pairs)
}

// check looks whether everything is as it must be, on a running node.
func check(t *testing.T, l *load, p *process, round int, whole bool) {
	t.Helper()
	violations, err := l.verify(t.Context(), round, whole)
	require.NoError(t, err, "%s", p.log)
	require.Empty(t, violations)
}

// checkAll starts a node on what is left, and looks at everything from the beginning.
func checkAll(t *testing.T, l *load, round int) {
	t.Helper()
	p := l.server.startWell(t)
	check(t, l, p, round, true)
	p.kill()
	p.killed(t)
	for _, pair := range l.pairs {
		require.NotEmpty(t, pair.acked, "pair %d has not taken part", pair.number)
	}
}

// TestKill ends the process with SIGKILL at random moments under load, again and again on the same data.
func TestKill(t *testing.T) {
	l := newServerLoad(t)
	acked, repeated, rounds := int64(0), 0, 0
	least, most := scaled(t, 12), scaled(t, 60) // whether a kill falls between a flush and its answers is luck
	for rounds < least || repeated == 0 && rounds < most {
		rounds++
		p := l.server.startWell(t)
		check(t, l, p, 2*rounds-1, false)
		l.round(t.Context(), 2*rounds, 100+rand.IntN(1500),
			after(time.Duration(rounds%2)*20*time.Millisecond+1, p.kill))
		p.killed(t)
		acked += l.total.Load()
		repeated = 0
		for _, p := range l.pairs {
			repeated += p.repeated
		}
	}
	checkAll(t, l, 2*rounds+1)
	require.Greater(t, acked, int64(rounds*100), "the load was too light to mean anything")
	require.Positive(t, repeated, "no message was stored and not acknowledged: nothing was tested of sending again")
	t.Logf(
		"%d kills, %d messages acknowledged, none lost; %d that were stored and not acknowledged were sent again, "+
			"none doubled", rounds, acked, repeated)
}

// strace runs a command with faults injected into its flushes. The command ends when strace does.
func strace(t *testing.T, file, fault string) []string {
	t.Helper()
	return []string{
		requireTool(t, "strace"), "-f", "-qq", "-ttt", "-o", file, "-e", "trace=fsync,fdatasync", "-e", "signal=none",
		"-e", "inject=fsync,fdatasync:" + fault, requireTool(t, "setpriv"), "--pdeathsig", "KILL",
	}
}

// TestKillAtFlush kills the process when one of its threads is about to flush for the n-th time, possibly during the
// start.
func TestKillAtFlush(t *testing.T) {
	l := newServerLoad(t)
	l.burst = 1 // many flushes for few messages
	killed, acked := 0, int64(0)
	moments := []int{1, 2, 3, 5, 8, 12, 17, 23, 30, 40}
	for i, n := range moments {
		const enough = 20000
		p := l.server.start(t, strace(t, os.DevNull, fmt.Sprintf("signal=SIGKILL:when=%d", n))...)
		l.round(t.Context(), 2*i+2, enough, p.kill)
		p.killed(t)
		if acked += l.total.Load(); l.total.Load() < enough {
			killed++
		}
		t.Logf("a thread's flush %d: %d messages acknowledged before", n, l.total.Load())
		p = l.server.startWell(t)
		check(t, l, p, 2*i+3, false)
		p.kill()
		p.killed(t)
	}
	checkAll(t, l, 2*len(moments)+3)
	require.Equal(t, len(moments), killed, "the injected kills did not happen")
	require.Greater(t, acked, int64(500), "the load was too light to mean anything")
	t.Logf("%d kills at flushes, %d messages acknowledged, none lost", killed, acked)
}

// TestFailedFlush makes a flush fail, possibly during the start: from then on nothing may be acknowledged, and the node
// must exit with an error. It is unknown what the kernel wrote, so the next start goes by what is on disk.
func TestFailedFlush(t *testing.T) {
	l := newServerLoad(t)
	l.burst = 1 // many flushes for few messages
	acked := int64(0)
	moments := []int{1, 2, 3, 6, 9, 15, 25}
	for i, n := range moments {
		trace := filepath.Join(t.TempDir(), "trace")
		p := l.server.start(t, strace(t, trace, fmt.Sprintf("error=EIO:when=%d", n))...)
		l.round(t.Context(), 2*i+2, 1<<30, func() {})
		code := p.wait(t)
		end := time.Now()
		require.Positive(t, code, "after a failed flush the node must exit with an error: %s", p.log)
		acked += l.total.Load()
		t.Logf("a thread's flush %d failed; %d messages acknowledged before; exit code %d after %v", n, l.total.Load(),
			code, end.Sub(injected(t, trace)))
		p = l.server.startWell(t)
		check(t, l, p, 2*i+3, false)
		p.kill()
		p.killed(t)
	}
	checkAll(t, l, 2*len(moments)+3)
	require.Greater(t, acked, int64(200), "the load was too light to mean anything")
}

// injected finds the time of the first injected fault in the output of strace.
func injected(t *testing.T, file string) time.Time {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && strings.Contains(lines.Text(), "INJECTED") {
			seconds, err := strconv.ParseFloat(fields[1], 64)
			require.NoError(t, err)
			return time.UnixMicro(int64(seconds * 1e6))
		}
	}
	require.Fail(t, "no fault was injected")
	return time.Time{}
}

// TestCheckFindsEarlyAcknowledgement: the checks find the losses of a node that acknowledges before it commits.
func TestCheckFindsEarlyAcknowledgement(t *testing.T) {
	l := newServerLoad(t)
	honest, planted := l.server.bin, binary(t, "faultinject_early_ack")
	for round := 1; round <= 10; round++ {
		l.server.bin = planted
		p := l.server.startWell(t)
		l.round(t.Context(), 2*round, 200+rand.IntN(300), p.kill)
		p.killed(t)
		l.server.bin = honest
		p = l.server.startWell(t)
		violations, err := l.verify(t.Context(), 2*round+1, false)
		require.NoError(t, err)
		p.kill()
		p.killed(t)
		if len(violations) > 0 {
			t.Logf("found in round %d: %q", round, violations)
			return
		}
	}
	t.Fatal("ten kills of a node that acknowledges too early, and no loss was found")
}

// requireTool returns the path of a program.
func requireTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err == nil {
			return path
		}
	}
	require.NoError(t, err, "this test needs %s: run test/setup.sh", name)
	return path
}
