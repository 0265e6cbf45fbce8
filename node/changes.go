package node

import (
	"context"
	"time"

	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/stream"
)

const (
	// watchInterval is how often the node looks for what another process has changed.
	watchInterval = time.Second
	// changesRead is how many changes are read at once.
	changesRead = 1000
)

// followChanges makes the parts of the node forget what another process has changed, and ends the sessions of accounts
// whose password was changed, or that were disabled or deleted, and those of devices that were signed out.
func (a *assembly) followChanges(ctx context.Context) error {
	seen, err := a.database.NewestChange(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil // stopped before it began
		}
		return err
	}
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for more := false; ; {
		if !more {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
		changes, err := a.database.Changes(ctx, seen, changesRead)
		more = len(changes) == changesRead
		if err != nil {
			if ctx.Err() == nil {
				a.Log.Error("cannot look for what was changed; it is tried again", "error", err)
				a.Health.Degrade("accounts", err.Error())
			}
			continue
		}
		a.Health.Degrade("accounts", "")
		for _, c := range changes {
			seen = c.Number
			a.noteChange(ctx, c)
		}
	}
}

// noteChange acts on a change that another process has made.
func (a *assembly) noteChange(ctx context.Context, c store.Change) {
	account := uint64(c.Account)
	switch c.Kind {
	case store.AccountCreated, store.CredentialsRenewed:
		a.auth.Directory().Invalidate(c.Name)
	case store.AccountChanged:
		a.auth.Directory().Invalidate(c.Name)
		a.accountChanged(account, nil, changedElsewhere())
		a.Log.Info("an account was changed by another process", "account", c.Account)
	case store.DeviceRemoved:
		a.auth.ForgetDevices(c.Account)
		a.tokens.Forget(c.Account, c.Device)
		a.endDevice(c.Account, c.Device)
		a.Log.Info("a device was signed out by another process", "account", c.Account)
	case store.RosterChanged:
		a.contacts.Changed(ctx, account, c.Name)
		a.changed(account)
	case store.PreferenceChanged:
		a.archive.ForgetPreference(c.Account)
	case store.SettingsChanged, store.ProfileChanged: // which nobody keeps
		a.changed(account)
	}
}

// changedElsewhere is what the sessions of an account are told that was changed.
func changedElsewhere() *stream.Error {
	return stream.Fail(stream.NotAuthorized, "The account was changed. Log in again.")
}

// accountChanged forgets all that was known of an account which was changed, and ends what runs for it: its sessions
// but one, which may be nil, its requests to the API, and those that wait for news.
func (a *assembly) accountChanged(id uint64, but *session.Session, e *stream.Error) {
	account := store.AccountID(id)
	a.tokens.Forget(account, "")
	a.auth.ForgetDevices(account)
	a.contacts.Forget(id)
	a.archive.ForgetPreference(account)
	a.clients.Disconnect(id, but, e)
	a.ingress.End(id, "")
	a.changed(id)
}

// endDevice ends what runs for a device that was signed out, as accountChanged does.
func (a *assembly) endDevice(account store.AccountID, device string) {
	a.clients.DisconnectDevice(uint64(account), device, stream.Fail(stream.NotAuthorized, "The device was signed out."))
	a.ingress.End(uint64(account), device)
	a.changed(uint64(account))
}
