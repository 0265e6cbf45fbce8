package sqlite

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// TestChangedSinceInMemory: for whoever follows the changes, what the store has changed counts at once and what others
// have changed as soon as it was told, neither with a question to the engine; for whoever does not, everything at once.
func TestChangedSinceInMemory(t *testing.T) {
	ctx, path := t.Context(), t.TempDir()+"/posthouse.db"
	clock := time.Unix(1_700_000_000, 0)
	open := func() *Store {
		s, err := Open(ctx, path, Options{Now: func() time.Time { return clock }})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return s
	}
	s, other := open(), open()
	id, err := s.CreateAccount(ctx, store.Account{Name: "alice"})
	require.NoError(t, err)
	changed := func(basis store.Basis) bool {
		t.Helper()
		changed, _, err := s.ChangedSince(ctx, id, "phone", basis)
		require.NoError(t, err)
		return changed
	}
	seen, err := s.NewestChange(ctx)
	require.NoError(t, err)
	begin := store.Basis(seen)
	require.NoError(t, other.SetDisabled(ctx, "alice", true))
	require.True(t, changed(begin), "nobody follows yet")
	follow := func() {
		t.Helper()
		changes, err := s.Changes(ctx, seen, 10)
		require.NoError(t, err)
		for _, c := range changes {
			seen = c.Number
		}
	}
	follow()
	require.True(t, changed(begin))
	second := store.Basis(seen)
	require.False(t, changed(second))
	require.NoError(t, s.SetDisabled(ctx, "alice", false))
	require.True(t, changed(second), "its own")
	third := second + 1
	require.False(t, changed(third))
	require.NoError(t, other.SetDisabled(ctx, "alice", true))
	require.False(t, changed(third), "not told yet")
	follow()
	require.True(t, changed(third))
	fourth := store.Basis(seen)
	require.NoError(t, other.SetDisabled(ctx, "alice", false))
	require.False(t, changed(fourth))
	clock = clock.Add(followedFor + time.Second)
	require.True(t, changed(fourth), "who should follow does not any more")
	follow()

	// A change that was not committed is none.
	require.Error(t, s.SetDisabled(ctx, "nobody", true))
	fifth := store.Basis(seen)
	require.False(t, changed(fifth))
	// What does not fit into memory is asked of the engine.
	s.known.add(make([]store.Change, 10)) // of no kind
	require.Zero(t, s.known.from-begin)
	many := make([]store.Change, mostKnown)
	for i := range many {
		many[i] = store.Change{Number: seen + 1 + int64(i), Kind: store.AccountChanged, Account: 1 << 40}
	}
	s.known.add(many)
	require.Greater(t, s.known.from, fifth)
	require.True(t, changed(begin))
	require.False(t, changed(fifth))
	s.known.end()
	require.NoError(t, other.SetDisabled(ctx, "alice", true))
	require.True(t, changed(fifth))
}

// TestChangesAreForgotten: the table of changes holds little more than those of the last day.
func TestChangesAreForgotten(t *testing.T) {
	ctx := t.Context()
	clock := time.Unix(1_700_000_000, 0)
	s, err := Open(ctx, t.TempDir()+"/posthouse.db", Options{
		Relaxed: true, Now: func() time.Time { return clock },
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	_, err = s.CreateAccount(ctx, store.Account{Name: "alice"})
	require.NoError(t, err)
	for range 2 * forgetEvery {
		require.NoError(t, s.SetDisabled(ctx, "alice", true))
		require.NoError(t, s.SetDisabled(ctx, "alice", false))
	}
	clock = clock.Add(changesKept + time.Minute)
	for range 3 * forgetEvery {
		require.NoError(t, s.SetDisabled(ctx, "alice", true))
		require.NoError(t, s.SetDisabled(ctx, "alice", false))
	}
	var left, old int
	require.NoError(t, s.read.scan(ctx, `SELECT count(*), coalesce(sum(at < ?), 0) FROM change`,
		[]any{clock.Add(-changesKept).UnixMilli()}, &left, &old))
	require.Zero(t, old)
	require.Equal(t, 6*forgetEvery, left)
}
