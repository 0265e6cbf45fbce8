package c2s_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/c2s"
	"github.com/posthouse-im/posthouse/link"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream"
)

const nsOurs = "urn:posthouse:stream:1"

// named is a link on which a protocol was agreed.
type named struct {
	link.Conn
	protocol string
}

func (n named) Protocol() string { return n.protocol }

// compactClient is the other end of a compact stream.
type compactClient struct {
	t    *testing.T
	conn net.Conn
	dec  *pbstream.Decoder
}

func (e *env) dialCompact() *compactClient {
	near, far := link.Pipe()
	e.serve(named{near, link.ProtocolCompact})
	return &compactClient{t: e.t, conn: far, dec: pbstream.NewDecoder(stream.Limits{})}
}

func (c *compactClient) send(frames ...[]byte) {
	c.t.Helper()
	for _, f := range frames {
		_, err := c.conn.Write(f)
		require.NoError(c.t, err)
	}
}

func (c *compactClient) say(e stanza.Element) { c.send(pbstream.Codec{}.AppendElement(nil, &e)) }

func (c *compactClient) open() {
	c.send(pbstream.Codec{}.AppendOpen(nil, stream.Header{To: "localhost", Version: "1.0"}))
}

// next returns the next item; its kind is 0 at the end of the connection.
func (c *compactClient) next() stream.Item {
	c.t.Helper()
	for {
		item, err := c.dec.Next()
		if err == nil {
			return item
		}
		require.Equal(c.t, stream.ErrMore, err)
		p := make([]byte, 4096)
		n, err := c.conn.Read(p)
		if err != nil {
			return stream.Item{}
		}
		c.dec.Feed(p[:n])
	}
}

// expect returns the next item, which must be an element of that name.
func (c *compactClient) expect(local string) *stanza.Element {
	c.t.Helper()
	item := c.next()
	require.NotNil(c.t, item.Element, "waiting for %s, got %+v", local, item)
	require.Equal(c.t, local, item.Element.Local)
	return item.Element
}

// negotiate goes as far as the features, and returns them.
func (c *compactClient) negotiate() *stanza.Element {
	c.open()
	require.Equal(c.t, stream.Open, c.next().Kind)
	return c.expect("features")
}

func (e *env) bindCompact(user, resource string) *compactClient {
	c := e.dialCompact()
	c.negotiate()
	c.say(stanza.New(nsSASL, "auth", "mechanism", "PLAIN").WithText(plain(user)))
	c.expect("success")
	c.dec.Restart()
	c.negotiate()
	c.send(pbstream.Codec{}.AppendStanza(nil,
		&stanza.Stanza{Kind: stanza.IQ, Type: stanza.TypeSet, ID: "b", Payload: []stanza.Element{
			stanza.New(nsBind, "bind").With(stanza.New(nsBind, "resource").WithText(resource)),
		}}))
	require.Equal(c.t, stanza.TypeResult, c.next().Stanza.Type)
	return c
}

// pongs reads what has come and returns how many keep-alives were in it.
func (c *compactClient) pongs() (n int) {
	synctest.Wait()
	p := make([]byte, 1<<16)
	_ = c.conn.SetReadDeadline(time.Now().Add(time.Nanosecond))
	k, err := c.conn.Read(p)
	_ = c.conn.SetReadDeadline(time.Time{})
	if err != nil {
		return 0
	}
	c.dec.Feed(p[:k])
	for {
		item, err := c.dec.Next()
		if err != nil {
			return n
		}
		require.Equal(c.t, stream.Keepalive, item.Kind)
		n++
	}
}

// A ping is answered, before the login and after it. Many that come at once have one answer or more, and never more
// than they are.
func TestPing(t *testing.T) {
	ping := pbstream.Codec{}.AppendPing(nil)
	run(t, nil, func(t *testing.T, e *env) {
		unauthenticated := e.dialCompact()
		unauthenticated.negotiate()
		unauthenticated.send(ping)
		require.Equal(t, 1, unauthenticated.pongs())
		c := e.bindCompact("romeo", "phone")
		for range 3 {
			c.send(ping)
			require.Equal(t, 1, c.pongs())
		}
		c.send(pbstream.Codec{}.AppendPong(nil))
		require.Zero(t, c.pongs(), "a pong asks for nothing")
		many := []byte{}
		for range 500 {
			many = append(many, ping...)
		}
		c.send(many)
		n := c.pongs()
		require.Positive(t, n)
		require.LessOrEqual(t, n, 500)
		c.send(ping)
		require.Equal(t, 1, c.pongs(), "the connection goes on")
	})
}

// Pings are not stanzas: they do not use up the stanzas that a client may send.
func TestPingsAreNotStanzas(t *testing.T) {
	run(t, func(c *c2s.Config) { c.RateStanzas, c.BurstStanzas = 1, 5 }, func(t *testing.T, e *env) {
		c := e.bindCompact("romeo", "phone")
		start := time.Now()
		for range 50 {
			c.send(pbstream.Codec{}.AppendPing(nil))
			require.Equal(t, 1, c.pongs())
		}
		require.Less(t, time.Since(start), time.Second)
	})
}

