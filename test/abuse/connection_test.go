package abuse

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/script"
)

// ending is how a connection ended.
type ending struct {
	about string
	conn  net.Conn
	text  string // what came before the end
	err   error
	after time.Duration
}

// endings waits until the server has closed all connections, and returns what was received on each.
func endings(t *testing.T, conns map[string]net.Conn) (texts map[string]string) {
	t.Helper()
	texts, _ = timedEndings(t, conns)
	return texts
}

// timedEndings is endings that also returns how long each took.
func timedEndings(t *testing.T, conns map[string]net.Conn) (texts map[string]string, times map[string]time.Duration) {
	t.Helper()
	ended, began := make(chan ending), time.Now()
	for about, conn := range conns {
		go func() { // ends with the connection, or with its deadline
			conn.SetReadDeadline(time.Now().Add(patience))
			text, err := io.ReadAll(conn)
			ended <- ending{about, conn, string(text), err, time.Since(began)}
		}()
	}
	texts, times = make(map[string]string), make(map[string]time.Duration)
	for range conns {
		e := <-ended
		require.NotErrorIs(t, e.err, os.ErrDeadlineExceeded, "%s is left open", e.about)
		texts[e.about], times[e.about] = e.text, e.after
		e.conn.Close()
	}
	return texts, times
}

