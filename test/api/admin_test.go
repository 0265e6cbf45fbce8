package api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// form posts a form as somebody.
func (w *fixture) form(who, path string, values url.Values) *reply {
	w.t.Helper()
	r := w.request(who, "POST", path, []byte(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return w.do(r)
}

// TestLogin: a password or a refresh token gets a pair of tokens; all refusals look alike.
func TestLogin(t *testing.T) {
	w := open(t, []string{"romeo"})
	log := func(body map[string]any) *reply { return w.ask("", "POST", "/v1/token", body) }
	good := log(map[string]any{"grant_type": "password", "username": "romeo@localhost", "password": password,
		"device_name": "Phone"})
	require.Equal(t, 200, good.status, good.text)
	require.Equal(t, "no-store", good.header.Get("Cache-Control"))
	require.Equal(t, "Bearer", good.at("token_type"))
	require.InDelta(t, 900, good.at("expires_in"), 5)
	wrong := log(map[string]any{"grant_type": "password", "username": "romeo", "password": "wrong"})
	wrong.refused(401, "login_failed")
	unknown := log(map[string]any{"grant_type": "password", "username": "nobody", "password": "wrong"})
	unknown.refused(401, "login_failed")
	require.Equal(t, wrong.at("detail"), unknown.at("detail"))
	log(map[string]any{"grant_type": "password", "username": "romeo@elsewhere", "password": password}).refused(401,
		"login_failed")
	log(map[string]any{"grant_type": "password", "username": "romeo"}).refused(400, "invalid_field")
	log(map[string]any{"grant_type": "magic"}).refused(400, "invalid_field")
	log(map[string]any{"grant_type": "refresh_token"}).refused(400, "invalid_field")
	log(map[string]any{"grant_type": "refresh_token", "refresh_token": "phr_x"}).refused(401, "login_failed")

	renewed := log(map[string]any{"grant_type": "refresh_token", "refresh_token": good.at("refresh_token")})
	require.Equal(t, 200, renewed.status, renewed.text)
	require.Equal(t, good.at("device"), renewed.at("device"))
	require.Equal(t, 200, w.ask(renewed.at("access_token").(string), "GET", "/v1/profile", nil).status)
	devices := w.ask("romeo", "GET", "/v1/devices", nil)
	require.Contains(t, devices.text, `"name":"Phone"`)
	require.Len(t, devices.at("devices"), 2)

	keys := w.ask("", "GET", "/.well-known/jwks.json", nil)
	require.Equal(t, 200, keys.status)
	require.Equal(t, "application/json", keys.header.Get("Content-Type"))
	require.Equal(t, "OKP", keys.at("keys", 0, "kty"))
	require.NotContains(t, keys.text, `"d"`)
}

// TestSignOut: each way of signing out ends the tokens at once.
func TestSignOut(t *testing.T) {
	w := open(t, []string{"romeo", "juliet"})
	devices := map[string]map[string]any{}
	for _, d := range []string{"a", "b", "c", "d", "e"} {
		devices[d] = w.login("romeo", d)
	}
	out := func(d string) {
		t.Helper()
		w.ask(devices[d]["access_token"].(string), "GET", "/v1/profile", nil).refused(401, "token_revoked")
		w.ask("", "POST", "/v1/token",
			map[string]any{"grant_type": "refresh_token", "refresh_token": devices[d]["refresh_token"]}).refused(401,
			"login_failed")
	}
	require.Equal(t, 204, w.ask("romeo", "DELETE", "/v1/devices/a", nil).status)
	out("a")
	require.Equal(t, 204, w.form("", "/v1/token/revoke",
		url.Values{"token": {devices["b"]["access_token"].(string)}}).status)
	out("b")
	require.Equal(t, 204, w.form("", "/v1/token/revoke",
		url.Values{"token": {devices["c"]["refresh_token"].(string)}, "token_type_hint": {"refresh_token"}}).status)
	out("c")
	require.Equal(t, 204, w.form("", "/v1/token/revoke", url.Values{"token": {"nonsense"}}).status, "RFC 7009 §2.2")
	require.Equal(t, 204, w.ask("romeo", "DELETE", "/v1/devices?keep_current=true", nil).status)
	out("d")
	out("e")
	require.Len(t, w.ask("romeo", "GET", "/v1/devices", nil).at("devices"), 1)
	require.Equal(t, 204, w.ask("romeo", "DELETE", "/v1/devices", nil).status)
	w.ask("romeo", "GET", "/v1/profile", nil).refused(401, "token_revoked")
	require.Equal(t, 200, w.ask("juliet", "GET", "/v1/profile", nil).status)
}

// TestIntrospection: another system learns what a valid token permits, and nothing about an invalid one.
func TestIntrospection(t *testing.T) {
	w := open(t, []string{"romeo", "nurse"})
	key := w.key("introspect", "token.introspect")
	r := w.form(key, "/v1/token/introspect", url.Values{"token": {w.tokens["romeo"]}})
	require.Equal(t, true, r.at("active"), r.text)
	require.Equal(t, "romeo@localhost", r.at("sub"))
	require.Equal(t, "user", r.at("scope"))
	require.Equal(t, "phone-of-romeo", r.at("device"))
	require.Equal(t, "key:introspect", w.form(key, "/v1/token/introspect", url.Values{"token": {key}}).at("sub"))
	require.Equal(t, map[string]any{"active": false},
		w.form(key, "/v1/token/introspect", url.Values{"token": {"x"}}).object())
	w.form("romeo", "/v1/token/introspect", url.Values{"token": {"x"}}).refused(403, "insufficient_scope")
}

// TestSenders: the system and keys that may speak for others.
func TestSenders(t *testing.T) {
	w := open(t, []string{"romeo", "juliet", "nurse"})
	send := func(who, from, id string) *reply {
		return w.ask(who, "POST", "/v1/messages",
			map[string]any{"client_id": id, "from": from, "to": "juliet@localhost", "content": text("From " + from)})
	}
	system, as := w.key("system", "message.send"), w.key("as", "message.send_as")
	first := send(system, "", "s1")
	require.Equal(t, 200, first.status, first.text)
	require.Equal(t, true, send(system, "localhost", "s1").status == 409, "another body")
	again := w.ask(system, "POST", "/v1/messages",
		map[string]any{"client_id": "s1", "to": "juliet@localhost", "content": text("From ")})
	require.Equal(t, true, again.at("duplicate"), again.text)
	m := w.ask("juliet", "GET", "/v1/messages/"+first.at("id").(string), nil)
	require.Equal(t, "localhost", m.at("from"), m.text)
	require.Equal(t, "From ", w.ask("juliet", "GET", "/v1/conversations/localhost/messages", nil).at("messages", 0,
		"content", "text"))
	send(system, "romeo@localhost", "s2").refused(403, "insufficient_scope")
	send(as, "", "s3").refused(403, "insufficient_scope")
	send(as, "nobody@localhost", "s4").refused(404, "no_such_address")
	send(as, "romeo@elsewhere", "s5").refused(404, "no_such_address")
	behalf := send(as, "romeo@localhost", "s6")
	require.Equal(t, 200, behalf.status, behalf.text)
	require.Equal(t, "romeo@localhost",
		w.ask("juliet", "GET", "/v1/messages/"+behalf.at("id").(string), nil).at("from"))
	require.Equal(t, 200, w.ask("romeo", "GET", "/v1/messages/"+behalf.at("id").(string), nil).status,
		"it is in his history, too")
	noted := w.ask("nurse", "GET", "/v1/admin/audit?limit=1", nil)
	require.Equal(t, []any{"message.send_as", "key:as", "romeo@localhost", `{"client_id":"s6","to":"juliet@localhost"}`},
		[]any{noted.at("entries", 0, "action"), noted.at("entries", 0, "actor"), noted.at("entries", 0, "target"),
			noted.at("entries", 0, "detail")})
	require.Equal(t, 204, w.ask("nurse", "PUT", "/v1/admin/users/romeo", map[string]any{"disabled": true}).status)
	send(as, "romeo@localhost", "s8").refused(403, "forbidden")
	w.ask(system, "POST", "/v1/messages",
		map[string]any{"client_id": "s7", "to": "nobody@localhost", "content": text("?")}).refused(404,
		"no_such_address")
	for _, kind := range []string{"GET /v1/sync", "GET /v1/conversations", "GET /v1/messages/x", "GET /v1/devices",
		"DELETE /v1/devices"} {
		method, path, _ := strings.Cut(kind, " ")
		w.ask(as, method, path, nil).refused(403, "insufficient_scope")
	}
}

// TestAdministration: what an administrator does takes effect, and is in the audit log with who did it.
func TestAdministration(t *testing.T) {
	w := open(t, []string{"romeo", "nurse"})
	admin := func(method, path string, body any) *reply { return w.ask("nurse", method, "/v1/admin"+path, body) }
	require.Equal(t, 201, admin("POST", "/users",
		map[string]any{"name": "Paris", "password": "county of verona"}).status)
	admin("POST", "/users", map[string]any{"name": "paris", "password": "county of verona"}).refused(409, "conflict")
	admin("POST", "/users", map[string]any{"name": "a@b", "password": "county of verona"}).refused(400, "bad_request")
	admin("POST", "/users", map[string]any{"name": "tybalt", "password": "short"}).refused(400, "bad_request")
	users := admin("GET", "/users?limit=2", nil)
	require.Equal(t, "nurse", users.at("users", 0, "name"), users.text)
	require.Equal(t, "romeo", admin("GET", "/users?limit=2&after="+users.at("next").(string), nil).at("users", 0,
		"name"))
	require.Equal(t, "paris@localhost", admin("GET", "/users/paris", nil).at("jid"))
	for _, r := range []struct {
		method, path string
		body         any
	}{
		{"GET", "/users/nobody", nil}, {"DELETE", "/users/nobody", nil},
		{"PUT", "/users/nobody", map[string]any{"disabled": true}}, {"GET", "/users/nobody/sessions", nil},
		{"DELETE", "/users/nobody/sessions", nil}, {"DELETE", "/users/romeo/sessions?resource=none", nil},
		{"DELETE", "/keys/none", nil}, {"DELETE", "/messages/none", nil},
		{"PUT", "/users/nobody/password", map[string]any{"password": "county of verona"}},
	} {
		admin(r.method, r.path, r.body).refused(404, "not_found")
	}

	// Disabled, password and deletion end tokens at once.
	w.tokens["romeo"] = w.login("romeo", "x")["access_token"].(string)
	require.Equal(t, 204, admin("PUT", "/users/romeo", map[string]any{"disabled": true}).status)
	w.ask("romeo", "GET", "/v1/profile", nil).refused(401, "token_revoked")
	require.Equal(t, true, admin("GET", "/users/romeo", nil).at("disabled"))
	w.ask("", "POST", "/v1/token",
		map[string]any{"grant_type": "password", "username": "romeo", "password": password}).refused(401,
		"login_failed")
	require.Equal(t, 204, admin("PUT", "/users/romeo", map[string]any{"disabled": false}).status)
	// A login that begins in the very millisecond of a change counts as one that began before it.
	require.Eventually(t, func() bool {
		r := w.ask("", "POST", "/v1/token",
			map[string]any{"grant_type": "password", "username": "romeo", "password": password, "device": "y"})
		w.tokens["romeo"], _ = r.object()["access_token"].(string)
		return r.status == 200
	}, 10*time.Second, 2*time.Millisecond)
	require.Equal(t, 204, admin("PUT", "/users/romeo/password", map[string]any{"password": "another horse"}).status)
	w.ask("romeo", "GET", "/v1/profile", nil).refused(401, "token_revoked")
	require.Equal(t, 204, admin("DELETE", "/users/romeo", nil).status)
	w.ask("romeo", "GET", "/v1/profile", nil).refused(401, "token_revoked")
	require.Empty(t, admin("GET", "/users/paris/sessions", nil).at("sessions"))
	require.Equal(t, 204, admin("DELETE", "/users/paris/sessions", nil).status)

	// Keys.
	made := admin("POST", "/keys",
		map[string]any{"name": "crm", "scopes": []string{"message.send"}, "expires": "2099-01-01T00:00:00Z"})
	require.Equal(t, 201, made.status, made.text)
	admin("POST", "/keys", map[string]any{"name": "crm", "scopes": []string{"message.send"}}).refused(409, "conflict")
	admin("POST", "/keys", map[string]any{"name": "bad", "scopes": []string{"user"}}).refused(400, "bad_request")
	list := admin("GET", "/keys", nil)
	require.Equal(t, "crm", list.at("keys", 0, "name"), list.text)
	require.NotContains(t, list.text, made.at("secret"))
	say := map[string]any{"client_id": "1", "to": "paris@localhost", "content": text("Hello")}
	require.Equal(t, 200, w.ask(made.at("secret").(string), "POST", "/v1/messages", say).status)
	require.Equal(t, 204, admin("DELETE", "/keys/"+made.at("id").(string), nil).status)
	w.ask(made.at("secret").(string), "POST", "/v1/messages", say).refused(401, "token_revoked")

	status := admin("GET", "/status", nil)
	require.Equal(t, "ready", status.at("state"), status.text)
	require.Equal(t, "full", status.at("durability"))

	// The audit log has all of it, newest first, and no secret.
	log := admin("GET", "/audit", nil)
	require.Equal(t, "key.revoke", log.at("entries", 0, "action"), log.text)
	require.Equal(t, "nurse@localhost", log.at("entries", 0, "actor"))
	require.Equal(t, "127.0.0.1", log.at("entries", 0, "remote"))
	for _, action := range []string{"account.create", "account.disable", "account.enable", "account.password",
		"account.delete", "session.kick", "key.create"} {
		require.Contains(t, log.text, `"`+action+`"`)
	}
	for _, secret := range []string{"county of verona", "another horse", made.at("secret").(string)} {
		require.NotContains(t, log.text, secret)
	}
	key := w.key("robot", "admin")
	require.Equal(t, 201, w.ask(key, "POST", "/v1/admin/users",
		map[string]any{"name": "benvolio", "password": "county of verona"}).status)
	require.Equal(t, "key:robot", admin("GET", "/audit?limit=1", nil).at("entries", 0, "actor"))
}

// TestModeration: an administrator can retract messages of others; nobody else can.
func TestModeration(t *testing.T) {
	w := open(t, []string{"romeo", "juliet", "nurse"})
	id := w.say("romeo", "juliet", "m1", "Something bad.").at("id").(string)
	w.ask("juliet", "DELETE", "/v1/admin/messages/"+id, nil).refused(403, "insufficient_scope")
	r := w.ask("nurse", "DELETE", "/v1/admin/messages/"+id+"?reason=rules", nil)
	require.Equal(t, 204, r.status, r.text)
	for _, who := range []string{"romeo", "juliet"} {
		m := w.ask(who, "GET", "/v1/messages/"+id, nil)
		require.Equal(t, "retracted", m.at("content", "kind"), m.text)
		require.NotContains(t, m.text, "bad")
	}
	require.Equal(t, "message.moderate", w.ask("nurse", "GET", "/v1/admin/audit", nil).at("entries", 0, "action"))
}

// TestOrigins: pages of listed origins may use the API, others may not, and no page gets credentials.
func TestOrigins(t *testing.T) {
	w := open(t, []string{"romeo"}, "listen.http.origins=https://chat.example.org")
	from := func(method, origin string, more ...string) *reply {
		r := w.request("romeo", method, "/v1/profile", nil)
		r.Header.Set("Origin", origin)
		for i := 0; i+1 < len(more); i += 2 {
			r.Header.Set(more[i], more[i+1])
		}
		return w.do(r)
	}
	good := from("GET", "https://chat.example.org")
	require.Equal(t, 200, good.status)
	require.Equal(t, "https://chat.example.org", good.header.Get("Access-Control-Allow-Origin"))
	require.Empty(t, good.header.Get("Access-Control-Allow-Credentials"))
	require.Contains(t, good.header.Get("Vary"), "Origin")
	preflight := from("OPTIONS", "https://chat.example.org", "Access-Control-Request-Method", "GET",
		"Access-Control-Request-Headers", "authorization")
	require.Equal(t, 204, preflight.status)
	require.Contains(t, preflight.header.Get("Access-Control-Allow-Headers"), "Authorization")
	for _, origin := range []string{"https://evil.example.org", "null", "https://chat.example.org.evil.com",
		"http://chat.example.org", "https://chat.example.org:8443", "https://xchat.example.org"} {
		bad := from("GET", origin)
		bad.refused(403, "origin_not_allowed")
		require.Empty(t, bad.header.Get("Access-Control-Allow-Origin"))
		from("OPTIONS", origin, "Access-Control-Request-Method", "GET").refused(403, "origin_not_allowed")
	}
	require.Equal(t, 200, w.ask("romeo", "GET", "/v1/profile", nil).status, "a program has no origin")
}

// TestRates: a client over its rate limit is told how long to wait; others are not affected. Logins have their own
// limit.
func TestRates(t *testing.T) {
	w := open(t, []string{"romeo", "juliet"}, "api.rate=0.01", "api.burst=3", "api.login_rate=0.01",
		"api.login_burst=4")
	for range 3 {
		require.Equal(t, 200, w.ask("romeo", "GET", "/v1/profile", nil).status)
	}
	r := w.ask("romeo", "GET", "/v1/profile", nil)
	r.refused(429, "rate_limited")
	require.NotEmpty(t, r.header.Get("Retry-After"))
	require.Equal(t, 200, w.ask("juliet", "GET", "/v1/profile", nil).status)
	login := func() *reply {
		return w.ask("", "POST", "/v1/token",
			map[string]any{"grant_type": "password", "username": "romeo", "password": password})
	}
	require.Equal(t, 200, login().status) // the third: two were at the beginning
	require.Equal(t, 200, login().status)
	login().refused(429, "rate_limited")

	narrow := open(t, nil, "api.address_rate=0.01", "api.address_burst=2")
	narrow.ask("", "GET", "/v1/profile", nil).refused(401, "token_missing")
	narrow.ask("", "GET", "/v1/nothing", nil).refused(404, "not_found")
	for _, one := range []string{"GET /v1/profile", "GET /v1/nothing", "PATCH /v1/profile", "OPTIONS /v1/profile",
		"OPTIONS /v1/nothing", "GET /v1/x/../profile", "GET /v1/docs", "GET /.well-known/jwks.json"} {
		method, path, _ := strings.Cut(one, " ")
		narrow.ask("", method, path, nil).refused(429, "rate_limited")
	}
}

// TestAccept: answers are JSON, whatever the Accept header says.
func TestAccept(t *testing.T) {
	w := open(t, []string{"romeo"})
	for _, accept := range []string{"", "*/*", "text/html", "application/x-www-form-urlencoded", "application/cbor",
		"application/json;q=0", "nonsense;;"} {
		r := w.request("romeo", "GET", "/v1/roster", nil)
		r.Header.Set("Accept", accept)
		a := w.do(r)
		require.Equal(t, 200, a.status, accept)
		require.Equal(t, "application/json", a.header.Get("Content-Type"), accept)
	}
}

// TestHeaders: security and caching headers of every answer.
func TestHeaders(t *testing.T) {
	w := open(t, []string{"romeo"})
	for _, path := range []string{"/v1/profile", "/v1/nothing", "/v1/openapi.json", "/v1/docs",
		"/v1/compact/vectors.json", "/.well-known/jwks.json"} {
		r := w.request("romeo", "GET", path, nil)
		r.Host = "evil.example.org"
		r.Header.Set("X-Forwarded-Host", "evil.example.org")
		r.Header.Set("X-Forwarded-For", "192.0.2.1")
		a := w.do(r)
		kept := "no-store"
		switch path {
		case "/v1/profile":
			kept = "private, no-cache"
		case "/.well-known/jwks.json":
			kept = "public, max-age=300"
		case "/v1/openapi.json", "/v1/docs", "/v1/compact/vectors.json":
			kept = "no-cache"
			require.NotEmpty(t, a.header.Get("ETag"), path)
		}
		require.Equal(t, kept, a.header.Get("Cache-Control"), path)
		require.Equal(t, "nosniff", a.header.Get("X-Content-Type-Options"))
		require.Contains(t, a.header.Get("Content-Security-Policy"), "frame-ancestors 'none'")
		require.NotEmpty(t, a.header.Get("X-Request-Id"))
		require.NotContains(t, a.text, "evil")
	}
	for _, path := range []string{"//v1/profile", "/x/../v1/profile", "/./v1/profile"} {
		a, err := http.NewRequest("GET", w.base, nil)
		require.NoError(t, err)
		a.URL.Opaque = strings.TrimPrefix(w.base, "http:") + path
		a.Header.Set("Authorization", "Bearer "+w.tokens["romeo"])
		require.Contains(t, []int{301, 307, 400, 404}, w.do(a).status, path)
	}
}
