package c2s_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/c2s"
	"github.com/posthouse-im/posthouse/link"
)

// frames is a framed link in memory: each string is a text message.
type frames struct {
	mu       sync.Mutex // guards the rest
	cond     sync.Cond
	in, out  []string
	deadline time.Time
	closed   bool
	broken   error // what Receive returns instead of a message
	code     int
	limit    int
}

func newFrames() *frames {
	f := &frames{}
	f.cond.L = &f.mu
	return f
}

func (f *frames) change(g func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g()
	f.cond.Broadcast()
}

func (f *frames) Receive(use func(p []byte)) error {
	f.mu.Lock()
	for len(f.in) == 0 {
		switch {
		case f.closed:
			f.mu.Unlock()
			return net.ErrClosed
		case f.broken != nil:
			f.mu.Unlock()
			return f.broken
		case !f.deadline.IsZero() && !time.Now().Before(f.deadline):
			f.mu.Unlock()
			return os.ErrDeadlineExceeded
		}
		f.cond.Wait()
	}
	p := f.in[0]
	f.in = f.in[1:]
	f.mu.Unlock()
	use([]byte(p))
	return nil
}

func (f *frames) Send(bufs [][]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return net.ErrClosed
	}
	for _, b := range bufs {
		f.out = append(f.out, string(b))
	}
	f.cond.Broadcast()
	return nil
}

func (f *frames) SetReadDeadline(t time.Time) error {
	f.change(func() { f.deadline = t })
	if d := time.Until(t); d > 0 {
		time.AfterFunc(d, func() { f.change(func() {}) })
	}
	return nil
}

func (f *frames) StartTLS(context.Context, *tls.Config) error { return io.ErrUnexpectedEOF }
func (f *frames) TLS() *tls.ConnectionState                   { return nil }
func (f *frames) LocalCertificate() []byte                    { return nil }
func (f *frames) Protocol() string                            { return "xmpp" }
func (f *frames) Framed() bool                                { return true }
func (f *frames) Remote() netip.AddrPort                      { return netip.MustParseAddrPort("127.0.0.1:1") }
func (f *frames) SetMaxMessage(n int)                         { f.change(func() { f.limit = n }) }

func (f *frames) Close(code int) error {
	f.change(func() {
		if !f.closed {
			f.closed, f.code = true, code
		}
	})
	return nil
}

func (f *frames) Abort() error { return f.Close(-1) }

// frameClient speaks RFC 7395.
type frameClient struct {
	t *testing.T
	*frames
}

func (e *env) frames() *frameClient {
	f := newFrames()
	e.serve(f)
	return &frameClient{e.t, f}
}

func (c *frameClient) send(messages ...string) {
	c.change(func() { c.in = append(c.in, messages...) })
}

// next returns the next message, "" at the end.
func (c *frameClient) next() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) == 0 {
		if c.closed {
			return ""
		}
		c.cond.Wait()
	}
	m := c.out[0]
	c.out = c.out[1:]
	return m
}

const nsFraming = "urn:ietf:params:xml:ns:xmpp-framing"

const openFrame = "<open xmlns='" + nsFraming + "' to='localhost' version='1.0'/>"

// begin opens the stream, or opens it anew.
func (c *frameClient) begin() {
	c.t.Helper()
	c.send(openFrame)
	require.Contains(c.t, c.next(), "<open ")
	require.Contains(c.t, c.next(), "features")
}

func (c *frameClient) login(user, resource string) {
	c.t.Helper()
	c.begin()
	c.send("<auth xmlns='" + nsSASL + "' mechanism='PLAIN'>" + plain(user) + "</auth>")
	require.Contains(c.t, c.next(), "<success")
	require.GreaterOrEqual(c.t, c.limit, 256<<10)
	c.begin()
	c.send("<iq xmlns='jabber:client' type='set' id='b'><bind xmlns='" + nsBind + "'><resource>" + resource +
		"</resource></bind></iq>")
	require.Contains(c.t, c.next(), "<jid>")
}