// dial connects to an address, from another one if that is not "".
func dial(t *testing.T, source, address string) net.Conn {
	t.Helper()
	conn, err := from(source).DialContext(t.Context(), "tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// A1, and row 81 of the advisories: silent connections are closed at the login deadline, on every listener, in every
// state before a resource is bound.
func TestA1SilentConnections(t *testing.T) {
	t.Parallel()
	s := open(t, "c2s.login_timeout=2s", "link.handshake_timeout=9s")
	conns := make(map[string]net.Conn)
	for i := range 100 {
		conns[fmt.Sprint("XMPP ", i)] = dial(t, "", s.Endpoints().XMPP)
		conns[fmt.Sprint("TLS ", i)] = dial(t, "", s.Endpoints().XMPPTLS)
	}
	conns["HTTP"] = dial(t, "", s.Endpoints().HTTP)
	conns["private HTTP"] = dial(t, "", s.Endpoints().Private)
	states := map[string]func(script.Transport) *visitor{
		"stream": func(how script.Transport) *visitor {
			v := s.visit(how)
			v.open()
			return v
		},
		"half a login": func(how script.Transport) *visitor {
			v := s.visit(how)
			v.open()
			v.send(saslAuth("PLAIN", ""))
			v.expect("<challenge", "/>")
			return v
		},
		"login": func(how script.Transport) *visitor { return s.visit(how).login("romeo") },
	}
	for name, state := range states {
		for _, how := range everywhere {
			conns[name+" "+string(how)] = state(how).conn
		}
	}
	conns["websocket"] = s.visit(script.WebSocket).conn
	conns["TLS"] = s.visit(script.DirectTLS).conn
	upgrade := s.visit(script.TCP)
	upgrade.open()
	upgrade.send(starttls)
	upgrade.expect("<proceed", ">")
	conns["STARTTLS"] = upgrade.conn

	texts, times := timedEndings(t, conns)
	handshake := patience
	for about, text := range texts {
		state, _, _ := strings.Cut(about, " ")
		if state == "TLS" {
			handshake = min(handshake, times[about])
		}
		switch state {
		case "stream", "half", "login":
			require.Contains(t, text, "<connection-timeout", about)
		case "XMPP", "STARTTLS":
			require.Empty(t, text, about)
		}
	}
	require.Less(t, handshake, 15*time.Second,
		"a handshake has ten seconds in all; these are the first of a hundred to end")
}

// drip writes a text again and again, one byte at a time, and returns how many bytes were written when the connection
// ends.
func drip(conn net.Conn, text string) (drops <-chan int) {
	out := make(chan int, 1)
	go func() { // ends when the connection does
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		n := 0
		for ; ; n++ {
			<-tick.C
			if _, err := conn.Write([]byte{text[n%len(text)]}); err != nil {
				break
			}
		}
		out <- n
	}()
	return out
}

// A2, and rows 34 and 63: single bytes, white space, pings and pongs do not extend a deadline.
func TestA2Slowloris(t *testing.T) {
	t.Parallel()
	s := open(t, "c2s.login_timeout=3s")
	drops := make(map[string]<-chan int)
	conns := make(map[string]net.Conn)
	begin := func(about string, conn net.Conn, text string) {
		conns[about], drops[about] = conn, drip(conn, text)
	}
	longHeader := strings.Replace(header, "to=", "x='"+strings.Repeat("a", 1000)+"' to=", 1)
	begin("stream header", dial(t, "", s.Endpoints().XMPP), longHeader)
	begin("TLS hello", dial(t, "", s.Endpoints().XMPPTLS), "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"+
		strings.Repeat("x", 500))
	begin("HTTP header", dial(t, "", s.Endpoints().HTTP), "GET /xmpp-websocket HTTP/1.1\r\nHost: localhost\r\nX: "+
		strings.Repeat("a", 1000))
	begin("HTTP/2 preface", dial(t, "", s.Endpoints().HTTP), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+
		strings.Repeat("\x00", 1000))
	begin("private HTTP header", dial(t, "", s.Endpoints().Private), "GET / HTTP/1.1\r\nX: "+strings.Repeat("a", 1000))
	begin("frame of a WebSocket", s.visit(script.WebSocket).conn, "\x81\xfe\x03\xe8\x00\x00\x00\x00"+opening+
		strings.Repeat(" ", 1000))
	begin("pings on a WebSocket", s.visit(script.WebSocket).conn, "\x89\x80\x00\x00\x00\x00")
	spaces := s.visit(script.TCP)
	spaces.open()
	begin("white space", spaces.conn, " \n")
	slow := s.visit(script.DirectTLS)
	slow.open()
	begin("stanza in TLS", slow.conn, "<iq id='"+strings.Repeat("a", 1000))
	authenticated := s.visit(script.TCP).login("romeo")
	begin("stanza before binding", authenticated.conn, "<iq type='set' id='"+strings.Repeat("a", 1000))

	texts := endings(t, conns)
	for about := range conns {
		require.Positive(t, <-drops[about], about)
	}
	require.Contains(t, texts["white space"], "<connection-timeout")
	require.Contains(t, texts["stanza before binding"], "<connection-timeout")
}

// refused reports whether a connection is closed without an answer to the greeting. A connection that is not refused
// stays open until the test ends.
func refused(t *testing.T, source, address, greeting string) bool {
	t.Helper()
	conn, err := from(source).DialContext(t.Context(), "tcp", address)
	if err != nil {
		require.ErrorIs(t, err, syscall.ECONNRESET) // it was quick
		return true
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, greeting)
	n, err := conn.Read(make([]byte, 1))
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	return n == 0
}

// greetings returns, for the address of each listener, what a client sends first to get an answer.
func (s *fixture) greetings() map[string]string {
	return map[string]string{
		s.Endpoints().XMPP: header, s.Endpoints().XMPPTLS: clientHello(&tls.Config{}),
		s.Endpoints().HTTP: "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
	}
}

// clientHello returns the first record that a TLS client sends.
func clientHello(c *tls.Config) string {
	c.InsecureSkipVerify = true
	near, far := net.Pipe()
	go func() { // ends with the pipe
		_ = tls.Client(far, c).Handshake()
	}()
	defer near.Close()
	p := make([]byte, 64<<10)
	n, _ := near.Read(p) // one record, written at once
	return string(p[:n])
}

// A4: an address is limited in connections, and in new ones a second, over all listeners together. Connections above
// the limit are closed before anything is read, so they cost no TLS handshake. Other addresses are not affected.
func TestA4ConnectionsOfOneAddress(t *testing.T) {
	for name, limit := range map[string][]string{
		"open":     {"auth.connections.per_address=6", "auth.connections.rate=-1"},
		"a second": {"auth.connections.per_address=-1", "auth.connections.rate=1", "auth.connections.burst=6"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, limit...)
			began := time.Now()
			for range 2 {
				for address, greeting := range s.greetings() {
					require.False(t, refused(t, "127.0.0.2", address, greeting))
				}
			}
			admitted := 0
			for range 20 {
				for address, greeting := range s.greetings() {
					if !refused(t, "127.0.0.2", address, greeting) {
						admitted++
					}
				}
			}
			most := 0
			if name == "a second" {
				most = int(time.Since(began).Seconds()) + 1
			}
			require.LessOrEqual(t, admitted, most)
			for address, greeting := range s.greetings() {
				require.False(t, refused(t, "127.0.0.3", address, greeting), address)
			}
			s.visitFrom("127.0.0.3", script.TCP).login("romeo")
		})
	}
}

