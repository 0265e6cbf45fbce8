package sqlite

import (
	"bytes"
	"context"
	"encoding/binary"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// draws returns a source of randomness that draws these numbers.
func draws(numbers ...uint64) *bytes.Reader {
	var b []byte
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint64(b, n<<1|1) // the lowest bit is not used
	}
	return bytes.NewReader(b)
}

// TestAccountNumbers: a number is drawn again when it is none, when an account has or had it, and when the message log
// knows it.
func TestAccountNumbers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	random := draws(0, 1<<63-1, 5, 5, 6, 5, 7, 0, 5, 6, 8)
	s, err := Open(t.Context(), path, Options{
		Random: random,
		Known:  func(_ context.Context, id store.AccountID) (bool, error) { return id == 6, nil },
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	create := func(name string, want store.AccountID) {
		t.Helper()
		id, err := s.CreateAccount(t.Context(), store.Account{Name: name})
		require.NoError(t, err)
		require.Equal(t, want, id)
		got, err := s.Account(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, want, got.ID)
	}
	create("a", 1<<63-1)
	create("b", 5)
	require.NoError(t, s.DeleteAccount(t.Context(), "b"))
	create("c", 7)
	create("d", 8)
	_, err = s.CreateAccount(t.Context(), store.Account{Name: "e"})
	require.ErrorContains(t, err, "draw the number", "there is no randomness left")
	_, err = s.Account(t.Context(), "e")
	require.ErrorIs(t, err, store.ErrNotFound)

	s.random = draws(make([]uint64, 2*mostDraws)...)
	_, err = s.CreateAccount(t.Context(), store.Account{Name: "e"})
	require.ErrorContains(t, err, "repeats itself")
}

// TestNumbersOfOldFiles: numbers that were given in order, before they were drawn, are not given again.
func TestNumbersOfOldFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	upTo(t, path, 8, "INSERT INTO account (id, name, created) VALUES (3, 'a', 0)", "DELETE FROM account")
	s, err := Open(t.Context(), path, Options{Random: draws(1, 2, 3, 4)})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	id, err := s.CreateAccount(t.Context(), store.Account{Name: "b"})
	require.NoError(t, err)
	require.EqualValues(t, 4, id)
}
