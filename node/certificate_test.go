package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// logBuffer is a log that one goroutine writes and another reads.
type logBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// certBench is a certificate in a folder, with everything that watches it.
type certBench struct {
	*Certificates
	t         *testing.T
	cert, key string
	now       time.Time
	log       logBuffer
	health    *Health
	swaps     int
	registry  *prometheus.Registry
}

func newCertBench(t *testing.T, domain string) *certBench {
	dir := t.TempDir()
	b := &certBench{t: t, cert: filepath.Join(dir, "c.pem"), key: filepath.Join(dir, "k.pem"), now: time.Now(),
		health: NewHealth(nil)}
	require.NoError(t, makeSelfSigned(b.cert, b.key, domain, b.now))
	b.registry = prometheus.NewRegistry()
	var err error
	b.Certificates, err = NewCertificates(b.options(domain))
	require.NoError(t, err)
	return b
}

func (b *certBench) options(domain string) CertificateOptions {
	return CertificateOptions{
		Certificate: b.cert, Key: b.key, Domain: domain, Log: slog.New(slog.NewTextHandler(&b.log, nil)),
		Health: b.health, Registry: b.registry, Now: func() time.Time { return b.now }, Swapped: func() { b.swaps++ },
	}
}

func (b *certBench) leaf() []byte {
	c, err := b.Get(nil)
	require.NoError(b.t, err)
	return c.Certificate[0]
}

// TestCertificateReload: A15. A good new certificate is taken; a bad one leaves the old one in use, with a line in the
// log and in the health.
func TestCertificateReload(t *testing.T) {
	tests := []struct {
		name    string
		spoil   func(b *certBench)
		refused string // "" when it is to be taken
	}{
		{"a new one", func(b *certBench) { b.make("example.org", b.now) }, ""},
		{"the same one", func(*certBench) {}, ""},
		{"certificate missing", func(b *certBench) { b.must(os.Remove(b.cert)) }, "no such file"},
		{"key missing", func(b *certBench) { b.must(os.Remove(b.key)) }, "no such file"},
		{"not PEM", func(b *certBench) { b.must(os.WriteFile(b.cert, []byte("hello"), 0o600)) },
			"read the certificate"},
		{"empty", func(b *certBench) { b.must(os.Truncate(b.cert, 0)) }, "read the certificate"},
		{"key of another certificate", func(b *certBench) {
			keep, err := os.ReadFile(b.cert)
			b.must(err)
			b.make("example.org", b.now)
			b.must(os.WriteFile(b.cert, keep, 0o600))
		}, "private key does not match"},
		{"another domain", func(b *certBench) { b.make("example.com", b.now) }, "not good for the domain example.org"},
		{"ended", func(b *certBench) { b.make("example.org", b.now.Add(-2*selfSignedLife)) }, "has ended on"},
		{"not begun", func(b *certBench) { b.make("example.org", b.now.Add(24*time.Hour)) }, "good only from"},
		{"key readable by everyone", func(b *certBench) { b.must(os.Chmod(b.key, 0o644)) }, "read by everyone"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newCertBench(t, "example.org")
			before := b.leaf()
			test.spoil(b)
			err := b.Reload()
			report, _ := b.health.report()
			if test.refused == "" {
				require.NoError(t, err)
				require.Equal(t, 1, b.swaps)
				require.Empty(t, report.Troubles)
				require.InDelta(t, 1, b.count("swapped"), 0)
				return
			}
			require.ErrorContains(t, err, test.refused)
			require.Equal(t, before, b.leaf(), "the old certificate must stay")
			require.Zero(t, b.swaps)
			require.Contains(t, report.Troubles["certificate"], "the old certificate stays in use")
			require.Contains(t, b.log.String(), "refused")
			require.InDelta(t, 1, b.count("refused"), 0)

			b.make("example.org", b.now)
			require.NoError(t, b.Reload())
			require.NotEqual(t, before, b.leaf())
			report, _ = b.health.report()
			require.Empty(t, report.Troubles)
		})
	}
}

