package c2s

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/link"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// phase is where a stream is in its negotiation (RFC 6120 §4.3).
type phase uint8

const (
	phaseAwaitHeader     phase = iota // the client's stream header is due
	phaseUnauthenticated              // the client has not logged in
	phaseAuthenticated                // authenticated, without a resource
	phaseBound                        // with a resource
	phaseClosed                       // what still comes is thrown away, until the link is closed
)

// conn is one connection: the state machine that is fed by its link. It belongs to the goroutine of Serve,
// but for the fields that say otherwise.
type conn struct {
	// Fixed after newConn, but for dec, which belongs to the reader.
	srv   *Server
	link  link.Conn
	dec   stream.Decoder
	codec stream.Codec

	// Owned by the reader.
	bound     *bound       // nil before a resource is bound
	corked    *bound       // bound within this feed, and not written to yet; see attachCorked
	neg       *negotiation // nil after that
	meter     meter
	phase     phase
	transport transport
	framed    bool
	timed     bool   // what lastRead says counts
	opened    bool   // our stream header is out
	startTLS  bool   // to be done when Receive has returned
	fatal     bool   // the stream was closed: the session does not outlive it
	lang      string // of the client's stream
	reason    endReason
	code      int16 // of the WebSocket's close frame; 0 for a normal one

	lastRead atomic.Int64                // when bytes came in last, for bound connections that are timed; 0 before
	agreed   atomic.Int64                // nanoseconds that the client may be silent, 0 for any; see agreeKeepAlive
	holds    atomic.Pointer[bound]       // as bound, for others to find; set before the client can know
	kicked   atomic.Pointer[kickMessage] // set by others: what a connection without a resource is to be ended with

	prev, next *conn // guarded by srv.mu
}

type kickMessage struct {
	err    *stream.Error
	reason endReason
}

func (s *Server) newConn(ctx context.Context, l link.Conn) *conn {
	c := &conn{srv: s, link: l, framed: l.Framed(), reason: endedByLink}
	c.newStream()
	c.limit(preAuthBytes, preAuthElements)
	switch {
	case c.framed:
		c.transport = overWebSocket
	case l.TLS() != nil:
		c.transport = overTLS
	}
	deadline := time.Now().Add(s.config.LoginTimeout)
	c.neg = &negotiation{deadline: deadline}
	if s.config.LoginTimeout > 0 {
		c.neg.ctx, c.neg.cancel = context.WithDeadline(ctx, deadline)
		_ = l.SetReadDeadline(deadline) // absolute: what comes in does not extend it
	} else {
		c.neg.ctx, c.neg.cancel = context.WithCancel(ctx)
	}
	return c
}

// newStream begins with a decoder that has seen nothing.
func (c *conn) newStream() { c.dec, c.codec = c.srv.config.Codec(c.link) }

// limit bounds what the client can make us hold from now on.
func (c *conn) limit(bytes, elements int) {
	c.dec.SetLimits(stream.Limits{Bytes: bytes, Elements: elements})
	if l, ok := c.link.(link.Limiter); ok && c.framed {
		l.SetMaxMessage(bytes)
	}
}

// run reads until the link has ended, and leaves the session hibernating or ended.
func (c *conn) run(ctx context.Context) {
	defer link.Deep(c.link, c.finish)
	defer func() {
		if p := recover(); p != nil {
			c.srv.panicked("reader", p)
			c.reason = endedByPanic
			c.fail(stream.Fail(stream.InternalServerError, ""))
			c.fatal = true
		}
	}()
	use := func(p []byte) { c.feed(ctx, p) }
	for {
		err := c.link.Receive(use)
		if c.startTLS && err == nil {
			c.startTLS = false
			c.upgrade()
		}
		if err == nil {
			continue
		}
		var broken *link.FrameError
		if errors.As(err, &broken) { // the WebSocket itself is not sound: there is no stream left to say so on
			c.reason = endedByError
			_ = c.link.Close(0)
			return
		}
		if c.phase == phaseClosed || !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		c.late()
	}
}

