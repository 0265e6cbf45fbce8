package transports

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// slix is somebody on slixmpp, test/clients/slixmpp_client.py, which is told what to do line by line. One goroutine
// reads what it tells; it ends with the test.
type slix struct {
	t      *testing.T
	name   string
	in     io.WriteCloser
	events chan map[string]any
}

func newSlix(t *testing.T, user, resource, address string) *slix {
	t.Helper()
	cmd := exec.Command("/usr/bin/python3", "slixmpp_client.py")
	cmd.Dir = filepath.Join("..", "clients")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start(), "this test needs slixmpp: run test/setup.sh")
	p := &slix{t: t, name: user, in: in, events: make(chan map[string]any, 4096)}
	go func() {
		defer close(p.events)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var e map[string]any
			if json.Unmarshal(lines.Bytes(), &e) != nil {
				e = map[string]any{"event": "noise", "text": lines.Text()}
			}
			p.events <- e
		}
	}()
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		for range p.events {
		}
		cmd.Wait()
	})
	host, text, err := net.SplitHostPort(address)
	require.NoError(t, err)
	port, err := strconv.Atoi(text)
	require.NoError(t, err)
	p.do("connect", "jid", user+"@localhost/"+resource, "password", password, "host", host, "port", port)
	p.tells("online")
	p.do("carbons")
	p.tells("carbons")
	return p
}

// do gives an order; fields are pairs of name and value.
func (p *slix) do(what string, fields ...any) {
	p.t.Helper()
	order := map[string]any{"do": what}
	for i := 0; i+1 < len(fields); i += 2 {
		order[fields[i].(string)] = fields[i+1]
	}
	line, err := json.Marshal(order)
	require.NoError(p.t, err)
	_, err = p.in.Write(append(line, '\n'))
	require.NoError(p.t, err)
}

// tells waits for an event of that kind; others are passed over.
func (p *slix) tells(kind string) map[string]any {
	p.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case e, ok := <-p.events:
			require.True(p.t, ok, "%s on slixmpp has ended", p.name)
			require.NotEqual(p.t, "problem", e["event"], "%s on slixmpp: %v", p.name, e)
			if e["event"] == kind {
				return e
			}
		case <-timer.C:
			require.FailNow(p.t, "nothing came", "%s on slixmpp waits for %s", p.name, kind)
		}
	}
}

// placed waits for a message that has a place in its conversation.
func (p *slix) placed() entry { p.t.Helper(); return slixEntry(p.tells("placed")) }

func slixEntry(e map[string]any) entry {
	number, _ := e["number"].(float64)
	text := func(name string) string {
		if e[name] == nil {
			return ""
		}
		return fmt.Sprint(e[name])
	}
	return entry{uint64(number), text("id"), text("stanza_id"), text("kind"), text("target"), text("text")}
}