func (b *certBench) count(result string) float64 {
	families, err := b.registry.Gather()
	b.must(err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func (b *certBench) make(domain string, at time.Time) {
	b.must(makeSelfSigned(b.cert, b.key, domain, at))
}

func (b *certBench) must(err error) { require.NoError(b.t, err) }

func TestCertificateAtStart(t *testing.T) {
	b := newCertBench(t, "example.org")
	b.registry = prometheus.NewRegistry()
	_, err := NewCertificates(b.options("example.com"))
	require.ErrorContains(t, err, "not good for the domain example.com")

	b.make("example.org", b.now.Add(-2*selfSignedLife))
	b.registry = prometheus.NewRegistry()
	old, err := NewCertificates(b.options("example.org"))
	require.NoError(t, err, "an ended certificate is an alarm, not an outage")
	require.NotNil(t, old.current.Load())
	report, _ := b.health.report()
	require.Contains(t, report.Troubles["certificate_expiry"], "has ended")
}

// TestCertificateWatch changes the files under a running watcher.
func TestCertificateWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCertBench(t, "example.org")
		first := b.leaf()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.Run(ctx) }()

		// The certificate comes first and its key a poll later: never is one taken without the other.
		fresh := newCertBench(t, "example.org")
		cert, err := os.ReadFile(fresh.cert)
		require.NoError(t, err)
		key, err := os.ReadFile(fresh.key)
		require.NoError(t, err)
		b.replace(b.cert, cert)
		<-time.After(certificatePoll + time.Second) // synctest's clock
		synctest.Wait()
		b.replace(b.key, key)
		<-time.After(certificatePoll)
		synctest.Wait()
		require.Equal(t, first, b.leaf(), "taken before it had settled")
		require.NotContains(t, b.log.String(), "refused")
		<-time.After(2 * certificatePoll)
		synctest.Wait()
		require.Equal(t, fresh.leaf(), b.leaf())
		require.Equal(t, 1, b.swaps)

		// Nothing changes, nothing happens.
		<-time.After(10 * certificatePoll)
		synctest.Wait()
		require.Equal(t, 1, b.swaps)
		cancel()
		require.NoError(t, <-ended)
	})
}

// replace changes a file, with a time of change that differs even on a coarse clock.
func (b *certBench) replace(path string, content []byte) {
	b.must(os.WriteFile(path, content, 0o600))
	info, err := os.Stat(path)
	b.must(err)
	b.must(os.Chtimes(path, time.Time{}, info.ModTime().Add(time.Second)))
}

// TestExpiryAlarms: one alarm at each of 21, 7 and 1 days, and at the end.
func TestExpiryAlarms(t *testing.T) {
	b := newCertBench(t, "example.org")
	end := b.current.Load().Leaf.NotAfter
	alarms := func() int { return strings.Count(b.log.String(), "msg=\"the certificate") }
	for i, step := range []struct {
		left time.Duration
		want string
	}{
		{22 * 24 * time.Hour, ""}, {21 * 24 * time.Hour, "21 days"}, {7 * 24 * time.Hour, "7 days"},
		{24 * time.Hour, "1 days"}, {-time.Second, "has ended"},
	} {
		b.now = end.Add(-step.left)
		for range 3 { // asked again and again, it is told once
			b.mu.Lock()
			b.checkExpiry()
			b.mu.Unlock()
		}
		report, ready := b.health.report()
		require.False(t, ready, "the phase is still starting")
		require.Equal(t, i, alarms())
		if step.want != "" {
			require.Contains(t, report.Troubles["certificate_expiry"], step.want)
		}
	}
}

func TestSelfSigned(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	cert, key, made, err := SelfSigned(dir, "münchen.example", now)
	require.NoError(t, err)
	require.True(t, made)
	info, err := os.Stat(key)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "xn--mnchen-3ya.example"} {
		require.NoError(t, pair.Leaf.VerifyHostname(name), name)
	}
	steps := []struct {
		domain string
		at     time.Time
		made   bool
	}{
		{"münchen.example", now, false},
		{"münchen.example", now.Add(selfSignedLife - selfSignedRenew - time.Hour), false},
		{"münchen.example", now.Add(selfSignedLife - selfSignedRenew + time.Hour), true},
		{"localhost", now, true},
		{"localhost", now.Add(time.Minute), false},
	}
	for i, step := range steps {
		_, _, made, err = SelfSigned(dir, step.domain, step.at)
		require.NoError(t, err)
		require.Equal(t, step.made, made, "step %d", i)
	}
}
