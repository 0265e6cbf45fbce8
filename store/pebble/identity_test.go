package pebble

import (
	"context"
	"fmt"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// TestIdentity: what a log belongs to, and its mark, are what they were after a power cut, also when nothing else is
// flushed.
func TestIdentity(t *testing.T) {
	disk := vfs.NewCrashableMem()
	o := Options{files: disk, Durability: DurabilityRelaxed, Identity: store.Identity{Store: [16]byte{1, 2}}, Mark: 1}
	o.Logger = silent()
	l := mustOpen(t, "log", o)
	require.Equal(t, o.Identity, l.Identity())
	require.EqualValues(t, 1, l.Mark())
	require.NoError(t, put(t.Context(), l, someTime(), batch(t, l, 3)...))
	require.NoError(t, l.SetMark(t.Context(), 7))
	require.NoError(t, l.SetIdentity(t.Context(), store.Identity{Store: [16]byte{1, 2}, Epoch: 9}))
	found := mustOpen(t, "log", Options{files: disk.CrashClone(vfs.CrashCloneCfg{}), Logger: silent(), Existing: true})
	require.Equal(t, store.Identity{Store: [16]byte{1, 2}, Epoch: 9}, found.Identity())
	require.EqualValues(t, 7, found.Mark())
	all, err := found.Since(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, all, 3)
	require.NoError(t, found.Close())
	require.NoError(t, l.Close())
	require.Error(t, l.SetMark(t.Context(), 8))
	_, err = Open("another", Options{files: disk, Logger: silent(), Existing: true})
	require.ErrorIs(t, err, errNoLog)
}

// TestCheckpoint: a copy has what was appended before, whatever is appended meanwhile, and is a log of its own; a copy
// that fails does no harm.
func TestCheckpoint(t *testing.T) {
	for _, durability := range []string{DurabilityFull, DurabilityRelaxed} {
		t.Run(durability, func(t *testing.T) {
			disk, broken := vfs.NewMem(), &fault{}
			l := mustOpen(t, "log", Options{
				files: errorfs.Wrap(disk, broken), Durability: durability, MemTableBytes: 256 << 10, packMessages: 50,
				Logger: silent(),
			})
			stored := 0
			add := func() {
				require.NoError(t, put(context.Background(), l, someTime(), batch(t, l, 10)...))
				stored += 10
			}
			for i := range 10 {
				for range 20 {
					add()
				}
				stop, stopped := make(chan struct{}), make(chan error, 1)
				go func() {
					for {
						select {
						case <-stop:
							stopped <- nil
							return
						default:
							if err := put(context.Background(), l, someTime(), batch(t, l, 1)...); err != nil {
								stopped <- err
								return
							}
						}
					}
				}()
				folder := fmt.Sprint("copy", i)
				err := l.Checkpoint(t.Context(), folder)
				close(stop)
				require.NoError(t, <-stopped)
				require.NoError(t, err)
				found := mustOpen(t, folder, Options{files: disk, Logger: silent(), Existing: true})
				all, err := found.Since(t.Context(), 0, 10000)
				require.NoError(t, err)
				require.GreaterOrEqual(t, len(all), stored)
				require.NoError(t, put(t.Context(), found, someTime(), batch(t, found, 1)...))
				require.NoError(t, found.Close())
				all, err = l.Since(t.Context(), 0, 10000)
				require.NoError(t, err)
				stored = len(all)
			}
			for _, kind := range []errorfs.OpKind{errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileSync} {
				broken.set(kind, "spoilt", syscall.ENOSPC)
				require.Error(t, l.Checkpoint(t.Context(), "spoilt"))
				broken.set(kind, "", nil)
				require.NoError(t, l.Err())
				_, err := disk.Stat("spoilt")
				require.Error(t, err, "nothing is left behind")
				add()
			}
			require.NoError(t, l.Close())
			require.Error(t, l.Checkpoint(t.Context(), "late"))
		})
	}
}
