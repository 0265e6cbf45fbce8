package interop

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/clients"
	"github.com/posthouse-im/posthouse/test/flakyproxy"
	"github.com/posthouse-im/posthouse/test/nodetest"
)

const password = "wherefore-art-thou"

// newNode starts a node with the given accounts.
func newNode(t *testing.T, people ...string) *nodetest.Node {
	node := nodetest.New(t)
	for _, name := range people {
		require.NoError(t, node.AddUser(name, password))
	}
	return node
}

func split(t *testing.T, address string) (host string, port int) {
	t.Helper()
	host, text, err := net.SplitHostPort(address)
	require.NoError(t, err)
	port, err = strconv.Atoi(text)
	require.NoError(t, err)
	return host, port
}

// connectSlix connects a person on slixmpp over STARTTLS.
func connectSlix(t *testing.T, p *clients.Person, address, jid string) {
	t.Helper()
	host, port := split(t, address)
	p.Do("connect", "jid", jid, "password", password, "host", host, "port", port)
	online := p.Tells("online")
	require.Equal(t, "TLSv1.3", online["tls"], "slixmpp should have used STARTTLS")
	require.Equal(t, "SCRAM-SHA-256", online["mechanism"])
	p.Tells("managed")
}

// connectJS connects a person on xmpp.js over WebSocket, or by whatever the service's address says, and returns the
// address that it got: the login is that of XEP-0388 and XEP-0386.
func connectJS(t *testing.T, p *clients.Person, service, jid string) (address string) {
	t.Helper()
	p.Do("connect", "jid", jid, "password", password, "service", service)
	login := p.Tells("login")
	require.Equal(t, "authenticate", login["way"])
	require.Equal(t, "SCRAM-SHA-1", login["mechanism"])
	require.Contains(t, login["inline"], "bind")
	require.Contains(t, login["inline"], "request-token")
	address = p.Tells("online")["jid"].(string)
	require.True(t, strings.HasPrefix(address, jid+"~"), address)
	p.Tells("managed")
	return address
}

func webSocket(address string) string { return "ws://" + address + "/xmpp-websocket" }

// TestConversation: two people on different clients and transports talk, see each other's presence, and find it all in
// their history later.
func TestConversation(t *testing.T) {
	t.Parallel()
	node := newNode(t, "romeo", "juliet")
	romeo, juliet := clients.Slixmpp(t, "romeo"), clients.XMPPJS(t, "juliet")
	connectSlix(t, romeo, node.Endpoints().XMPP, "romeo@localhost/orchard")
	balcony := connectJS(t, juliet, webSocket(node.Endpoints().HTTP), "juliet@localhost/balcony")
	romeo.Do("subscribe", "to", "juliet@localhost")
	juliet.Tells("presence", "type", "subscribe")
	juliet.Do("agree", "to", "romeo@localhost")
	romeo.Tells("presence", "from", balcony, "type", "available")

	var bodies []any
	for i := range 10 {
		body := fmt.Sprintf("from romeo %d: <&> “quoted” 你好 🌹", i)
		romeo.Do("send", "to", "juliet@localhost", "body", body)
		juliet.Tells("message", "body", body, "from", "romeo@localhost/orchard")
		reply := fmt.Sprintf("from juliet %d", i)
		juliet.Do("send", "to", "romeo@localhost", "body", reply)
		romeo.Tells("message", "body", reply, "from", balcony)
		bodies = append(bodies, body, reply)
	}
	juliet.Do("leave")
	juliet.Tells("left")
	romeo.Tells("presence", "from", balcony, "type", "unavailable")
	romeo.Do("send", "to", "juliet@localhost", "body", "are you there?")
	bodies = append(bodies, "are you there?")

	again := clients.XMPPJS(t, "juliet again")
	balcony = connectJS(t, again, webSocket(node.Endpoints().HTTP), "juliet@localhost/balcony")
	romeo.Tells("presence", "from", balcony, "type", "available")
	again.Tells("message", "body", "are you there?", "delayed", true)
	again.Do("history", "with", "romeo@localhost")
	require.Equal(t, bodies, again.Tells("history")["bodies"])
	romeo.Do("history", "with", "juliet@localhost")
	require.Equal(t, bodies, romeo.Tells("history")["bodies"])
}

