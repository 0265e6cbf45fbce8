// Package api_test tests the HTTP API of whole nodes: every route, with every error that a request can have.
package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/posthouse-im/posthouse/test/nodetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(thorough{m}) }

// thorough runs all tests, and then checks that every operation of the document was answered with success at least
// once.
type thorough struct{ m *testing.M }

// Run implements goleak.TestingM.
func (t thorough) Run() int {
	code := t.m.Run()
	if code != 0 || flag.Lookup("test.run").Value.String() != "" || flag.Lookup("test.skip").Value.String() != "" ||
		flag.Lookup("test.list").Value.String() != "" {
		return code
	}
	done.Lock()
	defer done.Unlock()
	for _, o := range done.known {
		if !done.answered[o.String()] {
			fmt.Println("no test has", o.String(), "answered with success")
			code = 1
		}
	}
	return code
}

// done is which operations there are, and which were answered with success.
var done struct {
	sync.Mutex // guards the rest
	known      []operation
	answered   map[string]bool
}

// note remembers that a request was answered with success.
func note(method, path string) {
	done.Lock()
	defer done.Unlock()
	if done.answered == nil {
		done.answered = map[string]bool{}
	}
	for _, o := range done.known {
		if o.method == method && o.pattern().MatchString(path) {
			done.answered[o.String()] = true
		}
	}
}

const password = "correct horse"

// settings turn the rate limits off.
var settings = []string{"api.rate=-1", "api.address_rate=-1", "api.login_rate=-1"}

// fixture is a node with accounts that have tokens.
type fixture struct {
	*nodetest.Node
	t      *testing.T
	base   string
	client *http.Client
	tokens map[string]string // by name
}

// open starts a node with the people named, who are logged in. nurse is an administrator.
func open(t *testing.T, people []string, more ...string) *fixture {
	t.Helper()
	w := &fixture{Node: nodetest.New(t, append(append([]string{}, settings...), more...)...), t: t,
		tokens: map[string]string{}}
	w.base = "http://" + w.Endpoints().HTTP
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	w.client = &http.Client{Transport: transport, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(transport.CloseIdleConnections)
	done.Lock()
	known := done.known != nil
	done.Unlock()
	if !known {
		_, all := w.document()
		done.Lock()
		done.known = all
		done.Unlock()
	}
	for _, name := range people {
		require.NoError(t, w.AddUser(name, password))
		if name == "nurse" {
			require.NoError(t, w.SetAdmin(name))
		}
		w.tokens[name] = w.login(name, "phone-of-"+name)["access_token"].(string)
	}
	return w
}

func (w *fixture) login(name, device string) map[string]any {
	w.t.Helper()
	r := w.ask("", "POST", "/v1/token",
		map[string]any{"grant_type": "password", "username": name, "password": password, "device": device})
	require.Equal(w.t, 200, r.status, r.text)
	return r.object()
}

// reply is an answer.
type reply struct {
	t      *testing.T
	status int
	header http.Header
	text   string
}

func (r *reply) object() map[string]any {
	r.t.Helper()
	var v map[string]any
	require.NoError(r.t, json.Unmarshal([]byte(r.text), &v), r.text)
	return v
}

// at follows names and indexes into the answer.
func (r *reply) at(path ...any) any {
	r.t.Helper()
	var v any = r.object()
	for _, p := range path {
		switch p := p.(type) {
		case string:
			v = v.(map[string]any)[p]
		case int:
			require.Greater(r.t, len(v.([]any)), p, r.text)
			v = v.([]any)[p]
		}
	}
	return v
}

// refused requires a problem.
func (r *reply) refused(status int, code string) {
	r.t.Helper()
	require.Equal(r.t, status, r.status, r.text)
	require.Equal(r.t, "application/problem+json", r.header.Get("Content-Type"))
	p := r.object()
	require.Equal(r.t, code, p["code"], r.text)
	require.Equal(r.t, "urn:posthouse:problem:"+code, p["type"])
	require.EqualValues(r.t, status, p["status"])
	require.Equal(r.t, r.header.Get("X-Request-Id"), p["request_id"])
}

// ask makes a request as somebody ("" for nobody). body may be nil, bytes, or a value to be written as JSON.
func (w *fixture) ask(who, method, path string, body any) *reply {
	w.t.Helper()
	return w.do(w.request(who, method, path, body))
}

func (w *fixture) request(who, method, path string, body any) *http.Request {
	w.t.Helper()
	var text io.Reader
	if body != nil {
		b, ok := body.([]byte)
		if !ok {
			var err error
			b, err = json.Marshal(body)
			require.NoError(w.t, err)
		}
		text = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.base+path, text)
	require.NoError(w.t, err)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if who != "" {
		r.Header.Set("Authorization", "Bearer "+w.bearer(who))
	}
	return r
}

// bearer is the token of somebody, or the text itself when there is nobody of that name.
func (w *fixture) bearer(who string) string {
	if t, ok := w.tokens[who]; ok {
		return t
	}
	return who
}

func (w *fixture) do(r *http.Request) *reply {
	w.t.Helper()
	answer, err := w.client.Do(r)
	require.NoError(w.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(w.t, err)
	if answer.StatusCode < 300 {
		note(r.Method, r.URL.Path)
	}
	return &reply{w.t, answer.StatusCode, answer.Header, strings.TrimSpace(string(text))}
}

// say sends a text and returns the answer.
func (w *fixture) say(from, to, id, text string) *reply {
	w.t.Helper()
	return w.ask(from, "POST", "/v1/messages", map[string]any{
		"client_id": id, "to": to + "@localhost", "content": map[string]any{"kind": "text", "text": text},
	})
}

// metric reads a metric without labels from the private listener.
func (w *fixture) metric(name string) float64 {
	w.t.Helper()
	answer, err := w.client.Get("http://" + w.Endpoints().Private + "/metrics")
	require.NoError(w.t, err)
	defer answer.Body.Close()
	all, err := io.ReadAll(answer.Body)
	require.NoError(w.t, err)
	for line := range strings.Lines(string(all)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			require.NoError(w.t, err)
			return f
		}
	}
	return 0
}
