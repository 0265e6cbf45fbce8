// Package theatre runs whole nodes inside a test's process, on free ports and an empty folder, with people in them.
//
// A House has one goroutine, which runs the node; it ends with the test.
package theatre

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
	"github.com/posthouse-im/posthouse/test/play"
)

// patience bounds the start and the end of a node.
const patience = 60 * time.Second

// iterations keeps key derivation cheap in tests; the protocol is the same.
const iterations = 4096

// House is a node and its data.
type House struct {
	t        *testing.T
	folder   string
	settings []settings.Assignment
	config   node.Config

	people *sqlite.Store // the test's own way to the accounts, as that of the command line; nil before the first AddUser

	stop  context.CancelFunc
	ended chan error
	place play.Place
	log   *problems
}

// New starts a node with the given settings, as path=value, over those that every test needs.
// At the end of the test it is stopped in order, and the test fails when it logged an error or did not stop.
func New(t *testing.T, overrides ...string) *House {
	t.Helper()
	h := &House{t: t, folder: filepath.Join(folder(t), "data"), log: &problems{}}
	for _, s := range append([]string{
		"data=" + h.folder, "log.level=warn", "log.format=json",
		"listen.xmpp.address=127.0.0.1:0", "listen.xmpp_tls.address=127.0.0.1:0",
		"listen.compact.address=127.0.0.1:0", "listen.http.address=127.0.0.1:0", "listen.metrics.address=127.0.0.1:0",
		"auth.plain_without_tls=true", fmt.Sprintf("auth.iterations=%d", iterations),
		"c2s.rate_bytes=-1", "c2s.rate_stanzas=-1",
		"shutdown.timeout=20s", "c2s.drain_time=1ms",
	}, overrides...) {
		a, err := settings.ParseAssignment(s)
		require.NoError(t, err)
		h.settings = append(h.settings, a)
	}
	var bad settings.Problems
	h.config, _, bad = node.LoadConfig("", nil, h.settings)
	require.Empty(t, bad)
	h.start()
	t.Cleanup(func() {
		require.NoError(t, h.halt())
		require.Empty(t, h.log.lines(), "the node logged errors")
	})
	return h
}

// folder returns an empty folder for the test, in memory where the system has such a place: tests in a theatre are not about
// disks, and syncing a busy one takes most of their time.
func folder(t *testing.T) string {
	const memory = "/dev/shm"
	path, err := os.MkdirTemp(memory, "posthouse-theatre-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(path)) })
	return path
}

// Place returns where the node listens now.
func (h *House) Place() play.Place { return h.place }

// Folder returns the data folder.
func (h *House) Folder() string { return h.folder }

func (h *House) start() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	h.stop, h.ended = cancel, make(chan error, 1)
	ready := make(chan []node.Listening, 1)
	go func() {
		h.ended <- node.Run(ctx, node.Options{
			Config: h.config, Version: "test", Log: h.log, Assemble: node.Assemble,
			Signals: &node.Signals{}, Started: func(s *node.Shell) { ready <- s.Listening() },
		})
	}()
	select {
	case all := <-ready:
		h.place = play.Place{Domain: "localhost"}
		for _, l := range all {
			switch l.Kind {
			case "xmpp":
				h.place.XMPP = l.Address
			case "xmpp_tls":
				h.place.XMPPTLS = l.Address
			case "compact":
				h.place.Compact = l.Address
			case "http", "https":
				h.place.HTTP = l.Address
			case "metrics":
				h.place.Private = l.Address
			}
		}
	case err := <-h.ended:
		require.NoError(h.t, err, "the node did not start")
	case <-time.After(patience):
		require.Fail(h.t, "the node did not start in time")
	}
}

func (h *House) halt() error {
	h.stop()
	select {
	case err := <-h.ended:
		return err
	case <-time.After(patience):
		return fmt.Errorf("the node did not stop within %v", patience)
	}
}

// Restart stops the node in order and starts it again on the same data. Ports change.
func (h *House) Restart() error {
	if err := h.halt(); err != nil {
		return err
	}
	h.start()
	return nil
}

// AddUser makes an account in the data folder, while the node runs.
func (h *House) AddUser(name, password string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if h.people == nil {
		db, err := sqlite.Open(ctx, filepath.Join(h.folder, node.Database), sqlite.Options{})
		if err != nil {
			return err
		}
		h.t.Cleanup(func() { require.NoError(h.t, db.Close()) })
		h.people = db
	}
	keys, err := auth.MakeCredentials(password, iterations)
	if err != nil {
		return err
	}
	_, err = h.people.CreateAccount(ctx, store.Account{Name: name, Credentials: keys})
	return err
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
