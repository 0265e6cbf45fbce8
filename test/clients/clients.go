// Package clients starts the programs of this folder, which are clients of other projects or in other languages, and
// tells them what to do. Each is one person. It is told and tells in JSON, line by line.
//
// One goroutine reads what a program tells. It ends with the program, which ends with the test.
package clients

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

// Patience bounds every wait for a client, less than what a package is given as a whole. Interpreters start slowly on a
// busy machine.
const Patience = 30 * time.Second

// Event is one thing that a client tells.
type Event map[string]any

// Person is a client that is told what to do.
type Person struct {
	t      *testing.T
	name   string
	in     io.WriteCloser
	events chan Event // closed at the client's end
	seen   []Event    // told and not yet asked for
}

// New starts a program in this folder, which must be two folders below the tree's root from the test.
func New(t *testing.T, name string, command ...string) *Person {
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
	require.NoError(t, cmd.Start(), "this test needs the clients: run test/setup.sh")
	p := &Person{t: t, name: name, in: in, events: make(chan Event, 4096)}
	go func() { // ends with the client's output
		defer close(p.events)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var e Event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				e = Event{"event": "noise", "text": lines.Text()}
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

// Slixmpp starts a person on slixmpp.
func Slixmpp(t *testing.T, name string) *Person {
	t.Helper()
	return New(t, name, "/usr/bin/python3", "slixmpp_client.py")
}

// XMPPJS starts a person on xmpp.js. The WebSocket of Node.js 20 is behind a flag.
func XMPPJS(t *testing.T, name string) *Person {
	t.Helper()
	return New(t, name, "node", "--experimental-websocket", "xmppjs_client.mjs")
}

// Do gives an order; fields are pairs of name and value.
func (p *Person) Do(what string, fields ...any) {
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

// Tells waits until the client tells of an event with the given fields, and returns it. Other events are kept, but a
// problem fails the test at once.
func (p *Person) Tells(kind string, fields ...any) Event {
	p.t.Helper()
	matches := func(e Event) bool {
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
	timer := time.NewTimer(Patience)
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

// Told reports how often the client has told of a message with that body, so far.
func (p *Person) Told(body string) int {
	n := 0
	for _, e := range p.seen {
		if e["event"] == "message" && e["body"] == body {
			n++
		}
	}
	return n
}
