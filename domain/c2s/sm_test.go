package c2s_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/c2s"
	"github.com/posthouse-im/posthouse/wire/jid"
)

func jidOf(s string) jid.JID { return jid.MustParse(s) }

const ackRequest = "<r xmlns='urn:xmpp:sm:3'/>"

// resume asks for a former stream, and returns the answer.
func (c *client) resume(id string, h int) string {
	c.sendf("<resume xmlns='urn:xmpp:sm:3' previd='%s' h='%d'/>", id, h)
	for !strings.Contains(c.buf, "<resumed") && !strings.Contains(c.buf, "</failed>") && c.more() {
	}
	switch {
	case strings.Contains(c.buf, "<resumed"):
		return c.expect("<resumed", ">")
	case strings.Contains(c.buf, "</failed>"):
		return c.expect("<failed", "</failed>")
	}
	return "the stream ended" // somebody else has resumed it once more in the same moment
}

// XEP-0198 §3 and §4: from zero, for what is done, one answer for each question.
func TestAcknowledgement(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c := e.bind("romeo", "phone")
		c.send(ackRequest) // before it is enabled it means nothing
		c.message("juliet@localhost", "uncounted")
		c.send("<enable xmlns='urn:xmpp:sm:3' resume='1' max='60'/>")
		enabled := c.expect("<enabled", ">")
		require.NotContains(t, enabled, "<a ")
		require.Equal(t, "true", attr(enabled, "resume"))
		require.Equal(t, "60", attr(enabled, "max"))
		require.GreaterOrEqual(t, len(attr(enabled, "id")), 20)
		c.send(ackRequest)
		c.expect("<a xmlns='urn:xmpp:sm:3' h='0'/>")
		e.archive.hold(true)
		c.message("juliet@localhost", "one")
		c.send(ackRequest + ackRequest)
		c.message("juliet@localhost", "refuse me") // is done before the one before it
		c.send(ackRequest)
		require.Empty(t, each(c.quiet(), "<a ", "/>"))
		e.archive.release(1)
		synctest.Wait()
		require.Equal(t, []string{"xmlns='urn:xmpp:sm:3' h='2'", "xmlns='urn:xmpp:sm:3' h='2'",
			"xmlns='urn:xmpp:sm:3' h='2'"}, each(c.quiet(), "<a ", "/>"))
		c.send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq><presence/>" + ackRequest)
		c.expect("h='4'")
	})
}

// A77
func TestEnable(t *testing.T) {
	enable := "<enable xmlns='urn:xmpp:sm:3' resume='true'/>"
	run(t, nil, func(t *testing.T, e *env) {
		c := e.unauthenticated()
		c.send(enable)
		c.expect("<failed xmlns='urn:xmpp:sm:3'>", "<unexpected-request ", "</failed>")
		c = e.login("romeo")
		c.send(enable)
		c.expect("<failed xmlns='urn:xmpp:sm:3'>", "<unexpected-request ", "</failed>")
		c.bind("phone")
		c.send(enable)
		c.expect("<enabled", ">")
		c.send("<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>")
		c.expect("<failed", "<unexpected-request ")
		c.send(enable)
		c.fails("policy-violation")
		synctest.Wait()
		require.Zero(t, e.sessionCount(), "a stream that was ended by an error is not resumed")
	})
	run(t, func(c *c2s.Config) { c.ResumeTimeout = -1 }, func(t *testing.T, e *env) {
		c := e.bind("romeo", "phone")
		c.send(enable)
		require.Empty(t, attr(c.expect("<enabled", ">"), "resume"))
		c.conn.Close()
		synctest.Wait()
		require.Zero(t, e.sessionCount())
	})
}

