// Package nodetest runs whole nodes in the process of a test, on free ports and with an empty data folder.
//
// Each Node has one goroutine, which runs it and ends with the test.
package nodetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/node"
	"github.com/posthouse-im/posthouse/node/settings"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/sqlite"
	"github.com/posthouse-im/posthouse/test/script"
)

// patience bounds the start and the end of a node.
const patience = 60 * time.Second

// iterations keeps key derivation cheap in tests; the protocol is the same.
const iterations = 4096

// Node is a node and its data.
type Node struct {
	t        *testing.T
	folder   string
	settings []settings.Assignment
	config   node.Config

	// the test's own connection to the accounts, as the command line has one; nil before the first AddUser
	people *sqlite.Store

	stop      context.CancelFunc
	ended     chan error
	endpoints script.Endpoints
	log       *problems
}

// New starts a node with the given settings, as path=value, over those that every test needs.
// At the end of the test it is stopped in order, and the test fails when it logged an error or did not stop.
func New(t *testing.T, overrides ...string) *Node {
	t.Helper()
	n := &Node{t: t, folder: filepath.Join(folder(t), "data"), log: &problems{}}
	for _, s := range append([]string{
		"data=" + n.folder, "log.level=warn", "log.format=json",
		"listen.xmpp.address=127.0.0.1:0", "listen.xmpp_tls.address=127.0.0.1:0",
		"listen.compact.address=127.0.0.1:0", "listen.http.address=127.0.0.1:0", "listen.metrics.address=127.0.0.1:0",
		"auth.plain_without_tls=true", fmt.Sprintf("auth.iterations=%d", iterations),
		"c2s.rate_bytes=-1", "c2s.rate_stanzas=-1",
		"shutdown.timeout=20s", "c2s.drain_time=1ms",
	}, overrides...) {
		a, err := settings.ParseAssignment(s)
		require.NoError(t, err)
		n.settings = append(n.settings, a)
	}
	var bad settings.Problems
	n.config, _, bad = node.LoadConfig("", nil, n.settings)
	require.Empty(t, bad)
	n.start()
	t.Cleanup(func() {
		require.NoError(t, n.halt())
		require.Empty(t, n.log.lines(), "the node logged errors")
	})
	return n
}

// folder returns an empty folder for the test, in memory where the system has such a place: these tests are not about
// disks, and syncing a busy one takes most of their time.
func folder(t *testing.T) string {
	const memory = "/dev/shm"
	path, err := os.MkdirTemp(memory, "posthouse-nodetest-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(path)) })
	return path
}

// Endpoints returns where the node listens now.
func (n *Node) Endpoints() script.Endpoints { return n.endpoints }

// Folder returns the data folder.
func (n *Node) Folder() string { return n.folder }

func (n *Node) start() {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n.stop, n.ended = cancel, make(chan error, 1)
	ready := make(chan []node.Listening, 1)
	go func() {
		n.ended <- node.Run(ctx, node.Options{
			Config: n.config, Version: "test", Log: n.log, Assemble: node.Assemble,
			Signals: &node.Signals{}, Started: func(s *node.Runtime) { ready <- s.Listening() },
		})
	}()
	select {
	case all := <-ready:
		n.endpoints = script.Endpoints{Domain: "localhost"}
		for _, l := range all {
			switch l.Kind {
			case "xmpp":
				n.endpoints.XMPP = l.Address
			case "xmpp_tls":
				n.endpoints.XMPPTLS = l.Address
			case "compact":
				n.endpoints.Compact = l.Address
			case "http", "https":
				n.endpoints.HTTP = l.Address
			case "metrics":
				n.endpoints.Private = l.Address
			}
		}
	case err := <-n.ended:
		require.NoError(n.t, err, "the node did not start")
	case <-time.After(patience):
		require.Fail(n.t, "the node did not start in time")
	}
}

func (n *Node) halt() error {
	n.stop()
	select {
	case err := <-n.ended:
		return err
	case <-time.After(patience):
		return fmt.Errorf("the node did not stop within %v", patience)
	}
}

// Restart stops the node in order and starts it again on the same data. Ports change.
func (n *Node) Restart() error {
	if err := n.halt(); err != nil {
		return err
	}
	n.start()
	return nil
}

// AddUser makes an account in the data folder, while the node runs.
func (n *Node) AddUser(name, password string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if n.people == nil {
		db, err := sqlite.Open(ctx, filepath.Join(n.folder, node.Database), sqlite.Options{})
		if err != nil {
			return err
		}
		n.t.Cleanup(func() { require.NoError(n.t, db.Close()) })
		n.people = db
	}
	keys, err := auth.MakeCredentials(password, iterations)
	if err != nil {
		return err
	}
	_, err = n.people.CreateAccount(ctx, store.Account{Name: name, Credentials: keys})
	return err
}

// SetAdmin makes an account an administrator, as the command line does.
func (n *Node) SetAdmin(name string) error {
	return n.people.SetAdmin(context.Background(), name, true)
}

// problems keeps the log lines that tell of errors.
type problems struct {
	mu  sync.Mutex // guards bad
	bad []string
}

func (p *problems) Write(line []byte) (int, error) {
	var entry struct{ Level string }
	if json.Unmarshal(line, &entry) == nil && entry.Level != slog.LevelError.String() {
		return len(line), nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bad = append(p.bad, string(bytes.TrimSpace(line)))
	return len(line), nil
}

func (p *problems) lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bad
}
