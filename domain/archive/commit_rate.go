package archive

import "time"

const (
	// rateWindow is the interval over which the rate is measured before it is decided anew.
	rateWindow = 250 * time.Millisecond
	// delayRate is how many messages a second make the delay worth while: of fewer, hardly two would share a
	// transaction.
	delayRate = 500
	// slowRate is below how many messages a second the delay is twice as long: a single one hardly brings messages
	// together.
	slowRate = 5000
	// delayCommit is how long a transaction may take at most: while a slower disk works, a large enough batch arrives
	// anyway.
	delayCommit = time.Millisecond
	// delayBatch is how many messages make a batch that is large enough as it is.
	delayBatch = 64
)

// commitRate decides whether the committer waits for the batch delay before it takes what is there. Between idle and
// saturated every message would otherwise be a transaction of its own, with a sync of its own. Owned by the committer.
type commitRate struct {
	began             time.Time
	messages, commits int
	working           time.Duration // in transactions
	delaying          bool
	slow              bool // so few messages come that the delay is doubled
}

// note counts a transaction that has ended now.
func (p *commitRate) note(messages int, took time.Duration, now time.Time) {
	p.messages += messages
	p.commits++
	p.working += took
	elapsed := now.Sub(p.began)
	if elapsed < rateWindow {
		return
	}
	rate := float64(p.messages) / elapsed.Seconds()
	p.delaying = elapsed < 2*rateWindow && rate >= delayRate && p.working < time.Duration(p.commits)*delayCommit &&
		p.messages < p.commits*delayBatch
	*p = commitRate{began: now, delaying: p.delaying, slow: rate < slowRate}
}

// waitForBatch waits for the batch delay, so that more messages join the batch, when they come fast enough and the disk
// is quick.
func (a *Archive) waitForBatch() {
	if !a.rate.delaying || a.config.BatchDelay <= 0 {
		return
	}
	if a.now().Sub(a.rate.began) > 2*rateWindow {
		a.rate.delaying = false // there was nothing to do for a while
		return
	}
	if messages, _ := a.queue.depth(); messages > 0 { // otherwise the wait for the first one comes before
		d := a.config.BatchDelay
		if a.rate.slow {
			d *= 2
		}
		a.pause.wait(d)
	}
}