// late is called when the read deadline has passed: the login took too long, or somebody wants the connection to end.
func (c *conn) late() {
	if k := c.kicked.Load(); k != nil {
		c.reason = k.reason
		c.fail(k.err)
		return
	}
	c.reason = endedByTimeout
	if c.phase == phaseAwaitHeader && !c.opened { // no stream: there is nobody to tell (A1)
		c.phase = phaseClosed
		c.abort()
		return
	}
	c.fail(stream.Fail(stream.ConnectionTimeout, "The login took too long."))
}

// kick ends the connection from outside the reader, with an error. A bound one gets it from its writer; otherwise the
// reader says it.
func (c *conn) kick(e *stream.Error, reason endReason) {
	if b := c.holds.Load(); b != nil && b.shutBy(c, e, reason) {
		return
	}
	c.kicked.Store(&kickMessage{e, reason})
	_ = c.link.SetReadDeadline(time.Now().Add(-time.Second))
}

// finish closes the link and decides what becomes of the session.
func (c *conn) finish() {
	if c.neg != nil {
		c.neg.cancel()
	}
	b := c.bound
	if b == nil {
		c.srv.metrics.ended[c.reason].Inc()
		_ = c.link.Close(int(c.code))
		return
	}
	if !b.awaitClose(c) {
		c.abort()
	}
	b.gone(c)
}

// awaitClose waits for a close that has begun: the client may have closed its half of the link and still read ours. It
// reports whether the stream footer was written, or is being written by who resumed the session elsewhere: then the
// link is closed by that.
func (b *bound) awaitClose(c *conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.at == c && b.state == closing && !b.broken && (!b.finalSent || b.flushing) {
		b.cond.Wait() // the timer of closeLocked ends it
	}
	return b.at != c || b.finalSent && !b.broken
}

func (c *conn) abort() { _ = c.link.Abort() }

// feed takes what the link has received.
func (c *conn) feed(ctx context.Context, p []byte) {
	if c.phase == phaseClosed {
		return
	}
	now := c.srv.now()
	if c.timed {
		c.lastRead.Store(now)
	}
	defer c.uncork()
	c.dec.Feed(p)
	for c.phase != phaseClosed && !c.startTLS {
		item, err := c.dec.Next()
		if err == stream.ErrMore {
			break
		}
		if err != nil {
			c.openNow()
			c.failWith(err)
			return
		}
		corked := c.corked != nil
		if corked && item.Kind != stream.Stanza {
			c.uncork()
		}
		c.take(ctx, &item, now)
		if corked {
			c.uncork()
		}
		if wait := c.meter.charge(&c.srv.rates, now, item.Size, item.Kind); wait > 0 {
			c.uncork()
			now = c.throttle(ctx, wait)
		}
	}
	c.openNow()
	if c.framed && c.phase != phaseClosed {
		if f, ok := c.dec.(frameEnder); ok {
			if err := f.EndFrame(); err != nil {
				c.failWith(err)
			}
		}
	}
}

// frameEnder is a decoder that wants to know where a frame ends, since an element must not go on in the next one (RFC
// 7395 §3.3).
type frameEnder interface {
	EndFrame() error
}

// take handles one item.
func (c *conn) take(ctx context.Context, item *stream.Item, now int64) {
	switch item.Kind {
	case stream.Keepalive:
		c.answerPing()
	case stream.Close:
		c.closedByClient()
	case stream.Open:
		c.header(&item.Header)
	default:
		switch c.phase {
		case phaseAwaitHeader: // only a framed link can get here
			c.fail(stream.Fail(stream.NotAuthorized, "The stream was not opened."))
		case phaseUnauthenticated:
			c.takeUnauthenticated(item)
		case phaseAuthenticated:
			c.takeAuthenticated(item)
		case phaseBound:
			if item.Kind == stream.Stanza {
				c.stanza(ctx, item, now)
			} else {
				c.element(ctx, item.Element)
			}
		}
	}
}