// A78: more was acknowledged than was sent, on a live stream and when resuming.
func TestAcknowledgedTooMuch(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c := e.bind("juliet", "balcony")
		c.enable()
		e.sessions.Send(jidOf("juliet@localhost/balcony"), packet("x", 1))
		c.expect("</message>")
		c.send("<a xmlns='urn:xmpp:sm:3' h='2'/>")
		got := c.fails("undefined-condition")
		require.Contains(t, got, "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='2' send-count='1'/>")

		c = e.bind("juliet", "balcony")
		id := c.enable()
		c.conn.Close()
		c = e.login("juliet")
		c.sendf("<resume xmlns='urn:xmpp:sm:3' previd='%s' h='1'/>", id)
		got = c.fails("undefined-condition")
		require.Contains(t, got, "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='1' send-count='0'/>")
		synctest.Wait()
		c = e.login("juliet") // the session is still there for who counts right
		require.Contains(t, c.resume(id, 0), "<resumed")
	})
	for _, bad := range []string{"<a xmlns='urn:xmpp:sm:3'/>", "<a xmlns='urn:xmpp:sm:3' h='-1'/>",
		"<a xmlns='urn:xmpp:sm:3' h='4294967296'/>", "<a xmlns='urn:xmpp:sm:3' h='x'/>"} {
		run(t, nil, func(t *testing.T, e *env) {
			c := e.bind("juliet", "balcony")
			c.enable()
			c.send(bad)
			c.fails("bad-format")
		})
	}
}

// A79: what is unknown, over or somebody else's is one and the same, but for the audit and what is remembered for its
// owner.
func TestResumeRefused(t *testing.T) {
	log := &strings.Builder{}
	run(t, logTo(log), func(t *testing.T, e *env) {
		c := e.bind("romeo", "phone")
		id := c.enable()
		c.message("juliet@localhost", "x")
		c.conn.Close()
		synctest.Wait()

		thief := e.login("juliet")
		foreign := thief.resume(id, 0)
		unknown := thief.resume("AAAAAAAAAAAAAAAAAAAAAA", 0)
		odd := thief.resume("not an id", 0)
		require.Contains(t, foreign, "<item-not-found ")
		require.Equal(t, foreign, unknown)
		require.Equal(t, foreign, odd)
		require.Equal(t, 1, strings.Count(log.String(), "resume_foreign"))
		thief.send("<resume xmlns='urn:xmpp:sm:3' previd='x'/>")
		thief.expect("<failed", "<bad-request ")
		thief.bind("balcony") // XEP-0198 §5: a resource may be bound instead

		elapse(5*time.Minute + 2*time.Second)
		synctest.Wait()
		c = e.login("romeo")
		late := c.resume(id, 0)
		require.Contains(t, late, "<item-not-found ")
		require.Equal(t, "1", attr(late, "h"), "what was handled is known to its owner")
		thief = e.login("juliet")
		require.Equal(t, foreign, thief.resume(id, 0))
		for range 4 {
			thief.resume(id, 0)
		}
		thief.sendf("<resume xmlns='urn:xmpp:sm:3' previd='%s' h='0'/>", id)
		thief.fails("policy-violation")
	})
}

// A80: of two who resume at once exactly one wins.
func TestResumeRace(t *testing.T) {
	for _, held := range []bool{false, true} { // with and without a message that the winner must wait for
		run(t, nil, func(t *testing.T, e *env) {
			c := e.bind("romeo", "phone")
			id := c.enable()
			e.archive.hold(held)
			c.message("juliet@localhost", "x")
			synctest.Wait()
			c.conn.Close()
			synctest.Wait()
			clients := make([]*client, 8)
			for i := range clients {
				clients[i] = e.login("romeo")
			}
			answers := make([]string, len(clients))
			var all sync.WaitGroup
			for i, c := range clients {
				all.Go(func() { answers[i] = c.resume(id, 0) })
			}
			synctest.Wait()
			e.archive.release(1)
			all.Wait()
			won := 0
			for _, a := range answers {
				switch {
				case strings.Contains(a, "<resumed"):
					won++
					require.Equal(t, "1", attr(a, "h"))
				case held:
					require.Contains(t, a, "<item-not-found ")
				}
			}
			require.GreaterOrEqual(t, won, 1)
			// all asked before the first was answered; without that, a later one may resume over an earlier one
			if held {
				require.Equal(t, 1, won)
			}
			require.Equal(t, 1, e.sessionCount())
		})
	}
}

