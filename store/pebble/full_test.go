package pebble

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// TestFullDiskInTheBackground: when no table can be written for want of space, Append says so, however fast the
// messages come, and goes on when there is some; the log can be closed meanwhile (P17).
func TestFullDiskInTheBackground(t *testing.T) {
	for _, test := range []struct {
		name string
		o    Options
	}{
		{"messages", Options{}},
		{"messages and their index", Options{packMessages: 50}},
	} {
		t.Run(test.name, func(t *testing.T) {
			broken, disk := &fault{}, vfs.NewCrashableMem()
			o := test.o
			o.files, o.MemTableBytes, o.Logger = errorfs.Wrap(disk, broken), 256<<10, silent()
			l := mustOpen(t, "log", o)
			stored := 0
			for range 3 {
				broken.set(errorfs.OpFileWrite, ".sst", syscall.ENOSPC)
				for {
					err := put(t.Context(), l, someTime(), batch(t, l, 100)...)
					if err != nil {
						require.ErrorIs(t, err, store.ErrFull)
						break
					}
					stored += 100
				}
				require.NoError(t, l.Err())
				found, err := l.Since(t.Context(), 0, stored+1)
				require.NoError(t, err)
				require.Len(t, found, stored)
				full, err := l.Full()
				require.NoError(t, err)
				require.True(t, full)

				broken.set(0, "", nil)
				untilNotFull(l)
				require.NoError(t, put(t.Context(), l, someTime(), batch(t, l, 1)...))
				stored++
			}
			broken.set(errorfs.OpFileWrite, ".sst", syscall.ENOSPC)
			for ; !l.events.full.Load(); stored += 100 {
				if errors.Is(put(t.Context(), l, someTime(), batch(t, l, 100)...), store.ErrFull) {
					break
				}
			}
			require.NoError(t, l.Close())
			requireAll(t, disk, stored, "closed while the disk was full")
		})
	}
}

// untilNotFull waits for a table to be written.
func untilNotFull(l *Log) {
	for {
		_, moved := l.events.backlog.look()
		if !l.events.full.Load() {
			return
		}
		<-moved
	}
}

// TestFullDiskWhileAppendWaits: the disk turns out to be full when as much waits to be written as may, and Append with
// it. In the engine it would wait until there is space.
func TestFullDiskWhileAppendWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hold atomic.Pointer[chan struct{}]
		files := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if held := hold.Load(); held != nil && op.Kind == errorfs.OpFileWrite &&
				strings.HasSuffix(op.Path, ".sst") {
				<-*held
				return &os.PathError{Op: "test", Path: op.Path, Err: syscall.ENOSPC}
			}
			return nil
		}))
		l := mustOpen(t, "log", Options{files: files, MemTableBytes: 256 << 10, packMessages: 50, Logger: silent()})
		held := make(chan struct{})
		hold.Store(&held)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		appended := make(chan error)
		go func() {
			for {
				if err := put(ctx, l, someTime(), batch(t, l, 100)...); err != nil {
					appended <- err
					return
				}
			}
		}()
		synctest.Wait() // for all to be stuck
		close(held)
		require.ErrorIs(t, <-appended, store.ErrFull)
		require.NoError(t, l.Err())
		hold.Store(nil)
		untilNotFull(l)
		require.NoError(t, put(ctx, l, someTime(), batch(t, l, 1)...))
		require.NoError(t, l.Close())
	})
}
