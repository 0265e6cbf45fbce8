package router

import (
	"context"
	"hash/maphash"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Reserve takes a slot in the queue of each account that the message concerns, for a message of that size in bytes,
// and waits while one is full. It is for a stage that is about to hold the envelope, before anything is stored. It
// reports false when there was none for ten seconds, or ctx or the router ended first. The slots are used by Resume,
// Refuse or Finish, or given back by Release.
func (r *Router) Reserve(ctx context.Context, e *Envelope, size int) (ok bool) {
	author := r.key(e.Origin.Account, e.Stanza.From)
	recipient := author
	if e.Target.told() {
		recipient = r.key(e.Target.Account, e.Stanza.To)
	}
	e.bytes = int32(size + slotCost)
	e.recipient, e.author, ok = r.delivery.reserve(ctx, recipient, author, int(e.bytes))
	return ok
}

// Release gives back what Reserve took, for an envelope that is neither accepted nor refused.
func (r *Router) Release(e *Envelope) {
	if e.author == nil {
		return
	}
	r.delivery.release(e.author, e.bytes)
	if e.recipient != e.author {
		r.delivery.release(e.recipient, e.bytes)
	}
	e.recipient, e.author = nil, nil
}

// key is what the work for an address is queued under: an account of this domain, or a hash of any other address.
func (r *Router) key(account uint64, address jid.JID) uint64 {
	if account != 0 {
		return account
	}
	return maphash.String(r.seed, address.Bare().String()) | 1<<63
}

// copies reports whether something is done for the author's account beside what is done for the recipient.
func (r *Router) copies(e *Envelope) bool {
	return e.Target.Kind != Nobody && e.Origin.Account != 0 && e.Origin.Account != e.Target.Account
}

// hand gives an accepted message to the workers. Nothing here waits.
func (r *Router) hand(e *Envelope) {
	recipient, author, bytes := e.recipient, e.author, e.bytes
	deliver, copies := e.Target.told(), r.copies(e)
	jobs := int32(0)
	if deliver {
		jobs++
	}
	if copies {
		jobs++
	}
	e.jobs.Store(jobs)
	e.stored()
	switch { // from here on the workers may have it
	case deliver:
		r.delivery.push(recipient, job{envelope: e, part: forRecipient, bytes: bytes})
	case recipient != author:
		r.delivery.release(recipient, bytes)
	}
	switch {
	case copies:
		r.delivery.push(author, job{envelope: e, part: forAuthor, bytes: bytes})
	case recipient != author || !deliver:
		r.delivery.release(author, bytes)
	}
	if jobs == 0 {
		e.delivered()
	}
}

// do does one job. It runs on a worker.
func (r *Router) do(ctx context.Context, j *job) {
	e := j.envelope
	switch j.part {
	case forRecipient:
		r.steps(ctx, r.recipient, e)
	case forAuthor:
		r.steps(ctx, r.author, e)
	case bounced:
		r.bounce(ctx, e.Stanza, e.Receipt.Err)
	}
	if e.jobs.Add(-1) == 0 {
		e.delivered()
	}
}

// steps does what is done for one account. A step that panics ends nothing but itself: the message is stored, and the
// next replay finds it.
func (r *Router) steps(ctx context.Context, steps []Delivery, e *Envelope) {
	for len(steps) > 0 {
		steps = r.until(ctx, steps, e)
	}
}

// until does steps until one panics, and returns those after that one.
func (r *Router) until(ctx context.Context, steps []Delivery, e *Envelope) (left []Delivery) {
	at := 0
	defer func() {
		if p := recover(); p != nil {
			r.panicked("delivery "+steps[at].Name, p)
			left = steps[at+1:]
		}
	}()
	for ; at < len(steps); at++ {
		steps[at].Run(ctx, e)
	}
	return nil
}

// Deliver is the step that gives a message to whom it is addressed.
func (r *Router) Deliver(ctx context.Context, e *Envelope) {
	if refusal := e.route.Deliver(ctx, e); refusal != nil {
		r.dropped.WithLabelValues(dropLate).Inc()
	}
}

// deliver gives presence or an IQ to whom it is addressed. A panic is a refusal.
func (r *Router) deliver(ctx context.Context, e *Envelope) (refusal *stanza.Error) {
	defer func() {
		if p := recover(); p != nil {
			r.panicked("route", p)
			refusal = broken
		}
	}()
	if e.Target.Kind == Nobody {
		return nil
	}
	return e.route.Deliver(ctx, e)
}

// over tells the origin that all is done.
func (e *Envelope) over() {
	e.stored()
	e.delivered()
}

func (e *Envelope) stored() {
	if e.Stored != nil {
		e.Stored(e)
	}
}

func (e *Envelope) delivered() {
	if e.Delivered != nil {
		e.Delivered(e)
	}
}
