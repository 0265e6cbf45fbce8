package archive

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The clock waits for as long as it is told, several times, and no longer than its context lasts.
func TestPause(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := newPause(ctx)
	defer p.close()
	for range 3 {
		began := time.Now()
		p.wait(time.Millisecond)
		require.GreaterOrEqual(t, time.Since(began), time.Millisecond)
	}
	time.AfterFunc(time.Millisecond, cancel)
	began := time.Now()
	p.wait(time.Hour)
	p.wait(time.Hour)
	require.Less(t, time.Since(began), time.Minute)
}
