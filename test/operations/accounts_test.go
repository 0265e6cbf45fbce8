package operations

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/node"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/sqlite"
	"github.com/posthouse-im/posthouse/test/nodetest"
	"github.com/posthouse-im/posthouse/test/script"
)

const (
	secret = "wherefore-art-thou"
	other  = "parting-is-such-sweet-sorrow"
)

// noticed is how long a node may take to notice what the command line did: it looks every second.
const noticed = 10 * time.Second

// people opens the accounts as the command line does, beside the running node.
func people(t *testing.T, server *nodetest.Node) *node.Accounts {
	t.Helper()
	p, err := node.OpenAccounts(t.Context(),
		node.Config{Data: server.Folder(), Domain: "localhost", Auth: auth.Config{Iterations: 4096}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// mustEnd waits until the server has ended a client's stream, and checks what it said.
func mustEnd(t *testing.T, a *script.Client, began time.Time) {
	t.Helper()
	n, _, err := a.Until(func(n *script.Element) bool {
		return n.Name.Local == "error" && n.Name.Space == "http://etherx.jabber.org/streams"
	})
	require.NoError(t, err)
	require.NotNil(t, n.Find("urn:ietf:params:xml:ns:xmpp-streams", "not-authorized"), "%v", n)
	_, _, err = a.Until(func(*script.Element) bool { return false })
	require.ErrorContains(t, err, "connection has ended")
	require.Less(t, time.Since(began), noticed)
}

func refused(t *testing.T, at script.Endpoints, name, password string) {
	t.Helper()
	_, err := script.Connect(t.Context(), at, script.TCP, name, password)
	require.ErrorContains(t, err, "failure")
}

// TestChangesFromOutside: who changes a password, disables or deletes an account at the command line ends its sessions,
// and those of nobody else.
func TestChangesFromOutside(t *testing.T) {
	for name, test := range map[string]struct {
		change func(ctx context.Context, p *node.Accounts) error
		after  string // the password that is good afterwards, "" for none
	}{
		"passwd": {func(ctx context.Context, p *node.Accounts) error { return p.SetPassword(ctx, "romeo", other) },
			other},
		"disable": {func(ctx context.Context,
			p *node.Accounts) error {
			return p.SetDisabled(ctx, "romeo@localhost", true)
		}, ""},
		"delete": {func(ctx context.Context, p *node.Accounts) error { return p.Delete(ctx, "romeo") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := nodetest.New(t)
			require.NoError(t, server.AddUser("romeo", secret))
			require.NoError(t, server.AddUser("juliet", secret))
			juliet := person(t, server.Endpoints(), script.TCP, "juliet", secret)
			phone := person(t, server.Endpoints(), script.TCP, "romeo", secret)
			web := device(t, server.Endpoints(), script.WebSocket, "romeo", secret, "web")

			began := time.Now()
			require.NoError(t, test.change(t.Context(), people(t, server)))
			mustEnd(t, phone, began)
			mustEnd(t, web, began)
			refused(t, server.Endpoints(), "romeo", secret)
			if test.after != "" {
				person(t, server.Endpoints(), script.TCP, "romeo", test.after)
			}
			_, err := juliet.Barrier("still-here")
			require.NoError(t, err, "nobody else is disturbed")
		})
	}
}

// TestResumptionEndsToo: a session that waits for its client to come back is ended as well (XEP-0198 §5).
func TestResumptionEndsToo(t *testing.T) {
	server := nodetest.New(t)
	require.NoError(t, server.AddUser("romeo", secret))
	romeo := person(t, server.Endpoints(), script.TCP, "romeo", secret)
	require.NoError(t, romeo.Write("<enable xmlns='urn:xmpp:sm:3' resume='true'/>"))
	enabled, _, err := romeo.Until(func(n *script.Element) bool { return n.Name.Local == "enabled" })
	require.NoError(t, err)
	// shows when the change was noticed
	observer := device(t, server.Endpoints(), script.TCP, "romeo", secret, "observer")
	romeo.Cut()
	began := time.Now()
	require.NoError(t, people(t, server).SetPassword(t.Context(), "romeo", other))
	mustEnd(t, observer, began)

	again, err := script.Connect(t.Context(), server.Endpoints(), script.TCP, "romeo", other)
	require.NoError(t, err)
	t.Cleanup(again.Cut)
	require.NoError(t, again.Write("<resume xmlns='urn:xmpp:sm:3' previd='"+enabled.Attr("id")+"' h='0'/>"))
	answer, err := again.Next()
	require.NoError(t, err)
	require.Equal(t, "failed", answer.Name.Local)
}

// history returns the bodies of the messages in a client's archive.
func history(t *testing.T, a *script.Client) (bodies []string) {
	t.Helper()
	_, before, err := a.Request("history",
		"<iq xmlns='jabber:client' type='set' id='history'><query xmlns='urn:xmpp:mam:2'/></iq>")
	require.NoError(t, err)
	for _, n := range before {
		if body := n.Find("jabber:client", "body"); body != nil && n.Find("urn:xmpp:mam:2", "result") != nil {
			bodies = append(bodies, body.Text)
		}
	}
	return bodies
}

// say sends a message and waits until it is stored.
func say(t *testing.T, a *script.Client, to, text string) {
	t.Helper()
	require.NoError(t, a.Write("<message xmlns='jabber:client' to='"+to+"' type='chat'><body>"+text+
		"</body></message>"))
	_, err := a.Barrier("said")
	require.NoError(t, err)
}

// TestDeletedAndRecreated: A57. The name of a deleted account stays taken for a year. Whoever gets it after that is
// somebody else: no history, no contacts, none of the messages that waited.
func TestDeletedAndRecreated(t *testing.T) {
	server := nodetest.New(t, "auth.directory.unknown_ttl=1ms")
	require.NoError(t, server.AddUser("romeo", secret))
	require.NoError(t, server.AddUser("juliet", secret))
	p := people(t, server)
	juliet := person(t, server.Endpoints(), script.TCP, "juliet", secret)
	romeo := person(t, server.Endpoints(), script.TCP, "romeo", secret)
	_, _, err := romeo.Request("add",
		"<iq type='set' id='add'><query xmlns='jabber:iq:roster'><item jid='juliet@localhost' "+
			"name='Juliet'/></query></iq>")
	require.NoError(t, err)
	say(t, juliet, "romeo@localhost", "said while he was there")
	require.Equal(t, []string{"said while he was there"}, history(t, romeo))
	require.NoError(t, romeo.Leave())
	say(t, juliet, "romeo@localhost", "said while he was away")

	watched := person(t, server.Endpoints(), script.TCP, "romeo", secret) // takes what waited
	say(t, watched, "juliet@localhost", "the last words")
	began := time.Now()
	require.NoError(t, p.Delete(t.Context(), "romeo"))
	mustEnd(t, watched, began)
	_, err = p.Add(t.Context(), "romeo", other)
	require.ErrorIs(t, err, auth.RefusedNameTaken)

	require.NoError(
		t, juliet.Write("<message to='romeo@localhost' type='chat' id='late'><body>said too late</body></message>"))
	n, _, err := juliet.Until(func(n *script.Element) bool { return n.Attr("id") == "late" })
	require.NoError(t, err)
	require.NotNil(t, n.Find("urn:ietf:params:xml:ns:xmpp-stanzas", "service-unavailable"), "%v", n)

	// A year later, somebody else gets the name.
	recreate(t, server, "romeo", other, time.Now().AddDate(1, 0, 1))
	newcomer := person(t, server.Endpoints(), script.TCP, "romeo", other)
	before, err := newcomer.Barrier("nothing-waits")
	require.NoError(t, err)
	require.Empty(t, before)
	require.Empty(t, history(t, newcomer))
	roster, _, err := newcomer.Request("roster", "<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>")
	require.NoError(t, err)
	require.Nil(t, roster.Find("jabber:iq:roster", "item"))
	refused(t, server.Endpoints(), "romeo", secret)

	say(t, juliet, "romeo@localhost", "said to the newcomer")
	require.Equal(t, []string{"said to the newcomer"}, history(t, newcomer))
	require.Equal(t, []string{"said while he was there", "said while he was away", "the last words",
		"said to the newcomer"}, history(t, juliet),
		"what she said and heard stays hers")
}

// recreate makes an account at another time.
func recreate(t *testing.T, server *nodetest.Node, name, password string, now time.Time) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(server.Folder(), node.Database),
		sqlite.Options{Now: func() time.Time { return now }})
	require.NoError(t, err)
	defer db.Close()
	keys, err := auth.MakeCredentials(password, 4096)
	require.NoError(t, err)
	_, err = db.CreateAccount(t.Context(), store.Account{Name: name, Credentials: keys})
	require.NoError(t, err)
}
