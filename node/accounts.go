package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"github.com/posthouse-im/posthouse/domain/admin"
	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/store/sqlite"
	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// Accounts administers the accounts of a data folder from outside of a node.
type Accounts struct {
	*admin.Operator
	// Folder is the absolute path of the data folder; Made tells that it was not there before.
	Folder string
	Made   bool

	database *sqlite.Store
}

// OpenAccounts opens the accounts of the configured data folder, which is made when it is missing. It does not take
// hold of the folder, so that it works beside a node.
func OpenAccounts(ctx context.Context, c Config) (*Accounts, error) {
	folder, err := filepath.Abs(c.Data)
	if err != nil {
		return nil, fmt.Errorf("find the data folder: %w", err)
	}
	_, err = os.Stat(filepath.Join(folder, Database))
	made := errors.Is(err, fs.ErrNotExist)
	if err := MakeFolder(folder); err != nil {
		return nil, err
	}
	if err := unfinished(folder); err != nil {
		return nil, err
	}
	domain, err := jid.Parse(c.Domain)
	if err != nil {
		return nil, fmt.Errorf("domain %q is not a domain: %w", c.Domain, err)
	}
	// The few writes of the tools are always flushed, whatever the node's durability is.
	database, err := openDatabase(ctx, folder, domain.Domain(), sqlite.Options{Readers: 1})
	if err != nil {
		return nil, fmt.Errorf("open the accounts in %s: %w", folder, err)
	}
	authenticator, err := auth.New(database, c.Auth)
	if err != nil {
		return nil, errors.Join(err, database.Close())
	}
	operator := admin.NewOperator(admin.Operator{
		Domain:     c.Domain,
		Database:   database,
		Auth:       authenticator,
		Tokens:     func(ctx context.Context) (*token.Service, error) { return operatorTokens(ctx, c, database) },
		MaxDevices: c.Auth.Tokens.MaxDevices,
		Actor:      commandLine(),
	})
	return &Accounts{Operator: operator, Folder: folder, Made: made, database: database}, nil
}

// Close closes the accounts.
func (a *Accounts) Close() error { return a.database.Close() }

// operatorTokens makes what issues tokens, as the node's own does.
func operatorTokens(ctx context.Context, c Config, database *sqlite.Store) (*token.Service, error) {
	domain, err := jid.Parse(c.Domain)
	if err != nil {
		return nil, fmt.Errorf("domain %q is not a domain: %w", c.Domain, err)
	}
	t := c.Tokens
	if t.Secret, err = database.Secret(ctx, tokensSecret, 32); err != nil {
		return nil, err
	}
	t.Domain = domain
	t.Keys = database
	t.Services = database
	t.Devices = database
	t.Accounts = database
	return token.New(ctx, t)
}

// commandLine names who runs a command, for the audit log.
func commandLine() string {
	name := "user " + strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	return "command line (" + name + ")"
}
