package link

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/limit"
)

// startHTTP serves h on a listener of this package until the test ends.
func startHTTP(t testing.TB, cfg Config, h http.Handler) *Listener {
	t.Helper()
	cfg.Address = "127.0.0.1:0"
	l, err := Listen(context.Background(), cfg)
	require.NoError(t, err)
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, srv.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
		require.NoError(t, l.Shutdown(context.Background()))
	})
	return l
}

// newWebSocket makes a handler whose connections must have ended when the test does.
func newWebSocket(t testing.TB, cfg WebSocketConfig, handler func(Conn)) *WebSocket {
	t.Helper()
	w, err := NewWebSocket(cfg, handler)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, w.Shutdown(ctx))
	})
	return w
}

// webSocket opens a WebSocket that handler serves. The client's side is bytes.
func webSocket(t testing.TB, cfg WebSocketConfig, handler func(Conn)) *net.TCPConn {
	t.Helper()
	w := newWebSocket(t, cfg, handler) // its cleanup comes after that of the connection
	c := dial(t, startHTTP(t, Config{}, w))
	require.NoError(t, requestWebSocket(c))
	return c
}

func readFrame(t testing.TB, r io.Reader) ws.Frame {
	t.Helper()
	f, err := ws.ReadFrame(r)
	require.NoError(t, err)
	require.False(t, f.Header.Masked, "a server does not mask")
	return f
}

// readCloseCode expects a close frame, after any others, and then the end.
func readCloseCode(t testing.TB, r io.Reader) int {
	t.Helper()
	for {
		f := readFrame(t, r)
		if f.Header.OpCode == ws.OpClose {
			require.GreaterOrEqual(t, len(f.Payload), 2)
			return int(binary.BigEndian.Uint16(f.Payload))
		}
	}
}

func TestWebSocketEcho(t *testing.T) {
	got := make(chan Conn, 1)
	c := webSocket(t, WebSocketConfig{}, func(c Conn) {
		got <- c
		echo(c)
	})
	s := <-got
	require.True(t, s.Framed())
	require.Nil(t, s.TLS())
	require.Equal(t, c.LocalAddr().String(), s.Remote().String())
	require.Error(t, s.StartTLS(context.Background(), &tls.Config{}))
	for _, n := range []int{1, 125, 126, 127, 4000, bufferSize - 50, bufferSize, 65535, 65536, 200_000} {
		text := strings.Repeat("ä", n/2) + strings.Repeat("x", n%2)
		_, err := c.Write(clientFrame(0x81, text))
		require.NoError(t, err)
		f := readFrame(t, c)
		require.Equal(t, ws.OpText, f.Header.OpCode)
		require.Equal(t, text, string(f.Payload))
	}
}

func TestWebSocketSendsOneMessageForEachBuffer(t *testing.T) {
	c := webSocket(t, WebSocketConfig{}, func(c Conn) {
		_ = c.Send([][]byte{[]byte("one"), nil, []byte("two"), []byte(strings.Repeat("3", 70000))})
	})
	require.Equal(t, "one", string(readFrame(t, c).Payload))
	require.Equal(t, "two", string(readFrame(t, c).Payload))
	require.Len(t, readFrame(t, c).Payload, 70000)
	require.Equal(t, 1000, readCloseCode(t, c), "the handler has returned")
}

// Over TLS of our listener, over TLS and plain TCP of a foreign one.
// openProtocol opens a WebSocket that handler serves, offering those sub-protocols.
func openProtocol(t testing.TB, offered string, cfg WebSocketConfig, handler func(Conn)) *net.TCPConn {
	t.Helper()
	c := dial(t, startHTTP(t, Config{}, newWebSocket(t, cfg, handler)))
	_, err := io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: "+offered+
		"\r\n\r\n")
	require.NoError(t, err)
	return c
}

// readHead reads the head of an HTTP answer and nothing after it.
func readHead(t testing.TB, r io.Reader) string {
	t.Helper()
	var head []byte
	b := make([]byte, 1)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		_, err := io.ReadFull(r, b)
		require.NoError(t, err, "after %q", head)
		head = append(head, b[0])
	}
	return string(head)
}

