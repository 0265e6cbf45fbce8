package client

import (
	"slices"

	"github.com/posthouse-im/posthouse/wire/stanza"
)

// outgoing is a stanza on its way. What waits for it is in one of the fields, or in none.
type outgoing struct {
	s       *stanza.Stanza
	send    *sending
	request *request
}

// sending is a message that somebody waits for.
type sending struct {
	out *outgoing
	// number orders the messages of this client.
	number uint64
	// confirmed: it ends with the server's confirmation. Otherwise an acknowledgement is enough, or, for a signal, to
	// have been written.
	confirmed, signal bool
	done              chan struct{} // closed when receipt and err are valid
	receipt           Receipt
	err               error
}

// request is an IQ that somebody waits for.
type request struct {
	out    *outgoing
	done   chan struct{} // closed when answer and err are valid
	answer *stanza.Stanza
	err    error
	// results are what came for a query of the archive; bounded by the page that was asked for.
	results []Message
	query   string
}

// outbox holds what waits to be written, to be acknowledged and to be confirmed. It is guarded by the mutex of its
// Client.
type outbox struct {
	room     chan struct{} // one token for each that waits
	queue    []*outgoing   // to be written
	written  []*outgoing   // and not acknowledged, in order; empty without stream management
	acked    uint32        // the last h
	sends    map[string]*sending
	requests map[string]*request
	number   uint64
	asked    bool // for an acknowledgement
	unasked  int  // written since
	urgent   bool // something waits for the acknowledgement
	settled  []chan struct{}
}

// askEvery is after how many stanzas an acknowledgement is asked for.
const askEvery = 16

func (b *outbox) init(most int) {
	b.room = make(chan struct{}, most)
	b.sends, b.requests = map[string]*sending{}, map[string]*request{}
}

// take returns what is to be written now.
func (b *outbox) take(managed bool) []*outgoing {
	out := b.queue
	b.queue = nil
	for _, o := range out {
		if o.send != nil && o.send.signal {
			b.finish(o.send, Receipt{}, nil)
		}
		if o.send != nil && !o.send.confirmed {
			b.urgent = true
		}
	}
	if managed {
		b.written = append(b.written, out...)
		b.unasked += len(out)
	}
	return out
}

// mustAsk reports whether an acknowledgement is due.
func (b *outbox) mustAsk() bool {
	if b.asked || b.unasked == 0 || b.unasked < askEvery && !b.urgent {
		return false
	}
	b.asked, b.unasked, b.urgent = true, 0, false
	return true
}

// acknowledge drops what the server has handled. It reports false when h cannot be.
func (b *outbox) acknowledge(h uint32) bool {
	n := h - b.acked
	if uint64(n) > uint64(len(b.written)) {
		return false
	}
	for _, o := range b.written[:n] {
		if s := o.send; s != nil && !s.confirmed {
			b.finish(s, Receipt{ID: o.s.ID}, nil)
		}
	}
	b.written = slices.Delete(b.written, 0, int(n))
	b.acked = h
	return true
}

// again queues what was not acknowledged once more, on the same stream (XEP-0198 §5).
func (b *outbox) again() {
	b.queue = append(b.written, b.queue...)
	b.written, b.asked, b.unasked = nil, false, 0
}

// anew is for a new session, which begins with what is given. Messages that are not confirmed are sent again with the
// same id; requests that were written end with err.
func (b *outbox) anew(opening []*outgoing, err error) {
	for _, o := range b.written {
		if o.request != nil {
			b.answer(o.request, nil, err)
		}
	}
	queue := opening
	var open []*sending
	for _, s := range b.sends {
		open = append(open, s)
	}
	slices.SortFunc(open, func(a, c *sending) int { return int(int64(a.number) - int64(c.number)) })
	for _, s := range open {
		queue = append(queue, s.out)
	}
	for _, o := range b.queue {
		if o.send == nil && o.request != nil {
			queue = append(queue, o)
		}
	}
	b.queue, b.written, b.acked, b.asked, b.unasked = queue, nil, 0, false, 0
}

// add queues something.
func (b *outbox) add(o *outgoing) {
	switch {
	case o.send != nil:
		b.number++
		o.send.number = b.number
		b.sends[o.s.ID] = o.send
	case o.request != nil:
		b.requests[o.s.ID] = o.request
	}
	b.queue = append(b.queue, o)
}

// drop forgets what nobody waits for any more. What was written already may still have its effect.
func (b *outbox) drop(o *outgoing, err error) {
	if i := slices.Index(b.queue, o); i >= 0 {
		b.queue = slices.Delete(b.queue, i, i+1)
	}
	if o.send != nil {
		b.finish(o.send, Receipt{}, err)
	}
	if o.request != nil {
		b.answer(o.request, nil, err)
	}
}

// finish ends a sending, once.
func (b *outbox) finish(s *sending, r Receipt, err error) {
	if b.sends[s.out.s.ID] != s {
		return
	}
	delete(b.sends, s.out.s.ID)
	s.receipt, s.err = r, err
	close(s.done)
	<-b.room
	b.settle()
}

// answer ends a request, once.
func (b *outbox) answer(r *request, s *stanza.Stanza, err error) {
	if b.requests[r.out.s.ID] != r {
		return
	}
	delete(b.requests, r.out.s.ID)
	r.answer, r.err = s, err
	close(r.done)
	<-b.room
	b.settle()
}

func (b *outbox) endAll(err error) {
	for _, s := range b.sends {
		b.finish(s, Receipt{}, err)
	}
	for _, r := range b.requests {
		b.answer(r, nil, err)
	}
}

// whenSettled returns a channel that is closed when nobody waits for anything.
func (b *outbox) whenSettled() <-chan struct{} {
	c := make(chan struct{})
	b.settled = append(b.settled, c)
	b.settle()
	return c
}

func (b *outbox) settle() {
	if len(b.sends)+len(b.requests) > 0 {
		return
	}
	for _, c := range b.settled {
		close(c)
	}
	b.settled = nil
}
