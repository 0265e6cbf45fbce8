package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/posthouse-im/posthouse/store"
)

// LogIn checks a name, which may be an address of the domain, and a password as Verify does, and keeps the device that
// logs in: a known one gets the new name and software, where they are told; one without an ID gets one. The error is a
// *Failure when the login is refused. A device is not kept whose account was changed, or that was signed out, since the
// account was read: what the change removed must not come back by a login that was on its way. The account is returned
// with the Basis of that. It needs TokenConfig.Devices.
func (a *Authenticator) LogIn(ctx context.Context, ch *Channel, name, password string, d store.Device) (store.Account,
	store.Device, error) {
	name, domain, full := strings.Cut(name, "@")
	if full && domain != ch.Domain {
		return store.Account{}, d, &Failure{Condition: NotAuthorized}
	}
	account, failure := a.Verify(ctx, ch, name, password)
	if failure != nil {
		return store.Account{}, d, failure
	}
	if d.ID == "" {
		d.ID = rand.Text()[:22]
	}
	d.Account = account.ID
	err := a.keepDevice(ctx, &d, account.Basis)
	if errors.Is(err, store.ErrOvertaken) || errors.Is(err, store.ErrNotFound) {
		err = &Failure{Condition: NotAuthorized}
	}
	return account, d, err
}

// keepDevice notes what is told of a device, and makes it when it is not there.
func (a *Authenticator) keepDevice(ctx context.Context, d *store.Device, basis store.Basis) error {
	devices := a.Devices()
	err := devices.ChangeDevice(ctx, d.Account, d.ID, basis, func(known *store.Device) error {
		if d.Name != "" {
			known.Name = d.Name
		}
		if d.Software != "" {
			known.Software = d.Software
		}
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		d.Created = a.now()
		d.Seen = d.Created
		err = devices.PutDevice(ctx, *d, basis, a.config.Tokens.MaxDevices)
	}
	if err != nil {
		return fmt.Errorf("note the device: %w", err)
	}
	return nil
}
