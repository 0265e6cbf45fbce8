package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/posthouse-im/posthouse/store"
)

var _ store.Audit = (*Store)(nil)

const auditColumns = `number, at, actor, action, target, detail, remote, hash`

// AppendAudit implements store.Audit.
func (s *Store) AppendAudit(ctx context.Context, e store.AuditEntry) (store.AuditEntry, error) {
	if e.At.IsZero() {
		e.At = s.now()
	}
	e.At = fromMilli(e.At.UnixMilli())
	err := s.change(ctx, func(tx *sql.Tx) error {
		var last []byte
		e.Number = 0
		err := tx.QueryRowContext(ctx, `SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1`).Scan(&e.Number,
			&last)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		e.Number++
		e.Hash = store.AuditHash(last, e)
		_, err = tx.ExecContext(ctx, `INSERT INTO audit (`+auditColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			e.Number, e.At.UnixMilli(), e.Actor, e.Action, e.Target, e.Detail, e.Remote, e.Hash)
		return err
	})
	if err != nil {
		return store.AuditEntry{}, fmt.Errorf("write to the audit log: %w", err)
	}
	return e, nil
}

// AuditEntries implements store.Audit.
func (s *Store) AuditEntries(ctx context.Context, before uint64, limit int) ([]store.AuditEntry, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT `+auditColumns+
		` FROM audit WHERE ?1 = 0 OR number < ?1 ORDER BY number DESC LIMIT ?2`,
		int64(min(before, 1<<62)), limit)
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", translate(err))
	}
	return auditEntries(rows)
}

func auditEntries(rows *sql.Rows) (all []store.AuditEntry, err error) {
	defer rows.Close()
	for rows.Next() {
		var e store.AuditEntry
		var at int64
		if err := rows.Scan(&e.Number, &at, &e.Actor, &e.Action, &e.Target, &e.Detail, &e.Remote, &e.Hash); err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		e.At = fromMilli(at)
		all = append(all, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the audit log: %w", translate(err))
	}
	return all, nil
}

// auditPage is how many entries are verified at a time.
const auditPage = 250

// VerifyAudit implements store.Audit.
func (s *Store) VerifyAudit(ctx context.Context) (last store.AuditEntry, err error) {
	// Before the entries are read, which may become more meanwhile.
	var highest uint64
	if err := s.read.scan(ctx, `SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'audit'), 0)`, nil,
		&highest); err != nil {
		return last, fmt.Errorf("verify the audit log: %w", translate(err))
	}
	for {
		rows, err := s.read.QueryContext(ctx, `SELECT `+auditColumns+
			` FROM audit WHERE number > ? ORDER BY number LIMIT ?`, last.Number, auditPage)
		if err != nil {
			return last, fmt.Errorf("verify the audit log: %w", translate(err))
		}
		page, err := auditEntries(rows)
		if err != nil {
			return last, err
		}
		for _, e := range page {
			if e.Number != last.Number+1 {
				return last, fmt.Errorf("verify the audit log: entry %d is missing: %w", last.Number+1,
					store.ErrDamaged)
			}
			if !bytes.Equal(e.Hash, store.AuditHash(last.Hash, e)) {
				return last, fmt.Errorf("verify the audit log: entry %d is not what was written: %w", e.Number,
					store.ErrDamaged)
			}
			last = e
		}
		if len(page) < auditPage {
			break
		}
	}
	if last.Number < highest {
		return last, fmt.Errorf("verify the audit log: entry %d is missing: %w", last.Number+1, store.ErrDamaged)
	}
	return last, nil
}
