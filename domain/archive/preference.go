package archive

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/posthouse-im/posthouse/cache"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// Values of store.ArchivePreference.Default (XEP-0441 §2.1.1).
const (
	keepAlways = "always"
	keepNever  = "never"
	keepRoster = "roster"
)

// maxPreferenceBytes bounds the preferences that are held: 50 bytes of each account, for the many who never chose, and
// the addresses of the others.
const maxPreferenceBytes = 8 << 20

// ForgetPreference is told that another process has set the preference of an account.
func (a *Archive) ForgetPreference(account store.AccountID) { a.preferences.known.Invalidate(account) }

// preferences answers what each account wants kept. What is held of one does not expire: it is good until it is set
// here, or until ForgetPreference is called because somebody else has set it.
type preferences struct {
	store    store.ArchivePreferences
	contacts Contacts                                                // may be nil
	known    *cache.Cache[store.AccountID, *store.ArchivePreference] // nil value: keep everything, show reads
}

func newPreferences(s store.ArchivePreferences, contacts Contacts) *preferences {
	known := cache.New(cache.Config[store.AccountID, *store.ArchivePreference]{
		Limit: maxPreferenceBytes, Weight: preferenceBytes,
	})
	return &preferences{store: s, contacts: contacts, known: known}
}

// preferenceBytes is about what a preference takes in the cache.
func preferenceBytes(p *store.ArchivePreference) int {
	n := 50
	if p != nil {
		for _, j := range slices.Concat(p.Always, p.Never) {
			n += 50 + len(j.String())
		}
	}
	return n
}

// get returns the account's preference, nil when everything is kept and shown.
func (p *preferences) get(ctx context.Context, account store.AccountID) (*store.ArchivePreference, error) {
	return p.known.Load(ctx, account, func(ctx context.Context) (*store.ArchivePreference, time.Duration, error) {
		read, err := p.store.ArchivePreference(ctx, account)
		if err != nil {
			return nil, 0, fmt.Errorf("read the archive preference: %w", err)
		}
		if (read.Default == "" || read.Default == keepAlways) && len(read.Never) == 0 && !read.HideReads {
			return nil, cache.Forever, nil
		}
		return &read, cache.Forever, nil
	})
}

// set stores the account's preference.
func (p *preferences) set(ctx context.Context, account store.AccountID, preference store.ArchivePreference) error {
	defer p.known.Invalidate(account) // after an error, too: it is not known what was stored
	if err := p.store.SetArchivePreference(ctx, account, preference); err != nil {
		return fmt.Errorf("store the archive preference: %w", err)
	}
	return nil
}

// hidesReads reports whether others are not to know how far the account has read.
func (p *preferences) hidesReads(ctx context.Context, account store.AccountID) (bool, error) {
	if account == 0 {
		return false, nil
	}
	choice, err := p.get(ctx, account)
	return choice != nil && choice.HideReads, err
}

// setHideReads stores it.
func (p *preferences) setHideReads(ctx context.Context, account store.AccountID, hide bool) error {
	defer p.known.Invalidate(account) // after an error, too: it is not known what was stored
	if err := p.store.SetHideReads(ctx, account, hide); err != nil {
		return fmt.Errorf("store a preference: %w", err)
	}
	return nil
}

// keeps decides whether a message between the account and the other address, as it stands in to or from, belongs in
// the account's archive (XEP-0441 §2.3). Where an address is on both lists, never wins: the account asked
// that its messages with that address are not kept.
func (p *preferences) keeps(ctx context.Context, account store.AccountID, other jid.JID) (bool, error) {
	choice, err := p.get(ctx, account)
	if err != nil || choice == nil {
		return err == nil, err
	}
	if listed(choice.Never, other) {
		return false, nil
	}
	if listed(choice.Always, other) {
		return true, nil
	}
	switch choice.Default {
	case keepNever:
		return false, nil
	case keepRoster:
		if p.contacts == nil {
			return false, nil
		}
		known, err := p.contacts.Contact(ctx, account, other.Bare())
		if err != nil {
			return false, fmt.Errorf("look for a contact: %w", err)
		}
		return known, nil
	}
	return true, nil
}

// listed matches as XEP-0441 §2.3.1 says: a bare address stands for all its resources.
func listed(list []jid.JID, other jid.JID) bool {
	return slices.Contains(list, other) || slices.Contains(list, other.Bare())
}
