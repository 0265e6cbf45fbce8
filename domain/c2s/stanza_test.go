package c2s_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/c2s"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// A59: nobody speaks for somebody else, and everybody's own address is stamped.
func TestFrom(t *testing.T) {
	for _, from := range []string{"juliet@localhost", "juliet@localhost/balcony", "romeo@localhost/other", "localhost",
		"romeo@example.org"} {
		for _, kind := range []string{
			"<message from='%s' to='juliet@localhost/balcony'><body>forged</body></message>",
			"<presence from='%s' to='juliet@localhost'/>",
			"<iq from='%s' to='juliet@localhost/balcony' type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
		} {
			run(t, nil, func(t *testing.T, e *env) {
				juliet := e.bind("juliet", "balcony")
				c := e.bind("romeo", "phone")
				c.sendf(kind, from)
				c.fails("invalid-from")
				require.Empty(t, juliet.quiet())
			})
		}
	}
	run(t, nil, func(t *testing.T, e *env) {
		juliet := e.bind("juliet", "balcony")
		c := e.bind("romeo", "phone")
		for _, from := range []string{"", " from='romeo@localhost'", " from='romeo@localhost/phone'",
			" from='ROMEO@Localhost'"} {
			c.send("<message" + from + " to='juliet@localhost/balcony'><body>mine</body></message>")
			require.Equal(t, "romeo@localhost/phone", attr(juliet.expect("<message", ">"), "from"))
		}
	})
}

// A malformed stanza is refused and the stream lives; what is malformed and must not be answered is only counted.
func TestMalformedStanzas(t *testing.T) {
	for name, row := range map[string]struct{ sent, condition string }{
		"A55 address":         {"<message to='@@' id='1'><body>x</body></message>", "jid-malformed"},
		"A60 iq without id":   {"<iq type='get'><ping xmlns='urn:xmpp:ping'/></iq>", "bad-request"},
		"A60 iq without type": {"<iq id='1'><ping xmlns='urn:xmpp:ping'/></iq>", "bad-request"},
		"A60 iq of type foo":  {"<iq type='foo' id='1'><ping xmlns='urn:xmpp:ping'/></iq>", "bad-request"},
		"A60 iq of two": {"<iq type='get' id='1'><a xmlns='urn:example:a'/><b xmlns='urn:example:b'/></iq>",
			"bad-request"},
		"A60 empty iq":           {"<iq type='set' id='1'/>", "bad-request"},
		"error is not answered":  {"<message type='error' to='@@' id='1'/>", ""},
		"result is not answered": {"<iq type='result'/>", ""},
		"refused by the chain": {"<message to='juliet@localhost' id='1'><body>refuse me</body></message>",
			"not-acceptable"},
		"nobody there": {"<message to='juliet@localhost/nowhere' id='1'><body>x</body></message>",
			"service-unavailable"},
		"a panic in the chain": {"<message to='juliet@localhost' id='1'><body>panic</body></message>",
			"internal-server-error"},
		"no way to that domain": {"<message to='juliet@example.org' id='1'><body>x</body></message>",
			"remote-server-not-found"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, nil, func(t *testing.T, e *env) {
				c := e.bind("romeo", "phone")
				c.enable()
				c.send(row.sent + "<r xmlns='urn:xmpp:sm:3'/>")
				got := c.expect("<a xmlns='urn:xmpp:sm:3' h='1'/>") + c.quiet()
				if row.condition == "" {
					require.NotContains(t, got, "error")
					return
				}
				require.Contains(t, got, "type='error'")
				require.Contains(t, got, "<"+row.condition+" ")
			})
		})
	}
}

// An IQ or presence waits for the messages that the same client sent before it, and later messages for it.
func TestOrder(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c := e.bind("romeo", "phone")
		juliet := e.bind("juliet", "balcony")
		var asked []string
		e.iqs = func(s *stanza.Stanza) { asked = append(asked, s.ID) }
		e.archive.hold(true)
		c.message("juliet@localhost/balcony", "one")
		c.message("juliet@localhost/balcony", "two")
		c.send("<iq type='get' id='after'><ping xmlns='urn:xmpp:ping'/></iq>")
		c.message("juliet@localhost/balcony", "three")
		synctest.Wait()
		require.Empty(t, asked)
		require.Equal(t, []string{"one", "two"}, e.archive.storedBodies())
		e.archive.release(1)
		synctest.Wait()
		require.Empty(t, asked)
		e.archive.release(1)
		synctest.Wait()
		require.Equal(t, []string{"after"}, asked)
		require.Equal(t, []string{"one", "two", "three"}, e.archive.storedBodies())
		e.archive.release(1)
		require.Equal(t, []string{"one", "two", "three"}, each(juliet.quiet(), "<body>", "</body>"))
	})
}

