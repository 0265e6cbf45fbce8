package api_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// stream connects somebody. Their messages and what happens to the connection come over the channels.
func (w *fixture) stream(name string) (c *client.Client, messages chan client.Message, states chan client.State) {
	w.t.Helper()
	messages, states = make(chan client.Message, 100), make(chan client.State, 100)
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, client.Config{
		Address: "tcp://" + w.Endpoints().Compact, Domain: "localhost", Username: name, Password: password,
		Message: func(m client.Message) { messages <- m }, State: func(s client.State) { states <- s },
	})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { c.Close() })
	return c, messages, states
}

// TestStreams: who is connected is seen and can be kicked, and what the API says arrives; administration is for the API
// alone.
func TestStreams(t *testing.T) {
	w := open(t, []string{"juliet", "nurse"})
	juliet, messages, states := w.stream("juliet")
	sessions := w.ask("juliet", "GET", "/v1/sessions", nil)
	require.Equal(t, juliet.JID().String(), sessions.at("sessions", 0, "jid"), sessions.text)
	require.Len(t, sessions.at("sessions"), 1, "her requests over HTTP have none")
	require.Empty(t, w.ask("nurse", "GET", "/v1/sessions", nil).at("sessions"))
	require.Eventually(t, func() bool {
		return w.ask("juliet", "GET", "/v1/presence?jid=juliet@localhost", nil).at("presence", 0, "online") == true
	}, 30*time.Second, 5*time.Millisecond)

	sent := w.say("nurse", "juliet", "s1", "Madam!")
	require.Equal(t, 200, sent.status, sent.text)
	got := <-messages
	require.Equal(t, sent.at("id"), got.StanzaID)
	require.EqualValues(t, sent.at("number"), got.Number)
	require.Equal(t, "Madam!", got.Content.Text)

	// An administrator's own client may no more than others.
	nurse, _, _ := w.stream("nurse")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, name := range []string{"status", "sessions"} {
		_, err := nurse.Request(ctx, stanza.TypeGet, jid.MustParse("localhost"),
			stanza.New("urn:posthouse:admin:1", name, "name", "juliet"))
		var refusal *stanza.Error
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, stanza.ServiceUnavailable, refusal.Condition)
	}
	// Nobody can ask the session that stands for an HTTP request, nor send to it what its account would then not see.
	require.Equal(t, 200, w.ask("juliet", "GET", "/v1/sessions", nil).status)
	_, err := nurse.Request(ctx, stanza.TypeGet, jid.MustParse("juliet@localhost/api/phone-of-juliet"),
		stanza.New("urn:xmpp:ping", "ping"))
	var refusal *stanza.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, stanza.ServiceUnavailable, refusal.Condition)

	theirs := w.ask("nurse", "GET", "/v1/admin/users/juliet/sessions", nil)
	require.Equal(t, juliet.JID().String(), theirs.at("sessions", 0, "jid"))
	require.GreaterOrEqual(t, w.ask("nurse", "GET", "/v1/admin/status", nil).at("sessions"), 2.0)
	require.Equal(t, 204, w.ask("nurse", "DELETE", "/v1/admin/users/juliet/sessions?resource="+juliet.JID().Resource(),
		nil).status)
	for s := range states {
		if !s.Online {
			break
		}
	}
}
