package transports

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/wire/content"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestAccountOnStreamAndAPI: what is changed on the stream is seen in the API, and the other way round. The stream
// issues the tokens for the API, and signing the device out ends both.
func TestAccountOnStreamAndAPI(t *testing.T) {
	t.Parallel()
	node := open(t, "romeo", "juliet")
	address := "tcp://" + node.Endpoints().Compact
	var token client.Token
	r := connect(t, address, "romeo", func(c *client.Config) { c.Keep = func(k client.Token) { token = k } })
	j := connect(t, address, "juliet")
	tokens, err := r.APITokens(wait(t))
	require.NoError(t, err)
	require.Equal(t, deviceOf("romeo").ID, tokens.Device)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	api := &client.API{Base: "http://" + node.Endpoints().HTTP, HTTP: &http.Client{Transport: transport},
		Tokens: tokens}

	_, err = r.Contacts(wait(t))
	require.NoError(t, err)
	require.NoError(t, r.SetContact(wait(t), juliet, "My lady", "Capulets"))
	require.Equal(t, "My lady", next(t, r.roster, func(c client.RosterChange) bool { return c.JID == juliet }).Name)
	require.NoError(t, r.Subscribe(wait(t), juliet, "subscribe"))
	next(t, j.presences, func(p client.Presence) bool { return p.Type == "subscribe" && p.From == romeo })
	require.NoError(t, j.Subscribe(wait(t), romeo, "subscribed"))
	next(t, r.presences, func(p client.Presence) bool { return p.Type == "" && p.From.Bare() == juliet })
	j.SetPresence("away", "On the balcony")
	next(t, r.presences, func(p client.Presence) bool { return p.Show == "away" && p.Status == "On the balcony" })
	contacts, err := api.Roster(wait(t))
	require.NoError(t, err)
	require.Equal(t, []client.APIContact{{JID: "juliet@localhost", Name: "My lady", Groups: []string{"Capulets"},
		Subscription: "to", Listed: true}}, contacts)
	there, err := api.Presence(wait(t), "juliet@localhost")
	require.NoError(t, err)
	require.Equal(t, []client.APIPresence{{JID: "juliet@localhost", Online: true, Show: "away",
		Status: "On the balcony"}}, there)

	require.NoError(t, api.SetContact(wait(t), "nurse@localhost", client.APINewContact{Name: "Nurse"}))
	next(t, r.roster, func(c client.RosterChange) bool { return c.Name == "Nurse" })
	require.NoError(t, r.RemoveContact(wait(t), jidOf("nurse")))
	next(t, r.roster, func(c client.RosterChange) bool { return c.Removed && c.JID == jidOf("nurse") })

	require.NoError(t, r.SetProfile(wait(t), "Romeo Montague", "Poet"))
	profile, err := api.Profile(wait(t))
	require.NoError(t, err)
	require.Equal(t, client.APIProfile{JID: "romeo@localhost", Name: "Romeo Montague", Title: "Poet"}, profile)
	require.NoError(t, api.SetProfile(wait(t), "Romeo", ""))
	seen, err := j.Profile(wait(t), romeo)
	require.NoError(t, err)
	require.Equal(t, client.Profile{JID: romeo, Name: "Romeo"}, seen)

	sent, err := j.Send(wait(t), romeo, text("Good night"))
	require.NoError(t, err)
	until := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	require.NoError(t, r.SetConversation(wait(t), juliet, until, true))
	state, err := api.Conversation(wait(t), "juliet@localhost")
	require.NoError(t, err)
	require.True(t, state.Pinned && state.MutedUntil.Equal(until) && state.LastNumber == 1 && state.Unread == 1, "%+v",
		state)
	require.NoError(t, api.MarkRead(wait(t), "juliet@localhost", sent.Number))
	require.NoError(t, api.SetConversation(wait(t), "juliet@localhost", time.Time{}, false))
	all, more, err := r.Conversations(wait(t), "")
	require.NoError(t, err)
	require.Empty(t, more)
	require.Len(t, all, 1)
	require.True(t, !all[0].Pinned && all[0].MutedUntil.IsZero() && all[0].Read == 1 && all[0].Unread == 0 &&
		all[0].Number == 1, "%+v", all[0])
	require.NoError(t, api.SetTyping(wait(t), "juliet@localhost", true))
	next(t, j.messages, func(m client.Message) bool { return m.Content.Kind == content.Typing && m.Content.Composing })
	_, err = r.Send(wait(t), juliet, content.Content{Kind: content.Typing, Composing: true})
	require.NoError(t, err)
	next(t, j.messages, func(m client.Message) bool {
		return m.Content.Kind == content.Typing && m.From.Resource() == r.JID().Resource()
	})

	devices, err := api.Devices(wait(t))
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(devices,
		func(d client.APIDevice) bool { return d.ID == deviceOf("romeo").ID && d.Current }))
	// The client would come back with its password: without one, it ends.
	require.NoError(t, r.Close())
	r = connect(t, address, "romeo", func(c *client.Config) { c.Password, c.Token = "", token })
	require.NoError(t, api.SignOut(wait(t), deviceOf("romeo").ID))
	select {
	case <-r.Done():
	case <-wait(t).Done():
		require.Fail(t, "a device that was signed out goes on")
	}
	var refused *client.AuthError
	require.ErrorAs(t, r.Err(), &refused)
	var problem *client.Problem
	_, err = api.Profile(wait(t))
	require.ErrorAs(t, err, &problem)
	require.Equal(t, http.StatusUnauthorized, problem.Status)
}
