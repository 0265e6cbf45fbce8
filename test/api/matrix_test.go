package api_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// operation is one of the OpenAPI document.
type operation struct {
	path, method string
	secured      bool
	scopes       string // the sentence about them
	media        string // of the body; "" for none
	schema       map[string]any
	query        []map[string]any
}

// document reads the OpenAPI document that the node serves.
func (w *fixture) document() (doc map[string]any, all []operation) {
	w.t.Helper()
	r := w.ask("", "GET", "/v1/openapi.json", nil)
	require.Equal(w.t, 200, r.status)
	doc = r.object()
	paths := doc["paths"].(map[string]any)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item := paths[path].(map[string]any)
		for _, method := range slices.Sorted(maps.Keys(item)) {
			op := item[method].(map[string]any)
			o := operation{path: path, method: strings.ToUpper(method), secured: op["security"] != nil}
			o.scopes, _ = op["description"].(string)
			if b, ok := op["requestBody"].(map[string]any); ok {
				for media, m := range b["content"].(map[string]any) {
					o.media, o.schema = media, resolve(doc, m.(map[string]any)["schema"].(map[string]any))
				}
			}
			parameters, _ := op["parameters"].([]any)
			for _, p := range parameters {
				if p := p.(map[string]any); p["in"] == "query" {
					o.query = append(o.query, p)
				}
			}
			all = append(all, o)
		}
	}
	require.Greater(w.t, len(all), 40)
	return doc, all
}

// resolve follows a reference to a schema.
func resolve(doc, schema map[string]any) map[string]any {
	ref, ok := schema["$ref"].(string)
	if !ok {
		return schema
	}
	name := ref[strings.LastIndexByte(ref, '/')+1:]
	return doc["components"].(map[string]any)["schemas"].(map[string]any)[name].(map[string]any)
}

// fill puts values into a path, and the query that it needs.
func (o *operation) fill(values map[string]string) string {
	path := o.path
	for name, value := range values {
		path = strings.ReplaceAll(path, "{"+name+"}", value)
	}
	var needed []string
	for _, p := range o.query {
		if p["required"] == true {
			needed = append(needed, p["name"].(string)+"=juliet@localhost")
		}
	}
	if needed != nil {
		path += "?" + strings.Join(needed, "&")
	}
	return path
}

var placeholder = regexp.MustCompile(`\{[a-z]+\}`)

// pattern matches the paths of the operation.
func (o *operation) pattern() *regexp.Regexp {
	return regexp.MustCompile("^" + placeholder.ReplaceAllString(o.path, "[^/]+") + "$")
}

func (o *operation) String() string { return o.method + " " + o.path }

var anywhere = map[string]string{"jid": "juliet@localhost", "id": "AAAAAAAAAAAAAAAAAAAAAA", "name": "juliet"}

// TestTokens tries every route of the document without a token, with wrong ones, and with valid ones without the
// permission.
func TestTokens(t *testing.T) {
	w := open(t, []string{"romeo", "juliet", "nurse"})
	revoked := w.login("romeo", "lost-phone")["access_token"].(string)
	require.Equal(t, 204, w.ask("romeo", "DELETE", "/v1/devices/lost-phone", nil).status)
	made := w.ask("nurse", "POST", "/v1/admin/keys",
		map[string]any{"name": "narrow", "scopes": []string{"token.introspect"}})
	require.Equal(t, 201, made.status, made.text)
	narrow := made.at("secret").(string)
	_, all := w.document()
	for _, o := range all {
		if !o.secured {
			continue
		}
		path := o.fill(anywhere)
		with := func(authorization ...string) *reply {
			r := w.request("", o.method, path, nil)
			r.Header["Authorization"] = authorization
			return w.do(r)
		}
		t.Run(o.String(), func(t *testing.T) {
			w.ask("", o.method, path, nil).refused(401, "token_missing")
			separator := "?"
			if strings.Contains(path, "?") {
				separator = "&"
			}
			w.ask("", o.method, path+separator+"access_token="+w.tokens["nurse"], nil).refused(401, "token_missing")
			for _, garbage := range []string{"Bearer x", "Bearer " + w.tokens["romeo"] + "x", "Bearer phk_x",
				"Basic cm9tZW86eA==", "Bearer", w.tokens["romeo"]} {
				with(garbage).refused(401, "token_invalid")
			}
			with("Bearer "+w.tokens["romeo"], "Bearer "+w.tokens["romeo"]).refused(401, "token_invalid")
			w.ask(revoked, o.method, path, nil).refused(401, "token_revoked")
			if !strings.Contains(o.scopes, "token.introspect") {
				w.ask(narrow, o.method, path, nil).refused(403, "insufficient_scope")
			}
			if !strings.Contains(o.scopes, "`user`") {
				w.ask("romeo", o.method, path, nil).refused(403, "insufficient_scope")
			}
		})
	}
}

