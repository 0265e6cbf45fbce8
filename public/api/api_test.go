package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/inbox"
	"github.com/posthouse-im/posthouse/limit"
	"github.com/posthouse-im/posthouse/public/uplink"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
	calls "github.com/posthouse-im/posthouse/wire/uplink"
)

// stub is everything that an API needs: it does as its fields say. What a test does not set panics when it is used.
type stub struct {
	Inbox
	check func() (*token.Principal, error)
	send  func() (calls.Receipt, error)
	sync  func(cursor string) (inbox.Page, error)
	watch chan struct{}
	// list and next are what Conversations and Conversation answer with, from which of them was asked for, sent what
	// was sent.
	list []inbox.Conversation
	next inbox.Position
	from inbox.Position
	sent []*stanza.Stanza
}

func (s *stub) Conversations(_ context.Context, _ inbox.Owner, from inbox.Position, _ int) ([]inbox.Conversation,
	inbox.Position, error) {
	s.from = from
	return s.list, s.next, nil
}

func (s *stub) AddNewest(_ context.Context, list []inbox.Conversation, next inbox.Position) ([]inbox.Conversation,
	inbox.Position, error) {
	return list, next, nil
}

func (s *stub) Conversation(_ context.Context, _ inbox.Owner, with jid.JID) (inbox.Conversation, error) {
	for _, c := range s.list {
		if c.Address() == with {
			return c, nil
		}
	}
	return inbox.Conversation{}, store.ErrNotFound
}

func (s *stub) Check(context.Context, string) (*token.Principal, error) { return s.check() }
func (s *stub) Refresh(context.Context, string) (token.Pair, token.Principal, error) {
	return token.Pair{}, token.Principal{}, token.ErrRevoked
}
func (s *stub) KeySet() []byte { return []byte(`{"keys":[]}`) }
func (s *stub) Send(_ context.Context, _ calls.Caller, said *stanza.Stanza) (calls.Receipt, error) {
	s.sent = append(s.sent, said)
	return s.send()
}
func (s *stub) Ask(context.Context, calls.Caller, *stanza.Stanza) ([]stanza.Element, error) {
	return nil, stanza.Refuse(stanza.ServiceUnavailable, "")
}
func (s *stub) Watch(uint64) (<-chan struct{}, func()) { return s.watch, func() {} }
func (s *stub) Sync(_ context.Context, _ inbox.Owner, cursor string, _, _ int) (inbox.Page, error) {
	return s.sync(cursor)
}

// noProfiles panics whatever it is asked.
type noProfiles struct{ profiles }

type profiles = store.Profiles

// romeo is a person's token.
func romeo() (*token.Principal, error) {
	return &token.Principal{Account: 1, JID: jid.MustParse("romeo@montague.lit"), Device: "phone",
		Scopes: []token.Scope{token.ScopeUser}}, nil
}

func newAPI(t *testing.T, s *stub, change ...func(*Config)) *API {
	t.Helper()
	up, err := uplink.New(uplink.Config{Domain: s})
	require.NoError(t, err)
	c := Config{
		Domain: jid.MustParse("montague.lit"), Uplink: up, Inbox: s, Tokens: s,
		Accounts: struct{ inbox.Accounts }{}, Rosters: struct{ store.Rosters }{}, Profiles: noProfiles{},
		Devices: struct{ store.Devices }{}, Keys: struct{ store.ServiceKeys }{}, Audit: struct{ store.Audit }{},
		People:        struct{ store.AccountReader }{},
		Preferences:   struct{ store.ArchivePreferenceReader }{},
		Login:         func(context.Context, Login) (token.Pair, error) { return token.Pair{}, ErrLogin },
		StanzaID:      func(id uint64) string { return fmt.Sprint(id) },
		ParseStanzaID: func(string) (uint64, bool) { return 1, true },
	}
	for _, f := range change {
		f(&c)
	}
	a, err := New(c)
	require.NoError(t, err)
	return a
}

func ask(a *API, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, path, in)
	r.Header.Set("Authorization", "Bearer x")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w
}

