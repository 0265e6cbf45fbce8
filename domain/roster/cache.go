package roster

import (
	"slices"

	"github.com/posthouse-im/posthouse/cache"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// About what a cached roster takes, and each of its items, beside the texts in them, in bytes.
const (
	rosterBytes = 300
	itemBytes   = 150
)

// roster is an account's contact list at one version. It is immutable: readers need no lock.
type roster struct {
	items   []store.RosterItem // by address
	version uint64
	text    int // bytes of what its owner has listed
	weight  int // what it counts for in the cache, in bytes
}

// newRoster takes the items over.
func newRoster(items []store.RosterItem, version uint64) *roster {
	slices.SortFunc(items, func(a, b store.RosterItem) int { return jid.Compare(a.JID, b.JID) })
	r := &roster{items: items, version: version, weight: rosterBytes}
	for i := range items {
		it := &items[i]
		r.text += listedText(it)
		r.weight += itemBytes + len(it.JID.String()) + len(it.Name) + len(it.Request)
		for _, group := range it.Groups {
			r.weight += len(group) + 16
		}
	}
	return r
}

// listedText is how many bytes an item has in the roster as it is shown: the address and what the owner has written.
func listedText(it *store.RosterItem) int {
	if !it.Listed {
		return 0
	}
	n := len(it.JID.String()) + len(it.Name)
	for _, group := range it.Groups {
		n += len(group)
	}
	return n
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

// newCache holds rosters, up to about so many bytes in all. They do not expire: who changes one says so.
func newCache(bytes int) *cache.Cache[uint64, *roster] {
	return cache.New(cache.Config[uint64, *roster]{Limit: bytes, Weight: func(r *roster) int { return r.weight }})
}