// A5: unauthenticated connections from many addresses reach their limit; those that have logged in do not count. When
// they go, there is room again.
func TestA5ConnectionsOfManyAddresses(t *testing.T) {
	s := open(t, "auth.connections.unauthenticated=20")
	romeo := s.available(script.TCP, "romeo", "phone")
	var unauthenticated []net.Conn
	for i := range 20 {
		v := s.visitFrom(fmt.Sprintf("127.0.%d.%d", 1+i/5, 1+i), script.TCP)
		v.open()
		unauthenticated = append(unauthenticated, v.conn)
	}
	for i := range 40 {
		address := []string{s.Endpoints().XMPP, s.Endpoints().XMPPTLS, s.Endpoints().HTTP}[i%3]
		require.True(t, refused(t, fmt.Sprintf("127.0.9.%d", 1+i), address, s.greetings()[address]))
	}
	nothing(t, romeo)
	for _, conn := range unauthenticated {
		conn.Close()
	}
	until(t, func() bool { return !refused(t, "127.0.9.99", s.Endpoints().XMPP, header) })
	s.visit(script.TCP).login("juliet")
}

// until polls a condition that the node makes true asynchronously, and fails when it does not within patience.
func until(t *testing.T, happens func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !happens() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			require.Fail(t, "it does not happen")
		}
	}
}

// A16: a client that is not a trusted proxy cannot forge its address.
func TestA16ForgedAddress(t *testing.T) {
	s := open(t, "auth.connections.per_address=2", "auth.connections.rate=-1")
	for _, line := range []string{"PROXY TCP4 192.0.2.7 127.0.0.1 1234 5222\r\n",
		"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\x7f\x00\x00\x01\x04\xd2\x14\x66"} {
		conn := dial(t, "127.0.0.4", s.Endpoints().XMPP)
		_, err := io.WriteString(conn, line+header)
		require.NoError(t, err)
		require.Empty(t, endings(t, map[string]net.Conn{"": conn})[""], "%q", line)
	}
	// X-Forwarded-For does not give anybody more connections.
	get := func(n int) error {
		conn, err := from("127.0.0.5").DialContext(t.Context(), "tcp", s.Endpoints().HTTP)
		if err != nil {
			return err
		}
		t.Cleanup(func() { conn.Close() }) // stays open
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(
			conn, "GET /.well-known/host-meta HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.%d\r\n\r\n", n)
		_, err = http.ReadResponse(bufio.NewReader(conn), nil)
		return err
	}
	for n := range 5 {
		err := get(n)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, n >= 2, err != nil, "connection %d: %v", n, err)
	}
}

