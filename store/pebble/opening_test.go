package pebble

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
)

// nthFlush lets one flush fail, counted from when it is switched on, and all that come after it succeed, as they do on
// Linux.
type nthFlush struct {
	left atomic.Int64 // how many flushes until it; below 0 it was before, or is not to be
}

func (f *nthFlush) String() string { return "flush" }

// MaybeError implements errorfs.Injector.
func (f *nthFlush) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		if f.left.Add(-1) == 0 {
			return &os.PathError{Op: "flush", Path: op.Path, Err: syscall.EIO}
		}
	}
	return nil
}

// TestFailedFlushWhileOpening: whichever flush fails while a log is opened after a crash, the log is not opened, and
// the next time everything is there (P3).
func TestFailedFlushWhileOpening(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	l := mustOpen(t, "log", Options{files: disk, Logger: silent()})
	require.NoError(t, put(t.Context(), l, someTime(), batch(t, l, 100)...))
	failed := 0
	for n := int64(1); ; n++ {
		files := disk.CrashClone(vfs.CrashCloneCfg{})
		broken := &nthFlush{}
		broken.left.Store(n)
		opened, err := Open("log", Options{files: errorfs.Wrap(files, broken), Logger: silent()})
		if broken.left.Load() > 0 {
			require.NoError(t, err)
			broken.left.Store(0)
			require.NoError(t, opened.Close())
			break
		}
		failed++
		if err == nil { // it failed when all was done but this
			<-opened.Failed()
			require.Error(t, opened.Close())
		} else {
			require.ErrorIs(t, err, syscall.EIO)
		}
		requireAll(t, files, 100, fmt.Sprintf("flush %d failed", n))
	}
	require.Greater(t, failed, 4, "too few flushes to mean anything")
	require.NoError(t, l.Close())
}

// TestFailedFlushWhileClosing: whichever flush fails while a log is closed, with tables being written, nothing is lost,
// and Close says so.
func TestFailedFlushWhileClosing(t *testing.T) {
	t.Parallel()
	refused := 0
	for n := int64(1); n <= 12; n++ { // about as many as there are
		files, broken := vfs.NewCrashableMem(), &nthFlush{}
		l := mustOpen(t, "log", Options{files: errorfs.Wrap(files, broken), Logger: silent()})
		require.NoError(t, put(t.Context(), l, someTime(), batch(t, l, 100)...))
		_, err := l.db.AsyncFlush()
		require.NoError(t, err)
		broken.left.Store(n)
		if err = l.Close(); err != nil { // a table is written anew, from what the write-ahead log has
			require.ErrorIs(t, err, syscall.EIO)
			refused++
		}
		requireAll(t, files, 100, fmt.Sprintf("flush %d failed", n))
	}
	require.Positive(t, refused, "no flush to mean anything")
}

// requireAll makes sure that a log can be opened and has so many messages, whether the disk kept what was not flushed
// or not.
func requireAll(t *testing.T, disk *vfs.MemFS, n int, when string) {
	t.Helper()
	for _, percent := range []int{0, 100} {
		files := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(1, 2))})
		l, err := Open("log", Options{files: files, Logger: silent()})
		require.NoError(t, err, when)
		found, err := l.Since(t.Context(), 0, n+1)
		require.NoError(t, err, when)
		require.Len(t, found, n, when)
		require.NoError(t, l.Close(), when)
	}
}
