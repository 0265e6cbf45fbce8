package node

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/sqlite"
)

// openDatabase opens the database for the tools. Their few writes are always flushed, whatever the node's durability is.
func openDatabase(ctx context.Context, path string) (*sqlite.Store, error) {
	return sqlite.Open(ctx, path, sqlite.Options{Readers: 1})
}

// commandLine names who runs a command, for the audit log.
func commandLine() string {
	name := "user " + strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	return "command line (" + name + ")"
}

// recorded writes to the audit log what is about to be done, does it, and writes too when that failed. Nothing is done that cannot be written down.
func (a *Accounts) recorded(ctx context.Context, action, target string, detail map[string]any, do func() error) error {
	if err := a.record(ctx, action, target, detail); err != nil {
		return err
	}
	err := do()
	if err == nil {
		return nil
	}
	if unwritten := a.record(ctx, action+".failed", target, map[string]any{"error": err.Error()}); unwritten != nil {
		return fmt.Errorf("%w; and that it failed could not be written down: %w", err, unwritten)
	}
	return err
}

func (a *Accounts) record(ctx context.Context, action, target string, detail map[string]any) error {
	e := store.AuditEntry{Actor: a.actor, Action: action, Target: target}
	if len(detail) > 0 {
		text, err := json.Marshal(detail)
		if err != nil {
			return fmt.Errorf("write to the audit log: %w", err)
		}
		e.Detail = string(text)
	}
	_, err := a.database.AppendAudit(ctx, e)
	return err
}
