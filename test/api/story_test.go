package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/script"
)

func text(s string) map[string]any { return map[string]any{"kind": "text", "text": s} }

// TestConversation: what two people do to a conversation is seen by both, with the same numbers.
func TestConversation(t *testing.T) {
	w := open(t, []string{"romeo", "juliet"})
	var ids []string
	for i := range 5 {
		r := w.say("romeo", "juliet", fmt.Sprint("m", i), fmt.Sprint("message ", i+1))
		require.EqualValues(t, i+1, r.at("number"), r.text)
		ids = append(ids, r.at("id").(string))
	}
	c := w.ask("juliet", "GET", "/v1/conversations/romeo@localhost", nil)
	require.EqualValues(t, 5, c.at("unread"), c.text)
	require.EqualValues(t, 5, c.at("last_number"))
	require.Equal(t, "message 5", c.at("last_message", "content", "text"))

	// History in both directions, by number and by time.
	numbers := func(query string) (found []int) {
		r := w.ask("juliet", "GET", "/v1/conversations/romeo@localhost/messages?"+query, nil)
		require.Equal(t, 200, r.status, r.text)
		for _, m := range r.at("messages").([]any) {
			found = append(found, int(m.(map[string]any)["number"].(float64)))
		}
		return found
	}
	require.Equal(t, []int{4, 5}, numbers("limit=2"))
	require.Equal(t, []int{1, 2}, numbers("limit=2&order=oldest"))
	require.Equal(t, []int{3, 4, 5}, numbers("after=2"))
	require.Equal(t, []int{1, 2}, numbers("before=3"))
	require.Equal(t, []int{3}, numbers("after=2&before=4"))
	require.Empty(t, numbers("after=5"))
	require.Empty(t, numbers("until=2020-01-01T00:00:00Z"))
	require.Equal(t, []int{1, 2, 3, 4, 5}, numbers("from=2020-01-01T00:00:00Z"))

	// Markers move forward only. They are no messages: nothing gets a number, and the conversation says what it said.
	cursor := w.ask("romeo", "GET", "/v1/sync", nil).at("cursor").(string)
	mark := func(what string, number int) {
		t.Helper()
		require.Equal(t, 204, w.ask("juliet", "PUT", "/v1/conversations/romeo@localhost/"+what,
			map[string]any{"number": number}).status)
	}
	state := func(who, with string) *reply { return w.ask(who, "GET", "/v1/conversations/"+with+"@localhost", nil) }
	mark("delivered", 5)
	mark("read", 3)
	require.EqualValues(t, 3, state("juliet", "romeo").at("own", "read"))
	require.EqualValues(t, 2, state("juliet", "romeo").at("unread"))
	require.EqualValues(t, 5, state("romeo", "juliet").at("peer", "delivered"))
	require.EqualValues(t, 3, state("romeo", "juliet").at("peer", "read"))
	mark("read", 1)
	require.EqualValues(t, 3, state("romeo", "juliet").at("peer", "read"))
	mark("read", 4)
	told := w.ask("romeo", "GET", "/v1/sync?cursor="+url.QueryEscape(cursor), nil)
	require.Empty(t, told.at("messages"), told.text)
	require.Len(t, told.at("conversations"), 1, told.text)
	require.EqualValues(t, 4, told.at("conversations", 0, "peer", "read"))
	again := w.ask("romeo", "GET", "/v1/sync?cursor="+url.QueryEscape(told.at("cursor").(string)), nil)
	require.Empty(t, again.at("conversations"), again.text)
	mark("read", 99999)
	c = state("juliet", "romeo")
	require.EqualValues(t, 0, c.at("unread"))
	require.EqualValues(t, 5, c.at("own", "read"), "beyond the last it is taken for the last")
	require.EqualValues(t, 5, c.at("last_number"))
	require.Equal(t, ids[4], c.at("last_message", "id"))
	require.Equal(t, []int{1, 2, 3, 4, 5}, numbers("limit=50"))

	// Edit and retract, each with a number of its own.
	edit := w.ask("romeo", "PUT", "/v1/messages/"+ids[4],
		map[string]any{"client_id": "e1", "content": text("message five")})
	require.Equal(t, 200, edit.status, edit.text)
	m := w.ask("juliet", "GET", "/v1/messages/"+edit.at("id").(string), nil)
	require.Equal(t, "edit", m.at("content", "kind"), m.text)
	require.Equal(t, "m4", m.at("content", "target"))
	retracted := w.ask("romeo", "DELETE", "/v1/messages/"+ids[3], nil)
	require.Equal(t, 200, retracted.status, retracted.text)
	require.Greater(t, retracted.at("number"), edit.at("number"))
	require.EqualValues(t, 7, retracted.at("number"), "markers have taken no numbers")
	again = w.ask("romeo", "DELETE", "/v1/messages/"+ids[3], nil)
	require.Equal(t, retracted.at("id"), again.at("id"), "repeating it has one effect")
	gone := w.ask("juliet", "GET", "/v1/messages/"+ids[3], nil)
	require.Equal(t, "retracted", gone.at("content", "kind"), gone.text)
	require.NotContains(t, gone.text, "message 4")

	// Typing is not stored; settings are one's own.
	before := w.ask("juliet", "GET", "/v1/sync", nil).at("cursor").(string)
	require.Equal(t, 204, w.ask("romeo", "POST", "/v1/conversations/juliet@localhost/typing",
		map[string]any{"composing": true}).status)
	require.Empty(t, w.ask("juliet", "GET", "/v1/sync?cursor="+url.QueryEscape(before), nil).at("messages"))
	set := w.ask("juliet", "PUT", "/v1/conversations/romeo@localhost/settings",
		map[string]any{"pinned": true, "muted_until": "9999-01-01T00:00:00Z"})
	require.Equal(t, 204, set.status, set.text)
	list := w.ask("juliet", "GET", "/v1/conversations", nil)
	require.Equal(t, true, list.at("conversations", 0, "pinned"), list.text)
	require.Equal(t, "9999-01-01T00:00:00.000Z", list.at("conversations", 0, "muted_until"))
	require.Equal(t, false, state("romeo", "juliet").at("pinned"))
	changed := w.ask("juliet", "GET", "/v1/sync?cursor="+url.QueryEscape(before), nil)
	require.Equal(t, true, changed.at("conversations", 0, "pinned"), changed.text)

	// An answer that one has is not sent again.
	r := w.request("juliet", "GET", "/v1/conversations", nil)
	r.Header.Set("If-None-Match", list.header.Get("ETag"))
	same := w.do(r)
	require.Equal(t, http.StatusNotModified, same.status)
	require.Empty(t, same.text)
}