// The compact stream goes in binary messages, and nothing else does; its bytes need not be text.
func TestWebSocketCompact(t *testing.T) {
	got := make(chan Conn, 1)
	c := openProtocol(t, ProtocolCompact, WebSocketConfig{MaxMessage: 1000}, func(c Conn) {
		got <- c
		echo(c)
	})
	require.Contains(t, readHead(t, c), "Sec-WebSocket-Protocol: "+ProtocolCompact+"\r\n")
	s := <-got
	require.True(t, s.Framed())
	require.Equal(t, ProtocolCompact, s.Protocol())
	for _, body := range []string{"\x02\x52\x00", "\xff\xfe", strings.Repeat("x", 1005)} {
		_, err := c.Write(clientFrame(0x82, body))
		require.NoError(t, err)
		f := readFrame(t, c)
		require.Equal(t, ws.OpBinary, f.Header.OpCode)
		require.Equal(t, body, string(f.Payload))
	}
	s.(Limiter).SetMaxMessage(10)
	_, err := c.Write(append(clientFrame(0x82, strings.Repeat("x", 15)), clientFrame(0x82, strings.Repeat("x", 16))...))
	require.NoError(t, err)
	require.Len(t, readFrame(t, c).Payload, 15, "as long as allowed, and a length in front")
	require.Equal(t, 1009, readCloseCode(t, c))

	text := openProtocol(t, ProtocolCompact, WebSocketConfig{}, echo)
	readHead(t, text)
	_, err = text.Write(clientFrame(0x81, "x"))
	require.NoError(t, err)
	require.Equal(t, 1003, readCloseCode(t, text))
}

// A client that offers several sub-protocols gets the first of its list that is spoken here.
func TestWebSocketProtocol(t *testing.T) {
	for offered, want := range map[string]string{
		"xmpp": "xmpp", "xmpp, " + ProtocolCompact: "xmpp", ProtocolCompact + ", xmpp": ProtocolCompact, "mqtt, " +
			ProtocolCompact: ProtocolCompact,
	} {
		got := make(chan string, 1)
		c := openProtocol(t, offered, WebSocketConfig{}, func(c Conn) { got <- c.Protocol() })
		require.Contains(t, readHead(t, c), "Sec-WebSocket-Protocol: "+want+"\r\n", offered)
		require.Equal(t, want, <-got)
	}
	for _, offered := range []string{"posthouse-compact-2", "Posthouse-Compact-1", "posthouse-compact-1x", "mqtt"} {
		c := openProtocol(t, offered, WebSocketConfig{}, echo)
		require.Contains(t, readHead(t, c), " 400 ", offered)
	}
}

func TestWebSocketUnderOtherListeners(t *testing.T) {
	cert := newCertificate(t)
	cases := map[string]func(t *testing.T, h http.Handler) (addr string, useTLS bool){
		"our TLS": func(t *testing.T, h http.Handler) (string, bool) {
			l := startHTTP(t, Config{Mode: ModeTLS, TLS: testTLS(serverTLS(cert, "http/1.1"))}, h)
			return l.Addr().String(), true
		},
		"foreign TLS": func(t *testing.T, h http.Handler) (string, bool) {
			s := httptest.NewUnstartedServer(h)
			s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
			s.StartTLS()
			t.Cleanup(s.Close)
			return s.Listener.Addr().String(), true
		},
		"foreign TCP": func(t *testing.T, h http.Handler) (string, bool) {
			s := httptest.NewServer(h)
			t.Cleanup(s.Close)
			return s.Listener.Addr().String(), false
		},
	}
	for name, start := range cases {
		t.Run(name, func(t *testing.T) {
			got := make(chan Conn, 1)
			w := newWebSocket(t, WebSocketConfig{}, func(c Conn) {
				got <- c
				echo(c)
			})
			addr, useTLS := start(t, w)
			tcp, err := net.Dial("tcp", addr)
			require.NoError(t, err)
			defer func() { _ = tcp.Close() }()
			var rw net.Conn = tcp
			if useTLS {
				rw = tlsClient(t, tcp, clientTLS(cert))
			}
			require.NoError(t, requestWebSocket(rw))
			s := <-got
			require.Equal(t, useTLS, s.TLS() != nil)
			if name == "our TLS" {
				require.Equal(t, cert.Certificate[0], s.LocalCertificate())
			}
			for range 3 {
				for _, text := range []string{"hello", strings.Repeat("long ", 9000)} {
					_, err = rw.Write(clientFrame(0x81, text))
					require.NoError(t, err)
					require.Equal(t, text, string(readFrame(t, rw).Payload))
				}
			}
			_, err = rw.Write(clientFrame(0x88, "\x03\xe8"))
			require.NoError(t, err)
			require.Equal(t, 1000, readCloseCode(t, rw))
		})
	}
}

