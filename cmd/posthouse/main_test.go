package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/node"
	"github.com/posthouse-im/posthouse/node/terminal"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"posthouse": main})
}

// TestCommands runs the scripts in testdata: each is a person at a shell.
func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("POSTHOUSE_AUTH_ITERATIONS", "4096") // cheap keys
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			// hold DIR takes hold of a data folder, as a running node does, until the script ends.
			"hold": func(ts *testscript.TestScript, _ bool, args []string) {
				folder, err := node.OpenFolder(ts.MkAbs(args[0]))
				ts.Check(err)
				ts.Defer(func() { _ = folder.Close() })
			},
		},
	})
}

// watched is an output that tells when it holds a text.
type watched struct {
	mu    sync.Mutex // guards what follows
	b     bytes.Buffer
	until string
	found chan struct{} // closed when until was written
}

func newWatched(until string) *watched { return &watched{until: until, found: make(chan struct{})} }

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	had := strings.Contains(w.b.String(), w.until)
	w.b.Write(p)
	if !had && strings.Contains(w.b.String(), w.until) {
		close(w.found)
	}
	return len(p), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// TestServe starts a node with nothing configured but free ports and a folder, reads the screen that it shows, adds a
// person while it runs, and stops it.
func TestServe(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	data := t.TempDir() + "/data"
	out, log := newWatched("Ctrl-C"), newWatched("\x00")
	s := streams{in: os.Stdin, out: out, err: log, program: "bin/posthouse"}
	args := []string{"posthouse", "--data", data, "--set", "auth.iterations=4096"}
	for _, l := range []string{"xmpp", "xmpp_tls", "compact", "http", "metrics"} {
		args = append(args, "--set", "listen."+l+".address=127.0.0.1:0")
	}
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, append(args, "serve"), s) }()
	select {
	case <-out.found:
	case code := <-ended:
		t.Fatalf("ended with %d:\n%s", code, log)
	case <-time.After(time.Minute):
		t.Fatalf("not ready:\n%s", log)
	}
	require.Contains(t, out.String(), "bin/posthouse --data "+data+" user add alice")
	require.Contains(t, out.String(), "STARTTLS")

	var listed bytes.Buffer
	beside := streams{in: os.Stdin, out: &listed, err: log}
	require.Zero(t, run(t.Context(), append(args, "user", "add", "alice", "--generate"), beside), log.String())
	require.Zero(t, run(t.Context(), append(args, "user", "list"), beside))
	require.Contains(t, listed.String(), "alice@localhost")

	require.Equal(t, exitFailed, run(t.Context(), append(args, "serve"), streams{in: os.Stdin, out: log, err: log}))
	require.Contains(t, log.String(), "is in use by process")

	cancel()
	select {
	case code := <-ended:
		require.Zero(t, code, log.String())
	case <-time.After(time.Minute):
		t.Fatal("did not stop")
	}
}

func TestGenerate(t *testing.T) {
	seen := make(map[string]bool)
	for range 100 {
		p, err := generate(strings.NewReader(strings.Repeat("\xff\xfe\x00posthouse relay of couriers", 3)))
		require.NoError(t, err)
		require.Regexp(t, `^([a-z2-9]{5}-){3}[a-z2-9]{5}$`, p)
		seen[p] = true
	}
	require.Len(t, seen, 1, "it depends on the randomness alone")
	_, err := generate(strings.NewReader("short"))
	require.Error(t, err)
}

func TestReadLine(t *testing.T) {
	for _, test := range []struct{ in, want, rest, fails string }{
		{"secret\nmore", "secret", "more", ""},
		{"secret\r\n", "secret", "", ""},
		{"secret", "secret", "", ""},
		{" a b \n", " a b ", "", ""},
		{"\n", "", "", ""},
		{"", "", "", "nothing to read"},
		{strings.Repeat("x", terminal.MaxSecret+1) + "\n", "", "", "longer than"},
	} {
		in := strings.NewReader(test.in)
		got, err := terminal.ReadLine(in)
		if test.fails != "" {
			require.ErrorContains(t, err, test.fails)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, test.want, got)
		require.Equal(t, len(test.rest), in.Len(), "what follows the line is left alone")
	}
}

// TestProgress: nothing in the first second, then one line that is overwritten, or a line now and then where it cannot
// be.
func TestProgress(t *testing.T) {
	for live, want := range map[bool]string{true: "\r20 of 100 accounts\r30 of 100 accounts\r\x1b[K",
		false: "20 of 100 accounts\n"} {
		var b bytes.Buffer
		now := time.Unix(1000, 0)
		p := progress{out: &b, what: "accounts", live: live, began: now, now: func() time.Time { return now }}
		for done := 10; done <= 30; done += 10 {
			p.show(done, 100)
			now = now.Add(time.Second)
		}
		p.end()
		require.Equal(t, want, b.String())
	}
}

func TestQuote(t *testing.T) {
	for word, want := range map[string]string{"a/b-c.yaml": "a/b-c.yaml", "my data": "'my data'", "it's": `'it'\''s'`,
		"$x": "'$x'"} {
		require.Equal(t, want, quote(word))
	}
}

// TestCommandHints: what the banner tells to type works in another terminal, however the node was told of its folder.
func TestCommandHints(t *testing.T) {
	for _, test := range []struct {
		a       app
		environ []string
		want    string
	}{
		{app{}, nil, "bin/posthouse"},
		{app{}, []string{"POSTHOUSE_DATA=/srv/x"}, "bin/posthouse --data /srv/x"},
		{app{Data: "a b"}, []string{"POSTHOUSE_DATA=/srv/x"}, "bin/posthouse --data 'a b'"},
		{app{Set: []string{"data=y", "domain=example.org"}}, nil, "bin/posthouse --data y --domain example.org"},
	} {
		s := streams{err: os.Stderr, environ: test.environ, program: "bin/posthouse"}
		config, loaded, err := test.a.load(s)
		require.NoError(t, err)
		require.Equal(t, test.want, test.a.command(s, config, loaded))
	}
}
