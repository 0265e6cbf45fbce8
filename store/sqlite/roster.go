package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// Bits of roster_item.state.
const (
	stateTo = 1 << iota
	stateFrom
	statePendingOut
	statePendingIn
	stateApproved
	stateListed
)

// Roster implements store.Rosters.
func (s *Store) Roster(ctx context.Context, owner store.AccountID) ([]store.RosterItem, uint64, error) {
	changes, version, _, err := s.readRoster(ctx, owner, 0, false)
	if err != nil {
		return nil, 0, fmt.Errorf("read roster: %w", err)
	}
	var items []store.RosterItem
	for i := range changes {
		items = append(items, changes[i].RosterItem)
	}
	return items, version, nil
}

// removedLimit is how many removed contacts a roster remembers for clients that ask what has changed. When there are
// more, all of them are forgotten: a client from before gets the whole roster.
const removedLimit = 500

// RosterChanges implements store.Rosters.
func (s *Store) RosterChanges(ctx context.Context, owner store.AccountID, since uint64) (changes []store.RosterChange,
	version uint64, ok bool, err error) {
	changes, version, forgotten, err := s.readRoster(ctx, owner, since, true)
	if err != nil {
		return nil, 0, false, fmt.Errorf("read roster changes: %w", err)
	}
	// A version from the future is not of this roster.
	if since > version || since < forgotten {
		return nil, version, false, nil
	}
	slices.SortFunc(changes, func(a, b store.RosterChange) int { return cmp.Compare(a.Version, b.Version) })
	return changes, version, true, nil
}

// readRoster reads items that were changed after a version, in one snapshot with the version.
func (s *Store) readRoster(ctx context.Context, owner store.AccountID, since uint64,
	withRemoved bool) (changes []store.RosterChange, version, forgotten uint64, err error) {
	rows, err := s.read.QueryContext(ctx, `
		SELECT r.version, r.forgotten, i.contact, i.removed, i.changed, i.name, i.state, i.request, i.groups
		FROM roster r LEFT JOIN roster_item i ON i.account = r.account AND i.changed > ? AND i.removed <= ?
		WHERE r.account = ?`, since, withRemoved, owner)
	if err != nil {
		return nil, 0, 0, translate(err)
	}
	defer rows.Close()
	for rows.Next() {
		var contact, name, groups sql.NullString
		var gone, changed, state sql.NullInt64
		var item store.RosterItem
		err := rows.Scan(&version, &forgotten, &contact, &gone, &changed, &name, &state, &item.Request, &groups)
		if err != nil {
			return nil, 0, 0, err
		}
		if !contact.Valid {
			continue
		}
		if item.JID, err = jid.Parse(contact.String); err != nil {
			return nil, 0, 0, fmt.Errorf("%w: contact of account %d: %w", store.ErrDamaged, owner, err)
		}
		if gone.Int64 != 0 {
			item = store.RosterItem{JID: item.JID}
		} else {
			item.Name = name.String
			applyState(&item, state.Int64)
			if err := readGroups(owner, groups.String, &item); err != nil {
				return nil, 0, 0, err
			}
		}
		changes = append(changes, store.RosterChange{RosterItem: item, Version: uint64(changed.Int64)})
	}
	return changes, version, forgotten, translate(rows.Err())
}

func readGroups(owner store.AccountID, text string, item *store.RosterItem) error {
	if text == "[]" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), &item.Groups); err != nil {
		return fmt.Errorf("%w: groups of a contact of account %d: %w", store.ErrDamaged, owner, err)
	}
	return nil
}

func stateOf(i *store.RosterItem) (state int64) {
	set := func(is bool, bit int64) {
		if is {
			state |= bit
		}
	}
	set(i.To, stateTo)
	set(i.From, stateFrom)
	set(i.PendingOut, statePendingOut)
	set(i.PendingIn, statePendingIn)
	set(i.Approved, stateApproved)
	set(i.Listed, stateListed)
	return state
}

func applyState(i *store.RosterItem, state int64) {
	i.To, i.From = state&stateTo != 0, state&stateFrom != 0
	i.PendingOut, i.PendingIn = state&statePendingOut != 0, state&statePendingIn != 0
	i.Approved, i.Listed = state&stateApproved != 0, state&stateListed != 0
}