// No more than so many messages of one client are in flight; the rest waits in its socket and nothing is lost.
func TestInFlightIsBounded(t *testing.T) {
	run(t, func(c *c2s.Config) { c.MaxInFlight = 8 }, func(t *testing.T, e *env) {
		c := e.bind("romeo", "phone")
		e.archive.hold(true)
		var want []string
		for i := range 30 {
			want = append(want, fmt.Sprint(i))
			c.message("juliet@localhost", fmt.Sprint(i))
		}
		synctest.Wait()
		require.Len(t, e.archive.storedBodies(), 8)
		for e.archive.release(4) > 0 {
			synctest.Wait()
		}
		require.Equal(t, want, e.archive.storedBodies())
	})
}

// Who sends too much is read more slowly: it takes the time that the rate allows, and nothing is lost (A81: <r/> counts
// too).
func TestRateIsKept(t *testing.T) {
	limits := func(c *c2s.Config) {
		c.RateStanzas, c.BurstStanzas, c.RateBytes, c.BurstBytes = 20, 100, 20_000, 256<<10
	}
	run(t, limits, func(t *testing.T, e *env) {
		c := e.bind("romeo", "phone")
		start := time.Now()
		for i := range 300 {
			c.message("juliet@localhost", fmt.Sprint(i))
		}
		c.send("<iq type='get' id='end'><ping xmlns='urn:xmpp:ping'/></iq>")
		c.expect("id='end'")
		require.Len(t, e.archive.storedBodies(), 300)
		require.InDelta(t, 10*time.Second, time.Since(start), float64(time.Second)) // (300-100)/20
	})
	run(t, limits, func(t *testing.T, e *env) {
		c := e.bind("romeo", "phone")
		c.enable()
		start := time.Now()
		c.send(strings.Repeat("<r xmlns='urn:xmpp:sm:3'/>", 300))
		for range 300 {
			c.expect("<a ", "h='0'/>")
		}
		require.InDelta(t, 10*time.Second, time.Since(start), float64(time.Second))
	})
	run(t, limits, func(t *testing.T, e *env) {
		c := e.bind("romeo", "phone")
		start := time.Now()
		c.send(strings.Repeat(strings.Repeat(" ", 32<<10)+"<presence/>", 14))
		c.send("<iq type='get' id='end'><ping xmlns='urn:xmpp:ping'/></iq>")
		c.expect("id='end'")
		// (14·32 KiB-256 KiB)/20,000: white space counts (A23)
		require.InDelta(t, 9800*time.Millisecond, time.Since(start), float64(time.Second))
	})
}

// A throttled connection still ends at once when it has to.
func TestThrottledConnectionEnds(t *testing.T) {
	run(t, func(c *c2s.Config) { c.RateStanzas, c.BurstStanzas = 1, 1 }, func(t *testing.T, e *env) {
		c := e.bind("romeo", "phone")
		for i := range 100 {
			c.message("juliet@localhost", fmt.Sprint(i))
		}
		start := time.Now()
		fresh := e.bind("romeo", "phone")
		c.fails("conflict")
		require.Less(t, time.Since(start), 20*time.Second) // the new login is throttled too
		fresh.conn.Close()
	})
}

// A panic ends the session that it happened in and no other.
func TestPanicEndsOneSession(t *testing.T) {
	log := &strings.Builder{}
	change := func(c *c2s.Config) {
		logTo(log)(c)
		c.StanzaID = func(uint64) string { panic("a fault in the writer") }
	}
	run(t, change, func(t *testing.T, e *env) {
		juliet := e.bind("juliet", "balcony")
		c := e.bind("romeo", "phone")
		e.iqs = func(s *stanza.Stanza) {
			if s.ID == "bad" {
				panic("a fault in a handler")
			}
		}
		c.send("<iq type='get' id='bad'><ping xmlns='urn:xmpp:ping'/></iq>")
		c.expect("internal-server-error") // the router's own net
		c.send("<iq type='set' id='e'><enable xmlns='urn:posthouse:confirm:1'/></iq>")
		c.expect("id='e'")
		c.message("juliet@localhost/balcony", "x")
		c.rest()
		juliet.expect("<body>x</body>")
		synctest.Wait()
		require.Contains(t, log.String(), "a fault in the writer")
		require.Equal(t, 1, e.sessionCount())
	})
}

// A panic on the reader's goroutine is told to the client.
func TestPanicInReader(t *testing.T) {
	change := func(c *c2s.Config) { c.Features = func() []stanza.Element { panic("a fault in the reader") } }
	run(t, change, func(t *testing.T, e *env) {
		c := e.unauthenticated()
		c.send("<auth xmlns='" + nsSASL + "' mechanism='PLAIN'>" + plain("romeo") + "</auth>")
		c.expect("<success")
		c.send(header)
		c.fails("internal-server-error")
		e.unauthenticated()
	})
}