// TestBodies tries every route that takes a body with everything that a body can have wrong: type, size, coding, JSON,
// and every field.
func TestBodies(t *testing.T) {
	w := open(t, []string{"romeo", "juliet", "nurse"})
	doc, all := w.document()
	deep := strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)
	for _, o := range all {
		if o.media == "" {
			continue
		}
		path := o.fill(anywhere)
		send := func(media, body string, more ...string) *reply {
			r := w.request("nurse", o.method, path, []byte(body))
			if strings.HasSuffix(path, "introspect") {
				r.Header.Set("Authorization", "Bearer "+w.key("introspect", "token.introspect"))
			}
			r.Header.Set("Content-Type", media)
			for i := 0; i+1 < len(more); i += 2 {
				r.Header.Set(more[i], more[i+1])
			}
			return w.do(r)
		}
		t.Run(o.String(), func(t *testing.T) {
			for _, media := range []string{"text/plain", "", "application/xml", "multipart/form-data; boundary=x",
				o.media + "; charset=utf-16"} {
				send(media, "{}").refused(415, "unsupported_media_type")
			}
			send(o.media, "{}", "Content-Encoding", "gzip").refused(415, "unsupported_media_type")
			most := map[string]int{"POST /v1/messages": 512 << 10, "PUT /v1/messages/{id}": 512 << 10,
				"PUT /v1/roster/{jid}": 128 << 10}[strings.ToUpper(o.method)+" "+o.path]
			send(o.media, strings.Repeat("x", cmp.Or(most, 8<<10)+1)).refused(413, "too_large")
			require.NotEqual(t, 413, send(o.media, strings.Repeat(" ", cmp.Or(most, 8<<10))).status)
			if o.media != "application/json" {
				send(o.media, "nothing=1").refused(400, "invalid_field")
				return
			}
			for _, bad := range []string{"", "{", `{"a":1,"a":2}`, `{"a":{"b":1,"b":1}}`, deep, `{} {}`, `{}x`,
				`{'a':1}`, "{\"a\":\"\xff\"}", `nul`, "\xef\xbb\xbf{}"} {
				send(o.media, bad).refused(400, "invalid_json")
			}
			for _, bad := range []string{`{"role":"admin"}`, `{"CLIENT_ID":"x"}`, `{"name":"x","Name":"y"}`,
				`{"na\u212ae":"x"}`, `[]`, `"x"`, `1`, `null`, `{"a":1e400}`, `{"a":"\u0000"}`, `{"a":"\ud800"}`,
				`{"a":"\ud83d"}`, `{"a":"\udf00\ud83c"}`, `{"a":["x\ud83dx\udf00"]}`, `{"client_id":"\ud83d"}`} {
				r := send(o.media, bad)
				require.Equal(t, 400, r.status, "%s: %s", bad, r.text)
			}
			for name, p := range o.schema["properties"].(map[string]any) {
				for _, wrong := range wrongFor(resolve(doc, p.(map[string]any))) {
					body, err := json.Marshal(map[string]any{name: wrong})
					require.NoError(t, err)
					r := send(o.media, string(body))
					r.refused(400, "invalid_field")
					require.Contains(t, r.text, "body."+name)
				}
			}
		})
	}
}

