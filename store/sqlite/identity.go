package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"

	driver "modernc.org/sqlite"

	"github.com/posthouse-im/posthouse/store"
)

// State says what the database belongs to.
type State struct {
	store.Identity
	// Domain is the domain of the accounts, "" when it was not noted yet.
	Domain string
	// Begun and Mark tell how far the message log is: from Mark up to Begun. Mark is 0 when there was never a log.
	Begun, Mark uint64
}

// State returns what the database belongs to.
func (s *Store) State(ctx context.Context) (st State, err error) {
	var id []byte
	var epoch, begun, mark int64
	err = s.read.scan(ctx, `SELECT store, epoch, domain, begun, mark FROM identity`, nil, &id, &epoch, &st.Domain,
		&begun, &mark)
	if err == nil && len(id) != len(st.Store) {
		err = store.ErrDamaged
	}
	if err != nil {
		return State{}, fmt.Errorf("read the identity of the database: %w", translate(err))
	}
	copy(st.Store[:], id)
	st.Epoch, st.Begun, st.Mark = uint64(epoch), uint64(begun), uint64(mark)
	return st, nil
}

// SetDomain notes the domain of the accounts.
func (s *Store) SetDomain(ctx context.Context, domain string) error {
	return s.identify(ctx, `UPDATE identity SET domain = ?`, domain)
}

// BeginMark returns the next mark, which the message log is given next. It is on disk when it returns, whatever the
// durability, and so is all that was written before.
func (s *Store) BeginMark(ctx context.Context) (mark uint64, err error) {
	if err := s.identify(ctx, `UPDATE identity SET begun = mark + 1`); err != nil {
		return 0, err
	}
	st, err := s.State(ctx)
	return st.Begun, err
}

// EndMark notes that the message log has the mark that was begun.
func (s *Store) EndMark(ctx context.Context) error {
	return s.identify(ctx, `UPDATE identity SET mark = begun`)
}

// SetEpoch begins an epoch.
func (s *Store) SetEpoch(ctx context.Context, epoch uint64) error {
	return s.identify(ctx, `UPDATE identity SET epoch = ?`, int64(epoch))
}

// identify changes the identity, and flushes it.
func (s *Store) identify(ctx context.Context, text string, args ...any) error {
	err := s.flushed(ctx, func() error {
		return s.change(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, text, args...)
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("change the identity of the database: %w", err)
	}
	return nil
}

// flushed has a change flushed that would be left to the system, with all before it.
func (s *Store) flushed(ctx context.Context, change func() error) (err error) {
	if !s.relaxed {
		return change()
	}
	if _, err := s.write.ExecContext(ctx, `PRAGMA synchronous = FULL`); err != nil {
		return translate(err)
	}
	defer func() {
		_, again := s.write.ExecContext(context.WithoutCancel(ctx), `PRAGMA synchronous = NORMAL`)
		err = errors.Join(err, translate(again))
	}()
	return change()
}

// pagesCopied is how many pages are copied between two looks at the context.
const pagesCopied = 256

// Snapshot copies the database, as it is at one moment, into a new file. At that moment it calls frozen, during which
// nobody can write, in any process. The database goes on while the file is copied. progress, when not nil, is told how
// many bytes are copied, of how many.
func (s *Store) Snapshot(ctx context.Context, path string, frozen func() error, progress func(done, all int64)) error {
	if err := s.snapshot(ctx, path, frozen, progress); err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	return nil
}

func (s *Store) snapshot(ctx context.Context, path string, frozen func() error,
	progress func(done, all int64)) (err error) {
	// The engine would let others read the copy.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	reader, err := sql.Open("sqlite", s.readerDSN)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	reader.SetMaxOpenConns(1)
	conn, err := reader.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := s.freeze(ctx, conn, frozen); err != nil {
		return err
	}
	// The transaction is not one of database/sql: that would end it when ctx ends, in the middle of a step.
	defer func() {
		_, end := conn.ExecContext(context.WithoutCancel(ctx), `ROLLBACK`)
		err = errors.Join(err, end)
	}()
	return conn.Raw(func(c any) error { return copyPages(ctx, c, path, progress) })
}

// freeze begins to read on conn at a moment at which nobody writes, and calls frozen before anybody writes again.
func (s *Store) freeze(ctx context.Context, conn *sql.Conn, frozen func() error) error {
	tx, err := s.write.BeginTx(ctx, nil) // immediate: it locks out all other writers
	if err != nil {
		return translate(err)
	}
	_, err = conn.ExecContext(ctx, `BEGIN`)
	if err == nil {
		var one int
		err = conn.QueryRowContext(ctx, `SELECT count(*) FROM identity`).Scan(&one)
	}
	if err == nil {
		err = frozen()
	}
	return errors.Join(translate(err), ignoreDone(tx.Rollback()))
}

// copyPages copies the database of a connection.
func copyPages(ctx context.Context, c any, path string, progress func(done, all int64)) (err error) {
	source, ok := c.(interface {
		NewBackup(to string) (*driver.Backup, error)
	})
	if !ok {
		return errors.New("the driver cannot do that")
	}
	b, err := source.NewBackup((&url.URL{Scheme: "file", OmitHost: true, Path: path}).String())
	if err != nil {
		return translate(err)
	}
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return errors.Join(err, b.Finish())
		}
		if more, err = b.Step(pagesCopied); err != nil {
			return errors.Join(translate(err), b.Finish())
		}
		if progress != nil {
			const page = 4096
			progress(int64(b.PageCount()-b.Remaining())*page, int64(b.PageCount())*page)
		}
	}
	return translate(b.Finish())
}