// TestMarkersNameNumbers: a marker is set through the number that it names, whatever ids the messages have, and moves
// no conversation.
func TestMarkersNameNumbers(t *testing.T) {
	w := open(t, []string{"romeo", "juliet", "nurse"})
	romeo, err := script.Connect(t.Context(), w.Endpoints(), script.TCP, "romeo", password)
	require.NoError(t, err)
	require.NoError(t, romeo.Bind("orchard"))
	for range 3 {
		require.NoError(
			t, romeo.Write("<message to='juliet@localhost' type='chat' id='same'><body>hello</body></message>"))
	}
	_, err = romeo.Barrier("b")
	require.NoError(t, err)
	require.NoError(t, romeo.Leave())
	require.Equal(t, 200, w.say("nurse", "juliet", "n", "come").status)
	for number := 1; number <= 3; number++ {
		require.Equal(t, 204, w.ask("juliet", "PUT", "/v1/conversations/romeo@localhost/read",
			map[string]any{"number": number}).status)
		c := w.ask("juliet", "GET", "/v1/conversations/romeo@localhost", nil)
		require.EqualValues(t, number, c.at("own", "read"), c.text)
		require.EqualValues(t, 3-number, c.at("unread"), c.text)
		list := w.ask("juliet", "GET", "/v1/conversations", nil)
		require.Equal(t, "nurse@localhost", list.at("conversations", 0, "with"), list.text)
		require.Equal(t, "romeo@localhost", list.at("conversations", 1, "with"), list.text)
		require.Equal(t, "direct", list.at("conversations", 1, "kind"))
		require.EqualValues(t, 3, list.at("conversations", 1, "last_message", "number"))
	}
	require.Equal(t, 204, w.ask("romeo", "PUT", "/v1/conversations/juliet@localhost/read",
		map[string]any{"number": 3}).status, "one's own")
	w.ask("juliet", "PUT", "/v1/conversations/nobody@localhost/read", map[string]any{"number": 1}).refused(404,
		"not_found")
}

