package store

import (
	"context"
	"time"
)

// Profile is what an account shows of itself to others of its domain.
type Profile struct {
	Account AccountID
	// Username is the account's prepared localpart.
	Username string
	// Name is what to call the person, Title what they do; "" for none. At most 128 bytes each.
	Name, Title string
	// Changed is a number that rises with every change of any profile in the store.
	Changed uint64
}

// ProfileReader reads them. Every account has one, empty at first.
type ProfileReader interface {
	// Profiles returns those of the accounts named, in no order; accounts that are gone are left out.
	Profiles(ctx context.Context, accounts []AccountID) ([]Profile, error)
	// ChangedProfiles returns up to limit profiles with Changed greater than after, in rising order of it, and the
	// greatest number there is.
	ChangedProfiles(ctx context.Context, after uint64, limit int) (changed []Profile, last uint64, err error)
	// SearchProfiles returns up to limit profiles of accounts that are not disabled and of which every given word
	// begins the username or a word of the name, by username, after the given one. Words are compared without case. It
	// costs as much as it finds, not as there are accounts.
	SearchProfiles(ctx context.Context, words []string, after string, limit int) ([]Profile, error)
}

// Profiles keeps them.
type Profiles interface {
	ProfileReader
	// SetProfile replaces Name and Title and returns the profile as stored. ErrNotFound when the account is gone.
	SetProfile(ctx context.Context, p Profile) (Profile, error)
}

// ConversationSettings is what an account has chosen for a conversation.
type ConversationSettings struct {
	// With is the bare address of the other party, or of a room.
	With string
	// MutedUntil: no notifications before then; the zero time: not muted. Forever is a time of the year 9999.
	MutedUntil time.Time
	Pinned     bool
	// Changed is a number that rises with every change of the account's settings.
	Changed uint64
}

// Chosen reports whether anything differs from the default.
func (s *ConversationSettings) Chosen() bool { return s.Pinned || !s.MutedUntil.IsZero() }

// SettingsReader reads what accounts choose.
type SettingsReader interface {
	// ConversationSettings returns those for the given addresses, in no order. For an address that is left out
	// everything is as by default.
	ConversationSettings(ctx context.Context, owner AccountID, with []string) ([]ConversationSettings, error)
	// ChosenConversationSettings returns up to limit that differ from the default and have Changed less than before,
	// the latest change first; before 0 is no bound.
	ChosenConversationSettings(
		ctx context.Context, owner AccountID, before uint64, limit int,
	) ([]ConversationSettings, error)
	// ChangedConversationSettings returns up to limit with Changed greater than after, in rising order of it, and the
	// greatest number there is.
	ChangedConversationSettings(
		ctx context.Context, owner AccountID, after uint64, limit int,
	) (changed []ConversationSettings, last uint64, err error)
}

// Settings keeps what accounts choose.
type Settings interface {
	SettingsReader
	// SetConversationSettings stores one and returns it with its Changed. One that is back at the default is kept, so
	// that devices hear of it. ErrLimit when there would be more than max.
	SetConversationSettings(ctx context.Context, owner AccountID, s ConversationSettings,
		max int) (ConversationSettings, error)
}
