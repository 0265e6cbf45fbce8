package transports

import (
	"context"
	"crypto/tls"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/test/nodetest"
	"github.com/posthouse-im/posthouse/test/script"
	"github.com/posthouse-im/posthouse/wire/content"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// patience bounds every wait. It is generous, because a slow machine must not fail a test.
const patience = 30 * time.Second

const password = "wherefore-art-thou"

var (
	romeo  = jid.MustParse("romeo@localhost")
	juliet = jid.MustParse("juliet@localhost")
)

// newNode starts a node with the given accounts.
func newNode(t *testing.T, people ...string) *nodetest.Node {
	node := nodetest.New(t)
	for _, name := range people {
		require.NoError(t, node.AddUser(name, password))
	}
	return node
}

// addresses are the ways in which a compact stream can be had.
func addresses(p script.Endpoints) map[string]string {
	return map[string]string{"TCP": "tcp://" + p.Compact, "TLS": "tls://" + p.XMPPTLS, "WebSocket": "ws://" + p.HTTP +
		"/xmpp-websocket"}
}

// app is somebody on package client.
type app struct {
	*client.Client
	messages  chan client.Message
	presences chan client.Presence
	roster    chan client.RosterChange
	states    chan client.State
}

// deviceOf names a device, always the same for a name.
func deviceOf(name string) client.Device {
	return client.Device{ID: fmt.Sprintf("%x-0000-4000-8000-000000000000", fmt.Sprintf("%-4.4s", name)),
		Name: "the phone of " + name, Software: "transports"}
}

// connect starts an app; change adapts its configuration.
func connect(t *testing.T, address, user string, change ...func(*client.Config)) *app {
	t.Helper()
	a := &app{
		messages: make(chan client.Message, 1<<16), presences: make(chan client.Presence, 1<<10),
		roster: make(chan client.RosterChange, 1<<10), states: make(chan client.State, 1<<10),
	}
	config := client.Config{
		Address: address, Domain: "localhost", Username: user, Password: password, Device: deviceOf(user),
		// the node's certificate is its own
		TLS:      &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13},
		Message:  func(m client.Message) { a.messages <- m },
		Presence: func(p client.Presence) { a.presences <- p },
		Roster:   func(r client.RosterChange) { a.roster <- r },
		State:    func(s client.State) { a.states <- s },
		BackOff:  time.Second,
	}
	for _, f := range change {
		f(&config)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var err error
	a.Client, err = client.Dial(ctx, config)
	require.NoError(t, err)
	t.Cleanup(func() { a.Close() })
	return a
}

func jidOf(name string) jid.JID { return jid.MustParse(name + "@localhost") }

// wait is a context for one thing that must happen.
func wait(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// next returns the next thing of a channel that is wanted; others are passed over.
func next[T any](t *testing.T, from <-chan T, wanted func(T) bool) T {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case x := <-from:
			if wanted(x) {
				return x
			}
		case <-timer.C:
			require.FailNow(t, "nothing came")
		}
	}
}

// numbered wants messages that are stored.
func numbered(m client.Message) bool { return m.Number > 0 }

func text(s string) content.Content { return content.Content{Kind: content.Text, Text: s} }

// TestClientTransports: two people talk over each transport, and both see the same ids, numbers and times.
func TestClientTransports(t *testing.T) {
	t.Parallel()
	node := newNode(t, "romeo", "juliet")
	number := uint64(0)
	for name, address := range addresses(node.Endpoints()) {
		t.Run(name, func(t *testing.T) {
			r := connect(t, address, "romeo")
			j := connect(t, address, "juliet")
			for i := range 20 {
				from, to, other := r, j, juliet
				if i%2 == 1 {
					from, to, other = j, r, romeo
				}
				receipt, err := from.Send(wait(t), other, text(fmt.Sprintf("%s %d", name, i)))
				require.NoError(t, err)
				number++
				require.Equal(t, number, receipt.Number)
				require.Equal(t, other, receipt.Conversation)
				got := next(t, to.messages, numbered)
				require.Equal(t, fmt.Sprintf("%s %d", name, i), got.Content.Text)
				require.Equal(t, receipt.ID, got.ID)
				require.Equal(t, receipt.StanzaID, got.StanzaID)
				require.Equal(t, receipt.Number, got.Number)
				require.False(t, got.Outgoing || got.Fetched)
			}
			require.NoError(t, r.Close())
			require.NoError(t, j.Close())
			require.ErrorIs(t, r.Err(), client.ErrClosed)
			_, err := r.Send(wait(t), juliet, text("too late"))
			require.ErrorIs(t, err, client.ErrClosed)
		})
	}
}

// TestClientRefusals: a wrong password, an unknown recipient and a request that is not understood come back as what
// they are.
func TestClientRefusals(t *testing.T) {
	t.Parallel()
	node := newNode(t, "romeo")
	_, err := client.Dial(wait(t),
		client.Config{Address: "tcp://" + node.Endpoints().Compact, Domain: "localhost", Username: "romeo",
			Password: "wrong"})
	var refused *client.AuthError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "not-authorized", refused.Condition)
	r := connect(t, "tcp://"+node.Endpoints().Compact, "romeo")
	_, err = r.Send(wait(t), jid.MustParse("nobody@localhost"), text("hello?"))
	require.ErrorContains(t, err, "service-unavailable")
}

// TestClientToken: a device logs in with its password once, and with tokens from then on; one that is refused is given
// up for the password, or ends the client.
func TestClientToken(t *testing.T) {
	t.Parallel()
	node := newNode(t, "romeo", "juliet")
	for name, address := range addresses(node.Endpoints()) {
		t.Run(name, func(t *testing.T) {
			var token client.Token
			keep := func(c *client.Config) { c.Keep = func(k client.Token) { token = k } }
			first := connect(t, address, "romeo", keep)
			require.NotEmpty(t, token.Secret)
			require.True(t, token.Expires.After(time.Now()))
			require.NoError(t, first.Close())

			second := connect(t, address, "romeo", keep, func(c *client.Config) { c.Password, c.Token = "", token })
			receipt, err := second.Send(wait(t), juliet, text("with a token"))
			require.NoError(t, err)
			require.Positive(t, receipt.Number)
			require.NoError(t, second.Close())

			wrong := client.Token{Secret: "no token", Mechanism: token.Mechanism}
			third := connect(t, address, "romeo", func(c *client.Config) { c.Token = wrong })
			_, err = third.Send(wait(t), juliet, text("with the password"))
			require.NoError(t, err)
			require.NoError(t, third.Close())

			_, err = client.Dial(wait(t), client.Config{Address: address, Domain: "localhost", Username: "romeo",
				Device: deviceOf("romeo"), Token: wrong,
				TLS: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}})
			var refused *client.AuthError
			require.ErrorAs(t, err, &refused)
		})
	}
}
