package interop

import (
	"bufio"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/theatre"
)

const password = "wherefore-art-thou"

// stage is a running node with the given people.
func stage(t *testing.T, people ...string) *theatre.House {
	h := theatre.New(t)
	for _, name := range people {
		require.NoError(t, h.AddUser(name, password))
	}
	return h
}

func split(t *testing.T, address string) (host string, port int) {
	host, text, err := net.SplitHostPort(address)
	require.NoError(t, err)
	port, err = strconv.Atoi(text)
	require.NoError(t, err)
	return host, port
}

// connectSlix connects over STARTTLS.
func connectSlix(t *testing.T, p *person, h *theatre.House, jid string) event {
	host, port := split(t, h.Place().XMPP)
	p.do("connect", "jid", jid, "password", password, "host", host, "port", port)
	online := p.tells("online")
	require.Equal(t, true, online["tls"], "slixmpp should have used STARTTLS")
	require.Contains(t, online["mechanism"], "SCRAM-")
	return online
}

func connectJS(t *testing.T, p *person, h *theatre.House, jid string) {
	p.do("connect", "jid", jid, "password", password, "service", "ws://"+h.Place().HTTP+"/xmpp-websocket")
	require.Contains(t, p.tells("online")["mechanism"], "SCRAM-")
}

// TestConversation: two people on different clients and transports talk, see each other's presence, and find it all in their history later.
func TestConversation(t *testing.T) {
	h := stage(t, "romeo", "juliet")
	romeo, juliet := slixmpp(t, "romeo"), xmppjs(t, "juliet")
	connectSlix(t, romeo, h, "romeo@localhost/orchard")
	connectJS(t, juliet, h, "juliet@localhost/balcony")
	romeo.do("subscribe", "to", "juliet@localhost")
	juliet.tells("presence", "type", "subscribe")
	juliet.do("agree", "to", "romeo@localhost")
	romeo.tells("presence", "from", "juliet@localhost/balcony", "type", "available")

	var bodies []any
	for i := range 10 {
		body := fmt.Sprintf("from romeo %d: <&> “quoted” 你好 🌹", i)
		romeo.do("send", "to", "juliet@localhost", "body", body)
		juliet.tells("message", "body", body, "from", "romeo@localhost/orchard")
		reply := fmt.Sprintf("from juliet %d", i)
		juliet.do("send", "to", "romeo@localhost", "body", reply)
		romeo.tells("message", "body", reply, "from", "juliet@localhost/balcony")
		bodies = append(bodies, body, reply)
	}
	juliet.do("leave")
	juliet.tells("left")
	romeo.tells("presence", "from", "juliet@localhost/balcony", "type", "unavailable")

	again := xmppjs(t, "juliet again")
	connectJS(t, again, h, "juliet@localhost/balcony")
	again.do("history", "with", "romeo@localhost")
	require.Equal(t, bodies, again.tells("history")["bodies"])
	romeo.do("history", "with", "juliet@localhost")
	require.Equal(t, bodies, romeo.tells("history")["bodies"])
}

// TestCarbons: a second device sees what the first one sends and receives.
func TestCarbons(t *testing.T) {
	h := stage(t, "romeo", "juliet")
	first, second, juliet := slixmpp(t, "first"), xmppjs(t, "second"), slixmpp(t, "juliet")
	connectSlix(t, first, h, "romeo@localhost/first")
	connectJS(t, second, h, "romeo@localhost/second")
	connectSlix(t, juliet, h, "juliet@localhost/balcony")
	second.do("carbons")
	second.tells("carbons")
	first.do("carbons")
	first.tells("carbons")

	first.do("send", "to", "juliet@localhost", "body", "sent from the first")
	juliet.tells("message", "body", "sent from the first")
	second.tells("carbon", "way", "sent", "body", "sent from the first", "to", "juliet@localhost")
	juliet.do("send", "to", "romeo@localhost/second", "body", "to the second only")
	second.tells("message", "body", "to the second only")
	first.tells("carbon", "way", "received", "body", "to the second only", "from", "juliet@localhost/balcony")
}

// TestResume: a connection breaks, the client resumes its stream, and what was said meanwhile comes once.
func TestResume(t *testing.T) {
	for _, kind := range []string{"slixmpp", "xmpp.js"} {
		t.Run(kind, func(t *testing.T) {
			h := stage(t, "romeo", "juliet")
			juliet := slixmpp(t, "juliet")
			connectSlix(t, juliet, h, "juliet@localhost/balcony")
			var romeo *person
			host, port := split(t, h.Place().XMPP)
			if kind == "slixmpp" {
				romeo = slixmpp(t, "romeo")
				connectSlix(t, romeo, h, "romeo@localhost/orchard")
				romeo.tells("managed")
			} else {
				romeo = xmppjs(t, "romeo")
				connectJS(t, romeo, h, "romeo@localhost/orchard")
			}
			juliet.do("send", "to", "romeo@localhost", "body", "before")
			romeo.tells("message", "body", "before")
			romeo.do("abort", "host", host, "port", port)
			juliet.do("send", "to", "romeo@localhost", "body", "meanwhile")
			romeo.tells("resumed")
			romeo.tells("message", "body", "meanwhile")
			juliet.do("send", "to", "romeo@localhost", "body", "after")
			romeo.tells("message", "body", "after")
			require.Zero(t, romeo.told("before"), "a message came twice")
			require.Zero(t, romeo.told("meanwhile"), "a message came twice")
			romeo.do("send", "to", "juliet@localhost", "body", "and back")
			juliet.tells("message", "body", "and back")
		})
	}
}

// TestGoSendxmpp: a command-line client over direct TLS sends to, and receives from, somebody on slixmpp.
func TestGoSendxmpp(t *testing.T) {
	h := stage(t, "nurse", "juliet")
	juliet := slixmpp(t, "juliet")
	connectSlix(t, juliet, h, "juliet@localhost/balcony")
	path, err := exec.LookPath("go-sendxmpp")
	require.NoError(t, err, "this test needs go-sendxmpp: run test/setup.sh")
	login := []string{"-u", "nurse@localhost", "-p", password, "-j", h.Place().XMPPTLS, "-t", "-n"}

	send := exec.Command(path, append(login, "juliet@localhost")...)
	send.Stdin = strings.NewReader("Anon, good nurse!\n")
	out, err := send.CombinedOutput()
	require.NoError(t, err, "%s", out)
	got := juliet.tells("message", "body", "Anon, good nurse!")
	require.Contains(t, got["from"], "nurse@localhost/")

	listen := exec.Command(path, append(login, "-l", "juliet@localhost")...)
	pipe, err := listen.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, listen.Start())
	defer listen.Wait()
	defer listen.Process.Kill()
	juliet.do("send", "to", "nurse@localhost", "body", "What o'clock?")
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "What o'clock?") {
			return
		}
	}
	t.Fatal("the listening client ended without the message")
}
