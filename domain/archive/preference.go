package archive

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// Values of store.ArchivePreference.Default (XEP-0441 §2.1.1).
const (
	keepAlways = "always"
	keepNever  = "never"
	keepRoster = "roster"
)

// preferenceShards spreads the cache, so that readers of different connections do not wait for each other.
const preferenceShards = 64

// preferenceBound is how many accounts' preferences a shard holds: about 128,000 in all, 50 bytes each for the many
// who never chose. Beyond it any other one is forgotten and read again when needed.
const preferenceBound = 2048

// ForgetPreference is told that another process has set the preference of an account.
func (a *Archive) ForgetPreference(account store.AccountID) { a.preferences.forget(account) }

// preferences answers what each account wants kept. What is cached of one is good until it is set here, or until forget is called because somebody else has set it.
type preferences struct {
	store    store.ArchivePreferences
	contacts Contacts // may be nil
	shards   [preferenceShards]preferenceShard
}

type preferenceShard struct {
	mu    sync.Mutex                                   // guards the rest
	known map[store.AccountID]*store.ArchivePreference // nil value: keep everything
	sets  uint64                                       // how often a preference of this shard was set
}

func newPreferences(s store.ArchivePreferences, contacts Contacts) *preferences {
	return &preferences{store: s, contacts: contacts}
}

// get returns the account's preference, nil when everything is kept.
func (p *preferences) get(ctx context.Context, account store.AccountID) (*store.ArchivePreference, error) {
	shard := &p.shards[account%preferenceShards]
	shard.mu.Lock()
	found, ok := shard.known[account]
	sets := shard.sets
	shard.mu.Unlock()
	if ok {
		return found, nil
	}
	read, err := p.store.ArchivePreference(ctx, account)
	if err != nil {
		return nil, fmt.Errorf("read the archive preference: %w", err)
	}
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if shard.sets != sets {
		return &read, nil // it may have been set meanwhile: good for this message, not for the cache
	}
	return shard.put(account, read), nil
}

// set stores the account's preference.
func (p *preferences) set(ctx context.Context, account store.AccountID, preference store.ArchivePreference) error {
	shard := &p.shards[account%preferenceShards]
	// The lock is held across the write, so that of two devices which set at once the later one also wins here.
	shard.mu.Lock()
	defer shard.mu.Unlock()
	shard.sets++
	delete(shard.known, account) // unknown, should the write fail halfway
	if err := p.store.SetArchivePreference(ctx, account, preference); err != nil {
		return fmt.Errorf("store the archive preference: %w", err)
	}
	shard.put(account, preference)
	return nil
}

// forget drops what is cached of an account, after somebody else has set its preference.
func (p *preferences) forget(account store.AccountID) {
	shard := &p.shards[account%preferenceShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	shard.sets++
	delete(shard.known, account)
}

// put must be called with mu held.
func (s *preferenceShard) put(account store.AccountID, p store.ArchivePreference) *store.ArchivePreference {
	if s.known == nil {
		s.known = make(map[store.AccountID]*store.ArchivePreference)
	}
	if len(s.known) >= preferenceBound {
		for other := range s.known {
			delete(s.known, other)
			break
		}
	}
	if (p.Default == "" || p.Default == keepAlways) && len(p.Never) == 0 {
		s.known[account] = nil
		return nil
	}
	kept := &p
	s.known[account] = kept
	return kept
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
