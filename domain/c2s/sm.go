package c2s

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"strconv"
	"time"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// nsSM is the namespace of stream management (XEP-0198 version 1.6).
const nsSM = "urn:xmpp:sm:3"

// requestAck is <r/> (XEP-0198 §4).
var requestAck = stanza.Element{Space: nsSM, Local: "r"}

// streamID names a stream that can be resumed (XEP-0198 §5, SM-ID): 128 random bits, so that it cannot be guessed.
type streamID [16]byte

func newStreamID() (id streamID) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

func (id streamID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func parseStreamID(s string) (id streamID, ok bool) {
	if base64.RawURLEncoding.DecodedLen(len(s)) != len(id) {
		return id, false
	}
	n, err := base64.RawURLEncoding.Strict().Decode(id[:], []byte(s))
	return id, err == nil && n == len(id)
}

// management is the stream management of one session, guarded by the mutex of its bound.
type management struct {
	id      streamID
	max     time.Duration // how long it can be resumed; 0: it cannot
	acked   uint64        // stanzas that the client has acknowledged; h is this modulo 2^32
	unasked int           // stanzas written since the last <r/>
	askedAt int64         // when <r/> was written that is not answered, 0 for none
	expires int64         // when a hibernating session ends
	want    bool          // <r/> is due
	listed  bool          // the sweeper looks after it
	claimed bool          // somebody is resuming it
}

// manage handles an element of stream management on a bound stream.
func (c *conn) manage(ctx context.Context, e *stanza.Element) {
	switch e.Local {
	case "enable":
		c.enable(ctx, e)
	case "r":
		c.bound.asked(c)
	case "a":
		h, ok := parseH(e)
		if !ok {
			c.fail(stream.Fail(stream.BadFormat, "An acknowledgement needs a number h."))
			return
		}
		if failure := c.bound.acknowledged(c, h); failure != nil {
			c.fail(failure)
		}
	case "resume":
		c.say(failed(stanza.UnexpectedRequest))
	default:
		c.fail(stream.Fail(stream.UnsupportedStanzaType, ""))
	}
}

// failed is the answer of XEP-0198 §6 to <enable/> or <resume/>.
func failed(condition stanza.Condition) stanza.Element {
	return stanza.New(nsSM, "failed").With(stanza.New(stanza.NSStanzas, string(condition)))
}

func parseH(e *stanza.Element) (uint32, bool) {
	h, err := strconv.ParseUint(e.Attr("h"), 10, 32)
	return uint32(h), err == nil
}

// enable starts to count, from zero, what both sides send after <enable/> and <enabled/> (XEP-0198 §3).
func (c *conn) enable(ctx context.Context, e *stanza.Element) {
	b := c.bound
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sm != nil { // §3: only one attempt is allowed, a second one ends the stream
		c.failLocked(stream.Fail(stream.PolicyViolation, "Stream management is enabled already."))
		return
	}
	// What came before <enable/> is not counted, so it must be done with, and answered: a client that gets the answers
	// after <enabled/> has to count them, and xmpp.js 0.14 miscounts those that follow at once.
	err := b.wait(ctx, func() bool {
		return b.flight.len() == 0 && b.queue.len() == 0 || b.state != live || b.at != c || b.broken
	})
	if err != nil || b.state != live || b.at != c {
		return
	}
	enabled := b.startManagement(e)
	b.control = append(b.control, c.codec.AppendElement(nil, &enabled))
	b.kick()
}

// startManagement does what <enable/> asks for, and returns <enabled/>. b.mu is held.
func (b *bound) startManagement(e *stanza.Element) stanza.Element {
	b.sm = &management{}
	enabled := stanza.New(nsSM, "enabled")
	if isTrue(e.Attr("resume")) && b.srv.config.ResumeTimeout > 0 {
		b.sm.id, b.sm.max = newStreamID(), b.srv.config.ResumeTimeout
		if n, err := strconv.ParseUint(e.Attr("max"), 10, 31); err == nil {
			b.sm.max = min(b.sm.max, max(time.Duration(n)*time.Second, time.Second))
		}
		enabled.Attrs = []stanza.Attr{
			{Local: "id", Value: b.sm.id.String()},
			{Local: "resume", Value: "true"},
			{Local: "max", Value: strconv.Itoa(int(b.sm.max / time.Second))},
		}
		b.srv.register(b)
	}
	b.handled = 0
	return enabled
}

// asked is called for <r/>: it is answered when what came before it is handled.
func (b *bound) asked(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sm == nil || b.at != c {
		return // §4: acks have no meaning before stream management is enabled
	}
	n := b.flight.len()
	if n == 0 {
		b.acksOwed++
		b.kick()
		return
	}
	at := b.handled + uint32(n)
	if last := len(b.asks) - 1; last >= 0 && b.asks[last].at == at {
		b.asks[last].count++
		return
	}
	b.asks = append(b.asks, ask{at: at, count: 1})
}

// acknowledged is called for <a/>: the client has taken h stanzas since stream management was enabled. What an old
// connection still says after the stream was resumed elsewhere does not count.
func (b *bound) acknowledged(c *conn, h uint32) *stream.Error {
	var buf [32]uint64
	b.mu.Lock()
	if b.sm == nil || b.at != c {
		b.mu.Unlock()
		return nil
	}
	n, below, failure := b.newlyAcked(h)
	if failure != nil || below {
		b.mu.Unlock()
		return failure
	}
	ids := b.take(n, buf[:0])
	b.mu.Unlock()
	b.report(ids)
	return nil
}

// newlyAcked returns how many of the stanzas that were written h acknowledges. below: fewer than were acknowledged
// before, which says nothing new; what was acknowledged is not kept. b.mu is held.
func (b *bound) newlyAcked(h uint32) (n int, below bool, failure *stream.Error) {
	up := h - uint32(b.sm.acked) // modulo 2^32, as h is (§4)
	out := b.sent + b.writing
	switch {
	case uint64(up) <= uint64(out):
		return int(up), false, nil
	case up > 1<<31 && uint64(-up) <= b.sm.acked:
		return 0, true, nil
	}
	// §4: more was acknowledged than was sent.
	app := stanza.New(nsSM, "handled-count-too-high", "h", strconv.FormatUint(uint64(h), 10),
		"send-count", strconv.FormatUint(uint64(uint32(b.sm.acked)+uint32(out)), 10))
	return 0, false, &stream.Error{Condition: stream.UndefinedCondition, Text: "More was acknowledged than was sent.",
		App: &app}
}

// take drops n acknowledged entries. b.mu is held.
func (b *bound) take(n int, ids []uint64) []uint64 {
	b.sm.acked, b.sm.askedAt = b.sm.acked+uint64(n), 0
	ids = b.pop(n, ids)
	fromSent := min(n, b.sent)
	b.sent -= fromSent
	b.writing -= n - fromSent
	b.cond.Broadcast()
	return ids
}

// askDue decides whether <r/> follows the n entries that are about to be written. b.mu is held.
func (b *bound) askDue(n int) bool {
	m := b.sm
	m.unasked += n
	if b.sent+n == 0 {
		m.want = false
		return false
	}
	if !m.listed {
		m.listed = true
		b.srv.watch(b)
	}
	if m.askedAt != 0 || m.unasked < b.srv.config.AckEvery && !m.want {
		return false
	}
	m.unasked, m.want, m.askedAt = 0, false, b.srv.now()
	return true
}

// look is the sweeper's: it sees that what was written is acknowledged in time. It returns false when nothing is left
// to see to.
func (b *bound) look(now int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.sm
	if b.at == nil || b.state != live || b.broken || b.sent+b.writing == 0 {
		m.listed = false
		return false
	}
	switch {
	case m.askedAt == 0:
		m.want = true
		b.kick()
	case b.srv.config.AckTimeout > 0 && now-m.askedAt > int64(b.srv.config.AckTimeout):
		b.reason = endedByTimeout
		b.sever()
	}
	return true
}
