package api

import (
	"context"
	"net/netip"
	"time"

	"github.com/posthouse-im/posthouse/limit"
	"github.com/posthouse-im/posthouse/store"
)

// caller is whose requests are counted together: a service key, or a device of an account.
type caller struct {
	key     string
	account store.AccountID
	device  string
}

// limiter counts requests: rate of them a second, and burst at once. A rate that is not positive means no limit.
func limiter[K comparable](c *Config, rate float64, burst int) *limit.Table[K] {
	return limit.NewTable[K](limit.Per(rate, time.Second, float64(burst)), 0, c.Now)
}

// limited is the problem of having to wait, nil when there is none. Retry-After counts whole seconds, and is long
// enough.
func limited(wait time.Duration) *Problem {
	if wait <= 0 {
		return nil
	}
	p := problem(CodeRateLimited, "")
	p.Retry = int((wait + time.Second - 1) / time.Second)
	return p
}

// turnRetry is how long, in seconds, somebody is told to wait whose account has all its turns.
const turnRetry = 2

// takeTurn waits for one of the turns of the request's account. It ends when the answer has been written.
func (a *API) takeTurn(ctx context.Context, q *request) *Problem {
	if a.config.Turn == nil || q.Account == 0 {
		return nil
	}
	leave, ok := a.config.Turn(ctx, uint64(q.Account))
	if !ok {
		p := problem(CodeRateLimited, "Too many large answers at once: read those that are on their way.")
		p.Retry = turnRetry
		return p
	}
	q.w.leave = leave
	return nil
}

func (a *API) limitAddress(client netip.AddrPort) *Problem {
	return limited(a.byAddress.Take(limit.AddressOf(client.Addr()), 1))
}
