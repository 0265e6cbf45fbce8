package store

import (
	"context"
	"time"
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

// Changes lets a process notice what others have changed. A change is told for a day.
type Changes interface {
	// NewestChange returns the number of the newest change that there ever was, 0 for none: where to begin.
	NewestChange(ctx context.Context) (int64, error)
	// Changes returns up to limit changes with higher numbers, in order, without those made through this very store.
	// Whoever asks again with the last number misses none.
	Changes(ctx context.Context, after int64, limit int) ([]Change, error)
	// ChangedSince reports whether, after the change of that number and by anybody, the account was changed
	// (AccountChanged) or that device of it removed.
	ChangedSince(ctx context.Context, account AccountID, device string, number int64) (bool, error)
	// LastChange returns when, within the last day and by anybody, the account was last changed (AccountChanged) or
	// that device of it removed; the zero time when neither happened.
	LastChange(ctx context.Context, account AccountID, device string) (time.Time, error)
}
