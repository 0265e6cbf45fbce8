package abuse

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/script"
)

// raw sends a request as it stands and returns the answer's status, 0 for none, its headers and its body.
func (s *fixture) raw(address, request string) (status int, head http.Header, body string) {
	s.t.Helper()
	conn := dial(s.t, "", address)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, request) // the server may have had enough
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return 0, nil, ""
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return response.StatusCode, response.Header, ""
	}
	text, _ := io.ReadAll(response.Body)
	return response.StatusCode, response.Header, string(text)
}

// upgrade is a request for a WebSocket. A change replaces the header of its name; with an empty value it takes it away.
func upgrade(changes ...string) string {
	headers := []string{
		"Host: localhost", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: xmpp",
	}
	request := "GET /xmpp-websocket HTTP/1.1\r\n"
	for _, h := range headers {
		name, _, _ := strings.Cut(h, ":")
		kept := true
		for _, c := range changes {
			changed, _, _ := strings.Cut(c, ":")
			kept = kept && !strings.EqualFold(name, changed)
		}
		if kept {
			request += h + "\r\n"
		}
	}
	for _, c := range changes {
		if !strings.HasSuffix(c, ":") {
			request += c + "\r\n"
		}
	}
	return request + "\r\n"
}

// A107: a page of an origin that is not allowed cannot open a stream in a browser.
func TestA107Origin(t *testing.T) {
	s := open(t, "listen.http.origins=https://chat.example.org")
	for origin, status := range map[string]int{
		"https://chat.example.org": 101, "https://CHAT.example.org:443": 101, "": 101, // no browser
		"null": 403, "https://example.org": 403, "https://evil.chat.example.org": 403,
		"https://chat.example.org.evil.example": 403, "https://chat.example.org@evil.example": 403,
		"http://chat.example.org": 403, "https://chat.example.org:8443": 403, "https://chat.example.org:0443": 403,
		"https://chat.example.org/": 403, "https://chat.example.org.": 403,
		"chat.example.org": 403, "file://": 403, "*": 403, "https://localhost": 403,
		"https://chat.example.org https://evil.example": 403,
	} {
		got, _, _ := s.raw(s.Endpoints().HTTP, upgrade("Origin: "+origin))
		if origin == "" {
			got, _, _ = s.raw(s.Endpoints().HTTP, upgrade())
		}
		require.Equal(t, status, got, origin)
	}
	got, _, _ := s.raw(s.Endpoints().HTTP, upgrade("Origin: https://chat.example.org\r\nOrigin: https://evil.example"))
	require.Equal(t, 403, got)
	_, head, _ := s.raw(s.Endpoints().HTTP, upgrade("Cookie: session=x"))
	require.Empty(t, head["Set-Cookie"])
}

// A108: invalid WebSocket requests. Row 16: compression is never negotiated.
func TestA108Handshake(t *testing.T) {
	s := open(t)
	for change, statuses := range map[string][]int{
		"Sec-WebSocket-Protocol:":                    {400},
		"Sec-WebSocket-Protocol: chat":               {400},
		"Sec-WebSocket-Protocol: xmpp-framing, XMPP": {400},
		"Sec-WebSocket-Version: 8":                   {400, 426},
		"Sec-WebSocket-Key:":                         {400},
		"Sec-WebSocket-Key: short":                   {400},
		"Upgrade: h2c":                               {400, 426},
		"Connection: close":                          {400, 426},
		"Sec-WebSocket-Protocol: chat, xmpp":         {101},
		"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits": {101},
	} {
		status, head, _ := s.raw(s.Endpoints().HTTP, upgrade(change))
		require.Contains(t, statuses, status, change)
		if status == 101 {
			require.Equal(t, "xmpp", head.Get("Sec-WebSocket-Protocol"))
			require.Empty(t, head["Sec-Websocket-Extensions"])
		}
	}
}