func codeOf(t *testing.T, w *httptest.ResponseRecorder) Code {
	t.Helper()
	var p Problem
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p), w.Body.String())
	require.Equal(t, w.Code, p.Status)
	require.Equal(t, w.Header().Get("X-Request-Id"), p.RequestID)
	return p.Code
}

const hello = `{"client_id":"1","to":"juliet@montague.lit","content":{"kind":"text","text":"Hello"}}`

// TestErrors: every error of what stands behind the API becomes its own problem, and says nothing of the inside.
func TestErrors(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
		code   Code
	}{
		{token.ErrExpired, 401, CodeTokenExpired},
		{token.ErrRevoked, 401, CodeTokenRevoked},
		{fmt.Errorf("wrapped: %w", token.ErrInvalid), 401, CodeTokenInvalid},
		{inbox.ErrCursor, 400, CodeInvalidCursor},
		{inbox.ErrStartOver, 410, CodeStartOver},
		{store.ErrNotFound, 404, CodeNotFound},
		{uplink.ErrBusy, 503, CodeBusy},
		{context.DeadlineExceeded, 504, CodeUnknownOutcome},
		{errors.New("secret of the inside"), 500, CodeInternal},
		{stanza.Refuse(stanza.Conflict, ""), 409, CodeConflict},
		{stanza.Refuse(stanza.ServiceUnavailable, ""), 404, CodeNoAddress},
		{stanza.Refuse(stanza.RemoteServerNotFound, ""), 404, CodeNoAddress},
		{stanza.Refuse(stanza.ItemNotFound, ""), 404, CodeNotFound},
		{stanza.Refuse(stanza.NotAllowed, ""), 403, CodeForbidden},
		{stanza.Refuse(stanza.BadRequest, ""), 400, CodeBadRequest},
		{&stanza.Error{Type: stanza.Wait, Condition: stanza.ResourceConstraint}, 503, CodeBusy},
		{&stanza.Error{Type: stanza.Wait, Condition: stanza.InternalServerError}, 503, CodeBusy},
		{stanza.Refuse(stanza.UndefinedCondition, ""), 500, CodeInternal},
	} {
		a := newAPI(t, &stub{check: romeo, send: func() (calls.Receipt, error) { return calls.Receipt{}, test.err }})
		w := ask(a, "POST", "/v1/messages", hello)
		require.Equal(t, test.status, w.Code, test.err)
		require.Equal(t, test.code, codeOf(t, w), test.err)
		require.NotContains(t, w.Body.String(), "inside")
		if test.status == 503 {
			require.NotEmpty(t, w.Header().Get("Retry-After"))
		}
		if test.status == 401 {
			require.Equal(t, `Bearer error="invalid_token"`, w.Header().Get("WWW-Authenticate"))
		}
		// And the same from what checks tokens.
		a = newAPI(t, &stub{check: func() (*token.Principal, error) { return nil, test.err }})
		require.Equal(t, test.code, codeOf(t, ask(a, "GET", "/v1/profile", "")))
	}
}

// TestPanic: a handler that panics is a problem with status 500, and the next request is answered.
func TestPanic(t *testing.T) {
	a := newAPI(t, &stub{check: romeo, sync: func(string) (inbox.Page, error) { panic("oops") }})
	for range 2 {
		w := ask(a, "GET", "/v1/sync", "")
		require.Equal(t, 500, w.Code)
		require.Equal(t, CodeInternal, codeOf(t, w))
		require.NotContains(t, w.Body.String(), "oops")
	}
	w := ask(a, "GET", "/v1/profile", "") // which gathers its answer for the ETag
	require.Equal(t, CodeInternal, codeOf(t, w))
}