// TestShareRead: who does not share how far they have read tells their own devices only.
func TestShareRead(t *testing.T) {
	w := open(t, []string{"romeo", "juliet"})
	require.Equal(t, true, w.ask("juliet", "GET", "/v1/preferences", nil).at("share_read"))
	require.Equal(t, 204, w.ask("juliet", "PUT", "/v1/preferences", map[string]any{"share_read": false}).status)
	require.Equal(t, false, w.ask("juliet", "GET", "/v1/preferences", nil).at("share_read"))
	require.Equal(t, 200, w.say("romeo", "juliet", "m", "hello").status)
	cursor := w.ask("romeo", "GET", "/v1/sync", nil).at("cursor").(string)
	mine := w.ask("juliet", "GET", "/v1/sync", nil).at("cursor").(string)
	require.Equal(t, 204, w.ask("juliet", "PUT", "/v1/conversations/romeo@localhost/read",
		map[string]any{"number": 1}).status)
	require.Empty(t, w.ask("romeo", "GET", "/v1/sync?cursor="+url.QueryEscape(cursor), nil).at("conversations"))
	require.EqualValues(t, 0, w.ask("romeo", "GET", "/v1/conversations/juliet@localhost", nil).at("peer", "read"))
	changed := w.ask("juliet", "GET", "/v1/sync?cursor="+url.QueryEscape(mine), nil)
	require.EqualValues(t, 1, changed.at("conversations", 0, "own", "read"), changed.text)
	require.EqualValues(t, 0, changed.at("conversations", 0, "unread"))
}

// TestQuietConversations: somebody to whom nothing was said yet is there, and what was chosen for the conversation is
// said of it everywhere.
func TestQuietConversations(t *testing.T) {
	w := open(t, []string{"romeo", "juliet", "nurse"})
	cursor := w.ask("romeo", "GET", "/v1/sync", nil).at("cursor").(string)
	c := w.ask("romeo", "GET", "/v1/conversations/juliet@localhost", nil)
	require.Equal(t, 200, c.status, c.text)
	require.EqualValues(t, 0, c.at("last_number"))
	require.NotContains(t, c.text, "last_message")
	history := w.ask("romeo", "GET", "/v1/conversations/juliet@localhost/messages", nil)
	require.Equal(t, 200, history.status)
	require.Empty(t, history.at("messages"))
	require.Equal(t, 204, w.ask("romeo", "PUT", "/v1/conversations/juliet@localhost/read",
		map[string]any{"number": 1}).status, "there is nothing to mark")
	for _, path := range []string{"", "/messages"} {
		w.ask("romeo", "GET", "/v1/conversations/nobody@localhost"+path, nil).refused(404, "not_found")
	}
	require.Empty(t, w.ask("romeo", "GET", "/v1/conversations", nil).at("conversations"))

	require.Equal(t, 204, w.ask("romeo", "PUT", "/v1/conversations/juliet@localhost/settings",
		map[string]any{"pinned": true}).status)
	w.say("romeo", "nurse", "n", "Where is she?")
	list := w.ask("romeo", "GET", "/v1/conversations?limit=1", nil)
	require.Equal(t, "nurse@localhost", list.at("conversations", 0, "with"), list.text)
	list = w.ask("romeo", "GET", "/v1/conversations?limit=1&before="+url.QueryEscape(list.at("next").(string)), nil)
	want := w.ask("romeo", "GET", "/v1/conversations/juliet@localhost", nil).object()
	require.Equal(t, true, want["pinned"])
	require.Equal(t, want, list.at("conversations", 0))
	require.NotContains(t, list.text, "next")
	for _, query := range []string{"", "?cursor=" + url.QueryEscape(cursor)} {
		page := w.ask("romeo", "GET", "/v1/sync"+query, nil)
		require.Equal(t, want, page.at("conversations", 1), page.text)
	}
}