// frame returns a frame with a mask of zeros. length, when not 0, is a wrong length to put into its header.
func frame(head byte, payload string, length uint64) string {
	claimed := uint64(len(payload))
	if length != 0 {
		claimed = length
	}
	b := []byte{head}
	switch {
	case claimed < 126:
		b = append(b, 0x80|byte(claimed))
	case claimed < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(claimed))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), claimed)
	}
	return string(append(b, 0, 0, 0, 0)) + payload
}

// A108, and rows 57 and 59: frames that break RFC 6455 end the WebSocket with its own code, before anything is kept of
// them.
func TestA108Frames(t *testing.T) {
	s := open(t)
	const text, binaryFrame, ping, fin = 0x1, 0x2, 0x9, 0x80
	open := frame(fin|text, opening, 0)
	for name, row := range map[string]struct {
		in   string
		code ws.StatusCode
	}{
		"binary":                        {frame(fin|binaryFrame, opening, 0), 1003},
		"no mask":                       {"\x81\x02hi", 1002},
		"reserved bit":                  {frame(fin|0x40|text, opening, 0), 1002},
		"reserved frame":                {frame(fin|0x3, "x", 0), 1002},
		"reserved control frame":        {frame(fin|0xb, "x", 0), 1002},
		"continuation of nothing":       {frame(fin, "x", 0), 1002},
		"text within text":              {frame(text, "<", 0) + frame(fin|text, "x", 0), 1002},
		"ping in fragments":             {frame(ping, "x", 0), 1002},
		"ping too long":                 {frame(fin|ping, strings.Repeat("x", 126), 0), 1002},
		"pings without end":             {strings.Repeat(frame(fin|ping, "", 0), 1000), 1008},
		"fragments without end":         {frame(text, " ", 0) + strings.Repeat(frame(0, " ", 0), 100), 1008},
		"2^63 bytes":                    {frame(fin|text, "", 1<<63), 1002},
		"2^62 bytes":                    {frame(fin|text, "", 1<<62), 1009},
		"4 GiB":                         {frame(fin|text, "", 1<<32), 1009},
		"10,001 bytes before the login": {frame(fin|text, "", 10_001), 1009},
		"too much in two frames":        {frame(text, strings.Repeat(" ", 9_000), 0) + frame(fin, "", 9_000), 1009},
		"length not in shortest form":   {"\x81\xfe\x00\x01\x00\x00\x00\x00x", 1002},
		"invalid UTF-8":                 {frame(fin|text, "\xff", 0), 1007},
		"UTF-8 cut off":                 {frame(fin|text, opening+"\xe2\x82", 0), 1007},
		"half a character (surrogate)":  {frame(fin|text, "\xed\xa0\x80", 0), 1007},
		"close of one byte":             {frame(fin|0x8, "x", 0), 1002},
		"close with a reserved code":    {frame(fin|0x8, "\x03\xed", 0), 1002},
		"after the stream is open":      {open + frame(fin|binaryFrame, "x", 0), 1003},
	} {
		before := heap()
		v := s.visit(script.WebSocket)
		_, _ = io.WriteString(v.conn, row.in)
		v.rest()
		require.Equal(t, row.code, v.code, name)
		if after := heap(); after > before {
			require.Less(t, after-before, uint64(4<<20), name)
		}
	}
	v := s.visit(script.WebSocket) // an element in thirty pieces is one element
	pieces := frame(text, "", 0)
	for i, c := range []string{opening[:10], opening[10:20], opening[20:]} {
		pieces += frame(map[bool]byte{true: fin}[i == 2], c, 0)
	}
	_, err := io.WriteString(v.conn, pieces)
	require.NoError(t, err)
	v.expect("<open", "features>")
}

