package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/posthouse-im/posthouse/store"
)

const (
	// changesKept is for how long a change can be noticed.
	changesKept = 24 * time.Hour
	// forgetEvery is how many changes are made until those that are too old are forgotten, up to twice as many.
	forgetEvery = 64
)

// note records a change for other processes. Numbers are given under the engine's one lock for writers, and so in the
// order of commits.
func (s *Store) note(ctx context.Context, tx *sql.Tx, c store.Change) error {
	now := s.now()
	made, err := tx.ExecContext(
		ctx, `INSERT INTO change (at, origin, kind, account, name, device) VALUES (?, ?, ?, ?, ?, ?)`,
		now.UnixMilli(), s.origin, string(c.Kind), c.Account, c.Name, c.Device)
	if err == nil {
		c.Number, err = made.LastInsertId()
	}
	if err != nil {
		return err
	}
	s.noted = append(s.noted, c)
	if c.Number%forgetEvery != 0 {
		return nil
	}
	_, err = tx.ExecContext(
		ctx, `DELETE FROM change WHERE number IN (SELECT number FROM change ORDER BY number LIMIT ?) AND at < ?`,
		2*forgetEvery, now.Add(-changesKept).UnixMilli())
	return err
}

// noteOf is note for an account that is known by its identity; store.ErrNotFound when it is gone.
func (s *Store) noteOf(ctx context.Context, tx *sql.Tx, kind store.ChangeKind, account store.AccountID) error {
	name, err := accountName(ctx, tx, account)
	if err != nil {
		return err
	}
	return s.note(ctx, tx, store.Change{Kind: kind, Account: account, Name: name})
}

// newestChange is the number of the newest change, as a column of what a statement reads.
const newestChange = `coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'change'), 0)`

// NewestChange implements store.Changes.
func (s *Store) NewestChange(ctx context.Context) (number int64, err error) {
	err = s.read.scan(ctx, `SELECT `+newestChange, nil, &number)
	if err != nil {
		return 0, fmt.Errorf("read the number of the newest change: %w", translate(err))
	}
	s.known.begin(number)
	return number, nil
}

// Changes implements store.Changes.
func (s *Store) Changes(ctx context.Context, after int64, limit int) ([]store.Change, error) {
	rows, err := s.read.QueryContext(ctx,
		`SELECT number, kind, account, name, device FROM change WHERE number > ? AND origin <> ? ORDER BY number LIMIT ?`,
		after, s.origin, limit)
	if err != nil {
		return nil, fmt.Errorf("read changes: %w", translate(err))
	}
	defer rows.Close()
	var all []store.Change
	for rows.Next() {
		var c store.Change
		if err := rows.Scan(&c.Number, &c.Kind, &c.Account, &c.Name, &c.Device); err != nil {
			return nil, fmt.Errorf("read changes: %w", err)
		}
		all = append(all, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read changes: %w", translate(err))
	}
	s.known.add(all)
	s.known.follow(s.now())
	return all, nil
}

// ChangedSince implements store.Changes.
func (s *Store) ChangedSince(ctx context.Context, account store.AccountID, device string,
	basis store.Basis) (changed bool, now store.Basis, err error) {
	if changed, known := s.known.since(account, device, basis, s.now()); known {
		return changed, basis, nil
	}
	if err = s.read.scan(ctx, changedSince, sinceArgs(account, device, basis), &changed, &now); err != nil {
		return false, 0, fmt.Errorf("look for changes of an account: %w", translate(err))
	}
	return changed, now, nil
}

// changedSince asks whether there is a change that voids what relies on a basis, and for the basis now; sinceArgs are
// its arguments.
const changedSince = `SELECT EXISTS (SELECT 1 FROM change
	WHERE account = ?1 AND number > ?2 AND (kind = ?3 OR kind = ?4 AND device = ?5)), ` + newestChange

func sinceArgs(account store.AccountID, device string, basis store.Basis) []any {
	return []any{account, int64(basis), string(store.AccountChanged), string(store.DeviceRemoved), device}
}

// current returns store.ErrOvertaken when the basis is not good any more.
func current(ctx context.Context, tx *sql.Tx, account store.AccountID, device string, basis store.Basis) error {
	var changed bool
	var now store.Basis
	err := tx.QueryRowContext(ctx, changedSince, sinceArgs(account, device, basis)...).Scan(&changed, &now)
	if err == nil && changed {
		err = store.ErrOvertaken
	}
	return err
}
