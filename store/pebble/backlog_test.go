package pebble

import (
	"context"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// TestSmallTablesAreNoBacklog: the first memtables are small, and lie until there is half a full one. Append must not
// wait for them.
func TestSmallTablesAreNoBacklog(t *testing.T) {
	l := mustOpen(t, "log", Options{files: vfs.NewMem(), Logger: silent()})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 60 { // some 10 MB: more than the first three, and less than half of what is full by default
		require.NoError(t, put(ctx, l, someTime(), batch(t, l, 300)...))
	}
	require.NoError(t, l.Close())
}
