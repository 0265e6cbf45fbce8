package api_test

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestHead: what is read can be asked for without its content (RFC 9110 §9.3.2), with the same headers.
func TestHead(t *testing.T) {
	w := open(t, []string{"romeo", "juliet", "nurse"})
	id := w.say("romeo", "juliet", "m1", "Hello.").at("id").(string)
	_, all := w.document()
	paths := []string{"/v1/docs", "/v1/openapi.json", "/v1/compact/dictionary.json"}
	for _, o := range all {
		if o.method == "GET" && o.path != "/v1/admin/keys/{id}" {
			paths = append(paths, o.fill(map[string]string{"jid": "juliet@localhost", "id": id, "name": "juliet"}))
		}
	}
	require.Greater(t, len(paths), 20)
	for _, path := range paths {
		who := "romeo"
		if strings.Contains(path, "/admin/") {
			who = "nurse"
		}
		path = strings.Replace(path, "q=juliet@localhost", "q=juliet", 1)
		get, head := w.ask(who, "GET", path, nil), w.ask(who, "HEAD", path, nil)
		require.Equal(t, get.status, head.status, path)
		require.Empty(t, head.text, path)
		for _, name := range []string{"Content-Type", "ETag", "Cache-Control"} {
			require.Equal(t, get.header.Get(name), head.header.Get(name), "%s of %s", name, path)
		}
		require.Contains(t, w.ask("", "OPTIONS", strings.Split(path, "?")[0], nil).header.Get("Allow"), "HEAD", path)
	}
	w.ask("", "HEAD", "/v1/messages", nil) // there is no GET
	require.Equal(t, 405, w.ask("romeo", "HEAD", "/v1/messages", nil).status)
}

// TestIfMatch: a change that names the state it is made for is made to no other (RFC 9110 §13.1.1), also when many are
// made at once.
func TestIfMatch(t *testing.T) {
	w := open(t, []string{"romeo", "juliet", "nurse"})
	id := w.say("romeo", "juliet", "m1", "Hello.").at("id").(string)
	require.Equal(t, 204, w.ask("romeo", "PUT", "/v1/roster/juliet@localhost", map[string]any{"name": "Juliet"}).status)
	change := func(who, method, path, tag string, body any) *http.Request {
		r := w.request(who, method, path, body)
		r.Header.Set("If-Match", tag)
		return r
	}
	for _, test := range []struct {
		who, path  string
		body, more any
	}{
		{"romeo", "/v1/profile", map[string]any{"name": "Romeo", "title": ""},
			map[string]any{"name": "R", "title": "M"}},
		{"romeo", "/v1/preferences", map[string]any{"share_read": false}, map[string]any{"share_read": true}},
		{"romeo", "/v1/conversations/juliet@localhost/settings", map[string]any{"pinned": true},
			map[string]any{"pinned": false}},
		{"romeo", "/v1/roster/juliet@localhost", map[string]any{"name": "My lady"}, map[string]any{"name": "Mine"}},
		{"nurse", "/v1/admin/users/juliet", map[string]any{"disabled": true}, map[string]any{"disabled": false}},
	} {
		before := w.ask(test.who, "GET", test.path, nil)
		require.Equal(t, 200, before.status, before.text)
		tag := before.header.Get("ETag")
		require.NotEmpty(t, tag, test.path)
		w.do(change(test.who, "PUT", test.path, `"other"`, test.body)).refused(412, "precondition_failed")
		w.do(change(test.who, "PUT", test.path, "W/"+tag, test.body)).refused(412, "precondition_failed")
		require.Equal(t, before.text, w.ask(test.who, "GET", test.path, nil).text, "nothing has changed")
		good := w.do(change(test.who, "PUT", test.path, `"other", `+tag, test.body))
		require.Equal(t, 204, good.status, "%s: %s", test.path, good.text)
		w.do(change(test.who, "PUT", test.path, tag, test.body)).refused(412, "precondition_failed")
		require.Equal(t, 204, w.do(change(test.who, "PUT", test.path, "*", test.more)).status)
	}
	tag := w.ask("romeo", "GET", "/v1/messages/"+id, nil).header.Get("ETag")
	w.do(change("romeo", "DELETE", "/v1/messages/"+id, `"other"`, nil)).refused(412, "precondition_failed")
	require.Equal(t, 200, w.do(change("romeo", "DELETE", "/v1/messages/"+id, tag, nil)).status)
	// What has no state to read has none to match, and who may not read it learns nothing.
	w.do(change("romeo", "DELETE", "/v1/devices/none", "*", nil)).refused(412, "precondition_failed")
	w.do(change("romeo", "PUT", "/v1/admin/users/juliet", "*", map[string]any{})).refused(403, "insufficient_scope")

	tag = w.ask("romeo", "GET", "/v1/profile", nil).header.Get("ETag")
	const many = 8
	requests, answers := make([]*http.Request, many), make([]*reply, many)
	for i := range requests {
		requests[i] = change("romeo", "PUT", "/v1/profile", tag,
			map[string]any{"name": strings.Repeat("x", i+1), "title": ""})
	}
	var running sync.WaitGroup
	for i := range requests {
		running.Go(func() { answers[i] = w.do(requests[i]) })
	}
	running.Wait()
	done := 0
	for _, a := range answers {
		if a.status == 204 {
			done++
		} else {
			a.refused(412, "precondition_failed")
		}
	}
	require.Equal(t, 1, done, "one of all that were made for the same state")
}