// TestWait: who waits for news gets it when there is some, an empty page when the time is over, and is let go when the
// node stops; and only so many wait.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		news := false
		s := &stub{check: romeo, watch: make(chan struct{}, 1)}
		s.sync = func(cursor string) (inbox.Page, error) {
			p := inbox.Page{Cursor: cursor + "+"}
			if news {
				p.Removed = []jid.JID{jid.MustParse("tybalt@capulet.lit")}
			}
			return p, nil
		}
		a := newAPI(t, s, func(c *Config) { c.Waits = 2 })
		began := time.Now()
		w := ask(a, "GET", "/v1/sync?cursor=c&wait=10", "")
		require.Equal(t, 200, w.Code, w.Body.String())
		require.Equal(t, 10*time.Second, time.Since(began))

		answers := make(chan *httptest.ResponseRecorder)
		wait := func() { answers <- ask(a, "GET", "/v1/sync?cursor=c&wait=50", "") }
		go wait()
		synctest.Wait()
		news = true
		s.watch <- struct{}{}
		require.Contains(t, (<-answers).Body.String(), "tybalt@capulet.lit")

		news = false
		go wait()
		go wait()
		synctest.Wait()
		require.Equal(t, CodeRateLimited, codeOf(t, ask(a, "GET", "/v1/sync?cursor=c&wait=50", "")))
		a.Stop()
		a.Stop()
		for range 2 {
			require.Equal(t, 200, (<-answers).Code)
		}
		require.Empty(t, a.waiting)
	})
}

// TestTurns: large answers take one of the account's turns until they are written; one that waits for news has none
// meanwhile. Without a turn, the client is told when to come back.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := limit.NewTurns[uint64](1, 1, 2*time.Second)
		s := &stub{check: romeo, watch: make(chan struct{}, 1), list: some()}
		s.sync = func(string) (inbox.Page, error) {
			require.Equal(t, 1, turns.Keys())
			return inbox.Page{Cursor: "c"}, nil
		}
		a := newAPI(t, s, func(c *Config) { c.Turn = turns.Enter })
		for _, path := range []string{"/v1/conversations", "/v1/sync", "/v1/sync?wait=3"} {
			require.Equal(t, 200, ask(a, "GET", path, "").Code)
			require.Zero(t, turns.Keys(), path)
		}
		answers := make(chan *httptest.ResponseRecorder)
		go func() { answers <- ask(a, "GET", "/v1/sync?wait=50", "") }()
		synctest.Wait()
		require.Zero(t, turns.Keys(), "it waits for news")

		leave, ok := turns.Enter(t.Context(), 1)
		require.True(t, ok)
		for _, path := range []string{"/v1/conversations", "/v1/conversations/tybalt@montague.lit/messages", "/v1/sync",
			"/v1/sync?wait=3", "/v1/roster", "/v1/presence"} {
			began := time.Now()
			w := ask(a, "GET", path, "")
			require.Equal(t, CodeRateLimited, codeOf(t, w), path)
			require.Equal(t, "2", w.Header().Get("Retry-After"))
			require.Equal(t, 2*time.Second, time.Since(began))
		}
		leave()
		require.Equal(t, 200, (<-answers).Code)
		require.Zero(t, turns.Keys())
	})
}

// some are a conversation of two, a room and a conversation without messages.
func some() []inbox.Conversation {
	last := &store.Message{ID: 9, Conversation: 1, Seq: 3,
		Author: store.Party{JID: jid.MustParse("juliet@montague.lit"), Account: 2},
		Stanza: []byte("<message xmlns='jabber:client' id='a'/>")}
	said := *last
	said.Conversation, said.ID = 2, 10
	return []inbox.Conversation{
		{
			Conversation: store.Conversation{
				ID: 1, Kind: store.Direct, With: last.Author, Last: 9, LastSeq: 3,
				Own: store.ReadMarkers{Delivered: 2, Read: 1}, Peer: store.ReadMarkers{Delivered: 1},
			},
			LastMessage: last,
		},
		{Conversation: store.Conversation{ID: 2, Kind: store.Room, Room: jid.MustParse("hall@rooms.montague.lit"),
			Last: 10, LastSeq: 3}, LastMessage: &said},
		{
			Conversation: store.Conversation{Kind: store.Direct,
				With: store.Party{JID: jid.MustParse("nurse@montague.lit"), Account: 3}},
			Settings: store.ConversationSettings{With: "nurse@montague.lit", Pinned: true},
		},
	}
}