// element handles what is not a stanza on a bound stream.
func (c *conn) element(ctx context.Context, e *stanza.Element) {
	switch {
	case e.Space == nsSM:
		c.manage(ctx, e)
	case e.Space == nsStream && e.Local == "keepalive":
		c.agreeKeepAlive(e)
	case e.Space == nsTLS || e.Space == nsSASL || e.Space == nsSASL2:
		c.fail(stream.Fail(stream.PolicyViolation, "The negotiation is over."))
	default:
		c.fail(stream.Fail(stream.UnsupportedStanzaType, ""))
	}
}

// closedByClient answers the end of the stream (RFC 6120 §4.4). The session does not outlive it (XEP-0198 §7).
func (c *conn) closedByClient() {
	c.phase, c.fatal, c.reason = phaseClosed, true, endedByClient
	if c.bound != nil {
		c.bound.shutBy(c, nil, c.reason)
		return
	}
	c.send(c.codec.AppendClose(nil))
	_ = c.link.Close(0)
}

func (c *conn) failWith(err error) {
	var e *stream.Error
	if !errors.As(err, &e) {
		c.srv.config.Log.Error("a decoder failed", "error", err.Error())
		e = stream.Fail(stream.InternalServerError, "")
	}
	c.fail(e)
}

// fail ends the stream with an error. The reader then throws away what comes until the link is closed.
func (c *conn) fail(e *stream.Error) {
	if c.phase == phaseClosed {
		return
	}
	c.failing(e)
	if c.bound != nil {
		c.bound.shutBy(c, e, c.reason)
		return
	}
	var bufs [][]byte
	if !c.opened { // RFC 6120 §4.9.1.2: an error needs a stream
		bufs = append(bufs, c.codec.AppendOpen(nil, c.answer(&stream.Header{})))
	}
	c.send(append(bufs, c.codec.AppendError(nil, e), c.codec.AppendClose(nil))...)
	c.closeWritten(e)
}

// failLocked is fail for who holds the mutex of c.bound.
func (c *conn) failLocked(e *stream.Error) {
	c.failing(e)
	if b := c.bound; b.state == live && b.at == c {
		b.closeLocked(e, c.reason, false)
	}
}

func (c *conn) failing(e *stream.Error) {
	c.phase, c.fatal = phaseClosed, true
	if c.reason == endedByLink {
		c.reason = endedByError
	}
	c.code = closeCode(e)
}

// closeCode is the WebSocket close code that goes with a stream error (RFC 6455 §7.4.1).
func closeCode(e *stream.Error) int16 {
	switch {
	case e == nil:
		return 1000
	case e.Condition == stream.SystemShutdown:
		return 1001
	case e.Condition == stream.InternalServerError:
		return 1011
	}
	return 1008
}

// closeWritten is called when the stream footer was written: the link closes its half and lets the peer read them.
func (c *conn) closeWritten(e *stream.Error) { _ = c.link.Close(int(closeCode(e))) }

// refuseDraining tells a connection that came too late.
func (c *conn) refuseDraining() {
	c.fail(c.srv.shutdownNotice(0))
	c.neg.cancel()
	_ = c.link.Close(int(c.code))
}

// send writes to a link that has no writer yet. An error shows at the next Receive.
func (c *conn) send(bufs ...[]byte) {
	if c.neg != nil && c.neg.early != nil {
		held := c.opening()
		if c.phase != phaseClosed {
			features := c.features()
			held = append(held, c.codec.AppendElement(nil, &features))
		}
		bufs = append(held, bufs...)
	}
	if err := c.link.Send(bufs); err != nil {
		c.phase = phaseClosed
		c.abort()
	}
}

// maxControl is how many answers that are not stanzas may wait for a client that is bound.
const maxControl = 64

// say sends an element, through the writer when there is one.
func (c *conn) say(e stanza.Element) {
	bytes := c.codec.AppendElement(nil, &e)
	if c.bound == nil {
		c.send(bytes)
		return
	}
	b := c.bound
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at != c {
		return
	}
	if len(b.control) >= maxControl { // it does not read
		b.reason = endedByOverflow
		b.sever()
		return
	}
	b.control = append(b.control, bytes)
	b.kick()
}
