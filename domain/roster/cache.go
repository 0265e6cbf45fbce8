package roster

import (
	"container/list"
	"slices"
	"sync"

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

// cache holds the rosters used last, up to a number of items in all.
type cache struct {
	mu    sync.Mutex // guards the rest
	limit int
	items int
	known map[uint64]*list.Element // of *cached
	order *list.List               // the one used last in front
}

type cached struct {
	account uint64
	roster  *roster
}

const (
	// overhead is how many items a cached roster counts for beside its own.
	overhead = 2
	// itemBytes is about what an item takes; a waiting request counts for as many as it is larger.
	itemBytes = 150
)

func newCache(limit int) *cache {
	return &cache{limit: limit, known: map[uint64]*list.Element{}, order: list.New()}
}

func (c *cache) get(account uint64) *roster {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.known[account]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).roster
}

func (c *cache) put(account uint64, r *roster) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.known[account]; e != nil {
		have := e.Value.(*cached)
		c.items += r.weight - have.roster.weight
		have.roster = r
		c.order.MoveToFront(e)
	} else {
		c.known[account] = c.order.PushFront(&cached{account, r})
		c.items += r.weight
	}
	for c.items > c.limit && c.order.Len() > 1 {
		c.forget(c.order.Back())
	}
}

func (c *cache) drop(account uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.known[account]; e != nil {
		c.forget(e)
	}
}

func (c *cache) forget(e *list.Element) {
	old := c.order.Remove(e).(*cached)
	delete(c.known, old.account)
	c.items -= old.roster.weight
}

func (c *cache) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.items
}
