package store

import (
	"context"
	"time"
)

// Device is something that an account logs in with: a phone, a browser, a program. Tokens belong to a device, and end
// with it.
type Device struct {
	Account AccountID
	// ID names the device within the account: what the client calls itself by (XEP-0388 §2.2, the user agent's id), or
	// 22 random characters. At most 64 bytes.
	ID string
	// Name and Software are for people, as the client gave them; at most 128 bytes each.
	Name, Software string
	// Created is when it was first seen, Seen when it last logged in or renewed a token.
	Created, Seen time.Time
	// Generation numbers the login tokens that were made for the device. It begins at random, so that no number is
	// reused after the device was signed out, and rises by one. Two are valid: this one and Used (XEP-0484 §3.5). 0:
	// none was made.
	Generation uint64
	// Used is the newest generation that the client has logged in with or, when it had none before, its first one; 0
	// for none.
	Used uint64
	// LoginExpires is until when the newest login token is good, and UsedExpires the one of generation Used.
	LoginExpires, UsedExpires time.Time
	// Counter is the highest one that the client has sent with the token of generation Used (XEP-0484 §3.4), 0 for
	// none.
	Counter uint64
	// Refresh is the SHA-256 of the newest refresh token for the API and RefreshBefore that of the one that it replaced
	// at RefreshReplaced; nil for none.
	Refresh, RefreshBefore []byte
	RefreshReplaced        time.Time
	// RefreshExpires is until when the newest refresh token is good.
	RefreshExpires time.Time
	// Basis is what DeviceReader.Device has read it at. It is not stored.
	Basis Basis
}

// DeviceLogin is a login with a token, noted after the fact.
type DeviceLogin struct {
	Account AccountID
	Device  string
	Seen    time.Time
	// Generation is that of the token, and Counter the highest that was sent with it.
	Generation, Counter uint64
}

// DeviceReader reads them.
type DeviceReader interface {
	// Device returns one device, or ErrNotFound: it was never there, or was signed out.
	Device(ctx context.Context, owner AccountID, id string) (Device, error)
	// ListDevices returns all devices of the account, the one seen last first.
	ListDevices(ctx context.Context, owner AccountID) ([]Device, error)
}

// Devices keeps them. Setting new credentials, disabling or deleting an account removes all its devices in the same
// transaction.
type Devices interface {
	DeviceReader
	// PutDevice stores the device, and makes it when it is not there. When there would be more than max, those seen
	// longest ago are removed, with the same effect as RemoveDevice. ErrNotFound when the account is gone, ErrOvertaken
	// when it was changed, or the device signed out, after the basis.
	PutDevice(ctx context.Context, d Device, basis Basis, max int) error
	// ChangeDevice replaces the device by what change makes of it, in one transaction, so that of two who use the same
	// token at once the second sees what the first did. An error from change is returned and nothing is stored.
	// ErrNotFound when there is no such device, ErrOvertaken as with PutDevice.
	ChangeDevice(ctx context.Context, owner AccountID, id string, basis Basis, change func(*Device) error) error
	// NoteLogins notes logins with tokens, in one transaction: Seen never goes back, and Counter neither, which is only
	// noted while the token's generation is Device.Used. Devices that are gone are passed over.
	NoteLogins(ctx context.Context, logins []DeviceLogin) error
	// RemoveDevice signs a device out; ErrNotFound when there is none. Other processes hear of it by Changes.
	RemoveDevice(ctx context.Context, owner AccountID, id string) error
	// RemoveDevices signs out all devices of the account but one, which may be "", and returns which.
	RemoveDevices(ctx context.Context, owner AccountID, but string) ([]string, error)
}
