package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/posthouse-im/posthouse/store"
)

// changesKept is for how long a change can be noticed.
const changesKept = 24 * time.Hour

// note records a change for other processes. Numbers are given under the engine's one lock for writers, and so in the
// order of commits. Each note forgets up to two that are too old, so that there are not more than are made in
// changesKept.
func (s *Store) note(ctx context.Context, tx *sql.Tx, c store.Change) error {
	now := s.now()
	_, err := tx.ExecContext(
		ctx, `INSERT INTO change (at, origin, kind, account, name, device) VALUES (?, ?, ?, ?, ?, ?)`,
		now.UnixMilli(), s.origin, string(c.Kind), c.Account, c.Name, c.Device)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(
		ctx, `DELETE FROM change WHERE number IN (SELECT number FROM change ORDER BY number LIMIT 2) AND at < ?`,
		now.Add(-changesKept).UnixMilli())
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

// NewestChange implements store.Changes.
func (s *Store) NewestChange(ctx context.Context) (number int64, err error) {
	err = s.read.scan(ctx, `SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'change'), 0)`, nil, &number)
	if err != nil {
		return 0, fmt.Errorf("read the number of the newest change: %w", translate(err))
	}
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
	return all, translate(rows.Err())
}

// ChangedSince implements store.Changes.
func (s *Store) ChangedSince(ctx context.Context, account store.AccountID, device string, number int64) (changed bool,
	err error) {
	err = s.read.scan(
		ctx,
		`SELECT EXISTS (SELECT 1 FROM change WHERE account = ?1 AND number > ?2 AND (kind = ?3 OR kind = ?4 AND device = ?5))`,
		[]any{account, number, string(store.AccountChanged), string(store.DeviceRemoved), device}, &changed)
	if err != nil {
		return false, fmt.Errorf("look for changes of an account: %w", translate(err))
	}
	return changed, nil
}

// LastChange implements store.Changes.
func (s *Store) LastChange(ctx context.Context, account store.AccountID, device string) (time.Time, error) {
	var at int64
	err := s.read.scan(
		ctx, `SELECT coalesce(max(at), 0) FROM change WHERE account = ?1 AND (kind = ?2 OR kind = ?3 AND device = ?4)`,
		[]any{account, string(store.AccountChanged), string(store.DeviceRemoved), device}, &at)
	if err != nil {
		return time.Time{}, fmt.Errorf("look for the last change of an account: %w", translate(err))
	}
	return fromMilli(at), nil
}
