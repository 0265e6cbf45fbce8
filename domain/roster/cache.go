package roster

import (
	"slices"

	"github.com/posthouse-im/posthouse/cache"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// roster is an account's contact list at one version. It is immutable: readers need no lock.
type roster struct {
	items   []store.RosterItem // by address
	version uint64
	weight  int // what it counts for in the cache
}

func makeRoster(items []store.RosterItem, version uint64) *roster {
	r := &roster{items: items, version: version, weight: overhead + len(items)}
	for i := range items {
		r.weight += len(items[i].Request) / itemBytes
	}
	return r
}

func byJID(a store.RosterItem, b jid.JID) int { return jid.Compare(a.JID, b) }

// newRoster takes the items over.
func newRoster(items []store.RosterItem, version uint64) *roster {
	slices.SortFunc(items, func(a, b store.RosterItem) int { return jid.Compare(a.JID, b.JID) })
	return makeRoster(items, version)
}

// find returns the item of a contact, or nil. It must not be changed.
func (r *roster) find(contact jid.JID) *store.RosterItem {
	if i, ok := slices.BinarySearchFunc(r.items, contact, byJID); ok {
		return &r.items[i]
	}
	return nil
}

// with returns the roster with an item added or replaced.
func (r *roster) with(item store.RosterItem, version uint64) *roster {
	i, ok := slices.BinarySearchFunc(r.items, item.JID, byJID)
	items := make([]store.RosterItem, 0, len(r.items)+1)
	items = append(append(items, r.items[:i]...), item)
	if ok {
		i++
	}
	return makeRoster(append(items, r.items[i:]...), version)
}

// without returns the roster without a contact.
func (r *roster) without(contact jid.JID, version uint64) *roster {
	i, ok := slices.BinarySearchFunc(r.items, contact, byJID)
	if !ok {
		return makeRoster(r.items, version)
	}
	return makeRoster(slices.Delete(slices.Clone(r.items), i, i+1), version)
}

// unlisted counts the requests of people who are not in the roster.
func (r *roster) unlisted() (n int) {
	for i := range r.items {
		if !r.items[i].Listed {
			n++
		}
	}
	return n
}

const (
	// overhead is how many items a cached roster counts for beside its own.
	overhead = 2
	// itemBytes is about what an item takes; a waiting request counts for as many as it is larger.
	itemBytes = 150
)

// newCache holds rosters, up to a number of items in all. They do not expire: Contacts alone changes them.
func newCache(items int) *cache.Cache[uint64, *roster] {
	return cache.New(cache.Config[uint64, *roster]{Limit: items, Weight: func(r *roster) int { return r.weight }})
}
