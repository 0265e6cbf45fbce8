package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

func TestModes(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "data", "posthouse")
	s, err := Open(t.Context(), filepath.Join(folder, "x.db"), Options{})
	require.NoError(t, err)
	_, err = s.CreateAccount(t.Context(), store.Account{Name: "a"})
	require.NoError(t, err)
	info, err := os.Stat(folder)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	files, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 3, "the database, its log and its index")
	for _, f := range files {
		info, err := f.Info()
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), f.Name())
	}
	require.NoError(t, s.Close())
}

// TestDurabilityIsChecked: every connection that writes has synchronous=FULL, unless less was asked for in so many
// words.
func TestDurabilityIsChecked(t *testing.T) {
	for relaxed, want := range map[bool]int{false: 2, true: 1} {
		s, err := Open(t.Context(), filepath.Join(t.TempDir(), "x.db"), Options{Relaxed: relaxed})
		require.NoError(t, err)
		var synchronous int
		require.NoError(t, s.write.QueryRow("PRAGMA synchronous").Scan(&synchronous))
		require.Equal(t, want, synchronous)
		if relaxed {
			require.ErrorContains(t, s.checkDurability(t.Context(), Options{}), "synchronous=1",
				"what the engine does counts, not what it was told")
		}
		require.NoError(t, s.Close())
	}
}

// TestReadersCannotWrite: what is prepared on a reading connection by mistake fails.
func TestReadersCannotWrite(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "x.db"), Options{})
	require.NoError(t, err)
	_, err = s.readers.Exec("DELETE FROM account")
	require.ErrorContains(t, err, "readonly")
	require.NoError(t, s.Close())
}

func TestNewerIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s, err := Open(t.Context(), path, Options{})
	require.NoError(t, err)
	_, err = s.write.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)")
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = Open(t.Context(), path, Options{})
	require.ErrorContains(t, err, "999")
	require.ErrorContains(t, err, "newer version")
}

// TestDamageIsNoticed: a file that is no database, and one with a changed page, are refused and left alone.
func TestDamageIsNoticed(t *testing.T) {
	folder := t.TempDir()
	text := filepath.Join(folder, "text.db")
	require.NoError(t, os.WriteFile(text, []byte(strings.Repeat("this is not a database ", 100)), 0o600))
	_, err := Open(t.Context(), text, Options{})
	require.ErrorContains(t, err, "not a database")

	path := filepath.Join(folder, "x.db")
	s, err := Open(t.Context(), path, Options{})
	require.NoError(t, err)
	made := make([]store.Account, 500)
	for i := range made {
		made[i].Name = strings.Repeat("x", i+1)
	}
	_, err = s.CreateAccounts(t.Context(), made)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	const page = 4096
	for at := len(content) / page / 2 * page; at < len(content)-page; at += page {
		copy(content[at:], make([]byte, 200)) // the head of each page of the second half
	}
	require.NoError(t, os.WriteFile(path, content, 0o600))
	_, err = Open(t.Context(), path, Options{})
	require.ErrorIs(t, err, store.ErrDamaged)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, content, after)
}

// TestManyStartTogether: processes that make the same file at the same time take turns.
func TestManyStartTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	var all sync.WaitGroup
	errs := make(chan error, 8)
	for range 8 {
		all.Go(func() {
			s, err := Open(context.Background(), path, Options{Readers: 1})
			if err == nil {
				_, err = s.Secret(context.Background(), "x", 16)
				err = errors.Join(err, s.Close())
			}
			errs <- err
		})
	}
	all.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
}

// TestLockWaitsNoLongerThanAsked: a start that cannot have its turn says so.
func TestLockWaitsNoLongerThanAsked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	unlock, err := lock(t.Context(), path+".lock")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 3*lockRetry)
	defer cancel()
	_, err = Open(ctx, path, Options{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, unlock())
	s, err := Open(t.Context(), path, Options{})
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

// upTo makes a file of an earlier version.
func upTo(t *testing.T, path string, version int64, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(path, Options{BusyTimeout: time.Second}, true))
	require.NoError(t, err)
	sub, err := fs.Sub(migrations, "migrations")
	require.NoError(t, err)
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, sub)
	require.NoError(t, err)
	_, err = provider.UpTo(t.Context(), version)
	require.NoError(t, err)
	for _, text := range statements {
		_, err = db.Exec(text)
		require.NoError(t, err)
	}
	require.NoError(t, db.Close())
}

// TestUpgrade: a file of the first version keeps what it has.
func TestUpgrade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	upTo(t, path, 1, "INSERT INTO account (id, name, created) VALUES (1, 'a', 0)",
		"INSERT INTO roster (account, version) VALUES (1, 7)")
	s, err := Open(t.Context(), path, Options{})
	require.NoError(t, err)
	_, version, err := s.Roster(t.Context(), 1)
	require.NoError(t, err)
	require.EqualValues(t, 7, version)
	_, _, ok, err := s.RosterChanges(t.Context(), 1, 0)
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, s.Close())
}

// TestPathsAreTakenLiterally: nothing in a path is syntax to the engine.
func TestPathsAreTakenLiterally(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b%20?mode=memory&x#y.db")
	s, err := Open(t.Context(), path, Options{})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.NotZero(t, info.Size())
}
