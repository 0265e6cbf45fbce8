package token

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCacheIsBounded: what has expired gives way first, then anything; never more is held than may be.
func TestCacheIsBounded(t *testing.T) {
	c, now := newCache[int, string](10), time.Unix(1000, 0)
	for i := range 100 {
		_, ok, generation := c.get(i, now)
		require.False(t, ok)
		c.put(i, "x", now, now.Add(time.Minute), generation)
		got, ok, _ := c.get(i, now)
		require.True(t, ok)
		require.Equal(t, "x", got)
	}
	require.Equal(t, 10, c.len())
	_, ok, generation := c.get(99, now.Add(time.Minute))
	require.False(t, ok, "it has expired")
	c.put(99, "y", now, now.Add(time.Minute), generation)
	require.Equal(t, 10, c.len(), "it takes its own place")

	c.forget(func(key int) bool { return key == 99 })
	require.Equal(t, 9, c.len())
	c.put(100, "z", now, now.Add(time.Minute), generation)
	require.Equal(t, 9, c.len(), "something was forgotten while it was on its way")
}
