package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/sqlite"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// Accounts administers the accounts of a data folder, and the keys of other systems, from outside of a node. A node that runs on the same folder
// notices the changes within seconds. Every change is written to the audit log before it is made.
type Accounts struct {
	// Domain of the addresses.
	Domain string
	// Folder is the absolute path of the data folder; Made tells that it was not there before.
	Folder string
	Made   bool

	config   Config
	database *sqlite.Store
	auth     *auth.Authenticator
	// actor is who does it, for the audit log.
	actor string
}

// OpenAccounts opens the accounts of the configured data folder, which is made when it is missing. It does not take hold of
// the folder, so that it works beside a node.
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
	database, err := openDatabase(ctx, filepath.Join(folder, Database))
	if err != nil {
		return nil, fmt.Errorf("open the accounts in %s: %w", folder, err)
	}
	authenticator, err := auth.New(database, c.Auth)
	if err != nil {
		return nil, errors.Join(err, database.Close())
	}
	return &Accounts{
		Domain: c.Domain, Folder: folder, Made: made, config: c, database: database, auth: authenticator, actor: commandLine(),
	}, nil
}

// Close closes the accounts.
func (a *Accounts) Close() error { return a.database.Close() }

// name takes alice or alice@localhost.
func (a *Accounts) name(address string) (string, error) {
	local, domain, full := strings.Cut(address, "@")
	if full && domain != a.Domain {
		return "", fmt.Errorf("%s: this node serves the domain %s, not %s", address, a.Domain, domain)
	}
	return local, nil
}

// act runs a change of one account, writes it down, and names the account in its error.
func (a *Accounts) act(ctx context.Context, action, address string, change func(name string) error) error {
	name, err := a.name(address)
	if err != nil {
		return err
	}
	if err := a.recorded(ctx, action, a.target(name), nil, func() error { return change(name) }); err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	return nil
}

// target returns the address of an account for the audit log.
func (a *Accounts) target(name string) string {
	if prepared, err := jid.PrepareLocal(name); err == nil {
		name = prepared
	}
	return name + "@" + a.Domain
}

// Add makes an account and returns its address.
func (a *Accounts) Add(ctx context.Context, address, password string) (string, error) {
	var made store.Account
	err := a.act(ctx, "account.create", address, func(name string) (err error) {
		made, err = a.auth.Create(ctx, name, password)
		return err
	})
	return made.Name + "@" + a.Domain, err
}

// SetPassword replaces a password. A node that runs ends the sessions of the account.
func (a *Accounts) SetPassword(ctx context.Context, address, password string) error {
	return a.act(ctx, "account.password", address, func(name string) error { return a.auth.SetPassword(ctx, name, password) })
}

// Delete removes an account for good. Its name stays taken for a year, so that nobody receives what was meant for another.
func (a *Accounts) Delete(ctx context.Context, address string) error {
	return a.act(ctx, "account.delete", address, func(name string) error { return a.auth.Delete(ctx, name) })
}

// SetDisabled keeps somebody from logging in, or lets them in again. A node that runs ends their sessions.
func (a *Accounts) SetDisabled(ctx context.Context, address string, disabled bool) error {
	action := "account.enable"
	if disabled {
		action = "account.disable"
	}
	return a.act(ctx, action, address, func(name string) error { return a.auth.SetDisabled(ctx, name, disabled) })
}

// List calls visit for every account, by name.
func (a *Accounts) List(ctx context.Context, visit func(store.Account) error) error {
	const page = 1000
	for after := ""; ; {
		accounts, err := a.database.ListAccounts(ctx, after, page)
		if err != nil {
			return fmt.Errorf("list accounts: %w", err)
		}
		for _, a := range accounts {
			if err := visit(a); err != nil {
				return err
			}
			after = a.Name
		}
		if len(accounts) < page {
			return nil
		}
	}
}