// A deadline on TLS that somebody else made passes as well, and handshakes that fail give their place in the gate back.
func TestWebSocketDeadlineUnderForeignTLS(t *testing.T) {
	cert := newCertificate(t)
	errs := make(chan error, 2)
	w := newWebSocket(t, WebSocketConfig{}, func(c Conn) {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		errs <- c.Receive(func([]byte) {})
		_ = c.SetReadDeadline(time.Time{})
		_ = c.Send([][]byte{[]byte("now")})
		errs <- c.Receive(func([]byte) {})
	})
	s := httptest.NewUnstartedServer(w)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.StartTLS()
	t.Cleanup(s.Close)
	tcp, err := net.Dial("tcp", s.Listener.Addr().String())
	require.NoError(t, err)
	defer func() { _ = tcp.Close() }()
	k := tlsClient(t, tcp, clientTLS(cert))
	require.NoError(t, requestWebSocket(k))
	require.Equal(t, os.ErrDeadlineExceeded, <-errs)
	readFrame(t, k)
	_, err = k.Write(clientFrame(0x81, "x"))
	require.NoError(t, err)
	require.NoError(t, <-errs)
}

func TestFailedHTTPSHandshakesLeaveTheGate(t *testing.T) {
	cert := newCertificate(t)
	gate := limit.NewGate(1, 1)
	w := newWebSocket(t, WebSocketConfig{}, echo)
	l := startHTTP(t, Config{Mode: ModeTLS, TLS: testTLS(serverTLS(cert, "http/1.1")), Gate: gate,
		HandshakeTimeout: 200 * time.Millisecond}, w)
	for _, garbage := range []string{"GET / HTTP/1.1\r\n\r\n", "\x80\x00\x00\x00\x00\x00",
		"\x16\x03\x01\x00\x02\x01\x00", strings.Repeat("\xff", 100)} {
		c := dial(t, l)
		_, err := io.WriteString(c, garbage)
		require.NoError(t, err)
		require.NoError(t, c.CloseWrite())
		requireClosed(t, c)
	}
	k := tlsClient(t, dial(t, l), clientTLS(cert))
	require.NoError(t, requestWebSocket(k))
	require.Zero(t, gate.Inside())
}

// Frames that come with the request, or byte by byte, are the same frames.
func TestWebSocketFramesInAnyPieces(t *testing.T) {
	request := "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: " +
		"Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: foo, xmpp\r\n\r\n"
	frames := string(clientFrame(0x81, "first")) + string(clientFrame(0x01, "sec")) +
		string(clientFrame(0x89, "ping")) +
		string(clientFrame(0x80, "ond")) + string(clientFrame(0x81, strings.Repeat("x", 300)))
	for _, step := range []int{1, 2, 7, 100, 1 << 20} {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			w := newWebSocket(t, WebSocketConfig{}, echo)
			c := dial(t, startHTTP(t, Config{}, w))
			all := request + frames
			for len(all) > 0 {
				n := min(step, len(all))
				_, err := io.WriteString(c, all[:n])
				require.NoError(t, err)
				all = all[n:]
			}
			r := bufio.NewReader(c)
			resp, err := http.ReadResponse(r, nil)
			require.NoError(t, err)
			require.Equal(t, 101, resp.StatusCode)
			require.Equal(t, "xmpp", resp.Header.Get("Sec-WebSocket-Protocol"))
			require.Equal(t, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", resp.Header.Get("Sec-WebSocket-Accept"))
			require.Empty(t, resp.Header.Get("Sec-WebSocket-Extensions"))
			require.Equal(t, "first", string(readFrame(t, r).Payload))
			pong := readFrame(t, r)
			require.Equal(t, ws.OpPong, pong.Header.OpCode)
			require.Equal(t, "ping", string(pong.Payload))
			require.Equal(t, "second", string(readFrame(t, r).Payload))
			require.Len(t, readFrame(t, r).Payload, 300)
		})
	}
}

