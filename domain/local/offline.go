package local

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// keepLocks is the number of locks that keep spreads accounts over.
const keepLocks = 64

// keepSeed spreads accounts; it is the same for the life of the process.
var keepSeed = maphash.MakeSeed()

// keep returns the lock that orders "nobody is there, so it is kept" against "somebody is there now, and reads what
// was kept": the first is done under the read lock from the decision to Offline.Kept, and who reads passes barrier
// after its session was made live. So the archive hears of each message first that it was kept, then that it was
// replayed, and never the other way round.
func (d *Domain) keep(account jid.JID) *sync.RWMutex {
	return &d.keeping[maphash.String(keepSeed, account.Bare().String())%keepLocks]
}

// barrier returns after every decision to keep that was begun before it.
func (d *Domain) barrier(account jid.JID) {
	lock := d.keep(account)
	lock.Lock()
	lock.Unlock() //nolint:staticcheck // an empty critical section is the point
}

// predecessorTime bounds the wait for the connection that a session replaced: a dead one takes its write timeout to
// end, and a repetition is better than a wait that people notice.
const predecessorTime = 2 * time.Second

// startReplay brings what waited to a session, on a goroutine of its own: it waits for room in the session's queue,
// which the session's reader makes by reading acknowledgements.
func (d *Domain) startReplay(r *session.Replay) {
	d.mu.Lock()
	started := !d.closed && d.offline != nil
	if started {
		d.replays.Add(1)
	}
	d.mu.Unlock()
	if !started {
		d.finishReplay(r)
		return
	}
	go func() { // ends with the session, or with Close, which cancels and waits
		defer d.replays.Done()
		for r != nil {
			d.replay(r)
			r = d.finishReplay(r)
		}
	}()
}

// later runs what goes on as fast as a client reads, on a goroutine of its own: the one that is here may be that which
// reads from the client.
func (d *Domain) later(run func(context.Context)) {
	d.mu.Lock()
	started := !d.closed
	if started {
		d.replays.Add(1)
	}
	d.mu.Unlock()
	if !started {
		return
	}
	go func() { // ends with the session, or with Close, which cancels and waits
		defer d.replays.Done()
		run(d.ctx)
	}()
}

// replay yields what waits to the session of r.
func (d *Domain) replay(r *session.Replay) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	select {
	case d.replaying <- struct{}{}:
		defer func() { <-d.replaying }()
	case <-ctx.Done():
		return
	}
	if s := r.Session(); s.Replaced() { // most have not, and need no timer
		waiting, stop := context.WithTimeout(ctx, predecessorTime)
		s.AwaitPredecessor(waiting)
		stop()
	}
	d.barrier(r.Session().JID())
	err := d.offline.Replay(ctx, r.Account(), func(p *stream.Packet) bool {
		if d.ctx.Err() != nil || !r.Yield(ctx, p, payload.Eligible(p.Stanza)) {
			return false
		}
		d.metrics.replays.Inc()
		return true
	})
	if err != nil && ctx.Err() == nil {
		// What was not replayed is not marked as delivered: the next session that becomes live gets it.
		d.metrics.failed.Inc()
		d.log.Error("waiting messages could not be replayed", "account", store.AccountID(r.Account()), "err", err)
	}
}

// finishReplay ends a replay, gives what its session could not take to others, and returns the replay that must follow.
func (d *Domain) finishReplay(r *session.Replay) (next *session.Replay) {
	left, next := r.Finish(d.ctx)
	for _, p := range left {
		if p.ArchiveID != 0 {
			d.giveBack(r.Session(), p)
		}
	}
	return next
}

// Return takes what a session that has ended was given and never acknowledged, in order. It is called after the session
// was unbound. Requests are answered with an error (XEP-0198 §4), presence is dropped, and so are messages that are not
// in the archive. Those that are go to other sessions of the account unless they had them, or wait in the archive.
func (d *Domain) Return(ctx context.Context, s *session.Session, unacked []*stream.Packet) {
	for _, p := range unacked {
		switch p.Stanza.Kind {
		case stanza.IQ:
			if p.Stanza.IsRequest() && !p.Stanza.From.IsZero() {
				d.send(ctx, p.Stanza.ErrorReply(unavailable))
			}
		case stanza.Message:
			if p.ArchiveID != 0 {
				d.giveBack(s, p)
			}
		}
	}
}

// giveBack finds another session for a stored message that s did not get, or keeps it.
func (d *Domain) giveBack(s *session.Session, p *stream.Packet) {
	p = p.Original()
	copied := payload.Eligible(p.Stanza)
	lock := d.keep(s.JID())
	lock.RLock()
	defer lock.RUnlock()
	taken := false
	d.sessions.Visit(s.JID(), func(u *session.User) {
		if u.Account() != s.Account() {
			return // another account by the same name
		}
		for other := range u.All {
			if other != s && u.Had(other, p, copied) {
				taken = true // and should it not have got it either, its connection returns it in turn
				return
			}
		}
		if to := p.Stanza.To; to.IsFull() {
			if other := u.Match(to.Resource()); other != nil && other != s {
				u.Redeliver(other, p) // the device came back on a new stream
				taken = true
				return
			}
		}
		for other := range u.All {
			if other != s && u.IsLive(other) {
				u.Redeliver(other, p)
				taken = true
			}
		}
	})
	if !taken && d.offline != nil {
		d.offline.Kept(s.Account(), p.ArchiveID)
	}
}
