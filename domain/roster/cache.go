package roster

import (
	"slices"

	"github.com/posthouse-im/posthouse/cache"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

const (
	// overhead is how many items a cached roster counts for beside its own.
	overhead = 2
	// itemBytes is about what an item takes; a waiting request counts for as many as it is larger.
	itemBytes = 150
)

// roster is an account's contact list at one version. It is immutable: readers need no lock.
type roster struct {
	items   []store.RosterItem // by address
	version uint64
	weight  int // what it counts for in the cache
}

// newRoster takes the items over.
func newRoster(items []store.RosterItem, version uint64) *roster {
	slices.SortFunc(items, func(a, b store.RosterItem) int { return jid.Compare(a.JID, b.JID) })
	r := &roster{items: items, version: version, weight: overhead + len(items)}
	for i := range items {
		r.weight += len(items[i].Request) / itemBytes
	}
	return r
}

// find returns the item of a contact, or nil. It must not be changed.
func (r *roster) find(contact jid.JID) *store.RosterItem {
	i, ok := slices.BinarySearchFunc(r.items, contact,
		func(a store.RosterItem, b jid.JID) int { return jid.Compare(a.JID, b) })
	if !ok {
		return nil
	}
	return &r.items[i]
}

// newCache holds rosters, up to a number of items in all. They do not expire: who changes one says so.
func newCache(items int) *cache.Cache[uint64, *roster] {
	return cache.New(cache.Config[uint64, *roster]{Limit: items, Weight: func(r *roster) int { return r.weight }})
}
