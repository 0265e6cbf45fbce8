package api

import (
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

func (a *API) limitAddress(client netip.AddrPort) *Problem {
	return limited(a.byAddress.Take(limit.AddressOf(client.Addr()), 1))
}