// Reliability row A108.
func TestWebSocketRules(t *testing.T) {
	unmasked := []byte{0x81, 2, 'h', 'i'}
	length64 := func(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{0x81, 0xff}, n) }
	join := func(frames ...[]byte) []byte { return bytes.Join(frames, nil) }
	fragments := func(n int) []byte {
		all := clientFrame(0x01, "x")
		for range n - 2 {
			all = append(all, clientFrame(0x00, "x")...)
		}
		return append(all, clientFrame(0x80, "x")...)
	}
	for name, c := range map[string]struct {
		send []byte
		code int
		want []string // messages before the end
	}{
		"binary":                  {send: clientFrame(0x82, "x"), code: 1003},
		"unmasked":                {send: unmasked, code: 1002},
		"RSV1":                    {send: clientFrame(0xc1, "x"), code: 1002},
		"RSV2":                    {send: clientFrame(0xa1, "x"), code: 1002},
		"RSV3":                    {send: clientFrame(0x91, "x"), code: 1002},
		"unknown data frame":      {send: clientFrame(0x83, "x"), code: 1002},
		"unknown control frame":   {send: clientFrame(0x8b, "x"), code: 1002},
		"control in fragments":    {send: clientFrame(0x09, "x"), code: 1002},
		"long control":            {send: clientFrame(0x89, strings.Repeat("x", 126)), code: 1002},
		"continuation of nothing": {send: clientFrame(0x80, "x"), code: 1002},
		"message in a message":    {send: join(clientFrame(0x01, "x"), clientFrame(0x81, "y")), code: 1002},
		"length 2^63":             {send: join(length64(1<<63), make([]byte, 4)), code: 1002},
		"length 2^64-1":           {send: join(length64(1<<64-1), make([]byte, 4)), code: 1002},
		"length 2^63-1":           {send: join(length64(1<<63-1), make([]byte, 4)), code: 1009},
		"length 16 not shortest":  {send: []byte{0x81, 0xfe, 0, 125, 1, 2, 3, 4}, code: 1002},
		"length 64 not shortest":  {send: join(length64(65535), make([]byte, 4)), code: 1002},
		"oversized":               {send: clientFrame(0x81, strings.Repeat("x", 1001)), code: 1009},
		"oversized in fragments": {send: join(clientFrame(0x01, strings.Repeat("x", 600)),
			clientFrame(0x00, strings.Repeat("x", 401))), code: 1009},
		"as long as allowed": {send: join(clientFrame(0x81, strings.Repeat("x", 1000)), clientFrame(0x82, "")),
			code: 1003, want: []string{strings.Repeat("x", 1000)}},
		"invalid UTF-8": {send: clientFrame(0x81, "\xff"), code: 1007},
		"surrogate":     {send: clientFrame(0x81, "\xed\xa0\x80"), code: 1007},
		"UTF-8 split over fragments": {send: join(clientFrame(0x01, "\xc3"), clientFrame(0x80, "\xa4"),
			clientFrame(0x82, "")), code: 1003, want: []string{"ä"}},
		"UTF-8 cut off": {send: join(clientFrame(0x01, "\xc3"), clientFrame(0x80, "")), code: 1007},
		"32 fragments": {send: join(fragments(32), clientFrame(0x82, "")), code: 1003,
			want: []string{strings.Repeat("x", 32)}},
		"33 fragments": {send: fragments(33), code: 1008},
		"empty fragments": {send: join(clientFrame(0x01, ""), bytes.Repeat(clientFrame(0x00, ""), 40)),
			code: 1008},
		"empty message": {send: join(clientFrame(0x81, ""), clientFrame(0x82, "")), code: 1003,
			want: []string{""}},
		"pong nobody asked for":  {send: join(clientFrame(0x8a, "x"), clientFrame(0x82, "")), code: 1003},
		"ping flood":             {send: bytes.Repeat(clientFrame(0x89, ""), 200), code: 1008},
		"pong flood":             {send: bytes.Repeat(clientFrame(0x8a, "x"), 200), code: 1008},
		"close 1000":             {send: clientFrame(0x88, "\x03\xe8bye"), code: 1000},
		"close 4999":             {send: clientFrame(0x88, "\x13\x87"), code: 4999},
		"close without code":     {send: clientFrame(0x88, ""), code: 1000},
		"close 1005":             {send: clientFrame(0x88, "\x03\xed"), code: 1002},
		"close 1015":             {send: clientFrame(0x88, "\x03\xf7"), code: 1002},
		"close 999":              {send: clientFrame(0x88, "\x03\xe7"), code: 1002},
		"close 2999":             {send: clientFrame(0x88, "\x0b\xb7"), code: 1002},
		"close 5000":             {send: clientFrame(0x88, "\x13\x88"), code: 1002},
		"close one byte":         {send: clientFrame(0x88, "\x03"), code: 1002},
		"close reason not UTF-8": {send: clientFrame(0x88, "\x03\xe8\xff"), code: 1007},
	} {
		t.Run(name, func(t *testing.T) {
			type result struct {
				messages []string
				err      error
			}
			got := make(chan result, 1)
			client := webSocket(t, WebSocketConfig{MaxMessage: 1000}, func(k Conn) {
				var r result
				for r.err == nil {
					r.err = k.Receive(func(p []byte) { r.messages = append(r.messages, string(p)) })
				}
				got <- r // returning closes with the code that belongs to the error
			})
			go func() { _, _ = client.Write(c.send) }()
			require.Equal(t, c.code, readCloseCode(t, client))
			r := <-got
			require.Equal(t, c.want, r.messages)
			if c.send[0] == 0x88 && c.code != 1002 && c.code != 1007 {
				require.Equal(t, io.EOF, r.err, "an orderly end")
				return
			}
			var ferr *FrameError
			require.ErrorAs(t, r.err, &ferr)
			require.Equal(t, c.code, ferr.Code)
			require.NotEmpty(t, ferr.Error())
		})
	}
}

