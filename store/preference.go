package store

import (
	"context"

	"github.com/posthouse-im/posthouse/wire/jid"
)

// ArchivePreference is what an account wants kept of its messages (XEP-0441).
type ArchivePreference struct {
	// Default is "always", "never" or "roster"; "" means always.
	Default string
	// Always and Never list addresses that are exceptions; a bare address covers its resources.
	Always, Never []jid.JID
	// HideReads: others are not to know how far the account has read. SetHideReads sets it.
	HideReads bool
}

// ArchivePreferenceReader reads them.
type ArchivePreferenceReader interface {
	// ArchivePreference returns the account's choice, the zero value when it made none.
	ArchivePreference(ctx context.Context, owner AccountID) (ArchivePreference, error)
}

// ArchivePreferences keeps them.
type ArchivePreferences interface {
	ArchivePreferenceReader
	// SetArchivePreference replaces it, but for HideReads.
	SetArchivePreference(ctx context.Context, owner AccountID, p ArchivePreference) error
	// SetHideReads sets that, and leaves the rest as it is.
	SetHideReads(ctx context.Context, owner AccountID, hide bool) error
}

// LastActivity keeps when an account was last online (XEP-0012 §4, RFC 6121 §4.5.2 status text).
type LastActivity interface {
	// LastActivity returns the Unix time in seconds of the last logout and its status text, or ErrNotFound.
	LastActivity(ctx context.Context, owner AccountID) (seconds int64, status string, err error)
	SetLastActivity(ctx context.Context, owner AccountID, seconds int64, status string) error
}

// Activity is one account's last activity.
type Activity struct {
	Seconds int64
	Status  string
}

// Activities writes many at once.
type Activities interface {
	// SetActivities stores all in one transaction; accounts that are gone are passed over.
	SetActivities(ctx context.Context, all map[AccountID]Activity) error
}
