package interop

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience bounds every wait for a client, less than what the package is given as a whole. Interpreters start slowly on
// a busy machine.
const patience = 30 * time.Second

// event is one thing that a client tells.
type event map[string]any

// person is a third-party client that is told what to do.
type person struct {
	t      *testing.T
	name   string
	in     io.WriteCloser
	events chan event // closed at the client's end
	seen   []event    // told and not yet asked for
}

// newPerson starts a client program.
func newPerson(t *testing.T, name string, command ...string) *person {
	t.Helper()
	path, err := exec.LookPath(command[0])
	require.NoError(t, err, "this test needs %s: run test/setup.sh", command[0])
	cmd := exec.Command(path, command[1:]...)
	cmd.Dir = filepath.Join("..", "clients")
	cmd.Stderr = os.Stderr
	// The node's certificate is its own.
	cmd.Env = append(os.Environ(), "NODE_TLS_REJECT_UNAUTHORIZED=0", "NODE_NO_WARNINGS=1")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &person{t: t, name: name, in: in, events: make(chan event, 1024)}
	go func() { // ends with the client's output
		defer close(p.events)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var e event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				e = event{"event": "noise", "text": lines.Text()}
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
	return p
}

// slixmpp starts a person on slixmpp.
func slixmpp(t *testing.T, name string) *person {
	return newPerson(t, name, "/usr/bin/python3", "slixmpp_client.py")
}

// xmppjs starts a person on xmpp.js. The WebSocket of Node.js 20 is behind a flag.
func xmppjs(t *testing.T, name string) *person {
	return newPerson(t, name, "node", "--experimental-websocket", "xmppjs_client.mjs")
}

// do gives an order; fields are pairs of name and value.
func (p *person) do(what string, fields ...any) {
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

// tells waits until the client tells of an event with the given fields, and returns it. Other events are kept, but a
// problem fails the test at once.
func (p *person) tells(kind string, fields ...any) event {
	p.t.Helper()
	matches := func(e event) bool {
		if e["event"] != kind {
			return false
		}
		for i := 0; i+1 < len(fields); i += 2 {
			if fmt.Sprint(e[fields[i].(string)]) != fmt.Sprint(fields[i+1]) {
				return false
			}
		}
		return true
	}
	for i, e := range p.seen {
		if matches(e) {
			p.seen = append(p.seen[:i:i], p.seen[i+1:]...)
			return e
		}
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case e, ok := <-p.events:
			require.True(p.t, ok, "%s has ended while waiting for %s %v; told before: %v", p.name, kind, fields, p.seen)
			if matches(e) {
				return e
			}
			require.NotEqual(p.t, "problem", e["event"], "%s waited for %s %v, but told of %v; before: %v", p.name,
				kind, fields, e, p.seen)
			p.seen = append(p.seen, e)
		case <-timer.C:
			require.Fail(p.t, "nothing came", "%s waited for %s %v; told before: %v", p.name, kind, fields, p.seen)
		}
	}
}

// told reports how often the client has told of a message with that body, so far.
func (p *person) told(body string) int {
	n := 0
	for _, e := range p.seen {
		if e["event"] == "message" && e["body"] == body {
			n++
		}
	}
	return n
}