// TestConversations: what is shown of each kind, and where a page begins.
func TestConversations(t *testing.T) {
	s := &stub{check: romeo, list: some(), next: inbox.Position{Chosen: 7}}
	a := newAPI(t, s)
	w := ask(a, "GET", "/v1/conversations?before=.8", "")
	require.Equal(t, 200, w.Code, w.Body.String())
	require.Equal(t, inbox.Position{Chosen: 8}, s.from)
	var out Conversations
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out))
	require.Equal(t, ".7", out.Next)
	require.Len(t, out.Conversations, 3)
	direct, room, quiet := out.Conversations[0], out.Conversations[1], out.Conversations[2]
	require.Equal(t, "juliet@montague.lit direct 3", fmt.Sprint(direct.With, " ", direct.Kind, " ", direct.LastNumber))
	require.Equal(t, ReadMarkers{Delivered: 2, Read: 1}, direct.Own)
	require.Equal(t, ReadMarkers{Delivered: 1}, direct.Peer)
	require.Equal(t, "juliet@montague.lit juliet@montague.lit romeo@montague.lit", direct.LastMessage.Conversation+" "+
		direct.LastMessage.From+" "+direct.LastMessage.To)
	require.Equal(t, "hall@rooms.montague.lit room", room.With+" "+room.Kind)
	require.Equal(t, "hall@rooms.montague.lit juliet@montague.lit hall@rooms.montague.lit",
		room.LastMessage.Conversation+" "+room.LastMessage.From+" "+room.LastMessage.To)
	require.Equal(t, Conversation{With: "nurse@montague.lit", Kind: "direct", Pinned: true}, quiet)
	w = ask(a, "GET", "/v1/conversations?before=.x", "")
	require.Equal(t, CodeInvalidCursor, codeOf(t, w))
	// The same in a sync.
	s.sync = func(string) (inbox.Page, error) {
		p := inbox.Page{Conversations: some()}
		for i := range p.Conversations[:2] {
			p.Messages = append(p.Messages, *p.Conversations[i].LastMessage)
			p.Conversations[i].LastMessage = nil
		}
		return p, nil
	}
	var changes Changes
	w = ask(a, "GET", "/v1/sync", "")
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &changes))
	require.Equal(t, []Message{*direct.LastMessage, *room.LastMessage}, changes.Messages)
	require.Equal(t, quiet, changes.Conversations[2])
}

// TestMarkers: a marker goes down as the number that was given.
func TestMarkers(t *testing.T) {
	s := &stub{check: romeo, list: some(), send: func() (calls.Receipt, error) { return calls.Receipt{}, nil }}
	a := newAPI(t, s)
	for _, test := range []struct{ path, body, want string }{
		{"juliet@montague.lit/read", `{"number":1}`,
			"juliet@montague.lit chat <read xmlns='urn:posthouse:marker:1' number='1'/>"},
		{"juliet@montague.lit/delivered", `{"number":9007199254740991}`,
			"juliet@montague.lit chat <delivered xmlns='urn:posthouse:marker:1' number='9007199254740991'/>"},
		{"hall@rooms.montague.lit/read", `{"number":2}`,
			"hall@rooms.montague.lit chat <read xmlns='urn:posthouse:marker:1' number='2'/>"},
		{"nurse@montague.lit/read", `{"number":2}`, ""}, // nothing was said there
	} {
		s.sent = nil
		w := ask(a, "PUT", "/v1/conversations/"+test.path, test.body)
		require.Equal(t, 204, w.Code, w.Body.String())
		var sent []string
		for _, m := range s.sent {
			text := string(xmlstream.Marshal(nil, &stanza.Stanza{Kind: stanza.Message, Payload: m.Payload}))
			text = strings.TrimSuffix(strings.TrimPrefix(text, "<message xmlns='jabber:client'>"), "</message>")
			sent = append(sent, m.To.String()+" "+m.Type+" "+text)
		}
		require.Equal(t, test.want, strings.Join(sent, "|"))
	}
	require.Equal(t, CodeNotFound,
		codeOf(t, ask(a, "PUT", "/v1/conversations/nobody@montague.lit/read", `{"number":1}`)))
	for _, body := range []string{`{"number":0}`, `{}`, `{"number":-1}`, `{"number":9007199254740992}`} {
		require.Equal(t, 400, ask(a, "PUT", "/v1/conversations/juliet@montague.lit/read", body).Code, body)
	}
}

