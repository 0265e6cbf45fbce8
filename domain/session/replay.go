package session

import (
	"context"
	"slices"

	"github.com/posthouse-im/posthouse/wire/stream"
)

// Replay brings messages that waited for an account to one session, while messages that come in meanwhile wait aside
// so that they follow. Its owner, one goroutine, calls Yield for each waiting message in order, then Finish.
//
// Nothing is doubled: what was held aside, or delivered before, is not yielded once more; and what was yielded is not
// delivered when it comes by the ordinary way later, as a message does that was committed but not yet routed when the
// log was read. Nothing is lost: what a session that ended did not get is handed back by Finish.
type Replay struct {
	m *Manager
	s *Session

	ctx  context.Context // ends when the session does
	stop context.CancelFunc

	// Guarded by the user's mutex.
	held  []*stream.Packet // messages that came in meanwhile, in order; at most Config.MaxHeld
	again bool             // the session went and came back: what was kept in between is due too
}

// begin starts a replay to s. The caller holds the lock of the user.
func (m *Manager) begin(u *User, s *Session) *Replay {
	r := &Replay{m: m, s: s}
	r.ctx, r.stop = context.WithCancel(context.Background())
	s.more().replay = r
	m.metrics.replaysTotal.Inc()
	return r
}

// hold queues a message aside. Under the user's lock. The queue's overflow policy: the session gets nothing more and
// is ended by Finish; what is stored goes to the next session of the account.
func (r *Replay) hold(p *stream.Packet) {
	at := len(r.held)
	if id := p.ArchiveID; id != 0 { // one that another session lost may be older than what is held
		for i := at - 1; i >= 0; i-- {
			if have := r.held[i].ArchiveID; have > id {
				at = i
			} else if have != 0 {
				break
			}
		}
	}
	r.held = slices.Insert(r.held, at, p)
	if len(r.held) > r.m.config.MaxHeld {
		r.s.failed = true // after this one, which is handed back with the others
		r.m.metrics.overflowTotal.Inc()
		r.stop()
	}
}

// Account returns the account whose messages are replayed.
func (r *Replay) Account() uint64 { return r.s.account }

// Session returns the session that they are replayed to.
func (r *Replay) Session() *Session { return r.s }

// Context ends when the session does; it is what reading the log should be bound to, beside the owner's own context.
func (r *Replay) Context() context.Context { return r.ctx }

// Yield gives the next waiting message to the session, after waiting for room. It returns false when the session
// cannot take more: it has ended, or does not want messages to the bare address any more. ctx should be derived from
// Context. copied is as in User.Had.
func (r *Replay) Yield(ctx context.Context, p *stream.Packet, copied bool) bool {
	if r.s.outbox.WaitRoom(ctx) != nil {
		return false
	}
	u := r.s.user
	u.mu.Lock()
	defer u.mu.Unlock()
	if !r.s.live() {
		return false
	}
	if r.s.had(p, copied) {
		return true
	}
	r.releaseBefore(p.ArchiveID)
	r.s.noteReplayed(p)
	r.s.outbox.Send(p)
	return true
}

// releaseBefore sends what was held aside and is older than a message that is about to be sent. That is only so when
// the session went and came back while an earlier replay ran: what came before it went is held, what came in between
// was kept. Under the user's lock.
func (r *Replay) releaseBefore(id uint64) {
	n := 0
	for i, p := range r.held {
		if p.ArchiveID > id {
			break
		}
		if p.ArchiveID != 0 {
			n = i + 1
		}
	}
	for _, p := range r.held[:n] {
		r.s.outbox.Send(p)
	}
	r.held = r.held[n:]
}

// noteReplayed remembers that a replay gave the packet to the session. Of what is made from one marker, the last packet
// has its identity, and others have none.
func (s *Session) noteReplayed(p *stream.Packet) {
	x := s.more()
	for id := range p.Stored {
		i, _ := slices.BinarySearch(x.seen, id)
		x.seen = slices.Insert(x.seen, i, id)
	}
	if len(x.seen) > maxSeen {
		x.seen = append(x.seen[:0], x.seen[len(x.seen)-maxSeen:]...)
	}
}

// successor returns a live session to go on with, or nil when there is none, or one that is having a replay of its own.
func (u *User) successor() (found *Session) {
	for _, s := range u.sessions {
		if s.extra != nil && s.extra.replay != nil {
			return nil
		}
		if found == nil && s.live() {
			found = s
		}
	}
	return found
}

// releaseChunk is how many held messages are sent before waiting for room once more.
const releaseChunk = 64

// Finish sends what was held aside and ends the replay. left is what could not be sent because the session has ended:
// it must be given to the account's other resources, or kept. next is a replay that must be run now: to the same
// session when it went and came back meanwhile, or to another one when this one could not take it all.
func (r *Replay) Finish(ctx context.Context) (left []*stream.Packet, next *Replay) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	u := r.s.user
	for {
		u.mu.Lock()
		if r.s.gone || r.s.failed || r.again && r.s.live() {
			break // what is held is handed back, or to the next replay
		}
		n := min(len(r.held), releaseChunk)
		for _, p := range r.held[:n] {
			r.s.outbox.Send(p)
		}
		r.held = r.held[n:]
		if len(r.held) == 0 {
			break
		}
		u.mu.Unlock()
		// it fails when the session ends, which the loop sees, or the owner, which leaves it to the outbox's policy
		_ = r.s.outbox.WaitRoom(ctx)
	}
	left, r.held = r.held, nil
	r.s.extra.replay = nil
	r.stop()
	switch {
	case r.s.live() && r.again:
		next = r.m.begin(u, r.s)
		next.held, left = left, nil
	case !r.s.live():
		if other := u.successor(); other != nil {
			next = r.m.begin(u, other)
		}
	}
	failed := r.s.failed && !r.s.gone
	u.mu.Unlock()
	if failed {
		r.s.outbox.Close(stream.Fail(stream.ResourceConstraint,
			"Messages came in faster than they could be delivered."))
	}
	return left, next
}