// ChangeRosterItem implements store.Rosters.
func (s *Store) ChangeRosterItem(ctx context.Context, owner store.AccountID, contact jid.JID, limit int,
	change func(*store.RosterItem) error) (item store.RosterItem, version uint64, err error) {
	apply := func(from queryer) (before store.RosterItem, err error) {
		if before, version, err = rosterItem(ctx, from, owner, contact); err != nil {
			return before, err
		}
		item = before
		err = change(&item)
		item.JID = contact
		return before, err
	}
	// What changes nothing is found out without waiting for those who write.
	before, err := apply(s.read)
	if err == nil && !item.Equal(&before) {
		err = s.change(ctx, func(tx *sql.Tx) error {
			before, err := apply(tx)
			if err != nil || item.Equal(&before) {
				return err
			}
			version, err = s.storeItem(ctx, tx, owner, &before, &item, limit)
			return err
		})
	}
	if err != nil {
		return store.RosterItem{}, 0, fmt.Errorf("change roster item: %w", err)
	}
	return item, version, nil
}

// queryer is a transaction, or reads without one.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// rosterItem reads one item, which has nothing but its JID when there is none, and the roster's version;
// store.ErrNotFound when the account is gone.
func rosterItem(ctx context.Context, from queryer, owner store.AccountID, contact jid.JID) (item store.RosterItem,
	version uint64, err error) {
	rows, err := from.QueryContext(ctx, `
		SELECT coalesce(r.version, 0), i.name, coalesce(i.state, 0), i.request, coalesce(i.groups, '[]')
		FROM account a LEFT JOIN roster r ON r.account = a.id LEFT JOIN roster_item i ON i.account = a.id AND i.contact = ? AND i.removed = 0
		WHERE a.id = ?`, contact.String(), owner)
	if err != nil {
		return item, 0, translate(err)
	}
	defer rows.Close()
	if !rows.Next() {
		return item, 0, translate(cmp.Or(rows.Err(), sql.ErrNoRows))
	}
	var name sql.NullString
	var state int64
	var groups string
	if err := rows.Scan(&version, &name, &state, &item.Request, &groups); err != nil {
		return item, 0, err
	}
	item.JID, item.Name = contact, name.String
	applyState(&item, state)
	return item, version, readGroups(owner, groups, &item)
}

// storeItem stores what an item has become, or that it is gone, and returns the roster's new version.
func (s *Store) storeItem(ctx context.Context, tx *sql.Tx, owner store.AccountID, before, item *store.RosterItem,
	limit int) (version uint64, err error) {
	nothing := store.RosterItem{JID: item.JID}
	removed := item.Equal(&nothing)
	if !removed && (before.Equal(&nothing) || before.Listed != item.Listed) {
		var others int
		err := tx.QueryRowContext(ctx,
			`SELECT count(*) FROM roster_item WHERE account = ? AND removed = 0 AND contact <> ? AND (state & ? <> 0) = ?`,
			owner, item.JID.String(), stateListed, item.Listed).Scan(&others)
		if err == nil && others >= limit {
			err = store.ErrLimit
		}
		if err != nil {
			return 0, err
		}
	}
	if version, err = nextVersion(ctx, tx, owner); err != nil {
		return 0, err
	}
	groups, err := json.Marshal(append([]string{}, item.Groups...))
	if err != nil {
		return 0, err
	}
	_, err = tx.ExecContext(
		ctx,
		`INSERT INTO roster_item (account, contact, removed, changed, name, state, request, groups) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, contact) DO UPDATE SET removed = excluded.removed, changed = excluded.changed, name = excluded.name,
			state = excluded.state, request = excluded.request, groups = excluded.groups`,
		owner, item.JID.String(), removed, version, item.Name, stateOf(item), item.Request, string(groups))
	if err == nil && removed {
		err = forget(ctx, tx, owner, version)
	}
	if err != nil {
		return 0, err
	}
	return version, s.noteOf(ctx, tx, store.RosterChanged, owner)
}

// forget drops what is remembered of removed contacts when it has become too much.
func forget(ctx context.Context, tx *sql.Tx, owner store.AccountID, version uint64) error {
	var n int
	err := tx.QueryRowContext(ctx, `SELECT count(*) FROM roster_item WHERE account = ? AND removed = 1`, owner).Scan(&n)
	if err != nil || n <= removedLimit {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM roster_item WHERE account = ? AND removed = 1`, owner); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE roster SET forgotten = ? WHERE account = ?`, version, owner)
	return err
}