// TestLimiter: so many at once, then one every period; keys do not concern each other, and there are not more of them
// than there may be.
func TestLimiter(t *testing.T) {
	now := time.Unix(1000, 0)
	c := &Config{Now: func() time.Time { return now }}
	l := limiter[string](c, 2, 3)
	for range 3 {
		require.Zero(t, l.Take("a", 1))
	}
	require.Equal(t, 1, limited(l.Take("a", 1)).Retry)
	require.Zero(t, l.Take("b", 1))
	now = now.Add(500 * time.Millisecond)
	require.Nil(t, limited(l.Take("a", 1)))
	require.NotZero(t, l.Take("a", 1))
	require.Zero(t, limiter[string](c, -1, 0).Take("a", 1))
	slow := limiter[string](c, 0.1, 1)
	require.Zero(t, slow.Take("a", 1))
	require.Equal(t, 10, limited(slow.Take("a", 1)).Retry, "Retry-After is long enough")
	for i := range 2 * limit.DefaultBound {
		l.Take(fmt.Sprint(i), 1)
	}
	require.LessOrEqual(t, l.Len(), limit.DefaultBound)
}

// TestLoginInTheClear: passwords are taken over TLS, and on the machine itself.
func TestLoginInTheClear(t *testing.T) {
	for _, test := range []struct {
		client string
		secure bool
		code   Code
	}{
		{"192.0.2.1:1", false, CodeInsecure}, {"192.0.2.1:1", true, CodeLoginFailed},
		{"127.0.0.1:1", false, CodeLoginFailed}, {"[::1]:1", false, CodeLoginFailed},
	} {
		a := newAPI(t, &stub{}, func(c *Config) {
			c.Client = func(*http.Request) netip.AddrPort { return netip.MustParseAddrPort(test.client) }
			c.Secure = func(*http.Request) bool { return test.secure }
		})
		require.Equal(t, test.code, codeOf(t,
			ask(a, "POST", "/v1/token", `{"grant_type":"password","username":"romeo","password":"x"}`)), test)
	}
	a := newAPI(t, &stub{}, func(c *Config) {
		c.Secure = func(*http.Request) bool { return true }
		c.Login = func(context.Context, Login) (token.Pair, error) { return token.Pair{}, ErrThrottled }
	})
	w := ask(a, "POST", "/v1/token", `{"grant_type":"password","username":"romeo","password":"x"}`)
	require.Equal(t, CodeRateLimited, codeOf(t, w))
	require.NotEmpty(t, w.Header().Get("Retry-After"))
}

// TestPaths: a path that is not in canonical form is nobody's.
func TestPaths(t *testing.T) {
	a := newAPI(t, &stub{check: romeo})
	for _, path := range []string{
		"/v1//profile", "/v1/./profile", "/v1/x/../profile", "/v1/profile/", "/v1/%2e%2e/v1/profile", "/v1/%2e/profile",
		"/v1%2fprofile", "/v1/messages/a%2fb",
		"/v1/messages/a%5cb", "/v1/messages/%00", "/v1/profile%00", "/v1/profile;x=y", "/v1/PROFILE", "/v1", "/v1/",
		"/v1/messages/", "/v1/conversations//messages",
	} {
		r := httptest.NewRequest("GET", "http://h/v1/x", nil)
		u, err := r.URL.Parse("http://h" + path)
		require.NoError(t, err, path)
		if strings.Contains(path, "..") && !strings.Contains(path, "%") {
			u.Path = path // Parse has resolved it
		}
		r.URL = u
		if strings.Contains(path, "//") || strings.Contains(path, "/./") {
			u.Path = path
		}
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		require.Equal(t, 404, w.Code, path)
		require.Equal(t, CodeNotFound, codeOf(t, w), path)
	}
}

