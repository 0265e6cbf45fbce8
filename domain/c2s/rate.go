package c2s

import (
	"context"
	"time"

	"github.com/posthouse-im/posthouse/wire/stream"
)

// rate meters what a client sends, by two generic cell rate algorithms: one for bytes, one for stanzas. Each field is the
// time, in nanoseconds since the server's epoch, until which what was sent so far is paid for.
type rate struct {
	bytes, stanzas int64
}

// charge pays for an item and returns how long the client is not to be read from, 0 for not at all.
func (r *rate) charge(c *Config, now int64, size int, kind stream.ItemKind) time.Duration {
	var wait int64
	if c.RateBytes > 0 {
		r.bytes = max(r.bytes, now) + int64(size)*int64(time.Second)/int64(c.RateBytes)
		wait = r.bytes - now - int64(c.BurstBytes)*int64(time.Second)/int64(c.RateBytes)
	}
	if c.RateStanzas > 0 && kind != stream.Keepalive {
		r.stanzas = max(r.stanzas, now) + int64(time.Second)/int64(c.RateStanzas)
		wait = max(wait, r.stanzas-now-int64(c.BurstStanzas)*int64(time.Second)/int64(c.RateStanzas))
	}
	return time.Duration(max(wait, 0))
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
