package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// raw sends bytes on a connection of their own and returns the answer.
func (w *fixture) raw(text string) *http.Response {
	w.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(w.base, "http://"))
	require.NoError(w.t, err)
	w.t.Cleanup(func() { c.Close() })
	require.NoError(w.t, c.SetDeadline(time.Now().Add(30*time.Second)))
	_, err = io.WriteString(c, text)
	require.NoError(w.t, err)
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(w.t, err, "%.200q", text)
	w.t.Cleanup(func() { r.Body.Close() })
	return r
}

// TestRawRequests: endless bodies, wrong lengths and malformed paths.
func TestRawRequests(t *testing.T) {
	w := open(t, []string{"romeo", "juliet"}, "api.body_time=50ms")
	head := func(method, path string, headers ...string) string {
		return fmt.Sprintf(
			"%s %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: "+
				"application/json\r\n%s\r\n\r\n",
			method, path, w.tokens["romeo"], strings.Join(headers, "\r\n"))
	}
	for _, test := range []struct {
		text   string
		status []int
	}{
		{head("POST", "/v1/messages", "Content-Length: 100") + "{", []int{408}},
		{head("POST", "/v1/messages", "Transfer-Encoding: chunked") + "1\r\n{\r\n", []int{408}},
		{head("POST", "/v1/messages", "Transfer-Encoding: chunked") + "zz\r\n", []int{400}},
		{head("POST", "/v1/messages", "Content-Length: 99999999999") + "{", []int{408, 413}},
		{head("POST", "/v1/messages", "Content-Length: -1"), []int{400}},
		{head("POST", "/v1/messages", "Content-Length: 2", "Content-Length: 3") + "{}", []int{400}},
		{head("POST", "/v1/messages", "Content-Length: 2", "Expect: the unexpected") + "{}", []int{417}},
		{head("POST", "/v1/messages", "Content-Length: 2", "Content-Encoding: gzip") + "{}", []int{415}},
		{head("GET", "/v1/profile%u002e", "X-A: b"), []int{400}},
		{head("GET", "/v1/%2e%2e/v1/profile", "X-A: b"), []int{404}},
		{head("GET", "/v1/messages%2fx", "X-A: b"), []int{404}},
		{head("GET", "/v1/profile%00", "X-A: b"), []int{404}},
		{head("GET", "/v1/profile;a=b", "X-A: b"), []int{404}},
		{head("GET", "/v1/./profile", "X-A: b"), []int{404}},
		{head("GET", "/v1//profile", "X-A: b"), []int{404}},
		{head("GET", "http://evil.example.org/v1/profile", "X-A: b"), []int{200}}, // the absolute form: the path counts
		{head("GET", "/v1/profile?a;b=c", "X-A: b"), []int{400}},
		{head("GET", "/v1/profile?a=%zz", "X-A: b"), []int{400}},
		{head("CONNECT", "/v1/profile", "X-A: b"), []int{400, 405}},
	} {
		answer := w.raw(test.text)
		require.Contains(t, test.status, answer.StatusCode, "%.60q", test.text)
	}
	// After all that, the node answers as before.
	require.Equal(t, 200, w.say("romeo", "juliet", "after", "Still here.").status)
}

// TestLog: what somebody sends does not end up in the log as lines of its own; nodetest fails a test whose node logs an
// error.
func TestLog(t *testing.T) {
	w := open(t, []string{"romeo"})
	evil := "x\r\n{\"level\":\"ERROR\",\"msg\":\"forged\"}\x1b[31m"
	w.ask("", "POST", "/v1/token", map[string]any{"grant_type": "password", "username": evil, "password": "x"})
	w.ask("romeo", "GET", "/v1/directory?q=%0d%0aforged", nil)
	w.ask("romeo", "PUT", "/v1/profile", map[string]any{"name": "a\r\nb", "title": ""})
	r := w.request("romeo", "GET", "/v1/profile", nil)
	r.Header.Set("User-Agent", strings.Repeat("x", 10_000))
	require.Equal(t, 200, w.do(r).status)
	require.Equal(t, "a b", w.ask("romeo", "GET", "/v1/profile", nil).at("name"), "one line is made of it")
}
