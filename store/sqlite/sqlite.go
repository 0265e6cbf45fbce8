// Package sqlite is the embedded store for everything but messages: accounts, devices, rosters, preferences, keys and
// secrets, and the audit log, in one SQLite file.
//
// Writes go through one connection, each in a transaction that is on disk when the call returns (synchronous=FULL).
// Reads go through a separate pool. Several processes may open the file at once, so the command line works while a node
// runs. The package starts no goroutines, and caches nothing that it has read.
package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	driver "modernc.org/sqlite"
	code "modernc.org/sqlite/lib"

	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Options configure a store. The zero value is durable.
type Options struct {
	// Relaxed leaves the flush of each write to the system: a power cut may lose the last ones.
	Relaxed bool
	// Readers is how many reads run at a time.
	Readers int `default:"4"`
	// BusyTimeout is how long a write waits for another process.
	BusyTimeout time.Duration `default:"5s"`
	// Now is the clock; nil means time.Now.
	Now func() time.Time `default:"now"`
	// Random is where the numbers of accounts come from; nil means the system's randomness.
	Random io.Reader
	// Known tells that the message log knows an account of that number, which no other account may get then. It is
	// called inside a transaction. nil means that there is no log to ask.
	Known func(ctx context.Context, id store.AccountID) (bool, error)
}

// Store implements store.Accounts, store.Rosters, store.ArchivePreferences, store.LastActivity, store.Secrets,
// store.Devices, store.Settings, store.Profiles, store.SigningKeys, store.ServiceKeys and store.Audit.
type Store struct {
	write   *sql.DB // of one connection
	readers *sql.DB
	read    *statements // on readers
	now     func() time.Time
	random  io.Reader
	inLog   func(ctx context.Context, id store.AccountID) (bool, error)
	// origin names this store among all that have the file open.
	origin string
	// noted are the changes of the transaction that writes. Whoever has the connection of write owns them.
	noted []store.Change
	known known
	// relaxed: writes are left to the system, see Options.Relaxed.
	relaxed   bool
	readerDSN string

	failed chan struct{}
	// mu guards failure, which is set before failed is closed.
	mu      sync.Mutex
	failure error
}

// Open opens the file, makes it when it is missing, and brings its tables up to date. A file that a newer version has
// written is refused.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	defaults.Fill(&o)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	// SQLite gives new files, and those beside it, the mode of the database: make it before anybody else can read it.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	s := &Store{
		now: o.Now, random: o.Random, inLog: o.Known, origin: rand.Text(), relaxed: o.Relaxed,
		readerDSN: dsn(path, o, false), failed: make(chan struct{}), known: newKnown(),
	}
	if s.random == nil {
		s.random = rand.Reader
	}
	if s.write, err = sql.Open("sqlite", dsn(path, o, true)); err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	s.write.SetMaxOpenConns(1)
	if s.readers, err = sql.Open("sqlite", s.readerDSN); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), s.write.Close())
	}
	s.readers.SetMaxOpenConns(o.Readers)
	s.readers.SetMaxIdleConns(o.Readers)
	s.read = newStatements(s.readers)
	if err := s.begin(ctx, path, o); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), s.Close())
	}
	return s, nil
}

// begin checks what the engine promises and the file's structure, and brings the tables up to date.
func (s *Store) begin(ctx context.Context, path string, o Options) (err error) {
	if err := s.checkDurability(ctx, o); err != nil {
		return err
	}
	if err := s.checkStructure(ctx); err != nil {
		return err
	}
	// The engine has no lock that lasts over all migrations: two processes that start together take turns by this one.
	unlock, err := lock(ctx, path+".lock")
	if err != nil {
		return fmt.Errorf("wait for another process to change the tables: %w", err)
	}
	return errors.Join(s.migrate(ctx), unlock())
}

// dsn returns the data source. Every connection gets the same pragmas.
func dsn(path string, o Options, write bool) string {
	synchronous := "FULL"
	if o.Relaxed {
		synchronous = "NORMAL"
	}
	q := url.Values{"_pragma": {
		fmt.Sprintf("busy_timeout(%d)", o.BusyTimeout.Milliseconds()),
		"journal_mode(WAL)", "synchronous(" + synchronous + ")", "foreign_keys(1)", "trusted_schema(0)",
		"cell_size_check(1)",
	}}
	if write {
		q.Set("_txlock", "immediate")
	} else {
		q.Add("_pragma", "query_only(1)")
		q.Add("_pragma", "cache_size(-512)") // KiB: what is read often is kept by those who read it
	}
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: q.Encode()}).String()
}

