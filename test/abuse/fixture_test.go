package abuse

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
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

// patience bounds every wait. It is generous, because a slow machine must not fail a test.
const patience = 30 * time.Second

// both are the two framings of XML streams: TCP (RFC 6120) and WebSocket (RFC 7395).
var both = []script.Transport{script.TCP, script.WebSocket}

// everywhere are all transports of XML streams.
var everywhere = []script.Transport{script.TCP, script.StartTLS, script.DirectTLS, script.WebSocket}

// fixture is a node with romeo, juliet and a bystander.
type fixture struct {
	*nodetest.Node
	t         *testing.T
	bystander *script.Client
	endpoints *script.Endpoints // of a node that runs elsewhere; nil for the Node's
}

// Endpoints returns where the node listens now.
func (s *fixture) Endpoints() script.Endpoints {
	if s.endpoints != nil {
		return *s.endpoints
	}
	return s.Node.Endpoints()
}

// open starts a node without rate limits, since all tests come from one address. The overrides can set some.
func open(t *testing.T, overrides ...string) *fixture {
	t.Helper()
	s := &fixture{t: t, Node: nodetest.New(t, append([]string{
		"auth.connections.rate=-1", "auth.connections.per_address=-1", "auth.failures.per_user=-1",
		"auth.failures.per_address=-1",
	}, overrides...)...)}
	s.people("romeo", "juliet", "bystander")
	s.connectBystander()
	t.Cleanup(func() {
		_, err := s.bystander.Barrier("still-there")
		require.NoError(t, err, "a bystander gets no answer any more")
		s.bystander.Cut()
	})
	return s
}

// connectBystander logs the bystander in.
func (s *fixture) connectBystander() {
	s.t.Helper()
	a, err := script.Connect(s.t.Context(), s.Endpoints(), script.DirectTLS, "bystander", password("bystander"))
	require.NoError(s.t, err)
	require.NoError(s.t, a.Bind("bench"))
	s.bystander = a
}

// restart stops the node in order and starts it again.
func (s *fixture) restart() {
	s.t.Helper()
	s.bystander.Cut()
	require.NoError(s.t, s.Restart())
	s.connectBystander()
}

// password returns the password of an account.
func password(name string) string { return "wherefore-art-thou-" + name }

// credentials caches the credentials of accounts by name, since deriving keys takes time.
var credentials sync.Map

// store opens the database of the accounts, as another process does.
func (s *fixture) store(use func(ctx context.Context, db *sqlite.Store) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	db, err := sqlite.Open(ctx, filepath.Join(s.Folder(), node.Database), sqlite.Options{})
	require.NoError(s.t, err)
	defer db.Close()
	require.NoError(s.t, use(ctx, db))
}

// secret returns a secret that the node has generated.
func (s *fixture) secret(name string) (secret string) {
	s.t.Helper()
	s.store(func(ctx context.Context, db *sqlite.Store) error {
		bytes, err := db.Secret(ctx, name, 16)
		secret = string(bytes)
		return err
	})
	return secret
}

// people makes accounts.
func (s *fixture) people(names ...string) {
	s.t.Helper()
	var accounts []store.Account
	for _, name := range names {
		keys, ok := credentials.Load(name)
		if !ok {
			made, err := auth.MakeCredentials(password(name), 4096)
			require.NoError(s.t, err)
			keys = made
			credentials.Store(name, made)
		}
		accounts = append(accounts, store.Account{Name: name, Credentials: keys.([]store.Credential)})
	}
	s.store(func(ctx context.Context, db *sqlite.Store) error {
		_, err := db.CreateAccounts(ctx, accounts)
		return err
	})
}

// connect logs an account in and binds a resource, without presence.
func (s *fixture) connect(how script.Transport, name, resource string) *script.Client {
	s.t.Helper()
	a, err := script.Connect(s.t.Context(), s.Endpoints(), how, name, password(name))
	require.NoError(s.t, err)
	s.t.Cleanup(a.Cut)
	require.NoError(s.t, a.Bind(resource))
	return a
}

// available logs somebody in, sends presence and waits until it comes back.
func (s *fixture) available(how script.Transport, name, resource string) *script.Client {
	s.t.Helper()
	a := s.connect(how, name, resource)
	tell(s.t, a, "<presence xmlns='jabber:client'/>")
	_, _, err := a.Until(func(n *script.Element) bool { return n.Name.Local == "presence" && n.Attr("from") == a.JID })
	require.NoError(s.t, err)
	return a
}

func tell(t *testing.T, a *script.Client, text string, args ...any) {
	t.Helper()
	if len(args) > 0 {
		text = fmt.Sprintf(text, args...)
	}
	require.NoError(t, a.Write(text))
}

// ask sends an IQ that has that id and returns the answer.
func ask(t *testing.T, a *script.Client, id, iq string) *script.Element {
	t.Helper()
	n, _, err := a.Request(id, iq)
	require.NoError(t, err)
	return n
}

// nothing requires that nothing has come until the server answers.
func nothing(t *testing.T, a *script.Client) {
	t.Helper()
	before, err := a.Barrier("nothing")
	require.NoError(t, err)
	require.Empty(t, before, "came nevertheless")
}

// next returns the next element that comes.
func next(t *testing.T, a *script.Client) *script.Element {
	t.Helper()
	n, err := a.Next()
	require.NoError(t, err)
	return n
}

// refusal returns the condition of a stanza error, "" when the stanza is not one.
func refusal(n *script.Element) string {
	e := n.Child("jabber:client", "error")
	if n.Attr("type") != "error" || e == nil {
		return ""
	}
	for _, c := range e.Children {
		if c.Name.Space == "urn:ietf:params:xml:ns:xmpp-stanzas" && c.Name.Local != "text" {
			return c.Name.Local
		}
	}
	return "none"
}

// body returns the body of a message, "" when it has none.
func body(n *script.Element) string {
	if b := n.Child("jabber:client", "body"); b != nil {
		return b.Text
	}
	return ""
}

// scriptSystem lends a node to a script, which makes its own accounts.
type scriptSystem struct{ *fixture }

// AddUser makes an account, if there is none yet.
func (s scriptSystem) AddUser(name, _ string) error {
	s.people(name)
	return nil
}

// runScript runs a script on both kinds of streams, each on a node of its own.
func runScript(t *testing.T, text string, overrides ...string) {
	t.Helper()
	for _, how := range both {
		t.Run(string(how), func(t *testing.T) {
			s := open(t, overrides...)
			p, err := script.Parse(t.Name(), strings.ReplaceAll(text, "\n\t", "\n"))
			require.NoError(t, err)
			require.NoError(t, p.Run(t.Context(), scriptSystem{s}, how))
		})
	}
}
