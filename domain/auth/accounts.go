package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/posthouse-im/posthouse/limit"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// Kinds of changes, in the log and the metrics.
const (
	changeCreated  = "created"
	changeDeleted  = "deleted"
	changePassword = "password"
	changeDisabled = "disabled"
	changeEnabled  = "enabled"
)

// AllowRegistration counts a registration from that address, if it has any left this hour. It is asked before Register
// by whoever serves unauthenticated clients.
func (a *Authenticator) AllowRegistration(remote netip.Addr) bool {
	return a.registered.Take(limit.AddressOf(remote), 1) == 0
}

// Register makes an account for whoever asks (XEP-0077 §3.1). Names that are reserved, mix scripts or look like another
// account are refused; Create does not mind them. The error is a Refusal or comes from the store.
func (a *Authenticator) Register(ctx context.Context, name, password string) (store.Account, error) {
	prepared, err := jid.PrepareLocal(name)
	if err != nil {
		return store.Account{}, RefusedNameMalformed
	}
	if err := a.checkNewName(ctx, prepared); err != nil {
		return store.Account{}, err
	}
	return a.Create(ctx, prepared, password)
}

// Create makes an account for an operator. The error is a Refusal or comes from the store.
func (a *Authenticator) Create(ctx context.Context, name, password string) (store.Account, error) {
	// Before any work is spent on a name that is taken. The store has the last word.
	if prepared, err := jid.PrepareLocal(name); err == nil {
		if _, taken, err := a.directory.Lookup(ctx, prepared); err != nil {
			return store.Account{}, fmt.Errorf("creating an account: %w", err)
		} else if taken {
			return store.Account{}, RefusedNameTaken
		}
	}
	account, err := a.NewAccount(ctx, name, password)
	if err != nil {
		return store.Account{}, err
	}
	account.ID, err = a.accounts.CreateAccount(ctx, account)
	a.directory.Invalidate(account.Name)
	switch {
	case errors.Is(err, store.ErrExists):
		return store.Account{}, RefusedNameTaken
	case err != nil:
		return store.Account{}, fmt.Errorf("creating an account: %w", err)
	}
	a.remember(account, password)
	a.changed(ctx, changeCreated, account.Name)
	return account, nil
}

// NewAccount prepares an account that is not stored yet, for Create and for imports of many: name and password are
// checked, and the keys are derived. The error is a Refusal or the context's.
func (a *Authenticator) NewAccount(ctx context.Context, name, password string) (store.Account, error) {
	prepared, err := jid.PrepareLocal(name)
	if err != nil {
		return store.Account{}, RefusedNameMalformed
	}
	credentials, err := a.newCredentials(ctx, prepared, password)
	if err != nil {
		return store.Account{}, err
	}
	return store.Account{Name: prepared, Credentials: credentials}, nil
}

// SetPassword replaces an account's password. Sessions of the account stay; to end them is the caller's.
// The error is a Refusal or comes from the store.
func (a *Authenticator) SetPassword(ctx context.Context, name, password string) error {
	prepared, err := jid.PrepareLocal(name)
	if err != nil {
		return RefusedNameMalformed
	}
	credentials, err := a.newCredentials(ctx, prepared, password)
	if err != nil {
		return err
	}
	return a.change(ctx, changePassword, prepared,
		func() error { return a.accounts.SetCredentials(ctx, prepared, credentials) })
}

// SetDisabled disables or enables an account. Sessions of the account stay; to end them is the caller's.
// The error is a Refusal or comes from the store.
func (a *Authenticator) SetDisabled(ctx context.Context, name string, disabled bool) error {
	prepared, err := jid.PrepareLocal(name)
	if err != nil {
		return RefusedNameMalformed
	}
	kind := changeEnabled
	if disabled {
		kind = changeDisabled
	}
	return a.change(ctx, kind, prepared, func() error { return a.accounts.SetDisabled(ctx, prepared, disabled) })
}

// Delete removes an account. Its name stays taken for a year, and its identity for ever. Sessions of the account stay;
// to end them is the caller's. The error is a Refusal or comes from the store.
func (a *Authenticator) Delete(ctx context.Context, name string) error {
	prepared, err := jid.PrepareLocal(name)
	if err != nil {
		return RefusedNameMalformed
	}
	return a.change(ctx, changeDeleted, prepared, func() error { return a.accounts.DeleteAccount(ctx, prepared) })
}

// change runs a change of an account. The directory forgets it in any case, because after an error it is not known what
// was stored.
func (a *Authenticator) change(ctx context.Context, kind, name string, run func() error) error {
	id, known, unsure := a.directory.Lookup(ctx, name)
	err := run()
	a.directory.Invalidate(name)
	switch {
	case a.devices == nil:
	case known:
		a.devices.forgetAccount(id)
	case unsure != nil:
		a.devices.forgetAll()
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return RefusedNoAccount
	case err != nil:
		return fmt.Errorf("changing an account (%s): %w", kind, err)
	}
	a.changed(ctx, kind, name)
	return nil
}

func (a *Authenticator) changed(ctx context.Context, kind, name string) {
	a.metrics.changes[kind].Inc()
	a.log.LogAttrs(ctx, slog.LevelInfo, "account changed", slog.String("event", "auth.account_"+kind),
		slog.String("account", clip(name)))
}

// newCredentials checks a new password and derives its keys, in turn with the logins that do so.
func (a *Authenticator) newCredentials(ctx context.Context, name, password string) ([]store.Credential, error) {
	prepared, err := checkNewPassword(name, password, a.config.PasswordMin, a.config.AllowCommonPasswords)
	if err != nil {
		return nil, err
	}
	err = a.hashing.Enter(ctx)
	if errors.Is(err, limit.ErrBusy) {
		return nil, RefusedBusy
	}
	if err != nil {
		return nil, err
	}
	defer a.hashing.Leave()
	return MakeCredentials(prepared, a.config.Iterations)
}

// remember primes the memory of PLAIN: who has just registered logs in next.
func (a *Authenticator) remember(account store.Account, password string) {
	if prepared, ok := preparePassword(password); ok {
		_, key := strongest(account.Credentials)
		a.memo.learn(account.ID, key, prepared)
	}
}
