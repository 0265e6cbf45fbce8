package archive

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// resolveTimeout bounds the reads for one message that changes another one.
const resolveTimeout = 10 * time.Second

// acceptChange accepts an edit or a retraction, which rests on what is stored before it: the message that it changes, and the edits of that. It is
// decided on the sender's goroutine, while no other change of the conversation is on its way, and the sender is not read from before it
// is stored. These are rare.
func (a *Archive) acceptChange(ctx context.Context, next *entry) (router.Verdict, *stanza.Error) {
	unlock, ok := a.changing.lock(ctx, a.queue.over, conversationOf(&next.message.Message))
	if !ok {
		a.metrics.refused.Inc()
		return router.Finish, notStored
	}
	refusal, err := a.resolveChange(ctx, next)
	switch {
	case err != nil:
		unlock()
		return router.Finish, a.unanswered(next.envelope, err)
	case refusal != nil:
		unlock()
		a.metrics.refused.Inc()
		return router.Finish, refusal
	}
	return router.Hold, a.putAndWait(ctx, next, unlock)
}

// resolveChange finds what an edit or a retraction changes, and decides whether it may.
func (a *Archive) resolveChange(ctx context.Context, next *entry) (*stanza.Error, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	m := &next.message
	for waited := false; ; waited = true {
		if err := a.resolveMarkers(ctx, next); err != nil {
			return nil, err
		}
		if next.refs.target != nil || waited {
			break
		}
		// It may be in the queue: what the same sender has sent just before.
		if !a.flush(ctx) {
			return nil, fmt.Errorf("wait for what was sent before: %w", context.Cause(ctx))
		}
	}
	refusal, err := a.applyRefs(ctx, next)
	if err != nil || refusal == nil {
		return nil, err
	}
	known, err := a.alreadyStored(ctx, m)
	if known {
		return nil, nil // it was sent again: the log has the first answer
	}
	return refusal, err
}

// flush waits until everything that is in the queue now was committed. It reports false when ctx or the committer ended first.
func (a *Archive) flush(ctx context.Context) bool {
	committed := make(chan struct{})
	if !a.queue.put(ctx, &entry{committed: func() { close(committed) }}) {
		return false
	}
	select {
	case <-committed:
		return true
	case <-ctx.Done():
		return false
	case <-a.queue.over:
		return false
	}
}

// putAndWait puts an entry in the queue and waits until it was committed, or ctx or the committer has ended. The conversation stays locked
// for as long as the entry is on its way, whoever waits for it.
func (a *Archive) putAndWait(ctx context.Context, next *entry, unlock func()) *stanza.Error {
	committed := make(chan struct{})
	next.committed = func() {
		unlock()
		close(committed)
	}
	if refusal := a.put(ctx, next); refusal != nil {
		unlock()
		return refusal
	}
	select {
	case <-committed:
	case <-ctx.Done():
	case <-a.queue.over:
	}
	return nil
}

// conversationOf names the conversation of two parties, in either order.
func conversationOf(m *store.Message) [2]string {
	a, b := partyKey(m.Sender), partyKey(m.Recipient)
	return [2]string{min(a, b), max(a, b)}
}

func partyKey(p store.Party) string {
	if p.Account != 0 {
		return fmt.Sprint(p.Account)
	}
	return p.JID.Bare().String()
}

// conversationLocks are locks by conversation. One that nobody holds or waits for takes no memory.
type conversationLocks struct {
	mu   sync.Mutex // guards held
	held map[[2]string]*conversationLock
}

type conversationLock struct {
	holder chan struct{} // of one: full while somebody holds it
	users  int           // who hold it or wait for it; guarded by conversationLocks.mu
}

// lock waits for the lock of a conversation. ok is false when ctx ended first, or over was closed; otherwise unlock must be called.
func (l *conversationLocks) lock(ctx context.Context, over <-chan struct{}, key [2]string) (unlock func(), ok bool) {
	l.mu.Lock()
	k := l.held[key]
	if k == nil {
		k = &conversationLock{holder: make(chan struct{}, 1)}
		if l.held == nil {
			l.held = map[[2]string]*conversationLock{}
		}
		l.held[key] = k
	}
	k.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.held, key)
		}
	}
	select {
	case k.holder <- struct{}{}:
		return func() { <-k.holder; leave() }, true
	case <-ctx.Done():
	case <-over:
	}
	leave()
	return nil, false
}