// The two agree on an interval within bounds; whoever is then silent for two of them has gone. It can be resumed, if it
// could be.
func TestKeepAlive(t *testing.T) {
	ask := func(seconds string) string { return "<keepalive xmlns='" + nsOurs + "' seconds='" + seconds + "'/>" }
	run(t, nil, func(t *testing.T, e *env) {
		c := e.login("romeo")
		c.bind("phone")
		id := c.enable()
		for _, try := range []struct{ ask, get int }{{1, 15}, {60, 60}, {1 << 30, 1800}, {0, 0}, {20, 20}} {
			c.send(ask(strconv.Itoa(try.ask)))
			require.Equal(t, strconv.Itoa(try.get), attr(c.expect("<keepalive", ">"), "seconds"))
		}
		start := time.Now()
		for range 5 {
			elapse(35 * time.Second)
			c.send(" ")
			synctest.Wait()
		}
		require.Empty(t, c.rest(), "it is cut off without a word")
		require.InDelta(t, 5*35+40, time.Since(start).Seconds(), 2)
		again := e.login("romeo")
		require.Contains(t, again.resume(id, 0), "<resumed")
		elapse(24 * time.Hour) // the agreement was with the other connection
		again.send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
		again.expect("id='p'")
	})
	run(t, nil, func(t *testing.T, e *env) {
		c := e.bind("romeo", "phone") // cannot be resumed
		c.send(ask("15"))
		start := time.Now()
		c.expect("<keepalive", ">")
		c.fails("connection-timeout")
		require.InDelta(t, 30, time.Since(start).Seconds(), 2)
	})
	run(t, func(c *c2s.Config) {
		c.KeepAliveMin, c.KeepAliveMax, c.IdleTimeout = time.Hour, 2*time.Hour, 10*time.Minute
	}, func(t *testing.T, e *env) {
		c := e.bind("romeo", "phone")
		c.send(ask("15"))
		require.Equal(t, "3600", attr(c.expect("<keepalive", ">"), "seconds"))
		start := time.Now()
		c.fails("connection-timeout")
		require.InDelta(t, 600, time.Since(start).Seconds(), 2, "the idle timeout holds beside it")
	})
	for _, bad := range []string{"", "-1", "x", "1.5", "99999999999"} {
		run(t, nil, func(t *testing.T, e *env) {
			c := e.bind("romeo", "phone")
			c.send(ask(bad))
			c.fails("bad-format")
		})
	}
}

// What the features say is there, and what comes before it is no part of the negotiation.
func TestKeepAliveIsAnnounced(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c := e.dial()
		c.send(header)
		require.NotContains(t, c.expect("</stream:features>"), nsOurs)
		c.send("<keepalive xmlns='" + nsOurs + "' seconds='60'/>")
		c.fails("unsupported-stanza-type")
		c = e.dial()
		c.send(header)
		c.expect("</stream:features>")
		c.sendf("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>", plain("romeo"))
		c.expect("<success", ">")
		c.send(header)
		require.Contains(t, c.expect("</stream:features>"), "<keepalive xmlns='"+nsOurs+"'/>")
	})
}

// A ping is enough to keep an agreement.
func TestPingKeepsAlive(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c := e.bindCompact("romeo", "phone")
		c.say(stanza.New(nsOurs, "keepalive", "seconds", "15"))
		c.expect("keepalive")
		for range 20 {
			elapse(25 * time.Second)
			c.send(pbstream.Codec{}.AppendPing(nil))
			require.Equal(t, 1, c.pongs())
		}
		require.Equal(t, "error", c.expect("error").Local)
		require.Equal(t, stream.Close, c.next().Kind)
	})
}

// When the server stops it says when to come back. Few clients come back soon, many are spread as configured.
func TestShutdownNotice(t *testing.T) {
	for _, test := range []struct {
		clients int
		spread  time.Duration
		most    int
	}{{3, 0, 1}, {600, time.Minute, 7}, {600, 3 * time.Second, 4}, {600, -1, 1}} {
		t.Run(fmt.Sprint(test.clients, test.spread), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t, func(c *c2s.Config) { c.ReconnectSpread, c.DrainTime = test.spread, time.Millisecond })
				e.t = t
				var clients []*client
				for range test.clients {
					c := e.dial()
					c.send(header)
					c.expect("</stream:features>")
					clients = append(clients, c)
				}
				compact := e.bindCompact("romeo", "phone")
				go func() { _ = e.server.Drain(context.Background()) }()
				seen := map[int]int{}
				for _, c := range clients {
					after, err := strconv.Atoi(attr(c.expect("<system-shutdown ", "<reconnect xmlns='"+nsOurs+"'",
						"</stream:error>"), "after"))
					require.NoError(t, err)
					require.True(t, after >= 1 && after <= test.most, "after %d", after)
					seen[after]++
					c.conn.Close()
				}
				require.Len(t, seen, test.most, "every delay is somebody's")
				app := compact.expect("error").Child(nsOurs, "reconnect")
				require.NotNil(t, app)
				require.NotEmpty(t, app.Attr("after"))
				compact.conn.Close()
				e.close()
			})
		})
	}
}

// STARTTLS is neither offered nor taken where another protocol was agreed on.
func TestNoStartTLSOnCompact(t *testing.T) {
	run(t, func(c *c2s.Config) { c.TLS = func() *tls.Config { return &tls.Config{} } }, func(t *testing.T, e *env) {
		const nsTLS = "urn:ietf:params:xml:ns:xmpp-tls"
		c := e.dialCompact()
		require.Nil(t, c.negotiate().Child(nsTLS, "starttls"))
		c.say(stanza.New(nsTLS, "starttls"))
		c.expect("failure")
		require.Equal(t, stream.Close, c.next().Kind)
	})
}