// SchemaVersion returns the version of the tables that this program makes.
func SchemaVersion() int {
	all, err := migrations.ReadDir("migrations")
	if err != nil {
		return 0 // they are part of the program
	}
	return len(all)
}

func (s *Store) migrate(ctx context.Context) error {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, s.write, sub)
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	have, err := provider.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("read the schema version: %w", err)
	}
	sources := provider.ListSources()
	if newest := sources[len(sources)-1].Version; have > newest {
		return fmt.Errorf(
			"the file has schema version %d, and this program knows up to %d: it was written by a newer version, "+
				"start that one", have, newest)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("bring the tables up to date: %w", err)
	}
	_, err = s.write.ExecContext(ctx, `DELETE FROM change WHERE at < ?`, s.now().Add(-changesKept).UnixMilli())
	return err
}

// checkDurability asks the engine what it really does.
func (s *Store) checkDurability(ctx context.Context, o Options) error {
	var journal string
	var synchronous int
	if err := s.write.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&journal); err != nil {
		return fmt.Errorf("ask for the journal mode: %w", err)
	}
	if err := s.write.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&synchronous); err != nil {
		return fmt.Errorf("ask for the synchronous mode: %w", err)
	}
	if full := 2; synchronous < full && !o.Relaxed || !strings.EqualFold(journal, "wal") {
		return fmt.Errorf(
			"the database runs with synchronous=%d and journal_mode=%s: it would not keep what it acknowledges",
			synchronous, journal)
	}
	return nil
}

// checkedPages is up to what size, in pages of 4 KiB, the whole file is checked at start: a second's work.
const checkedPages = 64 << 10

// checkStructure looks for damage where that is cheap.
func (s *Store) checkStructure(ctx context.Context) error {
	var pages int
	if err := s.write.QueryRowContext(ctx, "PRAGMA page_count").Scan(&pages); err != nil {
		return fmt.Errorf("ask for the size: %w", translate(err))
	}
	if pages > checkedPages {
		return nil
	}
	var result string
	if err := s.write.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result); err != nil {
		return fmt.Errorf("check the structure: %w", translate(err))
	}
	if result != "ok" {
		return fmt.Errorf("%w: %s", store.ErrDamaged, result)
	}
	return nil
}

// Close closes the file.
func (s *Store) Close() error {
	var err error
	if s.readers != nil {
		err = s.readers.Close()
	}
	return errors.Join(err, s.write.Close())
}

// change runs do in a transaction that is on disk when it returns.
func (s *Store) change(ctx context.Context, do func(tx *sql.Tx) error) error {
	if err := s.Err(); err != nil {
		return err
	}
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return s.failing(translate(err))
	}
	s.noted = nil
	if err := do(tx); err != nil {
		return s.failing(errors.Join(translate(err), ignoreDone(tx.Rollback())))
	}
	noted := s.noted
	if err := tx.Commit(); err != nil {
		s.known.end() // it may have been done
		return s.failing(translate(err))
	}
	s.known.add(noted)
	return nil
}

// failing notes that the disk has failed, when that is the error of a change: what was written may be there or not,
// now or after the next start, and another flush may report success for what the system has dropped. A full disk is no
// such error.
func (s *Store) failing(err error) error {
	var e *driver.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() {
	case code.SQLITE_IOERR_WRITE, code.SQLITE_IOERR_FSYNC, code.SQLITE_IOERR_DIR_FSYNC, code.SQLITE_IOERR_TRUNCATE:
	default:
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil {
		s.failure = fmt.Errorf("database failed: %w", err)
		close(s.failed)
	}
	return s.failure
}

// Failed is closed when the disk has failed under a change. No other change is made then, and the process must be
// stopped.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err returns why the store failed, nil while it has not.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// translate gives the engine's errors the store's kinds.
func translate(err error) error {
	var e *driver.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return store.ErrNotFound
	case errors.As(err, &e):
		switch e.Code() {
		case code.SQLITE_CONSTRAINT_UNIQUE, code.SQLITE_CONSTRAINT_PRIMARYKEY:
			return store.ErrExists
		case code.SQLITE_FULL:
			return fmt.Errorf("%w: %w", store.ErrFull, err)
		case code.SQLITE_CORRUPT, code.SQLITE_NOTADB:
			return fmt.Errorf("%w: %w", store.ErrDamaged, err)
		}
	}
	return err
}

// rowsOf returns how many rows a statement has changed.
func rowsOf(r sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// affected turns "no row was changed" into ErrNotFound.
func affected(r sql.Result, err error) error {
	n, err := rowsOf(r, err)
	if err == nil && n == 0 {
		return store.ErrNotFound
	}
	return err
}
