package sqlite

import (
	"context"
	"database/sql"
	"sync"
)

// statements prepares each text once: that costs more than most of what the texts do. All texts are constants of this
// package, so that there is a bound to them.
type statements struct {
	db *sql.DB
	// mu guards prepared.
	mu       sync.RWMutex
	prepared map[string]*sql.Stmt
}

func newStatements(db *sql.DB) *statements {
	return &statements{db: db, prepared: make(map[string]*sql.Stmt)}
}

// get returns the prepared statement of a text. Closing db closes it.
func (s *statements) get(ctx context.Context, text string) (*sql.Stmt, error) {
	s.mu.RLock()
	stmt := s.prepared[text]
	s.mu.RUnlock()
	if stmt != nil {
		return stmt, nil
	}
	fresh, err := s.db.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if stmt := s.prepared[text]; stmt != nil {
		return stmt, fresh.Close() // somebody else was faster
	}
	s.prepared[text] = fresh
	return fresh, nil
}

// QueryContext runs a query outside a transaction. What it reads is one snapshot, and takes too little time
// to be worth a goroutine that could interrupt it.
func (s *statements) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	stmt, err := s.get(ctx, text)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

// scan runs a query of one row outside a transaction, and puts the row into to.
func (s *statements) scan(ctx context.Context, text string, args []any, to ...any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	stmt, err := s.get(ctx, text)
	if err != nil {
		return err
	}
	return stmt.QueryRowContext(ctx, args...).Scan(to...)
}