// A109: one message, one element (RFC 7395 §3.3).
func TestA109Messages(t *testing.T) {
	s := open(t)
	for name, in := range map[string]string{
		"nothing":                "",
		"two elements":           "<presence xmlns='jabber:client'/><presence xmlns='jabber:client'/>",
		"half an element":        "<presence xmlns='jabber:client'",
		"an element without end": "<presence xmlns='jabber:client'>",
		"text":                   "hello",
		"an element and text":    "<presence xmlns='jabber:client'/>x",
		"an end tag":             "</presence>",
		"header of TCP": "<stream:stream xmlns='jabber:client' " +
			"xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>",
		"end of TCP":   "</stream:stream>",
		"declaration":  "<?xml version='1.0'?><?xml version='1.0'?><presence xmlns='jabber:client'/>",
		"no namespace": "<presence/>",
	} {
		v := s.visit(script.WebSocket).login("romeo")
		v.bind("phone")
		v.send(in)
		rest := v.rest()
		require.Regexp(t, streamCondition, rest, name)
		require.Contains(t, rest, "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'", name)
		require.Equal(t, ws.StatusPolicyViolation, v.code, name)
	}
}

// A116, A123, and rows 14 and 30: the public listener serves none of the private pages, however their path is spelt,
// and profiling is off on the private listener by default.
func TestA116Paths(t *testing.T) {
	s := open(t)
	private := []string{"/metrics", "/health/ready", "/health/live", "/debug/pprof/", "/debug/pprof/heap",
		"/debug/vars", "/admin", "/setup", "/"}
	for _, path := range private {
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "TRACE", "CONNECT", "BREW"} {
			status, _, body := s.raw(s.Endpoints().HTTP, method+" "+path+
				" HTTP/1.1\r\nHost: localhost\r\nX-HTTP-Method-Override: GET\r\nConnection: close\r\n\r\n")
			require.Contains(t, []int{400, 404, 405}, status, "%s %s", method, path)
			require.NotContains(t, body, "goroutine")
		}
	}
	for _, path := range []string{
		"//metrics", "/./metrics", "/x/../metrics", "/.well-known/../metrics", "/.well-known/..%2fmetrics",
		"/.well-known/%2e%2e/metrics", "/%2e%2e/%2e%2e/etc/passwd", "/.well-known/host-meta/../../metrics",
		"/.well-known/host-meta%00", "/.well-known/host-meta;x", "/%u002e%u002e/metrics", "/..\\metrics",
		"/.well-known/", "/.well-known/host-meta/", "/.WELL-KNOWN/host-meta", "//.well-known/host-meta",
		"/xmpp-websocket/", "/xmpp-websocket/..", "/xmpp-websocket%2f", "/xmpp-websocket;x", "http://127.0.0.1/metrics",
		"*", "metrics", "/" + strings.Repeat("a", 10_000),
	} {
		status, _, body := s.raw(s.Endpoints().HTTP, "GET "+path+
			" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		require.Contains(t, []int{301, 307, 308, 400, 404, 405}, status, path)
		require.NotContains(t, body, "posthouse_")
		require.NotContains(t, body, "root:")
	}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/vars", "/admin", "/"} {
		status, _, _ := s.raw(s.Endpoints().Private, "GET "+path+
			" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		require.Equal(t, 404, status, path)
	}
	require.Contains(t, s.get(s.Endpoints().Private, "/metrics"), "posthouse_c2s_sessions")
}

// A117: the addresses that clients discover are the configured ones, whatever the request's Host header says.
func TestA117Host(t *testing.T) {
	s := open(t, "listen.http.base_url=https://chat.example.org")
	for _, page := range []string{"/.well-known/host-meta", "/.well-known/host-meta.json"} {
		for _, request := range []string{
			"GET " + page +
				" HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: " +
				"http\r\nForwarded: host=evil.example\r\n",
			"GET http://evil.example" + page + " HTTP/1.1\r\nHost: localhost\r\n",
			"GET " + page + " HTTP/1.0\r\n",
		} {
			status, _, body := s.raw(s.Endpoints().HTTP, request+"Connection: close\r\n\r\n")
			require.Equal(t, 200, status)
			require.Contains(t, body, "wss://chat.example.org/xmpp-websocket")
			require.NotContains(t, body, "evil")
		}
	}
	for _, request := range []string{
		"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
	} {
		status, _, _ := s.raw(s.Endpoints().HTTP, request)
		require.Equal(t, 400, status, request)
	}
}

