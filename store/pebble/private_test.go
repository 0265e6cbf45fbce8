package pebble

import (
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestModes: nobody but the owner can read the log or a copy of it, however open the umask is.
func TestModes(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	folder := t.TempDir()
	l := mustOpen(t, filepath.Join(folder, "log"), Options{packMessages: 10, Logger: silent()})
	require.NoError(t, put(t.Context(), l, someTime(), batch(t, l, 50)...))
	require.NoError(t, l.db.Flush())
	require.NoError(t, l.Checkpoint(t.Context(), filepath.Join(folder, "copy")))
	require.NoError(t, l.Close())
	require.NoError(t, mustOpen(t, filepath.Join(folder, "copy"), Options{Logger: silent()}).Close())
	files := 0
	require.NoError(t, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		if path == folder {
			return nil
		}
		info, err := entry.Info()
		require.NoError(t, err)
		want := fs.FileMode(0o600)
		if entry.IsDir() {
			want = 0o700
		}
		require.Equal(t, want, info.Mode().Perm(), path)
		files++
		return nil
	}))
	require.Greater(t, files, 15)
}