func nextVersion(ctx context.Context, tx *sql.Tx, owner store.AccountID) (version uint64, err error) {
	err = tx.QueryRowContext(ctx, `INSERT INTO roster (account, version) VALUES (?, 1)
		ON CONFLICT (account) DO UPDATE SET version = version + 1 RETURNING version`, owner).Scan(&version)
	return version, err
}

// ArchivePreference implements store.ArchivePreferences.
func (s *Store) ArchivePreference(ctx context.Context, owner store.AccountID) (p store.ArchivePreference, err error) {
	var always, never string
	err = s.read.scan(ctx, `SELECT fallback, always, never, hide_reads FROM archive_preference WHERE account = ?`,
		[]any{owner},
		&p.Default, &always, &never, &p.HideReads)
	if errors.Is(err, sql.ErrNoRows) {
		return store.ArchivePreference{}, nil
	}
	if err != nil {
		return store.ArchivePreference{}, fmt.Errorf("read archive preference: %w", translate(err))
	}
	if p.Always, err = addresses(always); err == nil {
		p.Never, err = addresses(never)
	}
	if err != nil {
		return store.ArchivePreference{},
			fmt.Errorf("%w: archive preference of account %d: %w", store.ErrDamaged, owner, err)
	}
	return p, nil
}

func addresses(text string) ([]jid.JID, error) {
	var all []string
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, err
	}
	var out []jid.JID
	for _, s := range all {
		j, err := jid.Parse(s)
		if err != nil {
			return nil, err
		}
		out = append(out, j)
	}
	return out, nil
}

// SetArchivePreference implements store.ArchivePreferences.
func (s *Store) SetArchivePreference(ctx context.Context, owner store.AccountID, p store.ArchivePreference) error {
	list := func(all []jid.JID) string {
		texts := make([]string, len(all))
		for i, j := range all {
			texts[i] = j.String()
		}
		text, _ := json.Marshal(texts) // strings always can be
		return string(text)
	}
	return s.setPreference(ctx, owner,
		`INSERT INTO archive_preference (account, fallback, always, never) VALUES (?, ?, ?, ?)
		ON CONFLICT (account) DO UPDATE SET fallback = excluded.fallback, always = excluded.always, never = excluded.never`,
		owner, p.Default, list(p.Always), list(p.Never))
}

// SetHideReads implements store.ArchivePreferences.
func (s *Store) SetHideReads(ctx context.Context, owner store.AccountID, hide bool) error {
	return s.setPreference(ctx, owner,
		`INSERT INTO archive_preference (account, fallback, always, never, hide_reads) VALUES (?, '', '[]', '[]', ?)
		ON CONFLICT (account) DO UPDATE SET hide_reads = excluded.hide_reads`, owner, hide)
}

// setPreference writes a preference of an account and notes that it has changed.
func (s *Store) setPreference(ctx context.Context, owner store.AccountID, query string, args ...any) error {
	err := s.change(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, query, args...); err != nil {
			return err
		}
		return s.noteOf(ctx, tx, store.PreferenceChanged, owner)
	})
	if err != nil {
		return fmt.Errorf("set a preference: %w", err)
	}
	return nil
}

// LastActivity implements store.LastActivity.
func (s *Store) LastActivity(ctx context.Context, owner store.AccountID) (seconds int64, status string, err error) {
	err = s.read.scan(ctx, `SELECT seconds, status FROM last_activity WHERE account = ?`, []any{owner}, &seconds,
		&status)
	if err != nil {
		return 0, "", fmt.Errorf("read last activity: %w", translate(err))
	}
	return seconds, status, nil
}

// SetLastActivity implements store.LastActivity.
func (s *Store) SetLastActivity(ctx context.Context, owner store.AccountID, seconds int64, status string) error {
	return s.SetActivities(ctx, map[store.AccountID]store.Activity{owner: {Seconds: seconds, Status: status}})
}

// SetActivities implements store.Activities.
func (s *Store) SetActivities(ctx context.Context, all map[store.AccountID]store.Activity) error {
	err := s.change(ctx, func(tx *sql.Tx) error {
		insert, err := tx.PrepareContext(ctx, `INSERT INTO last_activity (account, seconds, status)
			SELECT id, ?, ? FROM account WHERE id = ? ON CONFLICT (account) DO UPDATE SET seconds = excluded.seconds, status = excluded.status`)
		if err != nil {
			return err
		}
		defer insert.Close()
		for owner, a := range all {
			if _, err := insert.ExecContext(ctx, a.Seconds, a.Status, owner); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("set last activity of %d accounts: %w", len(all), err)
	}
	return nil
}