// XEP-0198 §5: what was not acknowledged is sent again, in order, before what came meanwhile.
func TestResume(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		juliet := e.bind("juliet", "balcony")
		id := juliet.enable()
		send := func(bodies ...string) {
			for _, b := range bodies {
				var n uint64
				_, _ = fmt.Sscan(b, &n)
				require.True(t, e.sessions.Send(jidOf("juliet@localhost/balcony"), packet(b, n)))
			}
		}
		send("1", "2", "3", "4")
		require.Equal(t, []string{"1", "2", "3", "4"}, each(juliet.quiet(), "<body>", "</body>"))
		require.Empty(t, e.done.marks())
		juliet.send("<a xmlns='urn:xmpp:sm:3' h='1'/>")
		synctest.Wait()
		require.Equal(t, []uint64{1}, e.done.marks())
		juliet.conn.Close()
		synctest.Wait()
		send("5", "6")

		juliet = e.login("juliet")
		require.Equal(t, "0", attr(juliet.resume(id, 2), "h"))
		send("7")
		require.Equal(t, []string{"3", "4", "5", "6", "7"}, each(juliet.quiet(), "<body>", "</body>"))
		require.Equal(t, []uint64{1, 2}, e.done.marks())
		juliet.send("<a xmlns='urn:xmpp:sm:3' h='7'/>")
		synctest.Wait()
		require.Equal(t, []uint64{1, 2, 3, 4, 5, 6, 7}, e.done.marks())
		require.Empty(t, e.done.bodies())

		// Its own address is as before.
		juliet.message("juliet@localhost/balcony", "to myself")
		juliet.expect("<body>to myself</body>")
	})
}

// The stream may be resumed over another connection while the old one is still open: the old one is told.
func TestResumeOverOpenConnection(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		old := e.bind("romeo", "phone")
		id := old.enable()
		e.archive.hold(true)
		old.message("juliet@localhost", "in flight")
		synctest.Wait()
		fresh := e.login("romeo")
		fresh.sendf("<resume xmlns='urn:xmpp:sm:3' previd='%s' h='0'/>", id)
		require.Empty(t, fresh.quiet(), "h is not known before the message is stored")
		old.fails("conflict")
		e.archive.release(1)
		require.Equal(t, "1", attr(fresh.expect("<resumed", ">"), "h"))
		e.archive.hold(false)
		fresh.message("juliet@localhost", "next")
		fresh.send(ackRequest)
		fresh.expect("h='2'")
		require.Equal(t, []string{"in flight", "next"}, e.archive.storedBodies())
	})
}

// What the old connection says after the stream has moved is not taken in: the new one will send it again.
func TestOldConnectionIsDeaf(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		old := e.bind("romeo", "phone")
		id := old.enable()
		fresh := e.login("romeo")
		fresh.resume(id, 0)
		_, _ = old.conn.Write([]byte("<message to='juliet@localhost' id='1'><body>late</body></message>"))
		synctest.Wait()
		require.Empty(t, e.archive.storedBodies())
		old.conn.Close()
		fresh.send(ackRequest)
		fresh.expect("h='0'")
	})
}

