package link

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if f, ok := roles[os.Getenv(roleVariable)]; ok {
		f()
		return
	}
	goleak.VerifyTestMain(m)
}

// roleVariable names the environment variable that makes this test binary run as a process of its own, see roles.
const roleVariable = "POSTHOUSE_LINK_TEST_ROLE"

// roles are what the test binary can be besides itself.
var roles = map[string]func(){
	"idle-server": idleServer,
	"few-files":   fewFiles,
}

// newCertificate makes a self-signed certificate for localhost.
func newCertificate(t testing.TB) tls.Certificate {
	t.Helper()
	cert, err := makeCertificate()
	require.NoError(t, err)
	return cert
}

func makeCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// serverTLS is a server's configuration with one certificate.
func serverTLS(cert tls.Certificate, alpn ...string) *tls.Config {
	return TLSConfig(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }, alpn...)
}

// clientTLS trusts cert.
func clientTLS(cert tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(cert.Leaf)
	return &tls.Config{RootCAs: pool, ServerName: "localhost"}
}

// startListener runs a listener on a free port of loopback until the test ends, and then expects all handlers to
// return.
func startListener(t testing.TB, cfg Config, handler func(Conn)) *Listener {
	t.Helper()
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1:0"
	}
	l, err := Listen(context.Background(), cfg)
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- l.Serve(context.Background(), handler) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, l.Shutdown(ctx))
		require.NoError(t, <-served)
	})
	return l
}

// echo sends back what comes, until the end.
func echo(c Conn) {
	for {
		err := c.Receive(func(p []byte) { _ = c.Send([][]byte{p}) })
		if err != nil {
			return
		}
	}
}

// dial connects to l and closes the connection when the test ends.
func dial(t testing.TB, l *Listener) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	return c.(*net.TCPConn)
}

// exchange writes send and expects the same bytes back.
func exchange(t testing.TB, c io.ReadWriter, send string) {
	t.Helper()
	_, err := io.WriteString(c, send)
	require.NoError(t, err)
	got := make([]byte, len(send))
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, send, string(got))
}

// collect receives until an error, and returns all bytes and the error.
func collect(c Conn) (string, error) {
	var all []byte
	for {
		if err := c.Receive(func(p []byte) { all = append(all, p...) }); err != nil {
			return string(all), err
		}
	}
}

// requireClosed expects that the peer has closed c, orderly or not.
func requireClosed(t testing.TB, c net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, c)
	require.False(t, errors.Is(err, os.ErrDeadlineExceeded), "the connection is still open")
}

// value is what a counter or gauge stands at.
func value(m prometheus.Metric) float64 {
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		return -1
	}
	return d.GetCounter().GetValue() + d.GetGauge().GetValue()
}
