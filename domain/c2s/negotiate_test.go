package c2s_test

import (
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/c2s"
	"github.com/posthouse-im/posthouse/link"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// A25–A29, A33: each header has its own answer, and the answer is a stream of its own (RFC 6120 §4.9.1.2).
func TestStreamHeaders(t *testing.T) {
	const ns = ` xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'`
	for name, row := range map[string]struct{ sent, condition string }{
		"A25 wrong stream namespace":  {`<stream:stream xmlns='jabber:client' xmlns:stream='http://example.org/' to='localhost' version='1.0'>`, "invalid-namespace"},
		"A25 wrong content namespace": {`<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>`, "invalid-namespace"},
		"A26 wrong prefix":            {`<s:stream xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams' to='localhost' version='1.0'>`, "bad-namespace-prefix"},
		"A27 version 0.9": {`<stream:stream` + ns + ` to='localhost' version='0.9'>`,
			"unsupported-version"},
		"A27 no version":    {`<stream:stream` + ns + ` to='localhost'>`, "unsupported-version"},
		"A27 not a version": {`<stream:stream` + ns + ` to='localhost' version='one'>`, "unsupported-version"},
		"A28 unknown host":  {`<stream:stream` + ns + ` to='example.org' version='1.0'>`, "host-unknown"},
		"A28 removed host":  {`<stream:stream` + ns + ` to='old.example' version='1.0'>`, "host-gone"},
		"A29 no to":         {`<stream:stream` + ns + ` version='1.0'>`, "improper-addressing"},
		"A29 empty to":      {`<stream:stream` + ns + ` to='' version='1.0'>`, "improper-addressing"},
		"A29 malformed to":  {`<stream:stream` + ns + ` to='@@' version='1.0'>`, "improper-addressing"},
		"A29 to is a user":  {`<stream:stream` + ns + ` to='romeo@localhost' version='1.0'>`, "improper-addressing"},
		"malformed from":    {`<stream:stream` + ns + ` from='@@' to='localhost' version='1.0'>`, "invalid-from"},
		"not XML":           {"GET / HTTP/1.1\r\n\r\n", "not-well-formed"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(c *c2s.Config) { c.GoneDomains = []string{"old.example"} }, func(t *testing.T, e *env) {
				c := e.dial()
				c.send(row.sent)
				got := c.fails(row.condition)
				require.Contains(t, got, "<stream:stream ")
				require.Contains(t, got, "from='localhost'")
				require.Equal(t, 1, strings.Count(got, "<stream:stream "))
			})
		})
	}
}

// A27: what is higher than 1.0 gets 1.0.
func TestHigherVersionIsAnsweredWithOurs(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c := e.dial()
		c.send(strings.Replace(header, "'localhost' version='1.0'", "'localhost' version='2.0'", 1))
		require.Contains(t, c.expect("<stream:stream", ">"), "version='1.0'")
		c.expect("</stream:features>")
	})
}

func TestHeaderIsAnswered(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		ids := map[string]bool{}
		for range 3 {
			c := e.dial()
			c.send(strings.Replace(header, " to=", " from='romeo@localhost' to=", 1))
			got := c.expect("<stream:stream", ">")
			require.Equal(t, "romeo@localhost", attr(got, "to"))
			require.Equal(t, "localhost", attr(got, "from"))
			require.GreaterOrEqual(t, len(attr(got, "id")), 20)
			ids[attr(got, "id")] = true
		}
		require.Len(t, ids, 3)
	})
}

// RFC 6120 §8.1.5: a stanza without a language has that of its stream. Who has logged in is told.
func TestLanguageAndLoginHook(t *testing.T) {
	told := 0
	run(t, func(c *c2s.Config) { c.Authenticated = func(link.Conn) { told++ } }, func(t *testing.T, e *env) {
		juliet := e.bind("juliet", "balcony")
		require.Equal(t, 1, told)
		c := e.dial()
		inItalian := strings.Replace(header, " to=", " xml:lang='it' to=", 1)
		c.send(inItalian)
		c.expect("</stream:features>")
		require.Equal(t, 1, told)
		c.sendf("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>", plain("romeo"))
		c.expect("<success", ">")
		require.Equal(t, 2, told)
		c.send(inItalian)
		c.expect("</stream:features>")
		c.bind("phone")
		c.message("juliet@localhost/balcony", "ciao")
		require.Equal(t, "it", attr(juliet.expect("<message", ">"), "xml:lang"))
		c.send("<message to='juliet@localhost/balcony' xml:lang='fr'><body>salut</body></message>")
		juliet.expect("<body>ciao</body></message>")
		require.Equal(t, "fr", attr(juliet.expect("<message", ">"), "xml:lang"))
	})
}

