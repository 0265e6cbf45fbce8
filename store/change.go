package store

import (
	"context"
	"errors"
	"math"
)

// ChangeKind says what a Change concerns, and so which memory of it is stale.
type ChangeKind string

// The kinds.
const (
	// AccountCreated: a name that had no account has one.
	AccountCreated ChangeKind = "created"
	// AccountChanged: the account got another password, was disabled, enabled or deleted. What is known of it and of
	// its devices is stale.
	AccountChanged ChangeKind = "account"
	// CredentialsRenewed: the account has other keys of the same password.
	CredentialsRenewed ChangeKind = "credentials"
	// DeviceRemoved: the device was signed out.
	DeviceRemoved ChangeKind = "device"
	// RosterChanged, PreferenceChanged, SettingsChanged and ProfileChanged: what Rosters, ArchivePreferences, Settings
	// and Profiles keep of the account.
	RosterChanged     ChangeKind = "roster"
	PreferenceChanged ChangeKind = "preference"
	SettingsChanged   ChangeKind = "settings"
	ProfileChanged    ChangeKind = "profile"
)

// Change tells that something was changed that others may keep in memory.
type Change struct {
	// Number rises by one or more from change to change, in the order in which changes become visible.
	Number  int64
	Kind    ChangeKind
	Account AccountID
	// Name is the account's.
	Name string
	// Device is the one of DeviceRemoved, "" for other kinds.
	Device string
}

// Basis is the number of the newest change (Changes.NewestChange) when an account, or a device of it, was read. What
// somebody may do because of what was read ends with the first change of the account (AccountChanged), or removal of
// the device, that has a higher number: whoever acts on it hands the Basis on to where the act takes effect, and it is
// compared there, after the effect is visible or in its transaction. Zero is older than every change.
type Basis int64

// AnyBasis is that of an act which relies on nothing that was read before.
const AnyBasis Basis = math.MaxInt64

// ErrOvertaken tells that the account was changed, or the device removed, after the Basis of the act. Nothing was done.
var ErrOvertaken = errors.New("the account or the device was changed meanwhile")

// Changes lets a process notice what others have changed. A change is told for a day.
type Changes interface {
	// NewestChange returns the number of the newest change that there ever was, 0 for none: where to begin.
	NewestChange(ctx context.Context) (int64, error)
	// Changes returns up to limit changes with higher numbers, in order, without those made through this very store.
	// Whoever asks again with the last number misses none.
	Changes(ctx context.Context, after int64, limit int) ([]Change, error)
	// ChangedSince reports whether, after the basis and by anybody, the account was changed (AccountChanged) or that
	// device of it removed; "" stands for no device. When neither happened, what was read at the basis holds at the one
	// that is returned, which may be newer. For whoever follows Changes, others have changed what it has returned.
	ChangedSince(ctx context.Context, account AccountID, device string, basis Basis) (changed bool, now Basis,
		err error)
}
