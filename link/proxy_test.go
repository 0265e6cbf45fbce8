package link

import (
	"encoding/binary"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// v2 makes a binary header.
func v2(command, family byte, body string) string {
	h := []byte(proxyV2)
	h = append(h, command, family)
	h = binary.BigEndian.AppendUint16(h, uint16(len(body)))
	return string(h) + body
}

const (
	v4Body = "\xc0\x00\x02\x01\xc6\x33\x64\x02\x30\x39\x14\x66" // 192.0.2.1:12345 to 198.51.100.2:5222
	v6Body = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x30\x39\x14\x66"
)

func TestParseProxyHeader(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want string // "" for no address
		err  error
	}{
		"v1 tcp4":        {in: "PROXY TCP4 192.0.2.1 198.51.100.2 12345 5222\r\n", want: "192.0.2.1:12345"},
		"v1 tcp6":        {in: "PROXY TCP6 2001:db8::1 2001:db8::2 12345 5222\r\n", want: "[2001:db8::1]:12345"},
		"v1 tcp6 mapped": {in: "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 1 2\r\n", want: "192.0.2.1:1"},
		"v1 longest": {in: "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff " +
			"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
			want: "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
		"v1 unknown":         {in: "PROXY UNKNOWN\r\n"},
		"v1 unknown with":    {in: "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"},
		"v1 family":          {in: "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", err: errBadHeader},
		"v1 family 6":        {in: "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n", err: errBadHeader},
		"v1 udp":             {in: "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n", err: errBadHeader},
		"v1 leading zero":    {in: "PROXY TCP4 192.0.02.1 198.51.100.2 1 2\r\n", err: errBadHeader},
		"v1 zero port":       {in: "PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n", err: errBadHeader},
		"v1 signed port":     {in: "PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n", err: errBadHeader},
		"v1 large port":      {in: "PROXY TCP4 192.0.2.1 198.51.100.2 65536 2\r\n", err: errBadHeader},
		"v1 bad destination": {in: "PROXY TCP4 192.0.2.1 198.51.100 1 2\r\n", err: errBadHeader},
		"v1 zone":            {in: "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n", err: errBadHeader},
		"v1 two spaces":      {in: "PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n", err: errBadHeader},
		"v1 trailing space":  {in: "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n", err: errBadHeader},
		"v1 lone LF":         {in: "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n\r\n", err: errBadHeader},
		"v1 too few":         {in: "PROXY TCP4 192.0.2.1\r\n", err: errBadHeader},
		"v1 nothing":         {in: "PROXY \r\n", err: errBadHeader},
		"v1 lower case":      {in: "proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n", err: errBadHeader},
		"v1 short":           {in: "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r", err: errShortHeader},
		"v1 very short":      {in: "PR", err: errShortHeader},
		"v1 endless":         {in: "PROXY " + strings.Repeat("x", 200), err: errBadHeader},
		"v1 too long":        {in: "PROXY UNKNOWN" + strings.Repeat(" ", 100) + "\r\n", err: errBadHeader},
		"nothing yet":        {in: "", err: errShortHeader},
		"xml":                {in: "<stream:stream>", err: errBadHeader},
		"tls":                {in: "\x16\x03\x01\x02\x00", err: errBadHeader},

		"v2 tcp4":           {in: v2(0x21, 0x11, v4Body), want: "192.0.2.1:12345"},
		"v2 tcp6":           {in: v2(0x21, 0x21, v6Body), want: "[2001:db8::1]:12345"},
		"v2 extensions":     {in: v2(0x21, 0x11, v4Body+"\x03\x00\x04\x01\x02\x03\x04"), want: "192.0.2.1:12345"},
		"v2 local":          {in: v2(0x20, 0x00, "")},
		"v2 local with":     {in: v2(0x20, 0x11, v4Body)},
		"v2 unspecified":    {in: v2(0x21, 0x00, "")},
		"v2 udp":            {in: v2(0x21, 0x12, v4Body)},
		"v2 unix":           {in: v2(0x21, 0x31, strings.Repeat("\x00", 216))},
		"v2 version 1":      {in: v2(0x11, 0x11, v4Body), err: errBadHeader},
		"v2 command":        {in: v2(0x22, 0x11, v4Body), err: errBadHeader},
		"v2 family":         {in: v2(0x21, 0x41, v4Body), err: errBadHeader},
		"v2 protocol":       {in: v2(0x21, 0x13, v4Body), err: errBadHeader},
		"v2 address cut":    {in: v2(0x21, 0x11, v4Body[:11]), err: errBadHeader},
		"v2 address cut 6":  {in: v2(0x21, 0x21, v6Body[:35]), err: errBadHeader},
		"v2 too long":       {in: v2(0x21, 0x11, v4Body+strings.Repeat("\x00", 3000)), err: errBadHeader},
		"v2 promises much":  {in: v2(0x21, 0x11, "")[:14] + "\xff\xff", err: errBadHeader},
		"v2 short":          {in: v2(0x21, 0x11, v4Body)[:20], err: errShortHeader},
		"v2 very short":     {in: proxyV2[:5], err: errShortHeader},
		"v2 wrong from 5th": {in: "\r\n\r\nGET / HTTP/1.1", err: errBadHeader},
	} {
		t.Run(name, func(t *testing.T) {
			const rest = "<stream"
			in := c.in
			if c.err == nil {
				in += rest
			}
			src, n, err := parseProxyHeader([]byte(in))
			require.ErrorIs(t, err, c.err)
			if c.err != nil {
				require.False(t, src.IsValid())
				return
			}
			require.Equal(t, len(c.in), n)
			if c.want == "" {
				require.False(t, src.IsValid())
				return
			}
			require.Equal(t, c.want, src.String())
			for i := range n { // no part of a header is taken for a whole one, or for something else
				_, _, err := parseProxyHeader([]byte(in[:i]))
				require.ErrorIs(t, err, errShortHeader, "the first %d bytes", i)
			}
		})
	}
}

func FuzzProxyHeader(f *testing.F) {
	for _, s := range []string{
		"PROXY TCP4 192.0.2.1 198.51.100.2 12345 5222\r\n<", "PROXY UNKNOWN\r\n", "PROXY TCP6 ::1 ::2 1 2\r\n",
		v2(0x21, 0x11, v4Body), v2(0x21, 0x21, v6Body) + "x", v2(0x20, 0, ""), "", "\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		src, n, err := parseProxyHeader(b)
		switch {
		case err != nil:
			require.False(t, src.IsValid())
			require.Zero(t, n*boolInt(err == errShortHeader))
			if err == errShortHeader {
				require.Less(t, len(b), proxyV2Max, "more is asked for without end")
			}
		default:
			require.True(t, n > 0 && n <= len(b))
			require.False(t, src.Addr().Is4In6())
			again, m, err := parseProxyHeader(b[:n])
			require.NoError(t, err)
			require.Equal(t, src, again)
			require.Equal(t, n, m)
			require.True(t, beginsProxyHeader(b))
		}
	})
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// remotes is a handler that tells whom it serves.
func remotes(got chan<- string) func(Conn) {
	return func(c Conn) {
		got <- c.Remote().String()
		echo(c)
	}
}

func TestProxyHeaderFromTrustedProxy(t *testing.T) {
	for name, split := range map[string]int{"in one piece": 0, "in two pieces": 10, "byte by byte": -1} {
		t.Run(name, func(t *testing.T) {
			got := make(chan string, 1)
			admitted := make(chan netip.AddrPort, 1)
			l := startListener(t, Config{TrustedProxies: loopback, Admit: func(a netip.AddrPort) (func(), bool) {
				admitted <- a
				return nil, true
			}}, remotes(got))
			c := dial(t, l)
			all := v2(0x21, 0x11, v4Body) + "<stream>"
			switch split {
			case -1:
				_, err := trickle{c}.Write([]byte(all))
				require.NoError(t, err)
			default:
				_, err := io.WriteString(c, all[:split])
				require.NoError(t, err)
				_, err = io.WriteString(c, all[split:])
				require.NoError(t, err)
			}
			require.Equal(t, "192.0.2.1:12345", <-got)
			require.Equal(t, "192.0.2.1:12345", (<-admitted).String(),
				"the throttle is asked about the client, not about the proxy")
			answer := make([]byte, len("<stream>"))
			_, err := io.ReadFull(c, answer)
			require.NoError(t, err)
			require.Equal(t, "<stream>", string(answer))
			exchange(t, c, "and on")
		})
	}
}

func TestProxyHeaderBeforeTLS(t *testing.T) {
	cert := newCertificate(t)
	got := make(chan string, 1)
	l := startListener(t, Config{Mode: ModeTLS, TLS: testTLS(serverTLS(cert)), TrustedProxies: loopback}, remotes(got))
	c := dial(t, l)
	_, err := io.WriteString(c, v2(0x21, 0x21, v6Body))
	require.NoError(t, err)
	k := tlsClient(t, c, clientTLS(cert))
	require.Equal(t, "[2001:db8::1]:12345", <-got)
	exchange(t, k, "x")
}

// A health check speaks for the proxy itself.
func TestProxyHeaderLocal(t *testing.T) {
	got := make(chan string, 1)
	l := startListener(t, Config{TrustedProxies: loopback}, remotes(got))
	c := dial(t, l)
	_, err := io.WriteString(c, v2(0x20, 0, ""))
	require.NoError(t, err)
	require.Equal(t, c.LocalAddr().String(), <-got)
}

// Reliability row A16: who is trusted must send a header, who is not must not.
func TestProxyHeaderRefused(t *testing.T) {
	elsewhere := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	v1 := "PROXY TCP4 192.0.2.1 198.51.100.2 12345 5222\r\n"
	for name, c := range map[string]struct {
		trusted []netip.Prefix
		send    string
	}{
		"trusted without header": {trusted: loopback, send: "<stream:stream xmlns='jabber:client'>"},
		"trusted, malformed":     {trusted: loopback, send: "PROXY TCP4 nobody\r\n"},
		"trusted, silent":        {trusted: loopback},
		"trusted, half a header": {trusted: loopback, send: v1[:20]},
		"not trusted, v1":        {trusted: elsewhere, send: v1},
		"not trusted, v2":        {trusted: elsewhere, send: v2(0x21, 0x11, v4Body)},
		"nobody is trusted, v1":  {send: v1},
		"nobody is trusted, v2":  {send: v2(0x21, 0x11, v4Body)},
	} {
		t.Run(name, func(t *testing.T) {
			used := make(chan string, 10)
			l := startListener(t, Config{TrustedProxies: c.trusted, HandshakeTimeout: 50 * time.Millisecond},
				func(c Conn) {
					all, _ := collect(c)
					used <- all
				})
			conn := dial(t, l)
			_, err := io.WriteString(conn, c.send)
			require.NoError(t, err)
			requireClosed(t, conn)
			require.EqualValues(t, 1, value(l.owner.metrics.refusals.WithLabelValues("proxy_header")))
			select {
			case all := <-used:
				require.Empty(t, all)
			default:
			}
		})
	}
}

func TestProxyHeaderThrottled(t *testing.T) {
	l := startListener(t, Config{TrustedProxies: loopback, Admit: func(a netip.AddrPort) (func(), bool) {
		return nil, a.Addr().String() != "192.0.2.1"
	}}, echo)
	c := dial(t, l)
	_, err := io.WriteString(c, v2(0x21, 0x11, v4Body))
	require.NoError(t, err)
	requireClosed(t, c)
}

func TestProxyHeaderBeforeHTTP(t *testing.T) {
	for name, useTLS := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			cert := newCertificate(t)
			cfg := Config{TrustedProxies: loopback, HandshakeTimeout: time.Second}
			if useTLS {
				cfg.Mode, cfg.TLS = ModeTLS, testTLS(serverTLS(cert))
			}
			l := startHTTP(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, r.RemoteAddr)
			}))
			c := dial(t, l)
			_, err := io.WriteString(c, v2(0x21, 0x11, v4Body))
			require.NoError(t, err)
			var rw io.ReadWriter = c
			if useTLS {
				rw = tlsClient(t, c, clientTLS(cert))
			}
			_, err = io.WriteString(rw, "GET / HTTP/1.0\r\n\r\n")
			require.NoError(t, err)
			answer, err := io.ReadAll(rw)
			require.NoError(t, err)
			require.Contains(t, string(answer), "192.0.2.1:12345")

			bad := dial(t, l)
			_, err = io.WriteString(bad, "GET / HTTP/1.0\r\n\r\n")
			require.NoError(t, err)
			requireClosed(t, bad)
		})
	}
}

// Whoever comes by way of a trusted proxy can be told from whoever does not.
func TestRelayed(t *testing.T) {
	got := make(chan bool, 1)
	tell := func(c Conn) { got <- c.(Relay).Relayed() }
	through := startListener(t, Config{TrustedProxies: loopback}, tell)
	for header, want := range map[string]bool{v2(0x21, 0x11, v4Body): true, v2(0x20, 0, ""): false} {
		_, err := io.WriteString(dial(t, through), header)
		require.NoError(t, err)
		require.Equal(t, want, <-got)
	}
	dial(t, startListener(t, Config{}, tell))
	require.False(t, <-got)
	for _, trusted := range [][]netip.Prefix{nil, loopback} {
		v := Visitors{Proxies: trusted}
		c := dial(t, startHTTP(t, Config{}, v.Handler(newWebSocket(t, WebSocketConfig{}, tell))))
		require.NoError(t, requestWebSocket(c))
		require.Equal(t, trusted != nil, <-got)
	}
}
