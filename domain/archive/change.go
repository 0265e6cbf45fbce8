package archive

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

const (
	// changeTimeout bounds the reads for one message that changes another one.
	changeTimeout = 10 * time.Second
	// changeTries is how often such a message is decided anew because the conversation went on meanwhile.
	changeTries = 64
)

// change is what a message does to an earlier one of its author's own: it edits or retracts it. It is decided on the
// sender's goroutine, and rests on what the conversation holds through the entry's Basis.
type change struct {
	// edit and retract name the message, as the change names it; "" for nothing.
	edit, retract string
	// other is the other party of the conversation.
	other store.Party
	// admin: the sender may retract at any time. by is the administrator who retracts in the sender's name, zero for
	// the sender.
	admin bool
	by    jid.JID

	// What the search has found: the message, nil for none. foreign: it is not the sender's, or not of this
	// conversation.
	target  *store.Message
	foreign bool
	// outcome is what became of the entry in the queue.
	outcome *outcome
}

// named is the message that is changed, as the change names it.
func (c *change) named() string { return c.edit + c.retract } // never both

// outcome tells the sender's goroutine what became of an entry. One that was overtaken is handed back to it, unless it
// has left.
type outcome struct {
	overtaken bool
	settled   chan struct{} // closed by the committer
	state     atomic.Int32
}

const (
	outcomeOpen    = iota
	outcomeSettled // by the committer
	outcomeLeft    // nobody waits
)

func newOutcome() *outcome { return &outcome{settled: make(chan struct{})} }

// settle is for the committer. It reports whether somebody waits.
func (o *outcome) settle(overtaken bool) bool {
	if !o.state.CompareAndSwap(outcomeOpen, outcomeSettled) {
		return false
	}
	o.overtaken = overtaken
	close(o.settled)
	return true
}

// wait returns when the committer has settled, ok false when ctx or the committer ended first.
func (o *outcome) wait(ctx context.Context, committer <-chan struct{}) (overtaken, ok bool) {
	select {
	case <-o.settled:
		return o.overtaken, true
	case <-ctx.Done():
	case <-committer:
	}
	if o.state.CompareAndSwap(outcomeOpen, outcomeLeft) {
		return false, false
	}
	<-o.settled
	return o.overtaken, true
}

// busy is the refusal when others write into a conversation faster than a change of it can be decided.
var busy = &stanza.Error{Type: stanza.Wait, Condition: stanza.ResourceConstraint,
	Text: "The conversation is busy. Try again later."}

// acceptChange accepts an edit or a retraction, which rests on what is stored before it: the message that it changes,
// and the edits of that. The sender is not read from before it is stored. These are rare.
func (a *Archive) acceptChange(ctx context.Context, next *entry) (router.Verdict, *stanza.Error) {
	refusal := a.decideAndPut(ctx, next,
		func(ctx context.Context) (*stanza.Error, error) { return a.decide(ctx, next) })
	if refusal != nil {
		return router.Finish, refusal
	}
	return router.Hold, nil
}

// decideAndPut decides about a change and puts it in the queue, and does so again when the conversation went on in
// between. It returns when the entry is stored or refused by the committer, or ctx or the committer has ended.
func (a *Archive) decideAndPut(ctx context.Context, next *entry,
	decide func(context.Context) (*stanza.Error, error)) *stanza.Error {
	for try := range changeTries {
		refusal, err := decide(ctx)
		if err != nil {
			refusal = a.unanswered(next.envelope, err)
		} else if refusal != nil {
			a.metrics.refused.Inc()
		}
		if refusal != nil {
			return refusal
		}
		if try == 0 && !a.reserve(ctx, next) {
			return crowded
		}
		next.change.outcome = newOutcome()
		if !a.enqueue(ctx, next) {
			return nil
		}
		if overtaken, ok := next.change.outcome.wait(ctx, a.ended); !ok || !overtaken {
			return nil
		}
	}
	a.metrics.refused.Inc()
	return busy
}

// decide finds what an edit or a retraction changes, and decides whether it may.
func (a *Archive) decide(ctx context.Context, next *entry) (*stanza.Error, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	m := &next.message
	for waited := false; ; waited = true {
		if err := a.rest(ctx, m); err != nil {
			return nil, err
		}
		if err := a.findTarget(ctx, next); err != nil {
			return nil, err
		}
		if next.change.target != nil || waited {
			break
		}
		// It may be in the queue: what the same sender has sent just before.
		if !a.flush(ctx) {
			return nil, fmt.Errorf("wait for what was sent before: %w", context.Cause(ctx))
		}
	}
	refusal, err := a.apply(ctx, next)
	if err != nil || refusal == nil {
		return nil, err
	}
	known, err := a.alreadyStored(ctx, m)
	if known {
		return nil, nil // it was sent again: the log has the first answer
	}
	return refusal, err
}

// rest notes what the conversation holds now, which the decision rests on. It comes before anything is looked for.
func (a *Archive) rest(ctx context.Context, m *store.Append) error {
	opened, err := a.log.ConversationByID(ctx, m.Conversation)
	if err != nil {
		return fmt.Errorf("find the end of a conversation: %w", err)
	}
	m.Basis = opened.Last
	return nil
}

// findTarget looks for the message that a change names.
func (a *Archive) findTarget(ctx context.Context, next *entry) error {
	c, m := next.change, &next.message
	c.target, c.foreign = nil, false
	name := originKey(c.named())
	_, id, err := a.log.Named(ctx, m.Conversation, m.Author, name)
	var found *store.Message
	switch {
	case err == nil:
		found, err = a.message(ctx, id)
	case errors.Is(err, store.ErrNotFound):
		found, err = a.byStanzaID(ctx, c.named())
	}
	if err != nil {
		return fmt.Errorf("look for a message that is changed: %w", err)
	}
	if found != nil {
		if c.foreign = found.Conversation != m.Conversation || !found.Author.Is(m.Author); !c.foreign {
			c.target = found
		}
		return nil
	}
	// Is it one of the other party's, or the author's own of another conversation? Ids of others elsewhere are private.
	if _, _, err = a.log.Named(ctx, m.Conversation, c.other, name); errors.Is(err, store.ErrNotFound) {
		_, err = a.log.Origin(ctx, m.Author, name)
	}
	if c.foreign = err == nil; errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return err
}

// flush waits until everything that is in the queue now was committed. It reports false when ctx or the committer ended
// first.
func (a *Archive) flush(ctx context.Context) bool {
	o := newOutcome()
	if !a.queue.put(ctx, &entry{change: &change{outcome: o}}) {
		return false
	}
	_, ok := o.wait(ctx, a.ended)
	return ok
}
