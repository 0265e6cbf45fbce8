package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// Database is what an Operator works on.
type Database interface {
	store.Accounts
	store.Devices
	store.ServiceKeys
	store.Audit
}

// Operator administers the accounts of a domain, and the keys of other systems, from outside of a node. A node that
// runs on the same database notices the changes within seconds. Every change is written to the audit log before it is
// made.
type Operator struct {
	// Domain of the addresses.
	Domain   string
	Database Database
	Auth     *auth.Authenticator
	// Tokens makes what issues tokens, as the node's own does.
	Tokens func(ctx context.Context) (*token.Service, error)
	// MaxDevices is how many devices of an account are remembered.
	MaxDevices int `default:"50"`
	// Actor is who does it, for the audit log.
	Actor string
}

// NewOperator returns an operator; all fields but MaxDevices are required.
func NewOperator(o Operator) *Operator {
	defaults.Fill(&o)
	return &o
}

// name takes alice or alice@localhost.
func (o *Operator) name(address string) (string, error) {
	local, domain, full := strings.Cut(address, "@")
	if full && domain != o.Domain {
		return "", fmt.Errorf("%s: this node serves the domain %s, not %s", address, o.Domain, domain)
	}
	return local, nil
}

// act runs a change of one account, writes it down, and names the account in its error.
func (o *Operator) act(ctx context.Context, action, address string, change func(name string) error) error {
	name, err := o.name(address)
	if err != nil {
		return err
	}
	if err := o.recorded(ctx, action, o.target(name), nil, func() error { return change(name) }); err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	return nil
}

// target returns the address of an account for the audit log.
func (o *Operator) target(name string) string {
	if prepared, err := jid.PrepareLocal(name); err == nil {
		name = prepared
	}
	return name + "@" + o.Domain
}

// Add makes an account and returns its address.
func (o *Operator) Add(ctx context.Context, address, password string) (string, error) {
	var made store.Account
	err := o.act(ctx, "account.create", address, func(name string) (err error) {
		made, err = o.Auth.Create(ctx, name, password)
		return err
	})
	return made.Name + "@" + o.Domain, err
}

// SetPassword replaces a password. A node that runs ends the sessions of the account.
func (o *Operator) SetPassword(ctx context.Context, address, password string) error {
	return o.act(ctx, "account.password", address,
		func(name string) error { return o.Auth.SetPassword(ctx, name, password) })
}

// Delete removes an account for good. Its name stays taken for a year, so that nobody receives what was meant for
// another.
func (o *Operator) Delete(ctx context.Context, address string) error {
	return o.act(ctx, "account.delete", address, func(name string) error { return o.Auth.Delete(ctx, name) })
}

// SetDisabled keeps somebody from logging in, or lets them in again. A node that runs ends their sessions.
func (o *Operator) SetDisabled(ctx context.Context, address string, disabled bool) error {
	action := "account.enable"
	if disabled {
		action = "account.disable"
	}
	return o.act(ctx, action, address, func(name string) error { return o.Auth.SetDisabled(ctx, name, disabled) })
}

// SetAdmin makes an account an administrator of the domain, or no longer one. A node that runs follows within two
// seconds.
func (o *Operator) SetAdmin(ctx context.Context, address string, admin bool) error {
	action := "account.admin.off"
	if admin {
		action = "account.admin.on"
	}
	return o.act(ctx, action, address, func(name string) error {
		prepared, err := jid.PrepareLocal(name)
		if err == nil {
			err = o.Database.SetAdmin(ctx, prepared, admin)
		}
		if err != nil && (errors.Is(err, store.ErrNotFound) || prepared == "") {
			return auth.RefusedNoAccount
		}
		return err
	})
}

// List calls visit for every account, by name.
func (o *Operator) List(ctx context.Context, visit func(store.Account) error) error {
	const page = 1000
	for after := ""; ; {
		accounts, err := o.Database.ListAccounts(ctx, after, page)
		if err != nil {
			return fmt.Errorf("list accounts: %w", err)
		}
		for _, one := range accounts {
			if err := visit(one); err != nil {
				return err
			}
			after = one.Name
		}
		if len(accounts) < page {
			return nil
		}
	}
}

// recorded writes to the audit log what is about to be done, does it, and writes too when that failed. Nothing is done
// that cannot be written down.
func (o *Operator) recorded(ctx context.Context, action, target string, detail map[string]any, do func() error) error {
	if err := o.record(ctx, action, target, detail); err != nil {
		return err
	}
	err := do()
	if err == nil {
		return nil
	}
	if unwritten := o.record(ctx, action+".failed", target, map[string]any{"error": err.Error()}); unwritten != nil {
		return fmt.Errorf("%w; and that it failed could not be written down: %w", err, unwritten)
	}
	return err
}

// Record writes down an action that changes no account, before it is done.
func (o *Operator) Record(ctx context.Context, action, target string) error {
	return o.record(ctx, action, target, nil)
}

func (o *Operator) record(ctx context.Context, action, target string, detail map[string]any) error {
	return appendAudit(ctx, o.Database, store.AuditEntry{Actor: o.Actor, Action: action, Target: target}, detail)
}
