package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMessages: a message is answered for when it is durable, found under its id and number by both, and in nobody
// else's view.
func TestMessages(t *testing.T) {
	w := open(t, []string{"romeo", "juliet", "nurse"})
	sent := w.say("romeo", "juliet", "m1", "It is my lady.")
	require.Equal(t, 200, sent.status, sent.text)
	id := sent.at("id").(string)
	require.EqualValues(t, 1, sent.at("number"))
	require.Equal(t, false, sent.at("duplicate"))
	again := w.say("romeo", "juliet", "m1", "It is my lady.")
	require.Equal(t, id, again.at("id"))
	require.Equal(t, true, again.at("duplicate"))
	w.say("romeo", "juliet", "m1", "It is my love!").refused(409, "conflict")

	for _, who := range []string{"romeo", "juliet"} {
		m := w.ask(who, "GET", "/v1/messages/"+id, nil)
		require.Equal(t, 200, m.status, m.text)
		require.Equal(t, "It is my lady.", m.at("content", "text"))
		require.Equal(t, "m1", m.at("client_id"))
	}
	w.ask("nurse", "GET", "/v1/messages/"+id, nil).refused(404, "not_found")
	require.Equal(t, "romeo@localhost", w.ask("juliet", "GET", "/v1/messages/"+id, nil).at("conversation"))
	history := w.ask("juliet", "GET", "/v1/conversations/romeo@localhost/messages", nil)
	require.Equal(t, 200, history.status, history.text)
	require.Equal(t, id, history.at("messages", 0, "id"))
	w.say("romeo", "nobody", "m2", "Hello?").refused(404, "no_such_address")
	for _, to := range []string{"juliet@elsewhere.lit", "localhost"} {
		w.ask("romeo", "POST", "/v1/messages",
			map[string]any{"client_id": "m3", "to": to, "content": text("Hello?")}).refused(404, "no_such_address")
	}
	self := w.say("romeo", "romeo", "m4", "A note to myself.")
	require.EqualValues(t, 1, self.at("number"), self.text)
	require.Equal(t, "m4", w.ask("romeo", "GET", "/v1/conversations/romeo@localhost/messages", nil).at("messages", 0,
		"client_id"))

	first := w.ask("juliet", "GET", "/v1/sync", nil)
	require.Equal(t, 200, first.status, first.text)
	require.Equal(t, true, first.at("first"))
	require.Equal(t, id, first.at("messages", 0, "id"))
}