// TestCarbons: a second device sees what the first one sends and receives.
func TestCarbons(t *testing.T) {
	t.Parallel()
	node := newNode(t, "romeo", "juliet")
	first, second, juliet := clients.Slixmpp(t, "first"), clients.XMPPJS(t, "second"), clients.Slixmpp(t, "juliet")
	connectSlix(t, first, node.Endpoints().XMPP, "romeo@localhost/first")
	address := connectJS(t, second, webSocket(node.Endpoints().HTTP), "romeo@localhost/second")
	connectSlix(t, juliet, node.Endpoints().XMPP, "juliet@localhost/balcony")
	second.Do("carbons")
	second.Tells("carbons")
	first.Do("carbons")
	first.Tells("carbons")

	first.Do("send", "to", "juliet@localhost", "body", "sent from the first")
	juliet.Tells("message", "body", "sent from the first")
	second.Tells("carbon", "way", "sent", "body", "sent from the first", "to", "juliet@localhost")
	juliet.Do("send", "to", address, "body", "to the second only")
	second.Tells("message", "body", "to the second only")
	first.Tells("carbon", "way", "received", "body", "to the second only", "from", "juliet@localhost/balcony")
}

// TestResume: a connection breaks, the client resumes its stream, and what was said meanwhile comes once.
func TestResume(t *testing.T) {
	t.Parallel()
	for kind, connect := range map[string]func(*testing.T, *nodetest.Node) (*clients.Person, *flakyproxy.Proxy){
		"slixmpp": func(t *testing.T, node *nodetest.Node) (*clients.Person, *flakyproxy.Proxy) {
			proxy := flakyproxy.New(t, node.Endpoints().XMPP)
			p := clients.Slixmpp(t, "romeo")
			connectSlix(t, p, proxy.Addr(), "romeo@localhost/orchard")
			return p, proxy
		},
		"xmpp.js": func(t *testing.T, node *nodetest.Node) (*clients.Person, *flakyproxy.Proxy) {
			proxy := flakyproxy.New(t, node.Endpoints().HTTP)
			p := clients.XMPPJS(t, "romeo")
			connectJS(t, p, webSocket(proxy.Addr()), "romeo@localhost/orchard")
			return p, proxy
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			node := newNode(t, "romeo", "juliet")
			juliet := clients.Slixmpp(t, "juliet")
			connectSlix(t, juliet, node.Endpoints().XMPP, "juliet@localhost/balcony")
			romeo, proxy := connect(t, node)
			juliet.Do("send", "to", "romeo@localhost", "body", "before")
			romeo.Tells("message", "body", "before")
			proxy.Down()
			romeo.Tells("disconnected")
			juliet.Do("send", "to", "romeo@localhost", "body", "meanwhile")
			juliet.Do("history")
			require.Equal(t, []any{"before", "meanwhile"}, juliet.Tells("history")["bodies"])
			proxy.Up()
			if kind == "xmpp.js" {
				login := romeo.Tells("login")
				require.Equal(t, "HT-SHA-256-NONE", login["mechanism"])
				require.Contains(t, login["inline"], "resume")
			}
			romeo.Tells("resumed")
			romeo.Tells("message", "body", "meanwhile")
			juliet.Do("send", "to", "romeo@localhost", "body", "after")
			romeo.Tells("message", "body", "after")
			require.Zero(t, romeo.Told("before"), "a message came twice")
			require.Zero(t, romeo.Told("meanwhile"), "a message came twice")
			romeo.Do("send", "to", "juliet@localhost", "body", "and back")
			juliet.Tells("message", "body", "and back")
		})
	}
}

