package node

import (
	"context"

	"github.com/posthouse-im/posthouse/domain/device"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
)

// tokensSecret is the name of the secret that refresh tokens are made with.
const tokensSecret = "refresh-token"

// makeTokens makes what issues and checks tokens. It looks at the store itself, and not at what is remembered of
// accounts: a token is refused soon after its account was changed, also when another process has changed it.
func (a *assembly) makeTokens(ctx context.Context) (err error) {
	c := a.Config.Tokens
	if c.Secret, err = a.database.Secret(ctx, tokensSecret, 32); err != nil {
		return err
	}
	c.Domain = a.domain
	c.Keys = a.database
	c.Services = a.database
	c.Devices = a.auth.Devices()
	c.Accounts = a.database
	c.Ended = func(_ context.Context, account store.AccountID, device string) { a.endDevice(account, device) }
	c.Metrics = a.Registry
	c.Log = a.Log
	a.tokens, err = token.New(ctx, c)
	return err
}

// makeDevices makes what clients ask about their devices and for tokens.
func (a *assembly) makeDevices() (err error) {
	c := a.Config.Device
	c.Devices = a.auth.Devices()
	c.Accounts = a.database
	c.Ended = a.endDevice
	c.Tokens = a.tokens
	c.Sessions = a.sessions
	c.MaxDevices = a.Config.Auth.Tokens.MaxDevices
	c.Metrics = a.Registry
	c.Log = a.Log
	a.devices, err = device.New(c)
	return err
}
