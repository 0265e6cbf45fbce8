package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/posthouse-im/posthouse/store"
)

// LastChange returns when, within the last day, the account was last changed (its password, or whether it is disabled) or that device of it was signed
// out, by any process; the zero time when neither happened.
func (s *Store) LastChange(ctx context.Context, account store.AccountID, device string) (time.Time, error) {
	var at int64
	err := s.read.scan(ctx, `SELECT coalesce(max(at), 0) FROM account_change WHERE account = ? AND device IN ('', ?)`, []any{account, device}, &at)
	if err != nil {
		return time.Time{}, fmt.Errorf("look for the last change of an account: %w", translate(err))
	}
	return fromMilli(at), nil
}

// ChangedSince reports whether the account was changed, or that device of it signed out, by any process, after the change of that number; see
// AccountChanges.
func (s *Store) ChangedSince(ctx context.Context, account store.AccountID, device string, number int64) (changed bool, err error) {
	err = s.read.scan(ctx, `SELECT EXISTS (SELECT 1 FROM account_change WHERE number > ? AND account = ? AND device IN ('', ?))`,
		[]any{number, account, device}, &changed)
	if err != nil {
		return false, fmt.Errorf("look for changes of an account: %w", translate(err))
	}
	return changed, nil
}