// A110, and rows 49, 64, 65 and 66: unexpected bodies, endless headers, request smuggling, and HTTP/2.
func TestA110Requests(t *testing.T) {
	s := open(t)
	const post = "POST /xmpp-websocket HTTP/1.1\r\nHost: localhost\r\n"
	for name, row := range map[string]struct {
		in       string
		statuses []int
	}{
		"long header": {"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("a", 40<<10) + "\r\n\r\n",
			[]int{431, 0}},
		"many headers": {"GET / HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X: a\r\n", 10_000) + "\r\n",
			[]int{431, 0}},
		"huge body": {post + "Content-Length: 10000000000\r\n\r\n" + strings.Repeat("a", 1<<20), []int{405}},
		"body to WebSocket": {"GET /xmpp-websocket HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
			[]int{400}},
		"expectation":     {post + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", []int{405}},
		"odd expectation": {post + "Expect: tea\r\n\r\n", []int{417}},
		"two lengths":     {post + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", []int{400}},
		"odd coding":      {post + "Transfer-Encoding: cow\r\n\r\n", []int{400, 501}},
		"odd length":      {post + "Content-Length: +5\r\n\r\nhello", []int{400}},
		"space in a name": {"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", []int{400}},
		"HTTP/2":          {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{400, 404, 405, 505, 0}},
		"HTTP/3":          {"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n", []int{400, 505}},
		"multipart": {post + "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 3\r\n\r\n--x",
			[]int{405}},
		"gzip": {post + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b", []int{405}},
	} {
		status, head, _ := s.raw(s.Endpoints().HTTP, row.in)
		require.Contains(t, row.statuses, status, name)
		require.Empty(t, head.Get("Upgrade"), name)
	}
	// Row 65: an ambiguous request is treated as one request, or refused.
	conn := dial(t, "", s.Endpoints().HTTP)
	_, err := io.WriteString(conn, post+
		"Transfer-Encoding: chunked\r\n\r\n5;\nxx\r\nhello\r\n0\r\n\r\nGET /.well-known/host-meta HTTP/1.1\r\nHost: "+
		"localhost\r\n\r\n")
	require.NoError(t, err)
	require.NotContains(t, endings(t, map[string]net.Conn{"": conn})[""], "XRD")
}

// Row 80: input of clients does not become a label of a metric.
func TestRow80Labels(t *testing.T) {
	s := open(t)
	series := func() (all []string) { // the node's own checks, a handful, appear as they are made
		for _, name := range regexp.MustCompile(`(?m)^posthouse_\S+`).FindAllString(s.get(s.Endpoints().Private,
			"/metrics"), -1) {
			if !strings.HasPrefix(name, "posthouse_node_trouble") {
				all = append(all, name)
			}
		}
		return all
	}
	use := func(n int) {
		s.raw(s.Endpoints().HTTP, fmt.Sprintf("M%d /p%d HTTP/1.1\r\nHost: h%d\r\nConnection: close\r\n\r\n", n, n, n))
		v := s.visit(script.TCP)
		v.open()
		v.send(saslAuth(fmt.Sprint("MECH-", n), ""))
		v.failure()
		v.send(saslAuth("PLAIN", plain("", fmt.Sprint("name", n), "wrong")))
		v.failure()
		v.conn.Close()
		id := fmt.Sprint("i", n)
		ask(t, s.bystander, id, fmt.Sprintf("<iq type='get' id='%s'><q%d xmlns='urn:%d'/></iq>", id, n, n))
		tell(t, s.bystander, "<message to='n%d@d%d.invalid' type='t%d'/>", n, n, n)
		next(t, s.bystander)
	}
	use(0)
	before := series()
	for n := range 50 {
		use(n + 1)
	}
	require.ElementsMatch(t, before, series())
}
