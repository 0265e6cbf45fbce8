package c2s

import (
	"context"
	"time"

	"github.com/posthouse-im/posthouse/limit"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// rates are what clients may send: bytes and stanzas.
type rates struct {
	bytes, stanzas limit.Rate
}

func newRates(c *Config) rates {
	return rates{
		bytes:   limit.Per(float64(c.RateBytes), time.Second, float64(c.BurstBytes)),
		stanzas: limit.Per(float64(c.RateStanzas), time.Second, float64(c.BurstStanzas)),
	}
}

// meter counts what a client sends.
type meter struct {
	bytes, stanzas limit.Bucket
}

// charge pays for an item and returns how long the client is not to be read from, 0 for not at all. now is the
// server's.
func (m *meter) charge(r *rates, now int64, size int, kind stream.ItemKind) time.Duration {
	wait := m.bytes.Spend(r.bytes, time.Duration(now), float64(size))
	if kind != stream.Keepalive {
		wait = max(wait, m.stanzas.Spend(r.stanzas, time.Duration(now), 1))
	}
	return wait
}

// throttle does not read for a while: TCP then makes the client wait. Nothing is lost. It returns the time.
func (c *conn) throttle(ctx context.Context, wait time.Duration) int64 {
	c.srv.metrics.throttled.Inc()
	if c.bound == nil {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.neg.ctx.Done():
		}
		return c.srv.now()
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	b := c.bound
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.wait(ctx, func() bool { return b.at != c || b.state != live || b.broken })
	return c.srv.now()
}