// TestKinds: every kind of content comes out as it went in.
func TestKinds(t *testing.T) {
	w := open(t, []string{"romeo", "juliet"})
	first := w.say("romeo", "juliet", "first", "To answer.")
	for i, c := range []map[string]any{
		{"kind": "text", "text": "@juliet look",
			"mentions": []any{map[string]any{"jid": "juliet@localhost", "begin": 0, "end": 7}}},
		{"kind": "text", "text": "Yes.", "reply_to": map[string]any{"id": "first", "to": "romeo@localhost"}},
		{"kind": "image", "attachment": map[string]any{"url": "https://example.org/a.png", "name": "a.png",
			"type": "image/png", "size": 10}},
		{"kind": "location", "location": map[string]any{"latitude": 45.4, "longitude": 11.0}},
		{"kind": "code", "text": "fmt.Println()", "language": "go"},
		{"kind": "card", "card": map[string]any{"title": "A card", "url": "https://example.org/"}},
		{"kind": "custom", "text": "An order",
			"custom": map[string]any{"type": "com.example.order", "data": `{"n":1}`}},
		{"kind": "reaction", "target": "first", "reactions": []any{"👍"}},
	} {
		r := w.ask("juliet", "POST", "/v1/messages",
			map[string]any{"client_id": fmt.Sprint("k", i), "to": "romeo@localhost", "content": c})
		require.Equal(t, 200, r.status, r.text)
		m := w.ask("romeo", "GET", "/v1/messages/"+r.at("id").(string), nil)
		require.Equal(t, c["kind"], m.at("content", "kind"), m.text)
		for name, want := range c {
			if name != "mentions" && name != "attachment" && name != "location" {
				require.Equal(t, want, m.at("content", name), "%s: %s", c["kind"], m.text)
			}
		}
	}
	for _, bad := range []map[string]any{
		{"kind": "text"}, {"kind": "text", "text": "x", "location": map[string]any{"latitude": 1, "longitude": 1}},
		{"kind": "image"}, {"kind": "poem", "text": "x"},
		{"kind": "image", "attachment": map[string]any{"url": "javascript:alert(1)"}},
		{"kind": "read", "target": "first"}, {"kind": "typing"}, {"kind": "retract", "target": "first"},
		{"kind": "text", "text": "\u0001"},
	} {
		r := w.ask("juliet", "POST", "/v1/messages",
			map[string]any{"client_id": "bad", "to": "romeo@localhost", "content": bad})
		r.refused(400, "invalid_field")
		require.Contains(t, r.text, "body.content")
	}
	require.Equal(t, 200, first.status)
}

// TestNews: who waits for news gets it when it is there; a cursor that is none is told apart from one that is too old.
func TestNews(t *testing.T) {
	w := open(t, []string{"romeo", "juliet"})
	cursor := w.ask("juliet", "GET", "/v1/sync", nil).at("cursor").(string)
	answer := make(chan *reply, 1)
	r := w.request("juliet", "GET", "/v1/sync?wait=50&cursor="+url.QueryEscape(cursor), nil)
	began := time.Now()
	var waiting sync.WaitGroup
	waiting.Go(func() { answer <- w.do(r) })
	require.Eventually(t, func() bool { return w.metric("posthouse_api_waiting") == 1 }, 10*time.Second,
		5*time.Millisecond)
	sent := w.say("romeo", "juliet", "n1", "News!")
	news := <-answer
	waiting.Wait()
	require.Less(t, time.Since(began), 30*time.Second)
	require.Equal(t, sent.at("id"), news.at("messages", 0, "id"), news.text)
	require.Equal(t, "romeo@localhost", news.at("conversations", 0, "with"))
	cursor = news.at("cursor").(string)
	empty := w.ask("juliet", "GET", "/v1/sync?wait=1&cursor="+url.QueryEscape(cursor), nil)
	require.Empty(t, empty.at("messages"))
	w.ask("juliet", "GET", "/v1/sync?cursor=nonsense", nil).refused(400, "invalid_cursor")
	w.ask("romeo", "GET", "/v1/sync?cursor="+url.QueryEscape(cursor), nil).refused(400, "invalid_cursor")
}

