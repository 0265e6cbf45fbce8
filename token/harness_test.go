package token_test

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/sqlite"
	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// clock is a clock that a test moves.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a domain with one store, and as many processes as a test opens.
type world struct {
	t      testing.TB
	clock  *clock
	file   string
	secret []byte
	log    bytes.Buffer
	logMu  sync.Mutex // guards log
}

func (w *world) Write(p []byte) (int, error) {
	w.logMu.Lock()
	defer w.logMu.Unlock()
	return w.log.Write(p)
}

// process is one process of the domain.
type process struct {
	*token.Service
	db      *sqlite.Store
	ended   []string
	metrics *prometheus.Registry
}

func newWorld(t testing.TB) *world {
	return &world{
		t: t, clock: &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)},
		file: filepath.Join(t.TempDir(), "posthouse.db"), secret: bytes.Repeat([]byte("s"), 32),
	}
}

// open starts a process on the world's store.
func (w *world) open(change ...func(*token.Config)) *process {
	w.t.Helper()
	db, err := sqlite.Open(w.t.Context(), w.file, sqlite.Options{Now: w.clock.Now, Relaxed: true})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { require.NoError(w.t, db.Close()) })
	p := &process{db: db, metrics: prometheus.NewRegistry()}
	c := token.Config{
		Domain: jid.MustParse("posthouse.test"), Secret: w.secret, Keys: db, Services: db, Devices: db, Accounts: db,
		Now: w.clock.Now, Metrics: p.metrics,
		Log:   slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Ended: func(_ context.Context, _ store.AccountID, device string) { p.ended = append(p.ended, device) },
	}
	for _, f := range change {
		f(&c)
	}
	p.Service, err = token.New(w.t.Context(), c)
	require.NoError(w.t, err)
	return p
}

// person makes an account with one device.
func (p *process) person(t testing.TB, name, device string) (store.Account, store.Device) {
	t.Helper()
	if _, err := p.db.Account(t.Context(), name); err != nil {
		_, err := p.db.CreateAccount(t.Context(), store.Account{Name: name})
		require.NoError(t, err)
	}
	a, err := p.db.Account(t.Context(), name)
	require.NoError(t, err)
	return a, p.device(t, a, device)
}

func (p *process) device(t testing.TB, a store.Account, id string) store.Device {
	t.Helper()
	now := a.Created
	d := store.Device{Account: a.ID, ID: id, Name: "Phone", Created: now, Seen: now}
	require.NoError(t, p.db.PutDevice(t.Context(), d, store.AnyBasis, 10))
	return d
}

// issue makes tokens for somebody.
func (p *process) issue(t testing.TB, name, device string) token.Pair {
	t.Helper()
	a, d := p.person(t, name, device)
	pair, err := p.Issue(t.Context(), a, d)
	require.NoError(t, err)
	return pair
}

// metric returns the value of a counter; labels are names and values by turns.
func (p *process) metric(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	families, err := p.metrics.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			fits := len(m.GetLabel()) == len(labels)/2
			for i, l := range m.GetLabel() {
				fits = fits && l.GetName() == labels[2*i] && l.GetValue() == labels[2*i+1]
			}
			if fits {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s %v", name, labels)
	return 0
}

// countedKeys counts how often the keys are read.
type countedKeys struct {
	signingKeys
	reads atomic.Int64
}

// signingKeys is store.SigningKeys under a name that none of its methods has.
type signingKeys interface{ store.SigningKeys }

func (c *countedKeys) SigningKeys(ctx context.Context) ([]store.SigningKey, error) {
	c.reads.Add(1)
	return c.signingKeys.SigningKeys(ctx)
}