// A16: behind a reverse proxy, a client's connections, its failed logins and the rate of its requests are counted by
// the address that the proxy names, for the API and for WebSockets alike, and one WebSocket is one connection. A client
// that has all that it may have shuts nobody else out, however few connections the proxy may have by its own address.
func TestA16ReverseProxy(t *testing.T) {
	const most = 3
	s := open(t, fmt.Sprint("auth.connections.per_address=", most), "listen.http.proxy_from=127.0.0.1",
		"auth.failures.per_address=2", "api.login_rate=0.001", "api.login_burst=5")
	through := func(client, request string) (net.Conn, int, string) {
		conn := dial(t, "", s.Endpoints().HTTP)
		conn.SetDeadline(time.Now().Add(patience))
		_, err := io.WriteString(conn, strings.Replace(request, "\r\n", "\r\nX-Forwarded-For: "+client+"\r\n", 1))
		require.NoError(t, err)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err, "%s %s", client, request)
		if response.StatusCode == http.StatusSwitchingProtocols {
			return conn, response.StatusCode, ""
		}
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return conn, response.StatusCode, string(text)
	}
	const keys = "GET /.well-known/jwks.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
	const meta = "GET /.well-known/host-meta HTTP/1.1\r\nHost: localhost\r\n\r\n"
	login := func(name, password string) string {
		body := fmt.Sprintf(`{"grant_type":"password","username":%q,"password":%q}`, name, password)
		return fmt.Sprintf("POST /v1/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+
			"Content-Length: %d\r\n\r\n%s", len(body), body)
	}
	const flooder, other = "198.51.100.1", "198.51.100.2"
	var sockets []net.Conn
	for range most {
		conn, status, _ := through(flooder, upgrade())
		require.Equal(t, 101, status)
		sockets = append(sockets, conn)
	}
	for range 10 { // forged addresses in front make no difference
		_, status, _ := through("203.0.113.7, "+flooder, upgrade())
		require.Equal(t, 429, status)
	}
	_, status, text := through(flooder, keys)
	require.Equal(t, 429, status)
	require.Contains(t, text, `"rate_limited"`)
	_, status, _ = through(flooder, meta)
	require.Equal(t, 429, status)
	for n := range 10 {
		client := fmt.Sprint("198.51.100.", 10+n)
		_, status, _ = through(client, keys)
		require.Equal(t, 200, status)
		_, status, _ := through(client, upgrade())
		require.Equal(t, 101, status)
	}
	sockets[0].Close()
	until(t, func() bool {
		_, status, _ := through(flooder, keys)
		return status == 200
	})

	// Failures of one do not throttle another, and neither do requests.
	for range 5 {
		_, status, _ = through("198.51.100.3", login("romeo", "wrong"))
	}
	require.Equal(t, 429, status)
	_, status, _ = through(other, login("juliet", password("juliet")))
	require.Equal(t, 200, status)

	for _, wrong := range []string{"nobody", "", "198.51.100.1, nobody", "nobody, 127.0.0.1", "fe80::1%lo"} {
		for _, request := range []string{keys, meta, upgrade()} {
			_, status, text := through(wrong, request)
			require.Equal(t, 400, status, wrong)
			require.Contains(t, text, "X-Forwarded-For", wrong)
		}
	}
}

