package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/posthouse-im/posthouse/store"
)

// reservation is how long the name of a deleted account is kept from others.
const reservation = 365 * 24 * time.Hour

// Account implements store.AccountReader.
func (s *Store) Account(ctx context.Context, name string) (store.Account, error) {
	rows, err := s.read.QueryContext(ctx, `
		SELECT a.id, a.created, a.disabled, a.admin, `+newestChange+`, c.hash, c.salt, c.iterations, c.stored_key, c.server_key
		FROM account a LEFT JOIN credential c ON c.account = a.id WHERE a.name = ? ORDER BY c.hash`, name)
	if err != nil {
		return store.Account{}, fmt.Errorf("read account: %w", translate(err))
	}
	defer rows.Close()
	a := store.Account{Name: name}
	for rows.Next() {
		var created int64
		var hash sql.NullString
		var iterations sql.NullInt64
		var c store.Credential
		if err := rows.Scan(&a.ID, &created, &a.Disabled, &a.Admin, &a.Basis, &hash, &c.Salt, &iterations,
			&c.StoredKey, &c.ServerKey); err != nil {
			return store.Account{}, fmt.Errorf("read account: %w", err)
		}
		a.Created = time.UnixMilli(created).UTC()
		if hash.Valid {
			c.Hash, c.Iterations = hash.String, int(iterations.Int64)
			a.Credentials = append(a.Credentials, c)
		}
	}
	if err := rows.Err(); err != nil {
		return store.Account{}, fmt.Errorf("read account: %w", translate(err))
	}
	if a.ID == 0 {
		return store.Account{}, store.ErrNotFound
	}
	return a, nil
}

// ListAccounts implements store.AccountReader.
func (s *Store) ListAccounts(ctx context.Context, after string, limit int) ([]store.Account, error) {
	rows, err := s.read.QueryContext(ctx,
		`SELECT id, name, created, disabled, admin FROM account WHERE name > ? ORDER BY name LIMIT ?`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", translate(err))
	}
	defer rows.Close()
	var all []store.Account
	for rows.Next() {
		var a store.Account
		var created int64
		if err := rows.Scan(&a.ID, &a.Name, &created, &a.Disabled, &a.Admin); err != nil {
			return nil, fmt.Errorf("list accounts: %w", err)
		}
		a.Created = time.UnixMilli(created).UTC()
		all = append(all, a)
	}
	return all, translate(rows.Err())
}

// IterationCounts implements store.AccountReader.
func (s *Store) IterationCounts(ctx context.Context) ([]store.IterationCount, error) {
	rows, err := s.read.QueryContext(ctx,
		`SELECT hash, iterations, count(*) FROM credential GROUP BY hash, iterations ORDER BY hash, iterations`)
	if err != nil {
		return nil, fmt.Errorf("count iterations: %w", translate(err))
	}
	defer rows.Close()
	var all []store.IterationCount
	for rows.Next() {
		var c store.IterationCount
		if err := rows.Scan(&c.Hash, &c.Iterations, &c.Credentials); err != nil {
			return nil, fmt.Errorf("count iterations: %w", err)
		}
		all = append(all, c)
	}
	return all, translate(rows.Err())
}