// A header that promises much costs nothing until the bytes come.
func TestWebSocketTakesNoMemoryOnTrust(t *testing.T) {
	l := newWSLayer(&subprotocols[0], 0)
	l.limit.Store(1 << 40)
	_, ferr := l.readHead(append(binary.BigEndian.AppendUint64([]byte{0x81, 0xff}, 1<<39), 1, 2, 3, 4))
	require.Nil(t, ferr)
	l.keep([]byte("x"), newPools(false))
	require.LessOrEqual(t, cap(l.body), bufferSize)
}

func TestSetMaxMessage(t *testing.T) {
	c := webSocket(t, WebSocketConfig{}, func(k Conn) {
		limit := k.(Limiter)
		limit.SetMaxMessage(10)
		for k.Receive(func(p []byte) {
			if string(p) == "more" {
				limit.SetMaxMessage(0)
			}
			_ = k.Send([][]byte{p})
		}) == nil {
		}
	})
	_, err := c.Write(clientFrame(0x81, "more"))
	require.NoError(t, err)
	readFrame(t, c)
	big := strings.Repeat("x", defaultMaxMessage)
	_, err = c.Write(clientFrame(0x81, big))
	require.NoError(t, err)
	require.Len(t, readFrame(t, c).Payload, len(big))
	_, err = c.Write(clientFrame(0x81, big+"x"))
	require.NoError(t, err)
	require.Equal(t, 1009, readCloseCode(t, c))
}

func TestControlFramesAtLeisure(t *testing.T) {
	l := newWSLayer(&subprotocols[0], 0)
	for range controlBurst {
		require.True(t, l.mayControl())
	}
	require.False(t, l.mayControl())
	l.refilled = l.refilled.Add(-controlEvery)
	require.True(t, l.mayControl())
	require.False(t, l.mayControl())
	l.refilled = l.refilled.Add(-time.Hour)
	for range controlBurst {
		require.True(t, l.mayControl())
	}
	require.False(t, l.mayControl())
}

func TestWebSocketClose(t *testing.T) {
	errs := make(chan error, 2)
	c := webSocket(t, WebSocketConfig{}, func(k Conn) {
		_ = k.Send([][]byte{[]byte("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>")})
		errs <- k.Close(1001)
		errs <- k.Send([][]byte{[]byte("late")})
	})
	require.Contains(t, string(readFrame(t, c).Payload), "close")
	require.Equal(t, 1001, readCloseCode(t, c))
	_, err := c.Write(clientFrame(0x88, "\x03\xe9"))
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err, "nothing follows a close frame")
	require.NoError(t, <-errs)
	require.ErrorIs(t, <-errs, net.ErrClosed)
}

// After the peer's close frame nothing may be sent.
func TestWebSocketSendAfterPeerClosed(t *testing.T) {
	errs := make(chan error, 2)
	c := webSocket(t, WebSocketConfig{}, func(k Conn) {
		errs <- k.Receive(func([]byte) {})
		errs <- k.Send([][]byte{[]byte("late")})
	})
	_, err := c.Write(clientFrame(0x88, "\x03\xe8"))
	require.NoError(t, err)
	require.Equal(t, 1000, readCloseCode(t, c))
	_, err = c.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	require.Equal(t, io.EOF, <-errs)
	require.ErrorIs(t, <-errs, net.ErrClosed)
}

func TestWebSocketPeerVanishes(t *testing.T) {
	errs := make(chan error, 1)
	c := webSocket(t, WebSocketConfig{}, func(k Conn) { errs <- k.Receive(func([]byte) {}) })
	_, err := c.Write(clientFrame(0x81, "half a message")[:8])
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.Error(t, <-errs)
}

