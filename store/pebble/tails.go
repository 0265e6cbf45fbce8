package pebble

import (
	"strings"

	"github.com/posthouse-im/posthouse/store"
)

// tail is the end of a conversation: what the next message's number follows.
type tail struct {
	conversation store.ConversationID
	last         uint64 // number of the last message
}

// tails remembers the ends of the conversations that were written to lately, so that a message of a live conversation
// costs no read. It holds two generations: when a batch begins and the young one has reached half the limit, it becomes
// the old one; what is used again moves back. Inside a batch nothing is forgotten, since it is not in the store yet.
// Owned by Append.
type tails struct {
	young, old map[pair]*tail
	half       int
}

func newTails(limit int) tails {
	return tails{young: make(map[pair]*tail), half: max(1, limit/2)}
}

// age begins a batch.
func (t *tails) age() {
	if len(t.young) >= t.half {
		t.old, t.young = t.young, make(map[pair]*tail)
	}
}

func (t *tails) get(p pair) *tail {
	if e := t.young[p]; e != nil {
		return e
	}
	e := t.old[p]
	if e != nil {
		t.put(p, e)
	}
	return e
}

// put takes a copy of the addresses: they are pieces of the stanza that brought them, and would keep it alive.
func (t *tails) put(p pair, e *tail) {
	p.first.address, p.second.address = strings.Clone(p.first.address), strings.Clone(p.second.address)
	t.young[p] = e
}
