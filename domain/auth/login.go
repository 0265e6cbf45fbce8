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
// login began: what the change removed must not come back by a login that was on its way. It needs TokenConfig.Devices
// and Changes.
func (a *Authenticator) LogIn(ctx context.Context, ch *Channel, name, password string, d store.Device) (store.Account,
	store.Device, error) {
	name, domain, full := strings.Cut(name, "@")
	if full && domain != ch.Domain {
		return store.Account{}, d, &Failure{Condition: NotAuthorized}
	}
	began, err := a.config.Tokens.Changes.NewestChange(ctx) // before the password is looked at
	if err != nil {
		return store.Account{}, d, fmt.Errorf("log in: %w", err)
	}
	account, failure := a.Verify(ctx, ch, name, password)
	if failure != nil {
		return store.Account{}, d, failure
	}
	if d.ID == "" {
		d.ID = rand.Text()[:22]
	}
	d.Account = account.ID
	if err := a.keepDevice(ctx, &d, began); err != nil {
		return store.Account{}, d, err
	}
	return account, d, nil
}

// keepDevice notes what is told of a device, and makes it when it is not there.
func (a *Authenticator) keepDevice(ctx context.Context, d *store.Device, began int64) error {
	devices := a.Devices()
	err := devices.ChangeDevice(ctx, d.Account, d.ID, func(known *store.Device) error {
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
		if err = devices.PutDevice(ctx, *d, a.config.Tokens.MaxDevices); err == nil {
			return a.confirmDevice(ctx, d, began)
		}
	}
	if err != nil {
		return fmt.Errorf("note the device: %w", err)
	}
	return nil
}

// confirmDevice takes a device away that was just made, when it was overtaken since the change of that number.
func (a *Authenticator) confirmDevice(ctx context.Context, d *store.Device, began int64) error {
	changed, err := a.config.Tokens.Changes.ChangedSince(ctx, d.Account, d.ID, began)
	if err == nil && !changed {
		return nil
	}
	if err == nil {
		err = &Failure{Condition: NotAuthorized}
	}
	if gone := a.Devices().RemoveDevice(ctx, d.Account, d.ID); gone != nil && !errors.Is(gone, store.ErrNotFound) {
		err = errors.Join(err, gone)
	}
	return err
}
