package operations

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/nodetest"
	"github.com/posthouse-im/posthouse/test/script"
)

// patience bounds every wait.
const patience = 30 * time.Second

// health asks the node how it is.
func health(t *testing.T, at script.Endpoints) (code int, status string, troubles map[string]string) {
	t.Helper()
	client := http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + at.Private + "/health/ready")
	require.NoError(t, err)
	defer response.Body.Close()
	var answer struct {
		Status   string
		Troubles map[string]string
	}
	require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
	return response.StatusCode, answer.Status, answer.Troubles
}

// person logs somebody in and makes them available.
func person(t *testing.T, at script.Endpoints, how script.Transport, name, password string) *script.Client {
	t.Helper()
	return device(t, at, how, name, password, "phone")
}

// device is person for one with several.
func device(t *testing.T, at script.Endpoints, how script.Transport, name, password, resource string) *script.Client {
	t.Helper()
	a, err := script.Connect(t.Context(), at, how, name, password)
	require.NoError(t, err)
	t.Cleanup(a.Cut)
	require.NoError(t, a.Bind(resource))
	require.NoError(t, a.Write("<presence xmlns='jabber:client'/>"))
	_, _, err = a.Until(func(n *script.Element) bool { return n.Name.Local == "presence" && n.Attr("from") == a.JID })
	require.NoError(t, err)
	return a
}

// TestFullDisk: with less space than the reserve, the node says so, refuses what it would have to store, and passes on
// the rest.
func TestFullDisk(t *testing.T) {
	server := nodetest.New(t, "messages.reserve_bytes=4611686018427387904")
	require.NoError(t, server.AddUser("romeo", "wherefore-art-thou"))
	require.NoError(t, server.AddUser("juliet", "wherefore-art-thou"))
	romeo := person(t, server.Endpoints(), script.TCP, "romeo", "wherefore-art-thou")
	juliet := person(t, server.Endpoints(), script.TCP, "juliet", "wherefore-art-thou")

	code, status, troubles := health(t, server.Endpoints())
	require.Equal(t, http.StatusOK, code, "it serves, with trouble")
	require.Equal(t, "degraded", status)
	require.Contains(t, troubles["storage"], "the disk is full")

	require.NoError(
		t, romeo.Write(
			"<message to='juliet@localhost' type='chat' id='m1'><body>O, wilt thou leave me so "+
				"unsatisfied?</body></message>"))
	n, err := romeo.Next()
	require.NoError(t, err)
	require.Equal(t, "error", n.Attr("type"))
	require.NotNil(t, n.Find("urn:ietf:params:xml:ns:xmpp-stanzas", "resource-constraint"), "%v", n)

	require.NoError(
		t, romeo.Write(
			"<message to='juliet@localhost' type='chat' id='m2'><composing "+
				"xmlns='http://jabber.org/protocol/chatstates'/></message>"))
	n, err = juliet.Next()
	require.NoError(t, err)
	require.Equal(t, "m2", n.Attr("id"), "what is not for keeping goes on")
}