// A33: a second header without a restart, alone or within a stanza, opens nothing.
func TestHeaderAgain(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c := e.dial()
		c.send(header)
		c.expect("</stream:features>")
		c.send(`<stream:stream to='localhost' version='1.0'>`)
		got := c.expect("<stream:error>", "</stream:error>", "</stream:stream>")
		require.Regexp(t, "policy-violation|not-well-formed|unsupported-stanza-type|bad-format", got)
		require.NotContains(t, got, "<stream:features")
	})
}

// After authentication the stream is between the same two (§2.1 row 2: a restart must not change the host or the name).
func TestRestartKeepsTheIdentity(t *testing.T) {
	for name, row := range map[string]struct{ header, condition string }{
		"other host": {strings.Replace(header, "'localhost'", "'example.org'", 1), "host-unknown"},
		"other user": {strings.Replace(header, " to=", " from='juliet@localhost' to=", 1), "invalid-from"},
		"same user":  {strings.Replace(header, " to=", " from='romeo@localhost' to=", 1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, nil, func(t *testing.T, e *env) {
				c := e.dial()
				c.send(header)
				c.expect("</stream:features>")
				c.sendf("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>", plain("romeo"))
				c.expect("<success", ">")
				c.send(row.header)
				if row.condition == "" {
					c.expect("</stream:features>")
					return
				}
				c.fails(row.condition)
			})
		})
	}
}

// What is offered depends on where the stream is.
func TestFeatures(t *testing.T) {
	open := func(c *c2s.Config) {
		c.Registration = "open"
		c.Features = func() []stanza.Element {
			return []stanza.Element{stanza.New("http://jabber.org/protocol/caps", "c", "ver", "abc")}
		}
		c.IdleTimeout = time.Hour
	}
	run(t, open, func(t *testing.T, e *env) {
		c := e.dial()
		c.send(header)
		before := c.expect("<stream:features", "</stream:features>")
		for _, want := range []string{"<mechanism>PLAIN</mechanism>", "<mechanism>SCRAM-SHA-256</mechanism>",
			"iq-register",
			"<max-bytes>10000</max-bytes>", "<idle-seconds>3600</idle-seconds>"} {
			require.Contains(t, before, want)
		}
		for _, not := range []string{"xmpp-bind", "xmpp-session", "starttls", "-PLUS"} {
			require.NotContains(t, before, not)
		}
		c.sendf("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>", plain("romeo"))
		c.expect("<success", ">")
		c.send(header)
		after := c.expect("<stream:features", "</stream:features>")
		for _, want := range []string{"xmpp-bind", "xmpp-session", "urn:xmpp:sm:3", "rosterver", "pre-approval",
			"<max-bytes>262144</max-bytes>", "ver='abc'"} {
			require.Contains(t, after, want)
		}
		for _, not := range []string{"mechanism", "iq-register", "urn:xmpp:sasl:2"} {
			require.NotContains(t, after, not)
		}
	})
}

