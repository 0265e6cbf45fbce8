package c2s

import (
	"crypto/rand"
	"encoding/binary"
	"strconv"
	"time"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// nsStream is our own extension for what concerns a connection and not the session on it: <keepalive/> and
// <reconnect/>. docs/protocol/compact.md describes it; it holds for every codec.
const nsStream = "urn:posthouse:stream:1"

// pinger is a decoder of a codec that has pings: it says how many came since it was last asked.
type pinger interface{ Pings() int }

// ponger is the codec that goes with it.
type ponger interface{ AppendPong(dst []byte) []byte }

// answerPing answers a ping, when what kept the connection alive was one. One pong answers all pings that came before
// it, so that whoever sends many without reading makes us hold nothing.
func (c *conn) answerPing() {
	dec, ok := c.dec.(pinger)
	if !ok || dec.Pings() == 0 {
		return
	}
	codec, ok := c.codec.(ponger)
	if !ok {
		return
	}
	b := c.bound
	if b == nil {
		c.send(codec.AppendPong(nil))
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at == c {
		b.pong = true
		b.kick()
	}
}

// agreeKeepAlive takes the interval at which the client means to send something, and answers with the one that holds:
// as near to it as the configuration allows. A connection that is silent for more than two intervals is over. 0 ends
// the agreement. It belongs to the connection: who resumes a stream agrees again.
func (c *conn) agreeKeepAlive(e *stanza.Element) {
	n, err := strconv.ParseUint(e.Attr("seconds"), 10, 31)
	if err != nil {
		c.fail(stream.Fail(stream.BadFormat, "A keep-alive needs its seconds."))
		return
	}
	cfg := &c.srv.config
	interval := time.Duration(n) * time.Second
	if n > 0 {
		interval = max(min(interval, cfg.KeepAliveMax), cfg.KeepAliveMin)
	}
	c.agreed.Store(int64(2 * interval))
	c.expectBytes(interval > 0 || cfg.IdleTimeout > 0)
	c.say(stanza.New(nsStream, "keepalive", "seconds", strconv.FormatInt(int64(interval/time.Second), 10)))
}

// expectBytes has the sweeper look after the connection, or no longer.
func (c *conn) expectBytes(on bool) {
	c.lastRead.Store(c.srv.now())
	if on == c.timed {
		return
	}
	c.timed = on
	if on {
		c.srv.timed.Add(1)
	} else {
		c.srv.timed.Add(-1)
	}
}

// sweepSilent ends bound connections that have not sent anything for too long. One that has broken its agreement is
// taken for dead: its session hibernates, if it can.
func (s *Server) sweepSilent(now int64) {
	var idle, dead []*conn
	s.mu.Lock()
	for c := range s.conns.all {
		at := c.lastRead.Load()
		silent := now - at
		switch limit := c.agreed.Load(); {
		case at == 0:
		case s.config.IdleTimeout > 0 && silent > int64(s.config.IdleTimeout):
			idle = append(idle, c)
		case limit > 0 && silent > limit:
			dead = append(dead, c)
		}
	}
	s.mu.Unlock()
	for _, c := range dead {
		if b := c.holds.Load(); b == nil || !b.lapse(c) {
			idle = append(idle, c)
		}
	}
	for _, c := range idle {
		c.kick(stream.Fail(stream.ConnectionTimeout, "Nothing was heard for too long."), endedByTimeout)
	}
}

// lapse cuts the connection of a session that outlives it. It reports false when there is no such session.
func (b *bound) lapse(c *conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at != c || !b.resumable() {
		return false
	}
	b.reason = endedByTimeout
	b.sever()
	return true
}

// reconnectRate is how many clients a second come back after a shutdown, as far as Config.ReconnectSpread allows.
const reconnectRate = 100

// shutdownNotice is what a client is told when the server stops: why, and after how many seconds to come back. The
// delays of all clients are spread evenly, so that they do not all come back at once.
func (s *Server) shutdownNotice(clients int) *stream.Error {
	spread := min(s.config.ReconnectSpread, time.Duration(clients)*time.Second/reconnectRate)
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	after := 1 + binary.BigEndian.Uint64(random[:])%(uint64(max(spread, 0)/time.Second)+1)
	app := stanza.New(nsStream, "reconnect", "after", strconv.FormatUint(after, 10))
	return &stream.Error{Condition: stream.SystemShutdown, Text: "The server stops.", App: &app}
}