// A16: from a trusted proxy the PROXY header is required, and believed. A8, and rows 17 and 18 of the advisories:
// remote clients need TLS for everything.
func TestA8NothingWithoutEncryption(t *testing.T) {
	s := open(t, "listen.xmpp.proxy_from=127.0.0.1/32", "registration=open")
	require.Empty(t, endings(t, map[string]net.Conn{"": func() net.Conn {
		conn := dial(t, "", s.Endpoints().XMPP)
		_, err := io.WriteString(conn, header)
		require.NoError(t, err)
		return conn
	}()})[""], "from a proxy, without its header")

	elsewhere := func() (*visitor, string) {
		v := s.visit(script.TCP)
		v.send("PROXY TCP4 192.0.2.7 127.0.0.1 1234 5222\r\n" + header)
		return v, v.expect("<stream:features", "</stream:features>")
	}
	v, features := elsewhere()
	require.Contains(t, features, "<starttls xmlns='"+nsTLS+"'><required/></starttls>")
	for _, offer := range []string{"mechanism", "register", "bind", "sm:3", "compress"} {
		require.NotContains(t, features, offer)
	}
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-1", "EXTERNAL", "ANONYMOUS"} {
		v.send(saslAuth(mechanism, plain("", "romeo", password("romeo"))))
		condition, _ := v.failure()
		require.Equal(t, "encryption-required", condition, mechanism)
	}
	v, _ = elsewhere()
	v.send("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>" +
		plain("", "romeo", password("romeo")) + "</initial-response></authenticate>")
	require.Contains(t, v.expect("<failure", "</failure>"), "<encryption-required")
	const unsupported = "unsupported-stanza-type"
	for text, condition := range map[string]string{
		"<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>":                              "not-authorized",
		"<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>":                 "not-authorized",
		"<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>":      unsupported,
		"<iq type='set' id='1'><query xmlns='jabber:iq:auth'><username>romeo</username></query></iq>": "not-authorized",
		"<handshake xmlns='jabber:component:accept'/>":                                                unsupported,
		"<db:result xmlns:db='jabber:server:dialback' from='a' to='localhost'>x</db:result>":          unsupported,
	} {
		v, _ := elsewhere()
		v.send(text)
		requireFails(t, v, condition, text)
	}
	v, _ = elsewhere()
	v.send("<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>")
	v.expect("<failed", "<unexpected-request")
	v.send(starttls)
	v.expect("<proceed", ">")
	v.secure()
	v.login("romeo").bind("phone")
}

// A9: plaintext that was sent together with <starttls/> is not processed after the handshake: the stream ends instead.
func TestA9StartTLSInjection(t *testing.T) {
	s := open(t)
	for _, injected := range []string{"   ", "\n<", header, saslAuth("PLAIN", plain("", "romeo", password("romeo"))),
		"<iq", strings.Repeat("\n", 40_000)} {
		v := s.visit(script.TCP)
		v.open()
		v.send(starttls + injected)
		require.NotContains(t, v.fails("policy-violation"), "<proceed")
	}
}

// A14: STARTTLS is possible once, and only before the login.
func TestA14StartTLSTwice(t *testing.T) {
	s := open(t)
	for _, how := range []script.Transport{script.StartTLS, script.DirectTLS, script.WebSocket} {
		v := s.visit(how)
		v.open()
		v.send(starttls)
		require.Contains(t, v.rest(), "<failure xmlns='"+nsTLS+"'/>", how)
	}
	for _, how := range everywhere {
		v := s.visit(how).login("romeo")
		v.send(starttls)
		v.fails("policy-violation")
		v = s.visit(how).login("romeo")
		v.bind("phone")
		v.send(starttls)
		v.fails("policy-violation")
	}
}

// A35: without a closing tag the session ends uncleanly: its contacts are told, unless stream management keeps it.
func TestA35HalfOpen(t *testing.T) {
	s := open(t)
	watching := s.available(script.TCP, "romeo", "watch")
	arrives := func(how script.Transport, resource string) *script.Client {
		a := s.available(how, "romeo", resource)
		require.Equal(t, a.JID, next(t, watching).Attr("from"))
		return a
	}
	for _, how := range everywhere {
		arrives(how, "cut").Cut()
		require.Equal(t, "unavailable", next(t, watching).Attr("type"), how)

		kept := arrives(how, "kept "+string(how))
		tell(t, kept, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
		_, _, err := kept.Until(func(n *script.Element) bool { return n.Name.Local == "enabled" })
		require.NoError(t, err)
		kept.Cut()
		nothing(t, watching)
	}
}
