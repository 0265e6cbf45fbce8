package api_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestContactRequests: a request to be a contact is told to who waits for changes, and is accepted, declined and
// cancelled without any other change.
func TestContactRequests(t *testing.T) {
	w := open(t, []string{"romeo", "juliet", "nurse"})
	put := func(who, whom string, body map[string]any) {
		t.Helper()
		r := w.ask(who, "PUT", "/v1/roster/"+whom+"@localhost", body)
		require.Equal(t, 204, r.status, r.text)
	}
	verb := func(who, whom, what string) *reply {
		return w.ask(who, "POST", "/v1/roster/"+whom+"@localhost/"+what, nil)
	}
	contact := func(who, whom string) map[string]any {
		t.Helper()
		r := w.ask(who, "GET", "/v1/roster/"+whom+"@localhost", nil)
		require.Equal(t, 200, r.status, r.text)
		return r.object()
	}
	news := func(who, cursor string) *reply {
		t.Helper()
		r := w.ask(who, "GET", "/v1/sync?cursor="+url.QueryEscape(cursor), nil)
		require.Equal(t, 200, r.status, r.text)
		return r
	}
	mine := map[string]any{"name": "The lad", "groups": []any{"Montague"}}
	cursor := w.ask("juliet", "GET", "/v1/sync", nil).at("cursor").(string)
	put("romeo", "juliet", map[string]any{"subscribe": true})
	for _, page := range []*reply{news("juliet", cursor), w.ask("juliet", "GET", "/v1/sync", nil)} {
		require.Empty(t, page.at("removed"), page.text)
		require.Equal(t, "romeo@localhost", page.at("roster", 0, "jid"), page.text)
		require.Equal(t, true, page.at("roster", 0, "asks"))
		require.Equal(t, false, page.at("roster", 0, "listed"))
		cursor = page.at("cursor").(string)
	}

	// Declined and withdrawn, the request is gone; what there was else is as it was.
	verb("juliet", "nurse", "accept").refused(404, "not_found")
	require.Equal(t, 204, verb("juliet", "romeo", "decline").status)
	page := news("juliet", cursor)
	require.Equal(t, "romeo@localhost", page.at("removed", 0), page.text)
	require.Equal(t, false, contact("romeo", "juliet")["asked"])
	for _, what := range []string{"accept", "decline", "cancel"} {
		verb("juliet", "romeo", what).refused(404, "not_found")
	}
	put("romeo", "juliet", map[string]any{"name": "My lady", "groups": []any{"Love"}, "subscribe": true})
	require.Equal(t, 204, verb("romeo", "juliet", "cancel").status)
	c := contact("romeo", "juliet")
	require.Equal(t, false, c["asked"])
	require.Equal(t, "My lady", c["name"])
	verb("romeo", "juliet", "cancel").refused(404, "not_found")

	// Accepted, it changes neither name nor groups; and a verb that comes too late ends no subscription.
	put("juliet", "romeo", mine)
	put("romeo", "juliet", map[string]any{"subscribe": true})
	require.Equal(t, true, contact("juliet", "romeo")["asks"])
	require.Equal(t, 204, verb("juliet", "romeo", "accept").status)
	c = contact("juliet", "romeo")
	require.Equal(t, "from", c["subscription"])
	require.Equal(t, mine["name"], c["name"])
	require.Equal(t, mine["groups"], c["groups"])
	verb("juliet", "romeo", "decline").refused(404, "not_found")
	verb("romeo", "juliet", "cancel").refused(404, "not_found")
	require.Equal(t, "from", contact("juliet", "romeo")["subscription"])
	require.Equal(t, "to", contact("romeo", "juliet")["subscription"])
	put("juliet", "romeo", map[string]any{"subscribe": true})
	require.Equal(t, 204, verb("romeo", "juliet", "decline").status)
	require.Equal(t, "to", contact("romeo", "juliet")["subscription"], "declined, the other way stays")
}
