package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/posthouse-im/posthouse/store"
)

var _ store.Devices = (*Store)(nil)

const deviceColumns = `account, id, name, software, created, seen, generation, used, login_expires, used_expires, counter, refresh, refresh_before, refresh_replaced, refresh_expires`

// Device implements store.Devices.
func (s *Store) Device(ctx context.Context, owner store.AccountID, id string) (d store.Device, err error) {
	var r deviceRow
	if err := s.read.scan(ctx, `SELECT `+deviceColumns+`, `+newestChange+` FROM device WHERE account = ? AND id = ?`,
		[]any{owner, id}, append(r.fields(), &r.d.Basis)...); err != nil {
		return d, fmt.Errorf("read device: %w", translate(err))
	}
	return r.device(), nil
}

// ListDevices implements store.Devices.
func (s *Store) ListDevices(ctx context.Context, owner store.AccountID) ([]store.Device, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT `+deviceColumns+
		` FROM device WHERE account = ? ORDER BY seen DESC, id`, owner)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", translate(err))
	}
	defer rows.Close()
	var all []store.Device
	for rows.Next() {
		var r deviceRow
		if err := rows.Scan(r.fields()...); err != nil {
			return nil, fmt.Errorf("list devices: %w", err)
		}
		all = append(all, r.device())
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list devices: %w", translate(err))
	}
	return all, nil
}

// PutDevice implements store.Devices.
func (s *Store) PutDevice(ctx context.Context, d store.Device, basis store.Basis, max int) error {
	err := s.change(ctx, func(tx *sql.Tx) error {
		name, err := accountName(ctx, tx, d.Account)
		if err != nil {
			return err
		}
		if err := current(ctx, tx, d.Account, d.ID, basis); err != nil {
			return err
		}
		if err := putDevice(ctx, tx, d); err != nil {
			return err
		}
		// The device itself stays, whenever it was seen.
		rest, err := deviceIDs(ctx, tx,
			`SELECT id FROM device WHERE account = ? AND id <> ? ORDER BY seen DESC, id LIMIT -1 OFFSET ?`,
			d.Account, d.ID, max-1)
		if err != nil {
			return err
		}
		return s.removeDevices(ctx, tx, d.Account, name, rest)
	})
	if err != nil {
		return fmt.Errorf("store device: %w", err)
	}
	return nil
}

// ChangeDevice implements store.Devices.
func (s *Store) ChangeDevice(ctx context.Context, owner store.AccountID, id string, basis store.Basis,
	change func(*store.Device) error) error {
	err := s.change(ctx, func(tx *sql.Tx) error {
		if err := current(ctx, tx, owner, id, basis); err != nil {
			return err
		}
		var r deviceRow
		err := tx.QueryRowContext(ctx, `SELECT `+deviceColumns+` FROM device WHERE account = ? AND id = ?`, owner,
			id).Scan(r.fields()...)
		if err != nil {
			return err
		}
		d := r.device()
		if err := change(&d); err != nil {
			return err
		}
		d.Account, d.ID = owner, id
		return putDevice(ctx, tx, d)
	})
	if err != nil {
		return fmt.Errorf("change device: %w", err)
	}
	return nil
}

// NoteLogins implements store.Devices.
func (s *Store) NoteLogins(ctx context.Context, logins []store.DeviceLogin) error {
	err := s.change(ctx, func(tx *sql.Tx) error {
		update, err := tx.PrepareContext(ctx, `UPDATE device SET seen = max(seen, ?1),
			counter = CASE WHEN used = ?2 THEN max(counter, ?3) ELSE counter END WHERE account = ?4 AND id = ?5`)
		if err != nil {
			return err
		}
		for _, l := range logins {
			if _, err := update.ExecContext(ctx, unixMilli(l.Seen), int64(l.Generation), int64(l.Counter), l.Account,
				l.Device); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note %d logins: %w", len(logins), err)
	}
	return nil
}

// RemoveDevice implements store.Devices.
func (s *Store) RemoveDevice(ctx context.Context, owner store.AccountID, id string) error {
	err := s.change(ctx, func(tx *sql.Tx) error {
		name, err := accountName(ctx, tx, owner)
		if err != nil {
			return err
		}
		if err := affected(tx.ExecContext(ctx, `DELETE FROM device WHERE account = ? AND id = ?`, owner,
			id)); err != nil {
			return err
		}
		return s.note(ctx, tx, store.Change{Kind: store.DeviceRemoved, Account: owner, Name: name, Device: id})
	})
	if err != nil {
		return fmt.Errorf("remove device: %w", err)
	}
	return nil
}

// RemoveDevices implements store.Devices.
func (s *Store) RemoveDevices(ctx context.Context, owner store.AccountID, but string) (gone []string, err error) {
	err = s.change(ctx, func(tx *sql.Tx) error {
		name, err := accountName(ctx, tx, owner)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if gone, err = deviceIDs(ctx, tx, `SELECT id FROM device WHERE account = ? AND id <> ? ORDER BY id`, owner,
			but); err != nil {
			return err
		}
		return s.removeDevices(ctx, tx, owner, name, gone)
	})
	if err != nil {
		return nil, fmt.Errorf("remove devices: %w", err)
	}
	return gone, nil
}

// removeDevices removes devices one by one, and notes each.
func (s *Store) removeDevices(ctx context.Context, tx *sql.Tx, owner store.AccountID, name string, ids []string) error {
	for _, id := range ids {
		if _, err := tx.ExecContext(ctx, `DELETE FROM device WHERE account = ? AND id = ?`, owner, id); err != nil {
			return err
		}
		if err := s.note(ctx, tx, store.Change{Kind: store.DeviceRemoved, Account: owner, Name: name,
			Device: id}); err != nil {
			return err
		}
	}
	return nil
}

// forgetDevices removes all devices of an account whose change is noted anyway.
func forgetDevices(ctx context.Context, tx *sql.Tx, account int64) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM device WHERE account = ?`, account)
	return err
}