// TestReturning: xmpp.js comes back with the token that it got, by which it is spared the password (XEP-0484).
func TestReturning(t *testing.T) {
	t.Parallel()
	node := newNode(t, "romeo")
	romeo := clients.XMPPJS(t, "romeo")
	before := connectJS(t, romeo, "xmpps://"+node.Endpoints().XMPPTLS, "romeo@localhost/orchard")
	for range 2 {
		romeo.Do("leave")
		romeo.Tells("left")
		romeo.Do("return")
		login := romeo.Tells("login")
		require.Equal(t, "HT-SHA-256-NONE", login["mechanism"])
		require.Contains(t, login["inline"], "fast")
		online := romeo.Tells("online")
		require.NotEqual(t, before, online["jid"])
		require.Equal(t, "HT-SHA-256-NONE", online["mechanism"])
		romeo.Tells("managed")
	}
}

// TestTransports: xmpp.js also connects over STARTTLS and direct TLS, and in the steps of RFC 6120.
func TestTransports(t *testing.T) {
	t.Parallel()
	node := newNode(t, "romeo", "juliet")
	romeo, juliet := clients.XMPPJS(t, "romeo"), clients.XMPPJS(t, "juliet")
	orchard := connectJS(t, romeo, "xmpp://"+node.Endpoints().XMPP, "romeo@localhost/orchard")
	juliet.Do("connect", "jid", "juliet@localhost/balcony", "password", password, "service", "xmpps://"+
		node.Endpoints().XMPPTLS, "classic", true)
	require.Equal(t, "auth", juliet.Tells("login")["way"])
	require.Equal(t, "juliet@localhost/balcony", juliet.Tells("online")["jid"])
	juliet.Tells("managed")
	romeo.Do("send", "to", "juliet@localhost", "body", "over STARTTLS")
	juliet.Tells("message", "body", "over STARTTLS", "from", orchard)
	juliet.Do("send", "to", orchard, "body", "over TLS")
	romeo.Tells("message", "body", "over TLS", "from", "juliet@localhost/balcony")
}

// TestSlixmppAsItComes: its wrong idea of channel binding is refused, and is not taken for a
// wrong password: it gets in, again and again.
func TestSlixmppAsItComes(t *testing.T) {
	t.Parallel()
	node := newNode(t, "romeo")
	host, port := split(t, node.Endpoints().XMPP)
	for range 3 {
		romeo := clients.Slixmpp(t, "romeo")
		romeo.Do("connect", "jid", "romeo@localhost/orchard", "password", password, "host", host, "port", port,
			"as_it_comes", true)
		for range 4 { // SCRAM with both hashes, binding by what TLS 1.3 does not have, and claiming that we do not bind
			romeo.Tells("refused")
		}
		require.Equal(t, "PLAIN", romeo.Tells("online")["mechanism"])
		romeo.Do("leave")
		romeo.Tells("left")
	}
}

// TestGoSendxmpp: a command-line client over direct TLS sends to, and receives from, somebody on slixmpp.
func TestGoSendxmpp(t *testing.T) {
	t.Parallel()
	node := newNode(t, "nurse", "juliet")
	juliet := clients.Slixmpp(t, "juliet")
	connectSlix(t, juliet, node.Endpoints().XMPP, "juliet@localhost/balcony")
	path, err := exec.LookPath("go-sendxmpp")
	require.NoError(t, err, "this test needs go-sendxmpp: run test/setup.sh")
	ctx, cancel := context.WithTimeout(t.Context(), clients.Patience)
	defer cancel()
	login := []string{"-u", "nurse@localhost", "-p", password, "-j", node.Endpoints().XMPPTLS, "-t", "-n"}

	send := exec.CommandContext(ctx, path, append(login, "juliet@localhost")...)
	send.Stdin = strings.NewReader("Anon, good nurse!\n")
	out, err := send.CombinedOutput()
	require.NoError(t, err, "%s", out)
	got := juliet.Tells("message", "body", "Anon, good nurse!")
	require.Contains(t, got["from"], "nurse@localhost/")

	listen := exec.CommandContext(ctx, path, append(login, "-l", "juliet@localhost")...)
	pipe, err := listen.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, listen.Start())
	defer listen.Wait()
	defer listen.Process.Kill()
	juliet.Do("send", "to", "nurse@localhost", "body", "What o'clock?")
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "What o'clock?") {
			return
		}
	}
	t.Fatal("the listening client ended without the message")
}
