package node

import (
	"context"
	"errors"

	"github.com/posthouse-im/posthouse/domain/device"
	"github.com/posthouse-im/posthouse/public/api"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
)

// tokensSecret is the name of the secret that refresh tokens are made with.
const tokensSecret = "refresh-token"

// makeTokens makes what issues and checks tokens. It looks at the store itself, and not at what is remembered of accounts: a token is refused
// soon after its account was changed, also when another process has changed it.
func (a *assembly) makeTokens(ctx context.Context) (err error) {
	c := a.Config.Tokens
	if c.Secret, err = a.database.Secret(ctx, tokensSecret, 32); err != nil {
		return err
	}
	c.Domain, c.Keys, c.Services, c.Devices, c.Accounts = a.domain, a.database, a.database, a.auth.Devices(), a.database
	c.Admins = a.Config.Auth.Admins
	c.Ended = func(_ context.Context, account store.AccountID, device string) { a.endDevice(account, device) }
	c.Metrics, c.Log = a.Registry, a.Log
	a.tokens, err = token.New(ctx, c)
	return err
}

// confirmDevice takes a device away that was just made, when the account was changed or the device signed out since the login began: what the change
// removed must not come back by a login that was on its way. began is the number of the newest change before the password was looked at.
func (a *assembly) confirmDevice(ctx context.Context, account store.AccountID, device string, began int64) error {
	changed, err := a.database.ChangedSince(ctx, account, device, began)
	if err == nil && !changed {
		return nil
	}
	if err == nil {
		err = api.ErrLogin
	}
	if gone := a.auth.Devices().RemoveDevice(ctx, account, device); gone != nil && !errors.Is(gone, store.ErrNotFound) {
		err = errors.Join(err, gone)
	}
	return err
}

// makeDevices makes what clients ask about their devices and for tokens.
func (a *assembly) makeDevices() (err error) {
	c := a.Config.Device
	c.Devices, c.Accounts, c.Changes, c.Tokens, c.Sessions = a.auth.Devices(), a.database, a.database, a.tokens, a.sessions
	c.MaxDevices = a.Config.Auth.Tokens.MaxDevices
	c.Metrics, c.Log = a.Registry, a.Log
	a.devices, err = device.New(c)
	return err
}
