package archive

import (
	"context"
	"time"
)

const (
	// paceWindow is how long the committer looks at what it does before it decides how to go on.
	paceWindow = 250 * time.Millisecond
	// paceRate is how many messages a second make gathering worth while: fewer would hardly meet another one.
	paceRate = 1000
	// paceCommit is how long a transaction may take at most: while a slower disk works, enough gathers by itself.
	paceCommit = time.Millisecond
	// paceBatch is how many messages make a batch that is large enough as it is.
	paceBatch = 64
)

// pace decides whether the committer waits a little before it takes what is there. Between idle and saturated every message would
// otherwise be a transaction of its own, and pay for a sync alone. Owned by the committer.
type pace struct {
	began             time.Time
	messages, commits int
	working           time.Duration // in transactions
	gathering         bool
}

// note counts a transaction that has ended now.
func (p *pace) note(messages int, took time.Duration, now time.Time) {
	p.messages += messages
	p.commits++
	p.working += took
	elapsed := now.Sub(p.began)
	if elapsed < paceWindow {
		return
	}
	rate := float64(p.messages) / elapsed.Seconds()
	p.gathering = elapsed < 2*paceWindow && rate >= paceRate && p.working < time.Duration(p.commits)*paceCommit && p.messages < p.commits*paceBatch
	*p = pace{began: now, gathering: p.gathering}
}

// linger waits for more messages, when they come fast enough and the disk is quick.
func (a *Archive) linger(ctx context.Context) {
	if !a.pace.gathering || a.config.GatherTime <= 0 {
		return
	}
	if a.now().Sub(a.pace.began) > 2*paceWindow {
		a.pace.gathering = false // there was nothing to do for a while
		return
	}
	a.gatherTimer.Reset(a.config.GatherTime)
	select {
	case <-a.gatherTimer.C:
	case <-ctx.Done():
		a.gatherTimer.Stop()
	}
}