// RFC 7395: one element in each message, features in their own, <open/> again instead of a stream restart, and <close/>
// at the end.
func TestWebSocket(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c := e.frames()
		c.send(openFrame)
		open := c.next()
		require.True(t, strings.HasPrefix(open, "<open "), open)
		require.Contains(t, open, nsFraming)
		require.Equal(t, "localhost", attr(open, "from"))
		features := c.next()
		require.True(t, strings.HasPrefix(features, "<stream:features xmlns:stream='http://etherx.jabber.org/streams'"),
			features)
		require.NotContains(t, features, "starttls")
		require.Equal(t, 10_000, c.limit)
		c.send("<auth xmlns='" + nsSASL + "' mechanism='PLAIN'>" + plain("romeo") + "</auth>")
		require.Contains(t, c.next(), "<success")
		c.begin()
		c.send("<iq xmlns='jabber:client' type='set' id='b'><bind xmlns='" + nsBind + "'/></iq>")
		require.Contains(t, c.next(), "<jid>")

		juliet := e.bind("juliet", "balcony")
		c.send("<message xmlns='jabber:client' to='juliet@localhost/balcony'><body>over a WebSocket</body></message>")
		juliet.expect("<body>over a WebSocket</body>")
		juliet.message("romeo@localhost", "one")
		juliet.message("romeo@localhost", "two")
		one, two := c.next(), c.next()
		require.True(t, strings.HasPrefix(one, "<message xmlns='jabber:client'") &&
			strings.HasSuffix(one, "</message>"), one)
		require.Contains(t, one, "<body>one</body>")
		require.Contains(t, two, "<body>two</body>")

		c.send("<close xmlns='" + nsFraming + "'/>")
		require.Equal(t, "<close xmlns='"+nsFraming+"'/>", c.next())
		require.Empty(t, c.next())
		require.Contains(t, []int{0, 1000}, c.code)
		synctest.Wait()
		require.Equal(t, 1, e.sessionCount())
	})
}

// A109: a message that is not exactly one element of the stream ends it: stream error, <close/>, close code 1008.
func TestWebSocketMessages(t *testing.T) {
	for name, sent := range map[string]string{
		"nothing":          "",
		"white space":      " ",
		"two elements":     "<presence xmlns='jabber:client'/><presence xmlns='jabber:client'/>",
		"half an element":  "<presence xmlns='jabber:client'>",
		"stream header":    header,
		"stream end":       "</stream:stream>",
		"text":             "hello",
		"XML declaration":  "<?xml version='1.0'?>" + openFrame,
		"second open":      openFrame,
		"unknown element":  "<x xmlns='urn:example:x'/>",
		"starttls is over": starttls,
	} {
		t.Run(name, func(t *testing.T) {
			for _, bound := range []bool{false, true} {
				run(t, nil, func(t *testing.T, e *env) {
					c := e.frames()
					if bound {
						c.login("romeo", "phone")
					}
					c.send(sent)
					m := c.next()
					if strings.HasPrefix(m, "<open ") { // §3.4: an error needs a stream
						m = c.next()
					}
					if !bound && sent == openFrame {
						require.Contains(t, m, "features") // that is how a stream begins
						return
					}
					require.True(t, strings.HasPrefix(m,
						"<stream:error xmlns:stream='http://etherx.jabber.org/streams'"), m)
					require.Equal(t, "<close xmlns='"+nsFraming+"'/>", c.next())
					require.Empty(t, c.next())
					require.Equal(t, 1008, c.code)
					synctest.Wait()
					require.Zero(t, e.sessionCount())
				})
			}
		})
	}
}

// A stream can be resumed over another kind of link, in its words.
func TestResumeFromSocketToWebSocket(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		juliet := e.bind("juliet", "balcony")
		id := juliet.enable()
		e.sessions.Send(balcony, packet("unseen", 1))
		juliet.conn.Close()
		synctest.Wait()
		c := e.frames()
		c.begin()
		c.send("<auth xmlns='" + nsSASL + "' mechanism='PLAIN'>" + plain("juliet") + "</auth>")
		c.next()
		c.begin()
		c.send("<resume xmlns='urn:xmpp:sm:3' previd='" + id + "' h='0'/>")
		require.Contains(t, c.next(), "<resumed")
		m := c.next()
		require.True(t, strings.HasPrefix(m, "<message xmlns='jabber:client'"), m)
		require.Contains(t, m, "<body>unseen</body>")
	})
}

// When the WebSocket itself is broken, its close code is the link's, and the session may be resumed.
func TestBrokenWebSocket(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c := e.frames()
		c.login("romeo", "phone")
		c.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
		require.Contains(t, c.next(), "<enabled")
		c.change(func() { c.broken = &link.FrameError{Code: 1002} })
		require.Empty(t, c.next())
		require.Equal(t, 0, c.code, "the link knows the code")
		synctest.Wait()
		require.Equal(t, 1, e.sessionCount())
	})
}

// A shutdown is 1001, going away.
func TestWebSocketShutdown(t *testing.T) {
	run(t, func(c *c2s.Config) { c.DrainTime = time.Second }, func(t *testing.T, e *env) {
		c := e.frames()
		c.login("romeo", "phone")
		require.NoError(t, e.server.Drain(context.Background()))
		require.Contains(t, c.next(), "system-shutdown")
		require.Equal(t, 1001, c.code)
	})
}
