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

// People administers the accounts of a data folder, and the keys of other systems, from outside of a node. A node that runs on the same folder
// notices the changes within seconds. Every change is written to the audit log before it is made.
type People struct {
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

// OpenPeople opens the accounts of the configured data folder, which is made when it is missing. It does not take hold of
// the folder, so that it works beside a node.
func OpenPeople(ctx context.Context, c Config) (*People, error) {
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
	return &People{
		Domain: c.Domain, Folder: folder, Made: made, config: c, database: database, auth: authenticator, actor: commandLine(),
	}, nil
}

// Close closes the accounts.
func (p *People) Close() error { return p.database.Close() }

// name takes alice or alice@localhost.
func (p *People) name(address string) (string, error) {
	local, domain, full := strings.Cut(address, "@")
	if full && domain != p.Domain {
		return "", fmt.Errorf("%s: this node serves the domain %s, not %s", address, p.Domain, domain)
	}
	return local, nil
}

// act runs a change of one account, writes it down, and names the account in its error.
func (p *People) act(ctx context.Context, action, address string, change func(name string) error) error {
	name, err := p.name(address)
	if err != nil {
		return err
	}
	if err := p.recorded(ctx, action, p.target(name), nil, func() error { return change(name) }); err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	return nil
}

// target returns the address of an account for the audit log.
func (p *People) target(name string) string {
	if prepared, err := jid.PrepareLocal(name); err == nil {
		name = prepared
	}
	return name + "@" + p.Domain
}

// Add makes an account and returns its address.
func (p *People) Add(ctx context.Context, address, password string) (string, error) {
	var made store.Account
	err := p.act(ctx, "account.create", address, func(name string) (err error) {
		made, err = p.auth.Create(ctx, name, password)
		return err
	})
	return made.Name + "@" + p.Domain, err
}

// SetPassword replaces a password. A node that runs ends the sessions of the account.
func (p *People) SetPassword(ctx context.Context, address, password string) error {
	return p.act(ctx, "account.password", address, func(name string) error { return p.auth.SetPassword(ctx, name, password) })
}

// Delete removes an account for good. Its name stays taken for a year, so that nobody receives what was meant for another.
func (p *People) Delete(ctx context.Context, address string) error {
	return p.act(ctx, "account.delete", address, func(name string) error { return p.auth.Delete(ctx, name) })
}

// SetDisabled keeps somebody from logging in, or lets them in again. A node that runs ends their sessions.
func (p *People) SetDisabled(ctx context.Context, address string, disabled bool) error {
	action := "account.enable"
	if disabled {
		action = "account.disable"
	}
	return p.act(ctx, action, address, func(name string) error { return p.auth.SetDisabled(ctx, name, disabled) })
}

// List calls visit for every account, by name.
func (p *People) List(ctx context.Context, visit func(store.Account) error) error {
	const page = 1000
	for after := ""; ; {
		accounts, err := p.database.ListAccounts(ctx, after, page)
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
