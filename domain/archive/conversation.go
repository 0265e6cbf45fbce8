package archive

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/cache"
	"github.com/posthouse-im/posthouse/store"
)

// conversationBytes bounds the memory for the identities of conversations, and conversationSize is what one takes
// beside an address.
const (
	conversationBytes = 16 << 20
	conversationSize  = 128
)

// conversations finds the conversations that messages belong to. What is held of one never changes.
type conversations struct {
	log   store.MessageLog
	known *cache.Cache[pair, held]
}

// held is what is held of a conversation, and how much memory that takes.
type held struct {
	id   store.ConversationID
	size int
}

// pair is two parties in order, of which one at least has an account here. A party without one has an address, which
// one with an account needs not, so that one pair has one spelling.
type pair struct {
	a, b    store.AccountID
	address string
}

func newConversations(log store.MessageLog) *conversations {
	return &conversations{log: log,
		known: cache.New(cache.Config[pair, held]{
			Limit: conversationBytes, Weight: func(h held) int { return h.size },
		})}
}

func pairOf(k *store.ConversationKey) pair {
	p := pair{a: k.A.Account, b: k.B.Account}
	if p.a == 0 { // the lesser one comes first
		p.address = k.A.JID.String()
	}
	return p
}

// open returns the conversation of two parties, and makes it when there is none. It reads the log when the conversation
// is not held.
func (c *conversations) open(ctx context.Context, now time.Time, a, b store.Party) (store.ConversationID, error) {
	key := store.DirectKey(a, b)
	p := pairOf(&key)
	if h, ok := c.known.Get(p); ok {
		return h.id, nil
	}
	p.address = strings.Clone(p.address) // without the stanza that it is a piece of
	key.A.JID, key.B.JID = key.A.JID.Clone(), key.B.JID.Clone()
	h, err := c.known.Load(ctx, p, func(ctx context.Context) (held, time.Duration, error) {
		opened, err := c.log.OpenConversation(ctx, now, key, nil)
		if err != nil {
			return held{}, 0, fmt.Errorf("open a conversation: %w", err)
		}
		return held{opened.ID, conversationSize + len(p.address)}, cache.Forever, nil
	})
	return h.id, err
}