func TestWebSocketHandshake(t *testing.T) {
	w := newWebSocket(t, WebSocketConfig{}, func(Conn) {})
	srv := startHTTP(t, Config{}, w)
	good := map[string]string{
		"Host": "x", "Upgrade": "websocket", "Connection": "keep-alive, Upgrade", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "xmpp",
	}
	for name, c := range map[string]struct {
		line   string
		change map[string]string // "" deletes
		status int
	}{
		"good":               {status: 101},
		"among others":       {change: map[string]string{"Sec-WebSocket-Protocol": "mqtt,xmpp , soap"}, status: 101},
		"no sub-protocol":    {change: map[string]string{"Sec-WebSocket-Protocol": ""}, status: 400},
		"other sub-protocol": {change: map[string]string{"Sec-WebSocket-Protocol": "mqtt"}, status: 400},
		"nearly":             {change: map[string]string{"Sec-WebSocket-Protocol": "xmpp2, XMPP"}, status: 400},
		"no upgrade":         {change: map[string]string{"Upgrade": ""}, status: 400},
		"no connection":      {change: map[string]string{"Connection": "keep-alive"}, status: 400},
		"no key":             {change: map[string]string{"Sec-WebSocket-Key": ""}, status: 400},
		"old version":        {change: map[string]string{"Sec-WebSocket-Version": "8"}, status: 426},
		"post":               {line: "POST /ws HTTP/1.1", status: 405},
		"HTTP/1.0":           {line: "GET /ws HTTP/1.0", status: 505},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, srv)
			line := c.line
			if line == "" {
				line = "GET /ws HTTP/1.1"
			}
			req := line + "\r\n"
			for k, v := range good {
				if changed, ok := c.change[k]; ok {
					v = changed
				}
				if v != "" {
					req += k + ": " + v + "\r\n"
				}
			}
			_, err := io.WriteString(conn, req+"\r\n")
			require.NoError(t, err)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			_ = resp.Body.Close()
			require.Equal(t, c.status, resp.StatusCode)
		})
	}
}

// Reliability row A107.
func TestOrigin(t *testing.T) {
	allowed := []string{"https://chat.example.com", "http://localhost:8080", "https://[2001:db8::1]:444"}
	for name, c := range map[string]struct {
		origin  []string
		require bool
		any     bool
		ok      bool
	}{
		"none":                      {ok: true},
		"none, required":            {require: true},
		"listed":                    {origin: []string{"https://chat.example.com"}, ok: true},
		"listed, required":          {origin: []string{"https://chat.example.com"}, require: true, ok: true},
		"upper case":                {origin: []string{"HTTPS://Chat.Example.COM"}, ok: true},
		"implied port":              {origin: []string{"https://chat.example.com:443"}, ok: true},
		"IPv6":                      {origin: []string{"https://[2001:DB8::1]:444"}, ok: true},
		"with port":                 {origin: []string{"http://localhost:8080"}, ok: true},
		"null":                      {origin: []string{"null"}},
		"null, any":                 {origin: []string{"null"}, any: true},
		"empty":                     {origin: []string{""}},
		"any":                       {origin: []string{"https://elsewhere.example"}, any: true, ok: true},
		"another":                   {origin: []string{"https://evil.example"}},
		"another scheme":            {origin: []string{"http://chat.example.com"}},
		"another port":              {origin: []string{"https://chat.example.com:8443"}},
		"http port":                 {origin: []string{"https://chat.example.com:80"}},
		"no port":                   {origin: []string{"http://localhost"}},
		"subdomain":                 {origin: []string{"https://a.chat.example.com"}},
		"parent":                    {origin: []string{"https://example.com"}},
		"prefix":                    {origin: []string{"https://chat.example.com.evil.example"}},
		"user":                      {origin: []string{"https://chat.example.com@evil.example"}},
		"user of ours":              {origin: []string{"https://evil.example@chat.example.com"}},
		"path":                      {origin: []string{"https://chat.example.com/"}},
		"query":                     {origin: []string{"https://chat.example.com?x"}},
		"fragment":                  {origin: []string{"https://chat.example.com#x"}},
		"backslash":                 {origin: []string{`https://evil.example\@chat.example.com`}},
		"port zeros":                {origin: []string{"https://chat.example.com:0443"}},
		"empty port":                {origin: []string{"https://chat.example.com:"}},
		"trailing dot":              {origin: []string{"https://chat.example.com."}},
		"two headers":               {origin: []string{"https://chat.example.com", "https://evil.example"}},
		"two in one header":         {origin: []string{"https://chat.example.com https://evil.example"}},
		"scheme of extensions, any": {origin: []string{"chrome-extension://abc"}, any: true},
		"file":                      {origin: []string{"file://"}, any: true},
	} {
		t.Run(name, func(t *testing.T) {
			list := allowed
			if c.any {
				list = append([]string{"*"}, allowed...)
			}
			w, err := NewWebSocket(WebSocketConfig{Origins: list, RequireOrigin: c.require}, func(Conn) {})
			require.NoError(t, err)
			r := httptest.NewRequest("GET", "/ws", nil)
			if c.origin != nil {
				r.Header["Origin"] = c.origin
			}
			rec := httptest.NewRecorder()
			w.ServeHTTP(rec, r)
			if c.ok {
				require.Equal(t, http.StatusBadRequest, rec.Code, "goes on, and stumbles over the sub-protocol")
			} else {
				require.Equal(t, http.StatusForbidden, rec.Code)
			}
			require.NoError(t, w.Shutdown(context.Background()))
		})
	}
	for _, bad := range []string{"chat.example.com", "https://", "https://x/y", "ftp://x", "null",
		"https://*.example.com/"} {
		_, err := NewWebSocket(WebSocketConfig{Origins: []string{bad}}, func(Conn) {})
		require.Error(t, err, bad)
	}
}

