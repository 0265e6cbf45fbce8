package interop

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/clients"
	"github.com/posthouse-im/posthouse/test/flakyproxy"
)

// terminal is a person at profanity, a client for terminals: commands are typed, and what happens is read from its log,
// which holds all that it sends and receives. script(1) gives it the terminal. One goroutine reads the log; it ends
// with the client.
type terminal struct {
	t     *testing.T
	name  string
	in    io.Writer
	lines chan string // closed at the client's end
	seen  []string    // logged and not yet waited for
}

// profanity starts the client with an account of its own and waits until it is logged in.
func profanity(t *testing.T, address, user, resource string) *terminal {
	t.Helper()
	for _, command := range []string{"script", "profanity"} {
		_, err := exec.LookPath(command)
		require.NoError(t, err, "this test needs %s: run test/setup.sh", command)
	}
	folder := t.TempDir()
	log := filepath.Join(folder, "log")
	require.NoError(t, syscall.Mkfifo(log, 0o600))
	reader, err := os.OpenFile(log, os.O_RDWR, 0) // a pipe opened both ways waits for nobody
	require.NoError(t, err)
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	write(t, filepath.Join(folder, "data", "profanity", "accounts"), fmt.Sprintf(
		"[me]\nenabled=true\njid=%s@localhost\nresource=%s\nserver=%s\nport=%s\npassword=%s\n"+
			"tls.policy=legacy\nauth.policy=default\npresence.login=online\n",
		user, resource, host, port, password))
	write(t, filepath.Join(folder, "config", "profanity", "profrc"), "[connection]\nreconnect=1\n")

	pid := filepath.Join(folder, "pid")
	cmd := exec.Command("script", "-qfec", "echo $$ >"+pid+"; exec profanity -a me -l DEBUG -f "+log, "/dev/null")
	cmd.Env = append(os.Environ(), "TERM=xterm", "HOME="+folder, "XDG_DATA_HOME="+folder+"/data", "XDG_CONFIG_HOME="+
		folder+"/config")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &terminal{t: t, name: resource, in: in, lines: make(chan string, 4096)}
	go func() {
		defer close(p.lines)
		lines := bufio.NewScanner(reader)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			p.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		in.Close()
		// A client without its terminal does not end by itself, and uses a whole processor.
		if text, err := os.ReadFile(pid); assert.NoError(t, err) {
			client, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if assert.NoError(t, err) {
				_ = syscall.Kill(client, syscall.SIGKILL)
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		reader.Close()
		for range p.lines {
		}
	})
	p.logs("tls: ", "preverify_ok:0") // it asks whether to trust the node's own certificate
	p.types("/tls always")
	return p
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

func (p *terminal) types(command string) {
	p.t.Helper()
	_, err := io.WriteString(p.in, command+"\r")
	require.NoError(p.t, err)
}

// logs waits for a line with all of these in it, and returns it. Other lines are kept.
func (p *terminal) logs(parts ...string) string {
	p.t.Helper()
	matches := func(line string) bool {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				return false
			}
		}
		return true
	}
	for i, line := range p.seen {
		if matches(line) {
			p.seen = append(p.seen[:i:i], p.seen[i+1:]...)
			return line
		}
	}
	timer := time.NewTimer(clients.Patience)
	defer timer.Stop()
	for {
		select {
		case line, ok := <-p.lines:
			require.True(p.t, ok, "%s has ended while waiting for %q; logged before:\n%s", p.name, parts,
				strings.Join(p.seen, "\n"))
			if matches(line) {
				return line
			}
			p.seen = append(p.seen, line)
		case <-timer.C:
			require.Fail(p.t, "nothing came", "%s waited for %q; logged before:\n%s", p.name, parts,
				strings.Join(p.seen, "\n"))
		}
	}
}

// logged reports how many of the lines that nobody waited for have all of these in them, so far.
func (p *terminal) logged(parts ...string) int {
	n := 0
next:
	for _, line := range p.seen {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue next
			}
		}
		n++
	}
	return n
}

// TestProfanity: all of it over direct TLS: SCRAM, presence, messages both ways, a stream that is resumed, and a second
// device that gets carbons and fetches history.
func TestProfanity(t *testing.T) {
	t.Parallel()
	node := newNode(t, "nurse", "juliet")
	juliet := clients.Slixmpp(t, "juliet")
	connectSlix(t, juliet, node.Endpoints().XMPP, "juliet@localhost/balcony")
	proxy := flakyproxy.New(t, node.Endpoints().XMPPTLS)
	nurse := profanity(t, proxy.Addr(), "nurse", "hall")
	nurse.logs("SASL SCRAM-SHA-256 auth successful")
	nurse.logs("RECV: <enabled", "resume=\"true\"")
	nurse.logs("Message carbons enabled")

	nurse.types("/sub request juliet@localhost")
	juliet.Tells("presence", "type", "subscribe")
	juliet.Do("agree", "to", "nurse@localhost")
	nurse.logs("RECV: <presence", "from=\"juliet@localhost/balcony\"")
	nurse.types("/msg juliet@localhost Peter, my fan")
	juliet.Tells("message", "body", "Peter, my fan")
	juliet.Do("send", "to", "nurse@localhost", "body", "What news?")
	nurse.logs("RECV: <message", "<body>What news?</body>")

	proxy.Down()
	nurse.logs("XMPP_CONN_DISCONNECT")
	juliet.Do("send", "to", "nurse@localhost", "body", "I pray thee, speak")
	proxy.Up()
	nurse.logs("RECV: <resumed")
	nurse.logs("RECV: <message", "<body>I pray thee, speak</body>")
	nurse.types("/msg juliet@localhost I am aweary")
	juliet.Tells("message", "body", "I am aweary")
	require.Zero(t, nurse.logged("RECV: <message", "from=\"juliet@localhost/balcony\"", "<body>"),
		"a message came twice")

	second := profanity(t, node.Endpoints().XMPPTLS, "nurse", "closet")
	second.logs("Message carbons enabled")
	second.types("/mam on")
	second.types("/msg juliet@localhost")
	for _, body := range []string{"Peter, my fan", "What news?", "I pray thee, speak", "I am aweary"} {
		second.logs("RECV: <message", "<result ", "urn:xmpp:mam:2", "<body>"+body+"</body>")
	}
	nurse.types("/msg juliet@localhost What a jaunce have I had")
	second.logs("RECV: <message", "<sent xmlns=\"urn:xmpp:carbons:2\"", "What a jaunce have I had")
}
