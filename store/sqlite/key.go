package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/posthouse-im/posthouse/store"
)

var (
	_ store.SigningKeys = (*Store)(nil)
	_ store.ServiceKeys = (*Store)(nil)
)

// SigningKeys implements store.SigningKeys.
func (s *Store) SigningKeys(ctx context.Context) ([]store.SigningKey, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT id, private, created, retired FROM signing_key ORDER BY number DESC`)
	if err != nil {
		return nil, fmt.Errorf("read signing keys: %w", translate(err))
	}
	defer rows.Close()
	var all []store.SigningKey
	for rows.Next() {
		var k store.SigningKey
		var created, retired int64
		if err := rows.Scan(&k.ID, &k.Private, &created, &retired); err != nil {
			return nil, fmt.Errorf("read signing keys: %w", err)
		}
		k.Created, k.Retired = fromMilli(created), fromMilli(retired)
		all = append(all, k)
	}
	return all, translate(rows.Err())
}

// AddSigningKey implements store.SigningKeys.
func (s *Store) AddSigningKey(ctx context.Context, k store.SigningKey, after string) error {
	err := s.change(ctx, func(tx *sql.Tx) error {
		newest := ""
		err := tx.QueryRowContext(ctx, `SELECT id FROM signing_key ORDER BY number DESC LIMIT 1`).Scan(&newest)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if newest != after {
			return store.ErrExists
		}
		created := unixMilli(k.Created)
		if _, err := tx.ExecContext(ctx, `UPDATE signing_key SET retired = ? WHERE retired = 0`, created); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO signing_key (id, private, created, retired) VALUES (?, ?, ?, ?)`,
			k.ID, k.Private, created, unixMilli(k.Retired))
		return err
	})
	if err != nil {
		return fmt.Errorf("add signing key: %w", err)
	}
	return nil
}

// RemoveSigningKeys implements store.SigningKeys.
func (s *Store) RemoveSigningKeys(ctx context.Context, t time.Time) error {
	// Mostly there is none, and then nothing is written.
	var n int
	err := s.read.scan(ctx, `SELECT count(*) FROM signing_key WHERE retired <> 0 AND retired < ?`, []any{t.UnixMilli()},
		&n)
	if err == nil && n > 0 {
		err = s.change(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `DELETE FROM signing_key WHERE retired <> 0 AND retired < ?`, t.UnixMilli())
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("remove signing keys: %w", translate(err))
	}
	return nil
}

const serviceKeyColumns = `id, name, hash, scopes, created, expires, used, revoked`

// serviceKeyRow is a row as the driver reads it.
type serviceKeyRow struct {
	k                               store.ServiceKey
	scopes                          string
	created, expires, used, revoked int64
}

func (r *serviceKeyRow) fields() []any {
	return []any{&r.k.ID, &r.k.Name, &r.k.Hash, &r.scopes, &r.created, &r.expires, &r.used, &r.revoked}
}

func (r *serviceKeyRow) key() (store.ServiceKey, error) {
	k := r.k
	if err := json.Unmarshal([]byte(r.scopes), &k.Scopes); err != nil {
		return k, fmt.Errorf("%w: the scopes of key %s", store.ErrDamaged, k.ID)
	}
	k.Created, k.Expires, k.Used, k.Revoked = fromMilli(r.created), fromMilli(r.expires), fromMilli(r.used),
		fromMilli(r.revoked)
	return k, nil
}

// AddServiceKey implements store.ServiceKeys.
func (s *Store) AddServiceKey(ctx context.Context, k store.ServiceKey) error {
	scopes, err := json.Marshal(k.Scopes)
	if err != nil {
		return fmt.Errorf("add service key: %w", err)
	}
	err = s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO service_key (`+serviceKeyColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			k.ID, k.Name, k.Hash, string(scopes), unixMilli(k.Created), unixMilli(k.Expires), unixMilli(k.Used),
			unixMilli(k.Revoked))
		return err
	})
	if err != nil {
		return fmt.Errorf("add service key: %w", err)
	}
	return nil
}

// ServiceKey implements store.ServiceKeys.
func (s *Store) ServiceKey(ctx context.Context, id string) (k store.ServiceKey, err error) {
	var r serviceKeyRow
	if err := s.read.scan(ctx, `SELECT `+serviceKeyColumns+` FROM service_key WHERE id = ?`, []any{id},
		r.fields()...); err != nil {
		return k, fmt.Errorf("read service key: %w", translate(err))
	}
	return r.key()
}

// ListServiceKeys implements store.ServiceKeys.
func (s *Store) ListServiceKeys(ctx context.Context) ([]store.ServiceKey, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT `+serviceKeyColumns+` FROM service_key ORDER BY name, created, id`)
	if err != nil {
		return nil, fmt.Errorf("list service keys: %w", translate(err))
	}
	defer rows.Close()
	var all []store.ServiceKey
	for rows.Next() {
		var r serviceKeyRow
		if err := rows.Scan(r.fields()...); err != nil {
			return nil, fmt.Errorf("list service keys: %w", err)
		}
		k, err := r.key()
		if err != nil {
			return nil, fmt.Errorf("list service keys: %w", err)
		}
		all = append(all, k)
	}
	return all, translate(rows.Err())
}

// RevokeServiceKey implements store.ServiceKeys.
func (s *Store) RevokeServiceKey(ctx context.Context, idOrName string, at time.Time) (k store.ServiceKey, err error) {
	err = s.change(ctx, func(tx *sql.Tx) error {
		var r serviceKeyRow
		err := tx.QueryRowContext(ctx, `SELECT `+serviceKeyColumns+
			` FROM service_key WHERE revoked = 0 AND (id = ?1 OR name = ?1)
			ORDER BY id = ?1 DESC LIMIT 1`, idOrName).Scan(r.fields()...)
		if err != nil {
			return err
		}
		r.revoked = unixMilli(at)
		if k, err = r.key(); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE service_key SET revoked = ? WHERE id = ?`, r.revoked, k.ID)
		return err
	})
	if err != nil {
		return store.ServiceKey{}, fmt.Errorf("revoke service key: %w", err)
	}
	return k, nil
}

// TouchServiceKey implements store.ServiceKeys.
func (s *Store) TouchServiceKey(ctx context.Context, id string, at time.Time) error {
	err := s.change(ctx, func(tx *sql.Tx) error {
		return affected(tx.ExecContext(ctx, `UPDATE service_key SET used = max(used, ?) WHERE id = ?`, unixMilli(at),
			id))
	})
	if err != nil {
		return fmt.Errorf("note the use of a service key: %w", err)
	}
	return nil
}