// TestDuplicates: of many who send the same message at once, one stores it, and all get the same answer.
func TestDuplicates(t *testing.T) {
	w := open(t, []string{"romeo", "juliet"})
	const many = 30
	answers := make([]*reply, many)
	requests := make([]*http.Request, many)
	for i := range requests {
		requests[i] = w.request("romeo", "POST", "/v1/messages",
			map[string]any{"client_id": "once", "to": "juliet@localhost", "content": text("Once.")})
	}
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = w.do(requests[i]) })
	}
	all.Wait()
	first := 0
	for _, a := range answers {
		require.Equal(t, 200, a.status, a.text)
		require.Equal(t, answers[0].at("id"), a.at("id"))
		require.EqualValues(t, 1, a.at("number"))
		if a.at("duplicate") == false {
			first++
		}
	}
	require.Equal(t, 1, first)
	require.Len(t, w.ask("juliet", "GET", "/v1/conversations/romeo@localhost/messages", nil).at("messages"), 1)
}

// TestPeople: contacts, profiles and presence.
func TestPeople(t *testing.T) {
	w := open(t, []string{"romeo", "juliet", "nurse"})
	require.Equal(t, 204, w.ask("juliet", "PUT", "/v1/profile",
		map[string]any{"name": "Juliet Capulet", "title": "Daughter"}).status)
	own := w.ask("juliet", "GET", "/v1/profile", nil)
	require.Equal(t, "Juliet Capulet", own.at("name"), own.text)
	require.NotEmpty(t, own.header.Get("ETag"))
	found := w.ask("romeo", "GET", "/v1/directory?q=capu", nil)
	require.Equal(t, "juliet@localhost", found.at("profiles", 0, "jid"), found.text)
	both := w.ask(
		"romeo", "GET", "/v1/profiles?jid=juliet@localhost&jid=romeo@localhost&jid=nobody@localhost&jid=a@elsewhere",
		nil)
	require.Len(t, both.at("profiles"), 2, both.text)

	set := w.ask("romeo", "PUT", "/v1/roster/juliet@localhost",
		map[string]any{"name": "My lady", "groups": []string{"Love"}, "subscribe": true})
	require.Equal(t, 204, set.status, set.text)
	roster := w.ask("romeo", "GET", "/v1/roster", nil)
	require.Equal(t, "My lady", roster.at("contacts", 0, "name"), roster.text)
	require.Equal(t, true, roster.at("contacts", 0, "asked"))
	require.Equal(t, true, w.ask("juliet", "GET", "/v1/roster", nil).at("contacts", 0, "asks"))
	require.Equal(t, 204, w.ask("juliet", "PUT", "/v1/roster/romeo@localhost", map[string]any{"approve": true}).status)
	require.Equal(t, "to", w.ask("romeo", "GET", "/v1/roster", nil).at("contacts", 0, "subscription"))
	for _, path := range []string{"/v1/presence", "/v1/presence?jid=juliet@localhost"} {
		r := w.ask("romeo", "GET", path, nil)
		require.Equal(t, "juliet@localhost", r.at("presence", 0, "jid"), r.text)
		require.Equal(t, false, r.at("presence", 0, "online"))
	}
	snapshot := w.ask("romeo", "GET", "/v1/sync?presence=true", nil)
	require.Equal(t, "juliet@localhost", snapshot.at("presence", 0, "jid"), snapshot.text)
	directory := w.key("directory", "directory.read")
	require.Len(t, w.ask(directory, "GET", "/v1/presence?jid=juliet@localhost&jid=romeo@localhost", nil).at("presence"),
		2)
	require.Equal(t, 200, w.ask(directory, "GET", "/v1/directory?q=j", nil).status)
	w.ask(directory, "GET", "/v1/roster", nil).refused(403, "insufficient_scope")
	require.Equal(t, 204, w.ask("romeo", "DELETE", "/v1/roster/juliet@localhost", nil).status)
	require.Empty(t, w.ask("romeo", "GET", "/v1/roster", nil).at("contacts"))
	w.ask("romeo", "DELETE", "/v1/roster/juliet@localhost", nil).refused(404, "not_found")
}