// wrongFor returns values that a schema does not allow.
func wrongFor(schema map[string]any) []any {
	kinds := map[string]any{"string": "x", "number": 1.5, "boolean": true, "array": []any{1, "x"},
		"object": map[string]any{"no such field": 1}}
	types, ok := schema["type"].([]any) // a pointer may be null
	if !ok {
		types = []any{schema["type"]}
	}
	var wrong []any
	for kind, value := range kinds {
		if !slices.Contains(types, any(kind)) {
			wrong = append(wrong, value)
		}
	}
	if slices.Contains(types, any("object")) {
		wrong = append(wrong, kinds["object"])
	}
	if most, ok := schema["maxLength"].(float64); ok {
		wrong = append(wrong, strings.Repeat("x", int(most)+1))
	}
	return wrong
}

// TestParameters tries every parameter of every query with values of wrong types and sizes, and parameters that there
// are not.
func TestParameters(t *testing.T) {
	w := open(t, []string{"romeo", "juliet", "nurse"})
	_, all := w.document()
	for _, o := range all {
		if !o.secured || o.media != "" {
			continue
		}
		path := o.fill(anywhere)
		if !strings.Contains(path, "?") {
			path += "?"
		}
		t.Run(o.String(), func(t *testing.T) {
			w.ask("nurse", o.method, path+"&no_such_parameter=1", nil).refused(400, "invalid_field")
			for _, p := range o.query {
				schema, name := p["schema"].(map[string]any), p["name"].(string)
				var wrong []string
				switch schema["type"] {
				case "integer":
					wrong = []string{"x", "-1", "1.5", "99999999999999999999", "0x10"}
				case "boolean":
					wrong = []string{"perhaps", "2"}
				case "array":
					wrong = []string{"not%20an%20address%20@@", "a@b/c"}
				}
				if schema["format"] == "date-time" {
					wrong = []string{"yesterday", "2026-13-01T00:00:00Z"}
				}
				if most, ok := schema["maxLength"].(float64); ok {
					wrong = append(wrong, strings.Repeat("x", int(most)+1))
				}
				for _, value := range wrong {
					r := w.ask("nurse", o.method, path+"&"+name+"="+value, nil)
					require.Equal(t, 400, r.status, "%s=%.80s: %s", name, value, r.text)
				}
			}
			r := w.request("nurse", o.method, path, []byte("{}"))
			w.do(r).refused(400, "bad_request")
		})
	}
}

// TestMethods tries every path of the document with methods that it does not have: the answer says which it has, and is
// no other route's.
func TestMethods(t *testing.T) {
	w := open(t, []string{"nurse"})
	_, all := w.document()
	known := map[string][]string{}
	for _, o := range all {
		known[o.path] = append(known[o.path], o.method)
	}
	for pattern, methods := range known {
		o := operation{path: pattern}
		path := o.fill(anywhere)
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "get"} {
			if slices.Contains(methods, method) || method == "HEAD" && slices.Contains(methods, "GET") {
				continue
			}
			r := w.request("nurse", method, path, nil)
			r.Header.Set("X-HTTP-Method-Override", methods[0])
			answer := w.do(r)
			require.Equal(t, 405, answer.status, "%s %s", method, path)
			for _, m := range methods {
				require.Contains(t, answer.header.Get("Allow"), m)
			}
		}
		options := w.ask("", "OPTIONS", path, nil)
		require.Equal(t, 204, options.status)
		require.Contains(t, options.header.Get("Allow"), methods[0])
	}
	w.ask("nurse", "GET", "/v1/nothing", nil).refused(404, "not_found")
	w.ask("", "OPTIONS", "/v1/nothing", nil).refused(404, "not_found")
}