// Confirmations tell the sender what became of its messages: docs/protocol/confirm.md.
func TestConfirmations(t *testing.T) {
	change := func(c *c2s.Config) { c.StanzaID = func(id uint64) string { return fmt.Sprintf("s%d", id) } }
	run(t, change, func(t *testing.T, e *env) {
		e.bind("juliet", "balcony")
		c := e.bind("romeo", "phone")
		c.message("juliet@localhost", "before")
		c.send("<iq type='set' id='e' to='romeo@localhost'><enable xmlns='urn:posthouse:confirm:1'/></iq>")
		require.NotContains(t, c.expect("type='result' id='e'"), "confirmed")
		c.message("juliet@localhost/balcony", "refuse me")
		// not stored
		c.send(
			"<message to='juliet@localhost' type='chat'><active xmlns='http://jabber.org/protocol/chatstates'/>" +
				"</message>")
		c.message("Juliet@localhost/balcony", "stored")
		got := c.expect("<confirmed", "</message>")
		require.Equal(t, []string{"romeo@localhost", "romeo@localhost/phone", "headline", "m-stored", "s2",
			"juliet@localhost", "2", "2026-01-02T03:04:05.006Z", ""},
			[]string{attr(got[strings.LastIndex(got, "<message"):], "from"),
				attr(got[strings.LastIndex(got, "<message"):], "to"),
				attr(got[strings.LastIndex(got, "<message"):], "type"),
				attr(got[strings.LastIndex(got, "<confirmed"):], "id"), attr(got, "stanza-id"),
				attr(got, "conversation"), attr(got, "number"), attr(got, "stamp"), attr(got, "duplicate")})
		// what only moves a marker has no number
		c.send("<message to='juliet@localhost' id='r'><received xmlns='urn:xmpp:receipts' id='x'/></message>")
		require.NotContains(t, c.expect("<confirmed", ">"), "number=")
		c.send("<message id='n'><body>to myself</body></message>")
		require.Equal(t, "romeo@localhost", attr(c.expect("<confirmed", ">"), "conversation"))
		c.send("<iq type='set' id='d'><disable xmlns='urn:posthouse:confirm:1'/></iq>")
		c.expect("id='d'")
		c.message("juliet@localhost", "after")
		require.NotContains(t, c.quiet(), "confirmed")
		c.send("<iq type='set' id='w'><what xmlns='urn:posthouse:confirm:1'/></iq>")
		c.expect("type='error' id='w'", "<bad-request ")
	})
}

// A confirmation comes only when the message is stored, after a resumption too, and says when it was one already.
func TestConfirmationIsDurable(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c := e.bind("romeo", "phone")
		c.send("<iq type='set' id='e'><enable xmlns='urn:posthouse:confirm:1'/></iq>")
		c.expect("id='e'")
		id := c.enable()
		e.archive.hold(true)
		c.message("juliet@localhost", "x")
		require.NotContains(t, c.quiet(), "confirmed")
		e.archive.stored[0].Receipt.Duplicate = true
		c.conn.Close()
		synctest.Wait()
		e.archive.release(1)
		c = e.login("romeo")
		c.sendf("<resume xmlns='urn:xmpp:sm:3' previd='%s' h='0'/>", id)
		got := c.expect("<resumed", "<confirmed", ">")
		require.Equal(t, "true", attr(got, "duplicate"))
		require.Equal(t, "m-x", attr(got[strings.Index(got, "<confirmed"):], "id"))
	})
}

// Without stream management a message counts as delivered when it was written.
func TestDeliveredWhenWritten(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		juliet := e.bind("juliet", "balcony")
		c := e.bind("romeo", "phone")
		c.message("juliet@localhost/balcony", "x")
		juliet.expect("<body>x</body>")
		synctest.Wait()
		require.Equal(t, []uint64{1}, e.done.marks())
		p := packet("at three positions", 9)
		p.Also = []uint64{7, 8}
		e.sessions.Send(jidOf("juliet@localhost/balcony"), p)
		juliet.expect("<body>at three positions</body>")
		synctest.Wait()
		require.Equal(t, []uint64{1, 7, 8, 9}, e.done.marks())
	})
}

// A message to a session that has just lost its connection goes back.
func TestReturnedAfterLoss(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		juliet := e.bind("juliet", "balcony")
		e.sessions.Lookup(jidOf("juliet@localhost/balcony"))
		for i := range 3000 { // more than the pipe takes, so that the writer is at work
			e.sessions.Send(jidOf("juliet@localhost/balcony"), packet(fmt.Sprint(i), uint64(i+1)))
			if i%500 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		juliet.conn.Close()
		synctest.Wait()
		marks, back := e.done.marks(), e.done.bodies()
		require.NotEmpty(t, back)
		require.NotEmpty(t, marks)
		require.Equal(t, 3000, len(marks)+len(back), "each is either delivered or returned")
		require.Zero(t, e.sessionCount())
	})
}

// logTo is read only when everything is quiet.
func logTo(log *strings.Builder) func(*c2s.Config) {
	return func(c *c2s.Config) { c.Log = slog.New(slog.NewTextHandler(log, nil)) }
}

func packet(body string, id uint64) *stream.Packet {
	return &stream.Packet{ArchiveID: id, Stanza: &stanza.Stanza{
		Kind: stanza.Message, Type: stanza.TypeChat, From: jidOf("romeo@localhost/phone"),
		To:      jidOf("juliet@localhost/balcony"),
		Payload: []stanza.Element{stanza.New(stanza.NSClient, "body").WithText(body)},
	}}
}