// CreateAccount implements store.AccountWriter.
func (s *Store) CreateAccount(ctx context.Context, a store.Account) (id store.AccountID, err error) {
	err = s.change(ctx, func(tx *sql.Tx) error {
		c, err := s.creator(ctx, tx)
		if err != nil {
			return err
		}
		id, err = c.create(ctx, a)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("create account: %w", err)
	}
	return id, nil
}

// CreateAccounts implements store.AccountWriter.
func (s *Store) CreateAccounts(ctx context.Context, accounts []store.Account) ([]store.AccountID, error) {
	ids := make([]store.AccountID, len(accounts))
	err := s.change(ctx, func(tx *sql.Tx) error {
		c, err := s.creator(ctx, tx)
		if err != nil {
			return err
		}
		for i, a := range accounts {
			id, err := c.create(ctx, a)
			if err != nil && !errors.Is(err, store.ErrExists) {
				return err
			}
			ids[i] = id
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("create %d accounts: %w", len(accounts), err)
	}
	return ids, nil
}

// creator creates accounts in a transaction, which takes its statements with it.
type creator struct {
	taken, given, account, credential *sql.Stmt
	now                               int64
	number                            func(context.Context) (store.AccountID, error)
	note                              func(store.Change) error
}

func (s *Store) creator(ctx context.Context, tx *sql.Tx) (c creator, err error) {
	c.now = s.now().UnixMilli()
	c.number = s.number
	c.note = func(made store.Change) error { return s.note(ctx, tx, made) }
	c.taken, err = tx.PrepareContext(ctx, `SELECT (SELECT count(*) FROM account WHERE name = ?1)
		+ (SELECT count(*) FROM reserved_name WHERE name = ?1 AND until > ?2)`)
	if err != nil {
		return c, err
	}
	c.given, err = tx.PrepareContext(ctx, `INSERT INTO account_number (id) VALUES (?) ON CONFLICT DO NOTHING`)
	if err != nil {
		return c, err
	}
	c.account, err = tx.PrepareContext(ctx, `INSERT INTO account (id, name, created, disabled) VALUES (?, ?, ?, ?)`)
	if err != nil {
		return c, err
	}
	c.credential, err = prepareCredential(ctx, tx)
	return c, err
}

// create inserts one account; ErrExists leaves the transaction usable.
func (c creator) create(ctx context.Context, a store.Account) (store.AccountID, error) {
	var taken int
	if err := c.taken.QueryRowContext(ctx, a.Name, c.now).Scan(&taken); err != nil {
		return 0, translate(err)
	}
	if taken > 0 {
		return 0, store.ErrExists
	}
	id, err := c.fresh(ctx)
	if err != nil {
		return 0, err
	}
	if _, err := c.account.ExecContext(ctx, id, a.Name, c.now, a.Disabled); err != nil {
		return 0, translate(err)
	}
	if err := insertCredentials(ctx, c.credential, int64(id), a.Credentials); err != nil {
		return 0, err
	}
	return id, c.note(store.Change{Kind: store.AccountCreated, Account: id, Name: a.Name})
}

// mostDraws is how many numbers are drawn before the source of randomness is taken to be broken.
const mostDraws = 100

// fresh returns a number that no account has or had.
func (c creator) fresh(ctx context.Context) (store.AccountID, error) {
	for range mostDraws {
		id, err := c.number(ctx)
		if err != nil {
			return 0, err
		}
		if id == 0 {
			continue
		}
		n, err := rowsOf(c.given.ExecContext(ctx, id))
		if err != nil {
			return 0, translate(err)
		}
		if n > 0 {
			return id, nil
		}
	}
	return 0, errors.New("draw the number of an account: the source of randomness repeats itself")
}

// number draws a number below 2^63, 0 when the one that was drawn cannot be used.
func (s *Store) number(ctx context.Context) (store.AccountID, error) {
	var b [8]byte
	if _, err := io.ReadFull(s.random, b[:]); err != nil {
		return 0, fmt.Errorf("draw the number of an account: %w", err)
	}
	id := store.AccountID(binary.BigEndian.Uint64(b[:]) >> 1)
	if s.inLog == nil || id == 0 {
		return id, nil
	}
	known, err := s.inLog(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("look for the number of an account in the message log: %w", err)
	}
	if known {
		return 0, nil
	}
	return id, nil
}

func prepareCredential(ctx context.Context, tx *sql.Tx) (*sql.Stmt, error) {
	return tx.PrepareContext(
		ctx,
		`INSERT INTO credential (account, hash, salt, iterations, stored_key, server_key) VALUES (?, ?, ?, ?, ?, ?)`)
}

func insertCredentials(ctx context.Context, insert *sql.Stmt, account int64, all []store.Credential) error {
	for _, c := range all {
		if _, err := insert.ExecContext(ctx, account, c.Hash, c.Salt, c.Iterations, c.StoredKey,
			c.ServerKey); err != nil {
			return translate(err)
		}
	}
	return nil
}

// replaceCredentials puts other credentials into the place of an account's.
func replaceCredentials(ctx context.Context, tx *sql.Tx, account int64, c []store.Credential) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM credential WHERE account = ?`, account); err != nil {
		return err
	}
	insert, err := prepareCredential(ctx, tx)
	if err != nil {
		return err
	}
	return insertCredentials(ctx, insert, account, c)
}

// hasCredentials returns store.ErrOvertaken when the credentials of an account are not these.
func hasCredentials(ctx context.Context, tx *sql.Tx, account int64, want []store.Credential) error {
	var all, same int
	err := tx.QueryRowContext(ctx, `SELECT count(*) FROM credential WHERE account = ?`, account).Scan(&all)
	for i := 0; i < len(want) && err == nil; i++ {
		var n int
		err = tx.QueryRowContext(ctx,
			`SELECT count(*) FROM credential WHERE account = ? AND hash = ? AND stored_key = ?`,
			account, want[i].Hash, want[i].StoredKey).Scan(&n)
		same += n
	}
	if err == nil && (same != all || same != len(want)) {
		err = store.ErrOvertaken
	}
	return err
}

// RenewCredentials implements store.AccountWriter.
func (s *Store) RenewCredentials(ctx context.Context, name string, basis store.Basis,
	old, renewed []store.Credential) error {
	err := s.change(ctx, func(tx *sql.Tx) error {
		id, err := accountID(ctx, tx, name)
		if err != nil {
			return err
		}
		account := store.AccountID(id)
		if err := current(ctx, tx, account, "", basis); err != nil {
			return err
		}
		if err := hasCredentials(ctx, tx, id, old); err != nil {
			return err
		}
		if err := replaceCredentials(ctx, tx, id, renewed); err != nil {
			return err
		}
		return s.note(ctx, tx, store.Change{Kind: store.CredentialsRenewed, Account: account, Name: name})
	})
	if err != nil {
		return fmt.Errorf("renew credentials: %w", err)
	}
	return nil
}

// SetCredentials implements store.AccountWriter.
func (s *Store) SetCredentials(ctx context.Context, name string, c []store.Credential) error {
	err := s.change(ctx, func(tx *sql.Tx) error {
		id, err := accountID(ctx, tx, name)
		if err != nil {
			return err
		}
		if err := replaceCredentials(ctx, tx, id, c); err != nil {
			return err
		}
		if err := forgetDevices(ctx, tx, id); err != nil {
			return err
		}
		return s.note(ctx, tx, store.Change{Kind: store.AccountChanged, Account: store.AccountID(id), Name: name})
	})
	if err != nil {
		return fmt.Errorf("set credentials: %w", err)
	}
	return nil
}

func accountID(ctx context.Context, tx *sql.Tx, name string) (id int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT id FROM account WHERE name = ?`, name).Scan(&id)
	return id, translate(err)
}

// SetDisabled implements store.AccountWriter.
func (s *Store) SetDisabled(ctx context.Context, name string, disabled bool) error {
	err := s.change(ctx, func(tx *sql.Tx) error {
		id, err := accountID(ctx, tx, name)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE account SET disabled = ? WHERE id = ?`, disabled, id); err != nil {
			return err
		}
		if disabled {
			if err := forgetDevices(ctx, tx, id); err != nil {
				return err
			}
		}
		return s.note(ctx, tx, store.Change{Kind: store.AccountChanged, Account: store.AccountID(id), Name: name})
	})
	if err != nil {
		return fmt.Errorf("disable or enable account: %w", err)
	}
	return nil
}

// SetAdmin implements store.AccountWriter.
func (s *Store) SetAdmin(ctx context.Context, name string, admin bool) error {
	err := s.change(ctx, func(tx *sql.Tx) error {
		return affected(tx.ExecContext(ctx, `UPDATE account SET admin = ? WHERE name = ?`, admin, name))
	})
	if err != nil {
		return fmt.Errorf("set who is an administrator: %w", err)
	}
	return nil
}

// DeleteAccount implements store.AccountWriter.
func (s *Store) DeleteAccount(ctx context.Context, name string) error {
	err := s.change(ctx, func(tx *sql.Tx) error {
		id, err := accountID(ctx, tx, name)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM account WHERE id = ?`, id); err != nil {
			return err
		}
		if err := s.note(ctx, tx, store.Change{Kind: store.AccountChanged, Account: store.AccountID(id),
			Name: name}); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO reserved_name (name, until, account) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET until = excluded.until, account = excluded.account`, name, s.now().Add(reservation).UnixMilli(), id)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete account: %w", err)
	}
	return nil
}

var _ store.FormerAccounts = (*Store)(nil)

// FormerAccount implements store.FormerAccounts.
func (s *Store) FormerAccount(ctx context.Context, name string) (id store.AccountID, err error) {
	if err := s.read.scan(ctx, `SELECT account FROM reserved_name WHERE name = ? AND account <> 0`, []any{name},
		&id); err != nil {
		return 0, fmt.Errorf("former account: %w", translate(err))
	}
	return id, nil
}

// Secret implements store.Secrets.
func (s *Store) Secret(ctx context.Context, name string, size int) (secret []byte, err error) {
	fresh := make([]byte, size)
	if _, err := rand.Read(fresh); err != nil {
		return nil, fmt.Errorf("make secret %s: %w", name, err)
	}
	err = s.change(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO secret (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING`, name,
			fresh); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, `SELECT value FROM secret WHERE name = ?`, name).Scan(&secret)
	})
	if err != nil {
		return nil, fmt.Errorf("read secret %s: %w", name, err)
	}
	return secret, nil
}