func refuseVisitor(w http.ResponseWriter, _ *http.Request, status int, text string) {
	http.Error(w, text, status)
}

// Reliability row A16.
func TestForwarded(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	for name, c := range map[string]struct {
		peer   string
		header []string
		want   string
	}{
		"no proxy":    {peer: "192.0.2.1:5", want: "192.0.2.1:5"},
		"not trusted": {peer: "192.0.2.1:5", header: []string{"198.51.100.1"}, want: "192.0.2.1:5"},
		"trusted":     {peer: "10.0.0.1:5", header: []string{"198.51.100.1"}, want: "198.51.100.1:5"},
		"forged in front": {peer: "10.0.0.1:5", header: []string{"203.0.113.9, 198.51.100.1"},
			want: "198.51.100.1:5"},
		"two proxies": {peer: "10.0.0.1:5", header: []string{"203.0.113.9, 198.51.100.1, 10.0.0.2"},
			want: "198.51.100.1:5"},
		"two headers": {peer: "10.0.0.1:5", header: []string{"203.0.113.9", "198.51.100.1,10.0.0.2"},
			want: "198.51.100.1:5"},
		"all trusted":            {peer: "10.0.0.1:5", header: []string{"10.0.0.3,10.0.0.2"}, want: "10.0.0.3:5"},
		"trusted without header": {peer: "10.0.0.1:5", want: "10.0.0.1:5"},
		"not trusted, garbage":   {peer: "192.0.2.1:5", header: []string{"nobody"}, want: "192.0.2.1:5"},
		"garbage":                {peer: "10.0.0.1:5", header: []string{"nobody"}},
		"garbage behind a proxy": {peer: "10.0.0.1:5", header: []string{"nobody, 10.0.0.2"}},
		"empty":                  {peer: "10.0.0.1:5", header: []string{""}},
		"empty at the end":       {peer: "10.0.0.1:5", header: []string{"198.51.100.1,"}},
		"zone":                   {peer: "10.0.0.1:5", header: []string{"fe80::1%eth0"}},
		"forged garbage": {peer: "10.0.0.1:5", header: []string{"<script>, 198.51.100.1"},
			want: "198.51.100.1:5"},
		"port":        {peer: "10.0.0.1:5", header: []string{"198.51.100.1:99"}, want: "198.51.100.1:5"},
		"IPv6 port":   {peer: "10.0.0.1:5", header: []string{"[2001:db9::1]:99"}, want: "[2001:db9::1]:5"},
		"IPv6":        {peer: "[2001:db8::1]:5", header: []string{"2001:db9::1"}, want: "[2001:db9::1]:5"},
		"IPv4 mapped": {peer: "10.0.0.1:5", header: []string{"::ffff:198.51.100.1"}, want: "198.51.100.1:5"},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.Header{}
			if c.header != nil {
				h["X-Forwarded-For"] = c.header
			}
			h.Set("Forwarded", "for=203.0.113.1")
			v := Visitors{Proxies: trusted, Refuse: refuseVisitor}
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr, r.Header = c.peer, h
			got := ""
			w := httptest.NewRecorder()
			v.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				got = Client(r).String()
				require.Equal(t, contains(trusted, netip.MustParseAddrPort(c.peer).Addr()), Relayed(r))
			})).ServeHTTP(w, r)
			require.Equal(t, c.want, got)
			if c.want == "" {
				require.Equal(t, http.StatusBadRequest, w.Code)
				require.Contains(t, w.Body.String(), "X-Forwarded-For")
			}
		})
	}
}