func deviceIDs(ctx context.Context, tx *sql.Tx, query string, args ...any) (ids []string, err error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func accountName(ctx context.Context, tx *sql.Tx, id store.AccountID) (name string, err error) {
	err = tx.QueryRowContext(ctx, `SELECT name FROM account WHERE id = ?`, id).Scan(&name)
	return name, translate(err)
}

func putDevice(ctx context.Context, tx *sql.Tx, d store.Device) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO device (`+deviceColumns+
		`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, id) DO UPDATE SET name = excluded.name, software = excluded.software, created = excluded.created,
		seen = excluded.seen, generation = excluded.generation, used = excluded.used, login_expires = excluded.login_expires, used_expires = excluded.used_expires, counter = excluded.counter,
		refresh = excluded.refresh, refresh_before = excluded.refresh_before,
		refresh_replaced = excluded.refresh_replaced, refresh_expires = excluded.refresh_expires`,
		d.Account, d.ID, d.Name, d.Software, unixMilli(d.Created), unixMilli(d.Seen), int64(d.Generation),
		int64(d.Used), unixMilli(d.LoginExpires),
		unixMilli(d.UsedExpires), int64(d.Counter), d.Refresh, d.RefreshBefore,
		unixMilli(d.RefreshReplaced), unixMilli(d.RefreshExpires))
	return err
}

// deviceRow is a row as the driver reads it.
type deviceRow struct {
	d                               store.Device
	created, seen                   int64
	loginExpires, usedExpires       int64
	refreshReplaced, refreshExpires int64
	generation, used, counter       int64
}

func (r *deviceRow) fields() []any {
	d := &r.d
	return []any{&d.Account, &d.ID, &d.Name, &d.Software, &r.created, &r.seen, &r.generation, &r.used, &r.loginExpires,
		&r.usedExpires, &r.counter,
		&d.Refresh, &d.RefreshBefore, &r.refreshReplaced, &r.refreshExpires}
}

func (r *deviceRow) device() store.Device {
	d := r.d
	d.Created, d.Seen = fromMilli(r.created), fromMilli(r.seen)
	d.LoginExpires, d.UsedExpires = fromMilli(r.loginExpires), fromMilli(r.usedExpires)
	d.RefreshReplaced, d.RefreshExpires = fromMilli(r.refreshReplaced), fromMilli(r.refreshExpires)
	d.Generation, d.Used, d.Counter = uint64(r.generation), uint64(r.used), uint64(r.counter)
	return d
}

// unixMilli and fromMilli keep the zero time as 0.
func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMilli(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