// TestCreated: what was made says where it is (RFC 9110 §15.3.2).
func TestCreated(t *testing.T) {
	w := open(t, []string{"nurse"})
	for path, body := range map[string]any{
		"/v1/admin/users": map[string]any{"name": "Paris", "password": "county of verona"},
		"/v1/admin/keys":  map[string]any{"name": "crm", "scopes": []string{"message.send"}},
	} {
		made := w.ask("nurse", "POST", path, body)
		require.Equal(t, 201, made.status, made.text)
		where := made.header.Get("Location")
		require.True(t, strings.HasPrefix(where, path+"/"), where)
		require.Equal(t, 200, w.ask("nurse", "GET", where, nil).status, where)
		require.NotContains(t, w.ask("nurse", "GET", where, nil).text, "secret")
	}
	w.ask("nurse", "GET", "/v1/admin/keys/none", nil).refused(404, "not_found")
}

// TestAuthorization: the scheme is in any case, with any number of spaces (RFC 9110 §11.4), and a refusal says why
// (RFC 6750 §3.1).
func TestAuthorization(t *testing.T) {
	w := open(t, []string{"romeo"})
	get := func(path, authorization string) *reply {
		r := w.request("", "GET", path, nil)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		return w.do(r)
	}
	for _, scheme := range []string{"Bearer ", "bearer ", "BEARER  ", "Bearer    "} {
		require.Equal(t, 200, get("/v1/profile", scheme+w.tokens["romeo"]).status, scheme)
	}
	require.Equal(t, "Bearer", get("/v1/profile", "").header.Get("WWW-Authenticate"))
	for _, wrong := range []string{"Bearer x", "Bearer  ", "Basic cm9tZW86eA=="} {
		require.Equal(t, `Bearer error="invalid_token"`, get("/v1/profile", wrong).header.Get("WWW-Authenticate"), wrong)
	}
	narrow := get("/v1/admin/status", "Bearer "+w.tokens["romeo"])
	narrow.refused(403, "insufficient_scope")
	require.Equal(t, `Bearer error="insufficient_scope", scope="admin"`, narrow.header.Get("WWW-Authenticate"))
}

// TestMediaTypes: a media type is the same in any case, and with parameters (RFC 9110 §8.3.1).
func TestMediaTypes(t *testing.T) {
	w := open(t, []string{"romeo"})
	for _, media := range []string{"application/json", "Application/JSON", "application/json;charset=UTF-8",
		`APPLICATION/json ; Charset="Utf-8"`, "application/json; x=y"} {
		r := w.request("romeo", "PUT", "/v1/preferences", map[string]any{"share_read": true})
		r.Header.Set("Content-Type", media)
		require.Equal(t, 204, w.do(r).status, media)
	}
	r := w.request("", "POST", "/v1/token/revoke", []byte("token=x"))
	r.Header.Set("Content-Type", "Application/X-WWW-Form-Urlencoded; charset=utf-8")
	require.Equal(t, 204, w.do(r).status)
}