// What comes through a proxy is admitted once, for whom it comes: a request while it is served, a WebSocket while it is
// open. The proxy's own connections are not counted.
func TestWebSocketBehindProxy(t *testing.T) {
	got := make(chan string, 1)
	released := make(chan string, 8)
	admit := func(kind string) func(netip.AddrPort) (func(), bool) {
		return func(a netip.AddrPort) (func(), bool) {
			return func() { released <- kind }, a.Addr().String() == "198.51.100.1"
		}
	}
	v := Visitors{Proxies: loopback, Admit: admit("socket"), AdmitRequest: admit("request"), Refuse: refuseVisitor}
	w := newWebSocket(t, WebSocketConfig{}, remotes(got))
	l := startHTTP(t, Config{Admit: v.AdmitConnection}, v.Handler(w))
	ask := func(from, headers string) (net.Conn, string) {
		c := dial(t, l)
		_, err := fmt.Fprintf(c, "GET /ws HTTP/1.1\r\nHost: localhost\r\n%sX-Forwarded-For: %s\r\n\r\n", headers, from)
		require.NoError(t, err)
		answer, err := bufio.NewReader(c).ReadString('\n')
		require.NoError(t, err)
		return c, answer
	}
	const upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: xmpp\r\n"
	for _, headers := range []string{upgrade, ""} {
		_, answer := ask("198.51.100.2", headers)
		require.Contains(t, answer, "429")
	}
	_, answer := ask("198.51.100.1", "")
	require.Contains(t, answer, "400", "no WebSocket is asked for")
	require.Equal(t, "request", <-released)
	_, answer = ask("198.51.100.1", strings.Replace(upgrade, "Version: 13", "Version: 8", 1))
	require.Contains(t, answer, "426")
	require.Equal(t, "socket", <-released)

	c, answer := ask("198.51.100.1", upgrade)
	require.Contains(t, answer, "101")
	require.Equal(t, fmt.Sprintf("198.51.100.1:%d", c.LocalAddr().(*net.TCPAddr).Port), <-got)
	require.Empty(t, released)
	require.NoError(t, c.Close())
	require.Equal(t, "socket", <-released)
	require.Empty(t, released)
}

func TestWebSocketShutdown(t *testing.T) {
	w, err := NewWebSocket(WebSocketConfig{}, echo)
	require.NoError(t, err)
	l := startHTTP(t, Config{}, w)
	c := dial(t, l)
	require.NoError(t, requestWebSocket(c))
	_, err = c.Write(clientFrame(0x81, "x"))
	require.NoError(t, err)
	readFrame(t, c)
	now, stop := context.WithCancel(context.Background())
	stop()
	require.ErrorIs(t, w.Shutdown(now), context.Canceled)
	requireClosed(t, c)
	require.Error(t, requestWebSocket(dial(t, l)), "no more")
}

// FuzzFrames feeds bytes in pieces and checks what a server must never do: deliver text that is not UTF-8 or too long,
// or go on after an error.
func FuzzFrames(f *testing.F) {
	for _, b := range [][]byte{
		clientFrame(0x81, "hello"), append(clientFrame(0x01, "he"), clientFrame(0x80, "llo")...),
		clientFrame(0x89, "ping"),
		clientFrame(0x88, "\x03\xe8"), clientFrame(0x82, "x"), {0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4},
		clientFrame(0x81, strings.Repeat("x", 200)),
	} {
		f.Add(b, uint8(3))
	}
	const limit = 150
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		feed := func(size int) (messages []string, final error) {
			c, client := Pipe()
			defer func() { _ = client.Close() }()
			k := c.(*conn)
			k.ws = newWSLayer(&subprotocols[0], 0)
			k.SetMaxMessage(limit)
			k.use = func(p []byte) {
				require.NoError(t, k.rerr, "delivered after an error")
				require.LessOrEqual(t, len(p), limit)
				messages = append(messages, string(p))
			}
			rest := append([]byte(nil), b...)
			for len(rest) > 0 && k.rerr == nil {
				n := min(size, len(rest))
				k.unframe(rest[:n])
				rest = rest[n:]
			}
			if k.rerr != nil {
				require.Nil(t, k.ws.body)
			}
			return messages, k.rerr
		}
		whole, err1 := feed(len(b) + 1)
		pieces, err2 := feed(int(step) + 1)
		require.Equal(t, whole, pieces)
		require.Equal(t, err1, err2)
		for _, m := range whole {
			require.True(t, strings.ToValidUTF8(m, "") == m)
		}
		var ferr *FrameError
		require.True(t, err1 == nil || err1 == io.EOF || errors.As(err1, &ferr))
	})
}