// A30, A31, A32: nothing gets through before its time.
func TestTooEarly(t *testing.T) {
	const message = "<message to='juliet@localhost'><body>early</body></message>"
	for name, row := range map[string]struct {
		authenticated   bool
		sent, condition string
	}{
		"A30 unknown element":                {false, "<x xmlns='urn:example:x'/>", "unsupported-stanza-type"},
		"A30 unknown element, authenticated": {true, "<x xmlns='urn:example:x'/>", "unsupported-stanza-type"},
		"A31 message before authentication":  {false, message, "not-authorized"},
		"A31 presence before authentication": {false, "<presence/>", "not-authorized"},
		"A31 iq before authentication": {false, "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
			"not-authorized"},
		"A31 bind before authentication": {false,
			"<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", "not-authorized"},
		"A31 registration that is not open": {false, "<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>",
			"not-authorized"},
		"A32 message before binding":  {true, message, "not-authorized"},
		"A32 presence before binding": {true, "<presence/>", "not-authorized"},
		"A32 iq before binding": {true, "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
			"not-authorized"},
		"A32 session before binding": {true,
			"<iq type='set' id='1'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>", "not-authorized"},
		"A14 STARTTLS after authentication": {true, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
			"policy-violation"},
		"authentication after authentication": {true,
			"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>=</auth>", "policy-violation"},
		"A21 too much before authentication": {false, "<iq id='" + strings.Repeat("a", 10_001) + "'/>",
			"policy-violation"},
		"A22 too many before authentication": {false, "<iq>" + strings.Repeat("<a/>", 40), "policy-violation"},
		"A24 text between stanzas":           {false, "hello", "bad-format"},
		"A18 comment":                        {false, "<!-- -->", "restricted-xml"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, nil, func(t *testing.T, e *env) {
				var c *client
				if row.authenticated {
					c = e.login("romeo")
				} else {
					c = e.dial()
					c.send(header)
					c.expect("</stream:features>")
				}
				c.send(row.sent)
				c.fails(row.condition)
				require.Empty(t, e.archive.storedBodies())
			})
		})
	}
}

// A1: who says nothing is closed without a word after 30 seconds.
func TestSilenceEnds(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		start := time.Now()
		c := e.dial()
		require.Empty(t, c.rest())
		require.Equal(t, 30*time.Second, time.Since(start))
	})
}

// A1: with an open stream it is told.
func TestSlowLoginIsTold(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		start := time.Now()
		c := e.dial()
		c.send(header)
		c.expect("</stream:features>")
		c.fails("connection-timeout")
		require.Equal(t, 30*time.Second, time.Since(start))
	})
}

// A2: a byte now and then does not extend the time; neither does a login without a resource.
func TestTricklingEnds(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		start := time.Now()
		c := e.dial()
		trickled := make(chan struct{})
		go func(conn net.Conn) {
			defer close(trickled)
			for i := 0; ; i++ {
				elapse(7 * time.Second)
				if _, err := conn.Write([]byte{header[i]}); err != nil {
					return
				}
			}
		}(c.conn)
		require.Empty(t, c.rest())
		require.Equal(t, 30*time.Second, time.Since(start))
		c.conn.Close()
		<-trickled

		start = time.Now()
		c = e.login("romeo")
		c.fails("connection-timeout")
		require.Equal(t, 30*time.Second, time.Since(start))
	})
}

// A bound client may be silent for ever, unless it is configured otherwise.
func TestIdle(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c := e.bind("romeo", "phone")
		elapse(24 * time.Hour)
		c.send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
		c.expect("id='p'")
	})
	run(t, func(c *c2s.Config) { c.IdleTimeout = 10 * time.Minute }, func(t *testing.T, e *env) {
		c := e.bind("romeo", "phone")
		start := time.Now()
		elapse(9 * time.Minute)
		c.send(" ") // white space is enough (RFC 6120 §4.6.1)
		synctest.Wait()
		c.fails("connection-timeout")
		require.InDelta(t, 19*time.Minute, time.Since(start), float64(2*time.Second))
	})
}

// RFC 6120 §4.4: the end of the stream is answered, and then the link is closed.
func TestOrderlyEnd(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c := e.dial()
		c.send(header)
		c.expect("</stream:features>")
		c.send("</stream:stream>")
		require.Equal(t, "</stream:stream>", c.rest())

		c = e.bind("romeo", "phone")
		c.send("</stream:stream>")
		require.Equal(t, "</stream:stream>", c.rest())
		synctest.Wait()
		require.Zero(t, e.sessionCount())
	})
}

func (e *env) sessionCount() (n int) {
	for range e.sessions.Sessions {
		n++
	}
	return n
}