// FuzzJSON: what passes the check is what encoding/json reads, without names that come twice.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{hello, `{"a":1,"a":2}`, `[[[]]]`, `{"a":"\u0000"}`, `1e400`,
		`{"a":{"b":[1,{"c":null}]}} `, "\xff", `{}{}`, `{"a":1,"A":2}`, `{"a":1,"\u0061":2}`,
		`["\ud83d","\ud83d\ude00"]`, `{"a":"\\ud83d\n"}`, `[ true , -1.5e3 , "" , { } , [ ] ]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if checkJSON(text) != nil {
			return
		}
		var v any
		require.NoError(t, json.Unmarshal(text, &v))
		again, err := json.Marshal(v)
		require.NoError(t, err)
		require.Nil(t, checkJSON(again))
		// Nothing was replaced: U+FFFD comes from where it was written.
		if !bytes.Contains(text, []byte("\uFFFD")) && !bytes.Contains(bytes.ToLower(text), []byte(`\ufffd`)) {
			require.NotContains(t, string(again), "\uFFFD")
		}
	})
}

// TestHalfPairs: half a surrogate pair is refused wherever a string stands; encoding/json would make U+FFFD of it.
func TestHalfPairs(t *testing.T) {
	for _, text := range []string{
		`"\ud83d"`, `"\ude00"`, `"\ud83d\ud83d\ude00"`, `"\ud83d\ude00\ude00"`, `"\ud83dx\ude00"`, `"\ud83d\n\ude00"`,
		`"\uD83D\\ude00"`, `{"client_id":"\ud83d"}`, `[["\udfff"]]`, `{"\ud83d":1}`,
	} {
		require.NotNil(t, checkJSON([]byte(text)), text)
	}
	for _, text := range []string{`"\ud83d\ude00"`, `"\uD83D\uDE00\ud83d\ude00"`, `"\\ud83d"`, `"\\\ud83d\ude00\n"`, `"\uFFFD"`} {
		require.Nil(t, checkJSON([]byte(text)), text)
	}
}

// pages are documents, which the document that tells of all else does not tell of.
var pages = []string{"/v1/openapi.json", "/v1/docs", "/v1/compact/dictionary.json", "/v1/compact/vectors.json"}

// TestPages: a document is served to anybody, and not once more to whoever has it.
func TestPages(t *testing.T) {
	a := newAPI(t, &stub{check: romeo})
	for _, path := range pages {
		first := ask(a, "GET", path, "")
		require.Equal(t, http.StatusOK, first.Code, path)
		require.NotEmpty(t, first.Body.String(), path)
		require.Equal(t, "no-cache", first.Header().Get("Cache-Control"), path)
		require.NotEmpty(t, first.Header().Get("ETag"), path)
		again := ask(a, "GET", path, "", "If-None-Match", first.Header().Get("ETag"))
		require.Equal(t, http.StatusNotModified, again.Code, path)
		require.Empty(t, again.Body.String(), path)
	}
	for path, want := range map[string]string{pages[2]: pbstream.Dictionary(), pages[3]: pbstream.Vectors()} {
		w := ask(a, "GET", path, "")
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		require.Equal(t, want, w.Body.String())
		require.True(t, json.Valid(w.Body.Bytes()))
	}
}

// TestDocument: what the API serves as its document names every route, and every problem has a row in the reference.
func TestDocument(t *testing.T) {
	a := newAPI(t, &stub{check: romeo})
	w := ask(a, "GET", "/v1/openapi.json", "")
	require.Equal(t, 200, w.Code)
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]any
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &doc))
	require.Equal(t, "3.1.0", doc.OpenAPI)
	for path, methods := range a.routes {
		if slices.Contains(pages, path) {
			continue
		}
		methods = slices.DeleteFunc(slices.Clone(methods), func(m string) bool { return m == http.MethodHead })
		require.Len(t, doc.Paths[path], len(methods), path)
	}
	page := ask(a, "GET", "/v1/docs", "")
	require.Equal(t, http.StatusOK, page.Code)
	require.NotContains(t, page.Body.String(), "<script")
	require.Contains(t, page.Header().Get("Content-Security-Policy"), "default-src 'none'")
	for _, m := range meanings {
		require.Contains(t, page.Body.String(), string(m.code))
		require.NotEmpty(t, http.StatusText(m.status))
	}
	require.Contains(t, page.Body.String(), "/v1/conversations/{jid}/messages")
}
