package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/posthouse-im/posthouse/store"
)

// ConversationSettings implements store.Settings.
func (s *Store) ConversationSettings(ctx context.Context, owner store.AccountID,
	with []string) ([]store.ConversationSettings, error) {
	if len(with) == 0 {
		return nil, nil
	}
	list, err := json.Marshal(with)
	if err != nil {
		return nil, fmt.Errorf("read conversation settings: %w", err)
	}
	found, err := s.readSettings(ctx, `SELECT contact, muted_until, pinned, changed FROM conversation_setting
		WHERE account = ? AND contact IN (SELECT value FROM json_each(?))`, owner, string(list))
	if err != nil {
		return nil, fmt.Errorf("read conversation settings: %w", err)
	}
	return found, nil
}

// ChosenConversationSettings implements store.Settings.
func (s *Store) ChosenConversationSettings(ctx context.Context, owner store.AccountID, before uint64,
	limit int) ([]store.ConversationSettings, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	found, err := s.readSettings(ctx, `SELECT contact, muted_until, pinned, changed FROM conversation_setting
		WHERE account = ? AND changed < ? AND (muted_until <> 0 OR pinned <> 0) ORDER BY changed DESC LIMIT ?`, owner, before, limit)
	if err != nil {
		return nil, fmt.Errorf("read chosen conversation settings: %w", err)
	}
	return found, nil
}

// ChangedConversationSettings implements store.Settings.
func (s *Store) ChangedConversationSettings(ctx context.Context, owner store.AccountID, after uint64,
	limit int) (changed []store.ConversationSettings, last uint64, err error) {
	// The number is read first: what changes in between is found here and again by the next call, and never by neither.
	err = s.read.scan(ctx, `SELECT coalesce(max(changed), 0) FROM conversation_setting WHERE account = ?`, []any{owner},
		&last)
	if err != nil {
		return nil, 0, fmt.Errorf("read changed conversation settings: %w", translate(err))
	}
	changed, err = s.readSettings(ctx, `SELECT contact, muted_until, pinned, changed FROM conversation_setting
		WHERE account = ? AND changed > ? ORDER BY changed LIMIT ?`, owner, after, limit)
	if err != nil {
		return nil, 0, fmt.Errorf("read changed conversation settings: %w", err)
	}
	if n := len(changed); n > 0 {
		last = max(last, changed[n-1].Changed)
	}
	return changed, last, nil
}

func (s *Store) readSettings(ctx context.Context, query string, args ...any) (found []store.ConversationSettings,
	err error) {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, translate(err)
	}
	defer rows.Close()
	for rows.Next() {
		var c store.ConversationSettings
		var muted int64
		if err := rows.Scan(&c.With, &muted, &c.Pinned, &c.Changed); err != nil {
			return nil, translate(err)
		}
		c.MutedUntil = fromMilli(muted)
		found = append(found, c)
	}
	return found, translate(rows.Err())
}

// SetConversationSettings implements store.Settings. Of those that are back at the default as many are remembered as
// may differ from it: beyond that the one that was changed first is forgotten.
func (s *Store) SetConversationSettings(ctx context.Context, owner store.AccountID, c store.ConversationSettings,
	max int) (store.ConversationSettings, error) {
	muted := unixMilli(c.MutedUntil)
	c.MutedUntil = fromMilli(muted)
	plain := muted == 0 && !c.Pinned
	err := s.change(ctx, func(tx *sql.Tx) error {
		var have int64
		var pinned bool
		err := tx.QueryRowContext(ctx,
			`SELECT muted_until, pinned, changed FROM conversation_setting WHERE account = ? AND contact = ?`,
			owner, c.With).Scan(&have, &pinned, &c.Changed)
		if missing := errors.Is(err, sql.ErrNoRows); err != nil && !missing {
			return err
		} else if missing && plain || !missing && have == muted && pinned == c.Pinned {
			return exists(ctx, tx, owner) // nothing changes
		}
		// The number is taken first: the row that has the greatest one may have to go.
		err = tx.QueryRowContext(
			ctx, `SELECT coalesce(max(changed), 0) + 1 FROM conversation_setting WHERE account = ?`,
			owner).Scan(&c.Changed)
		if err != nil {
			return err
		}
		if err := roomForSettings(ctx, tx, owner, &c, plain, max); err != nil {
			return err
		}
		err = affected(tx.ExecContext(ctx,
			`INSERT INTO conversation_setting (account, contact, muted_until, pinned, changed)
			SELECT id, ?, ?, ?, ? FROM account WHERE id = ?
			ON CONFLICT (account, contact) DO UPDATE SET muted_until = excluded.muted_until, pinned = excluded.pinned, changed = excluded.changed`,
			c.With, muted, c.Pinned, c.Changed, owner))
		if err != nil {
			return err
		}
		return s.noteOf(ctx, tx, store.SettingsChanged, owner)
	})
	if err != nil {
		return store.ConversationSettings{}, fmt.Errorf("set conversation settings: %w", err)
	}
	return c, nil
}

// roomForSettings refuses one too many, and forgets what is too old to matter.
func roomForSettings(ctx context.Context, tx *sql.Tx, owner store.AccountID, c *store.ConversationSettings, plain bool,
	max int) error {
	var chosen, plains int
	err := tx.QueryRowContext(ctx,
		`SELECT count(*) FILTER (WHERE muted_until <> 0 OR pinned <> 0), count(*) FILTER (WHERE muted_until = 0 AND pinned = 0)
		FROM conversation_setting WHERE account = ? AND contact <> ?`, owner, c.With).Scan(&chosen, &plains)
	switch {
	case err != nil:
		return err
	case !plain && chosen >= max:
		return store.ErrLimit
	case plain && plains >= max:
		_, err = tx.ExecContext(ctx, `DELETE FROM conversation_setting WHERE account = ? AND changed =
			(SELECT min(changed) FROM conversation_setting WHERE account = ? AND muted_until = 0 AND pinned = 0)`, owner, owner)
	}
	return err
}

// exists returns ErrNotFound when the account is gone.
func exists(ctx context.Context, tx *sql.Tx, owner store.AccountID) error {
	var one int
	return tx.QueryRowContext(ctx, `SELECT 1 FROM account WHERE id = ?`, owner).Scan(&one)
}