// TestCaching: an answer with an ETag may be kept and is asked about; others are not kept.
func TestCaching(t *testing.T) {
	w := open(t, []string{"romeo"})
	a := w.ask("romeo", "GET", "/v1/profile", nil)
	require.Equal(t, "private, no-cache", a.header.Get("Cache-Control"))
	require.Contains(t, a.header.Values("Vary"), "Authorization")
	r := w.request("romeo", "GET", "/v1/profile", nil)
	r.Header.Set("If-None-Match", a.header.Get("ETag"))
	same := w.do(r)
	require.Equal(t, 304, same.status)
	require.Equal(t, "private, no-cache", same.header.Get("Cache-Control"))
	for _, path := range []string{"/v1/devices", "/v1/sync", "/v1/messages/x"} {
		a := w.ask("romeo", "GET", path, nil)
		require.Equal(t, "no-store", a.header.Get("Cache-Control"))
		require.Empty(t, a.header.Get("ETag"))
	}
}

// TestTooLate: a message that is too old to be retracted, or edited, is refused as the reference says.
func TestTooLate(t *testing.T) {
	w := open(t, []string{"romeo", "juliet"}, "archive.retract_window=1ns", "archive.edit_window=1ns")
	sent := w.say("romeo", "juliet", "m1", "Hello.")
	id := sent.at("id").(string)
	at, err := time.Parse(time.RFC3339, sent.at("time").(string))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return time.Since(at) > 5*time.Millisecond }, time.Minute, time.Millisecond)
	w.ask("romeo", "DELETE", "/v1/messages/"+id, nil).refused(403, "forbidden")
	w.ask("romeo", "PUT", "/v1/messages/"+id,
		map[string]any{"client_id": "e", "content": text("Bye.")}).refused(403, "forbidden")
}

// TestTimes: every time in an answer is one of RFC 3339, in UTC, with three decimals.
func TestTimes(t *testing.T) {
	w := open(t, []string{"romeo", "juliet", "nurse"})
	id := w.say("romeo", "juliet", "m1", "Hello.").at("id").(string)
	forward := w.ask("romeo", "POST", "/v1/messages", map[string]any{"client_id": "f", "to": "juliet@localhost",
		"content": map[string]any{"kind": "forward", "forwarded": map[string]any{"kind": "text", "text": "x",
			"from": "juliet@localhost", "time": "2026-01-01T00:00:00Z"}}})
	require.Equal(t, 200, forward.status, forward.text)
	require.Equal(t, 204, w.ask("romeo", "PUT", "/v1/conversations/juliet@localhost/settings",
		map[string]any{"pinned": false, "muted_until": "2030-01-01T00:00:00Z"}).status)
	require.Equal(t, 201, w.ask("nurse", "POST", "/v1/admin/keys", map[string]any{"name": "crm",
		"scopes": []string{"message.send"}, "expires": "2099-01-01T02:00:00+02:00"}).status)
	anyTime, exact := regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]*"`),
		regexp.MustCompile(`^"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"$`)
	seen := 0
	check := func(r *reply) {
		t.Helper()
		require.Less(t, r.status, 300, r.text)
		for _, one := range anyTime.FindAllString(strings.ReplaceAll(r.text, `\"`, ""), -1) {
			seen++
			require.Regexp(t, exact, one, r.text)
		}
	}
	check(forward)
	_, all := w.document()
	for _, o := range all {
		if o.method != "GET" || o.path == "/v1/admin/keys/{id}" || o.path == "/v1/directory" {
			continue
		}
		who := "romeo"
		if strings.Contains(o.path, "/admin/") {
			who = "nurse"
		}
		values := map[string]string{"jid": "juliet@localhost", "id": id, "name": "juliet"}
		if slices.Contains([]string{"/v1/roster/{jid}"}, o.path) {
			values["jid"] = "juliet@localhost"
			require.Equal(t, 204, w.ask("romeo", "PUT", "/v1/roster/juliet@localhost", map[string]any{}).status)
		}
		check(w.ask(who, "GET", o.fill(values), nil))
	}
	require.Greater(t, seen, 15)
}
