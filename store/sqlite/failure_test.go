package sqlite

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/posthouse-im/posthouse/store"
)

// TestDiskFails: after a write that the disk refused, nothing more is written, and whoever waits for the failure is
// told: what the file has then is found out by the next start.
func TestDiskFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s, err := Open(t.Context(), path, Options{})
	require.NoError(t, err)
	_, err = s.CreateAccount(t.Context(), store.Account{Name: "a"})
	require.NoError(t, err)
	require.NoError(t, s.Err())

	back := readOnly(t, path+"-wal")
	_, err = s.CreateAccount(t.Context(), store.Account{Name: "b"})
	require.ErrorContains(t, err, "database failed")
	<-s.Failed()
	require.ErrorContains(t, s.Err(), "disk I/O error")
	back()
	_, err = s.CreateAccount(t.Context(), store.Account{Name: "c"})
	require.ErrorContains(t, err, "database failed", "it is not tried again")
	_, err = s.Account(t.Context(), "a")
	require.NoError(t, err, "reading goes on")
	require.NoError(t, s.Close())
}

// readOnly makes the system refuse writes through all descriptors that this process has of a file, until back is
// called.
func readOnly(t *testing.T, path string) (back func()) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	open, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	saved := map[int]int{}
	for _, entry := range open {
		fd, err := strconv.Atoi(entry.Name())
		require.NoError(t, err)
		if name, err := os.Readlink("/proc/self/fd/" + entry.Name()); err != nil || name != path || fd == int(f.Fd()) {
			continue
		}
		saved[fd], err = unix.Dup(fd)
		require.NoError(t, err)
		require.NoError(t, unix.Dup3(int(f.Fd()), fd, unix.O_CLOEXEC))
	}
	require.NotEmpty(t, saved)
	require.NoError(t, f.Close())
	return func() {
		for fd, was := range saved {
			require.NoError(t, unix.Dup3(was, fd, unix.O_CLOEXEC))
			require.NoError(t, unix.Close(was))
		}
	}
}
