package archive

import (
	"context"
	"fmt"
	"time"

	"github.com/posthouse-im/posthouse/cache"
	"github.com/posthouse-im/posthouse/store"
)

// maxConversationsKnown bounds the conversations whose identities are held, some 150 bytes each.
const maxConversationsKnown = 1 << 17

// conversations finds the conversations that messages belong to. What is held of one never changes.
type conversations struct {
	log   store.MessageLog
	known *cache.Cache[pair, store.ConversationID]
}

// pair is two parties in order. Those with an account are without an address, so that one pair has one spelling.
type pair struct{ a, b store.Party }

func newConversations(log store.MessageLog) *conversations {
	return &conversations{log: log,
		known: cache.New(cache.Config[pair, store.ConversationID]{Limit: maxConversationsKnown})}
}

func pairOf(k *store.ConversationKey) pair {
	p := pair{k.A, k.B}
	for _, party := range [...]*store.Party{&p.a, &p.b} {
		if party.Account != 0 {
			party.JID = store.Party{}.JID
		}
	}
	return p
}

// open returns the conversation of two parties, and makes it when there is none. It reads the log when the conversation
// is not held.
func (c *conversations) open(ctx context.Context, now time.Time, a, b store.Party) (store.ConversationID, error) {
	key := store.DirectKey(a, b)
	p := pairOf(&key)
	if id, ok := c.known.Get(p); ok {
		return id, nil
	}
	p.a.JID, p.b.JID = p.a.JID.Clone(), p.b.JID.Clone() // without the stanza that they are a piece of
	key.A.JID, key.B.JID = key.A.JID.Clone(), key.B.JID.Clone()
	return c.known.Load(ctx, p, func(ctx context.Context) (store.ConversationID, time.Duration, error) {
		opened, err := c.log.OpenConversation(ctx, now, key, nil)
		if err != nil {
			return 0, 0, fmt.Errorf("open a conversation: %w", err)
		}
		return opened.ID, cache.Forever, nil
	})
}
