package limit

import (
	"math"
	"time"
)

// Rate is how many tokens a bucket holds, and how fast they come back. The zero Rate is no limit. It is immutable, and
// may be used by many buckets.
type Rate struct {
	token float64       // nanoseconds in which one token comes back; 0: no limit
	depth time.Duration // in which an empty bucket becomes full
}

// Per returns the rate at which n tokens come back in each period, to a bucket that holds burst of them. n of zero or
// less is no limit; a burst of less than one counts as one.
func Per(n float64, period time.Duration, burst float64) Rate {
	if !(n > 0) || period <= 0 {
		return Rate{}
	}
	r := Rate{token: float64(period) / n}
	r.depth = r.Time(max(burst, 1))
	return r
}

// Limited reports whether the rate is a limit at all.
func (r Rate) Limited() bool { return r.token > 0 }

// longest bounds such times and debts, in nanoseconds, so that sums of them do not overflow.
const longest = math.MaxInt64 / 4

// Time returns the time in which so many tokens come back, 0 without a limit.
func (r Rate) Time(tokens float64) time.Duration {
	return time.Duration(max(0, min(tokens*r.token, longest)))
}

// Bucket is a token bucket. The zero Bucket is full. It is not safe for concurrent use; copying it copies its state.
//
// Moments are durations since a moment that the caller chooses once for each bucket, and are not negative. A clock that
// is set back makes a bucket fill later. Times are exact to a nanosecond for each call.
type Bucket struct {
	full time.Duration // the moment from which it is full; GCRA's theoretical arrival time
}

// Take takes tokens when so many are there, and then returns 0. Otherwise it takes none, and returns how long it will
// take until they are there. More tokens than the bucket holds are never there.
func (b *Bucket) Take(r Rate, now time.Duration, tokens float64) (wait time.Duration) {
	after := b.after(r, now, tokens)
	if wait = after - now - r.depth; wait > 0 {
		return wait
	}
	b.full = after
	return 0
}

// Spend takes tokens whether they are there or not, and returns the time in which those that were missing come back: 0
// when they were there.
func (b *Bucket) Spend(r Rate, now time.Duration, tokens float64) (debt time.Duration) {
	b.full = b.after(r, now, tokens)
	return max(0, b.full-now-r.depth)
}

// Wait returns how long it will take until so many tokens are there, 0 when they are.
func (b Bucket) Wait(r Rate, now time.Duration, tokens float64) time.Duration {
	return max(0, b.after(r, now, tokens)-now-r.depth)
}

// Full reports whether the bucket is as good as a new one.
func (b Bucket) Full(now time.Duration) bool { return b.full <= now }

// FullAt returns the moment from which it is full, if nothing is taken before.
func (b Bucket) FullAt() time.Duration { return b.full }

// after returns the moment from which the bucket would be full after tokens were taken.
func (b Bucket) after(r Rate, now time.Duration, tokens float64) time.Duration {
	return min(max(b.full, now)+r.Time(tokens), 2*longest)
}