// A stream that nobody resumes ends: once, with everything given back, confirmations aside.
func TestHibernationEnds(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		juliet := e.bind("juliet", "balcony")
		juliet.send("<enable xmlns='urn:xmpp:sm:3' resume='true' max='30'/>")
		juliet.expect("<enabled", ">")
		e.sessions.Send(jidOf("juliet@localhost/balcony"), packet("seen", 1))
		juliet.expect("<body>seen</body>")
		juliet.conn.Close()
		synctest.Wait()
		e.sessions.Send(jidOf("juliet@localhost/balcony"), packet("unseen", 2))
		elapse(29 * time.Second)
		require.Equal(t, 1, e.sessionCount())
		elapse(3 * time.Second)
		synctest.Wait()
		require.Zero(t, e.sessionCount())
		require.Equal(t, []string{"seen", "unseen"}, e.done.bodies())
		require.Equal(t, 1, e.done.calls)
		require.Empty(t, e.done.marks())
	})
}

// XEP-0198 §7: a stream that was closed in order is over, and what it did not acknowledge goes back.
func TestClosedStreamIsNotResumed(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		juliet := e.bind("juliet", "balcony")
		id := juliet.enable()
		e.sessions.Send(jidOf("juliet@localhost/balcony"), packet("seen", 1))
		juliet.expect("<body>seen</body>")
		juliet.send("<message to='localhost'/></stream:stream>")
		require.Contains(t, juliet.rest(), "<a xmlns='urn:xmpp:sm:3' h='1'/></stream:stream>")
		synctest.Wait()
		require.Zero(t, e.sessionCount())
		require.Equal(t, []string{"seen"}, e.done.bodies())
		juliet = e.login("juliet")
		require.Contains(t, juliet.resume(id, 0), "<item-not-found ")
	})
}

// The stream footer waits until what the client has sent is stored, and acknowledges it.
func TestCloseWaitsForMessages(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c := e.bind("romeo", "phone")
		c.enable()
		e.archive.hold(true)
		c.message("juliet@localhost", "last")
		c.send("</stream:stream>")
		require.Empty(t, c.quiet())
		e.archive.release(1)
		require.Equal(t, "<a xmlns='urn:xmpp:sm:3' h='1'/></stream:stream>", c.rest())

		// But not for ever.
		c = e.bind("romeo", "phone")
		c.enable()
		c.message("juliet@localhost", "not stored")
		start := time.Now()
		c.send("</stream:stream>")
		c.rest()
		require.Equal(t, 5*time.Second, time.Since(start))
		e.archive.release(1)
	})
}

// The server asks after so many stanzas, and for a single one a moment later; who never answers is cut off.
func TestServerAsks(t *testing.T) {
	run(t, func(c *c2s.Config) { c.AckEvery = 5 }, func(t *testing.T, e *env) {
		juliet := e.bind("juliet", "balcony")
		id := juliet.enable()
		elapse(500 * time.Millisecond) // between two looks of the sweeper
		for i := range 5 {
			e.sessions.Send(jidOf("juliet@localhost/balcony"), packet(fmt.Sprint(i), uint64(i+1)))
		}
		juliet.expect("<body>4</body></message>" + ackRequest)
		juliet.send("<a xmlns='urn:xmpp:sm:3' h='5'/>")
		start := time.Now()
		e.sessions.Send(jidOf("juliet@localhost/balcony"), packet("5", 6))
		require.NotContains(t, juliet.quiet(), ackRequest)
		juliet.expect(ackRequest)
		require.LessOrEqual(t, time.Since(start), 2*time.Second)
		require.Empty(t, juliet.rest())
		require.InDelta(t, time.Minute, time.Since(start), float64(4*time.Second))
		juliet = e.login("juliet")
		require.Contains(t, juliet.resume(id, 5), "<resumed")
		juliet.expect("<body>5</body>")
	})
}

// Nothing is asked of a client that has acknowledged everything.
func TestServerAsksOnlyWhatItMust(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		juliet := e.bind("juliet", "balcony")
		juliet.enable()
		e.sessions.Send(jidOf("juliet@localhost/balcony"), packet("x", 1))
		juliet.expect("</message>")
		juliet.send("<a xmlns='urn:xmpp:sm:3' h='1'/>")
		elapse(time.Hour)
		require.Empty(t, juliet.quiet())
	})
}