// TestOthers: what belongs to others does not exist, whatever is done with it.
func TestOthers(t *testing.T) {
	w := open(t, []string{"romeo", "juliet", "mercutio"})
	sent := w.say("romeo", "juliet", "m1", "A secret.")
	require.Equal(t, 200, sent.status, sent.text)
	_, all := w.document()
	body := map[string]any{
		"PUT /v1/messages/{id}": map[string]any{"client_id": "e1",
			"content": map[string]any{"kind": "text", "text": "Changed."}},
		"PUT /v1/conversations/{jid}/read":      map[string]any{"number": 1},
		"PUT /v1/conversations/{jid}/delivered": map[string]any{"number": 1},
	}
	own := []string{"settings", "typing", "roster"} // one's own, about whoever it is
	tried := 0
	for _, o := range all {
		if !strings.Contains(o.path, "{") || strings.HasPrefix(o.path, "/v1/admin") ||
			slices.ContainsFunc(own, func(s string) bool { return strings.Contains(o.path, s) }) {
			continue
		}
		tried++
		values := map[string]string{"jid": "juliet@localhost", "id": sent.at("id").(string)}
		if strings.Contains(o.path, "devices") {
			values["id"] = "phone-of-juliet"
		}
		// nothing was said to her by him, which is all that he is told
		if strings.HasPrefix(o.path, "/v1/conversations/{jid}") {
			r := w.ask("mercutio", o.method, o.fill(values), body[o.String()])
			require.Contains(t, []int{200, 204}, r.status, "%s: %s", o, r.text)
			require.NotContains(t, r.text, "secret")
			require.NotContains(t, r.text, "romeo")
			values["jid"] = "nobody@localhost"
		}
		w.ask("mercutio", o.method, o.fill(values), body[o.String()]).refused(404, "not_found")
	}
	require.GreaterOrEqual(t, tried, 7)
	theirs := w.ask("romeo", "GET", "/v1/conversations/juliet@localhost", nil)
	require.Equal(t, map[string]any{"delivered": 0.0, "read": 0.0}, theirs.at("peer"), theirs.text)
	// One's peer's message is there to be read, and not to be changed.
	id := sent.at("id").(string)
	w.ask("juliet", "PUT", "/v1/messages/"+id, body["PUT /v1/messages/{id}"]).refused(404, "not_found")
	w.ask("juliet", "DELETE", "/v1/messages/"+id, nil).refused(404, "not_found")
	require.Equal(t, "A secret.", w.ask("juliet", "GET", "/v1/messages/"+id, nil).at("content", "text"))
	require.Equal(t, 200, w.ask("juliet", "GET", "/v1/profile", nil).status, "her device is still logged in")
	empty := w.ask("mercutio", "GET", "/v1/sync", nil)
	require.NotContains(t, empty.text, "secret")
	presence := w.ask("mercutio", "GET", "/v1/presence?jid=juliet@localhost", nil)
	require.Equal(t, "[]", fmt.Sprint(presence.at("presence")), "she shares hers with nobody")
	r := w.request("romeo", "POST", "/v1/messages", map[string]any{
		"client_id": "f1", "from": "juliet@localhost", "to": "mercutio@localhost",
		"content": map[string]any{"kind": "text", "text": "x"},
	})
	w.do(r).refused(400, "invalid_field")
}

// key makes a service key and returns its secret, the same for the same name.
func (w *fixture) key(name string, scopes ...string) string {
	w.t.Helper()
	if secret, ok := w.tokens["key "+name]; ok {
		return secret
	}
	r := w.ask("nurse", "POST", "/v1/admin/keys", map[string]any{"name": name, "scopes": scopes})
	require.Equal(w.t, http.StatusCreated, r.status, r.text)
	w.tokens["key "+name] = r.at("secret").(string)
	return w.tokens["key "+name]
}
