package link

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/limit"
)

func testTLS(c *tls.Config) func() *tls.Config { return func() *tls.Config { return c } }

// tlsClient does the client's handshake.
func tlsClient(t testing.TB, c net.Conn, conf *tls.Config) *tls.Conn {
	t.Helper()
	k := tls.Client(c, conf)
	require.NoError(t, k.Handshake())
	return k
}

func TestDirectTLS(t *testing.T) {
	cert := newCertificate(t)
	got := make(chan Conn, 1)
	l := startListener(t, Config{Mode: ModeTLS, TLS: testTLS(serverTLS(cert, ALPNClient))}, func(c Conn) {
		got <- c
		echo(c)
	})
	conf := clientTLS(cert)
	conf.NextProtos = []string{ALPNClient}
	client := tlsClient(t, dial(t, l), conf)
	exchange(t, client, "<message/>")
	exchange(t, client, strings.Repeat("long ", 20000))
	c := <-got
	require.NotNil(t, c.TLS())
	require.Equal(t, ALPNClient, c.TLS().NegotiatedProtocol)
	require.EqualValues(t, tls.VersionTLS13, c.TLS().Version)
	require.Equal(t, tls.X25519MLKEM768, c.TLS().CurveID)
	require.Equal(t, cert.Certificate[0], c.LocalCertificate())
	a, err := c.TLS().ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	require.NoError(t, err)
	state := client.ConnectionState()
	b, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	require.NoError(t, err)
	require.Equal(t, b, a, "tls-exporter")
	require.ErrorIs(t, c.StartTLS(context.Background(), serverTLS(cert)), errIsTLS)
}

// What is spoken is what was agreed on by ALPN, or what the listener is for. A server that knows both takes the compact
// stream.
func TestProtocol(t *testing.T) {
	cert := newCertificate(t)
	got := make(chan string, 1)
	tell := func(c Conn) { got <- c.Protocol() }
	both := startListener(t, Config{Mode: ModeTLS, TLS: testTLS(serverTLS(cert, ProtocolCompact, ALPNClient))}, tell)
	for _, c := range []struct {
		offer []string
		want  string
	}{
		{nil, ""},
		{[]string{ALPNClient}, ALPNClient},
		{[]string{ProtocolCompact}, ProtocolCompact},
		{[]string{ALPNClient, ProtocolCompact}, ProtocolCompact},
		{[]string{"posthouse-compact-2", ProtocolCompact}, ProtocolCompact},
	} {
		conf := clientTLS(cert)
		conf.NextProtos = c.offer
		tlsClient(t, dial(t, both), conf)
		require.Equal(t, c.want, <-got, "%v", c.offer)
	}
	dial(t, startListener(t, Config{}, tell))
	require.Empty(t, <-got)
	dial(t, startListener(t, Config{Protocol: ProtocolCompact}, tell))
	require.Equal(t, ProtocolCompact, <-got)
}

// Reliability row A10.
func TestALPN(t *testing.T) {
	cert := newCertificate(t)
	l := startListener(t, Config{Mode: ModeTLS, TLS: testTLS(serverTLS(cert, ALPNClient))}, echo)
	for name, c := range map[string]struct {
		offer []string
		want  string
		alert bool
	}{
		"the right one":     {offer: []string{"xmpp-client"}, want: "xmpp-client"},
		"among others":      {offer: []string{"h2", "xmpp-client"}, want: "xmpp-client"},
		"none":              {},
		"h2":                {offer: []string{"h2"}, alert: true},
		"http/1.1":          {offer: []string{"http/1.1"}, alert: true},
		"another":           {offer: []string{"xmpp-server"}, alert: true},
		"not quite the one": {offer: []string{"xmpp-client2", "XMPP-client"}, alert: true},
	} {
		t.Run(name, func(t *testing.T) {
			conf := clientTLS(cert)
			conf.NextProtos = c.offer
			k := tls.Client(dial(t, l), conf)
			err := k.Handshake()
			if c.alert {
				require.ErrorContains(t, err, "no application protocol")
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, k.ConnectionState().NegotiatedProtocol)
			exchange(t, k, "x")
		})
	}
}

// Reliability row A7.
func TestOldTLSIsRefused(t *testing.T) {
	cert := newCertificate(t)
	l := startListener(t, Config{Mode: ModeTLS, TLS: testTLS(serverTLS(cert))}, echo)
	suites := func(ids ...uint16) func(*tls.Config) {
		return func(c *tls.Config) {
			c.MinVersion, c.MaxVersion, c.CipherSuites = tls.VersionTLS12, tls.VersionTLS12, ids
		}
	}
	for name, c := range map[string]struct {
		change func(*tls.Config)
		ok     bool
	}{
		"1.0": {change: func(c *tls.Config) {
			c.MinVersion, c.MaxVersion = tls.VersionTLS10,
				tls.VersionTLS10
		}},
		"1.1": {change: func(c *tls.Config) {
			c.MinVersion, c.MaxVersion = tls.VersionTLS10,
				tls.VersionTLS11
		}},
		"CBC": {change: suites(tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA)},
		"no forward secrecy": {change: suites(tls.TLS_RSA_WITH_AES_128_GCM_SHA256)},
		"RC4":                {change: suites(tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA)},
		"3DES":               {change: suites(tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA)},
		"curve P-521":        {change: func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP521} }},
		"1.2 GCM":            {change: suites(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), ok: true},
		"1.2 ChaCha":         {change: suites(tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256), ok: true},
		"1.3":                {change: func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, ok: true},
		"1.3 P-256": {change: func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP256} },
			ok: true},
	} {
		t.Run(name, func(t *testing.T) {
			conf := clientTLS(cert)
			c.change(conf)
			k := tls.Client(dial(t, l), conf)
			err := k.Handshake()
			if !c.ok {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			exchange(t, k, "x")
		})
	}
}

// trickle writes one byte at a time.
type trickle struct{ net.Conn }

func (c trickle) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := c.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func TestTLSByteAtATime(t *testing.T) {
	cert := newCertificate(t)
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			l := startListener(t, Config{Mode: ModeTLS, TLS: testTLS(serverTLS(cert))}, echo)
			conf := clientTLS(cert)
			conf.MaxVersion = version
			tcp := dial(t, l)
			require.NoError(t, tcp.SetNoDelay(true))
			k := tlsClient(t, trickle{tcp}, conf)
			exchange(t, k, "<message><body>hello</body></message>")
			exchange(t, k, strings.Repeat("0123456789", 300))
		})
	}
}

// startTLSServer is a handler that starts TLS at the word of the client, inside use or after it, and then echoes.
func startTLSServer(conf *tls.Config, inside bool, errs chan<- error) func(Conn) {
	return func(c Conn) {
		start := func() {
			_ = c.Send([][]byte{[]byte("proceed")})
			errs <- c.StartTLS(context.Background(), conf)
		}
		_ = c.Receive(func([]byte) {
			if inside {
				start()
			}
		})
		if !inside {
			start()
		}
		echo(c)
	}
}

func TestStartTLS(t *testing.T) {
	cert := newCertificate(t)
	for name, inside := range map[string]bool{"inside use": true, "between two receives": false} {
		t.Run(name, func(t *testing.T) {
			errs := make(chan error, 1)
			l := startListener(t, Config{}, startTLSServer(serverTLS(cert), inside, errs))
			c := dial(t, l)
			_, err := io.WriteString(c, "starttls")
			require.NoError(t, err)
			_, err = io.ReadFull(c, make([]byte, len("proceed")))
			require.NoError(t, err)
			k := tlsClient(t, c, clientTLS(cert))
			exchange(t, k, "hello")
			require.NoError(t, <-errs)
			require.NoError(t, k.CloseWrite())
			_, err = io.ReadAll(k)
			require.NoError(t, err, "the server answers close_notify in kind")
		})
	}
}

// gather keeps what is written until flush, so that the last bytes of the handshake and the first of the stream leave
// together.
type gather struct {
	net.Conn
	held []byte
	on   bool
}

func (c *gather) Write(p []byte) (int, error) {
	if !c.on {
		return c.Conn.Write(p)
	}
	c.held = append(c.held, p...)
	return len(p), nil
}

// What comes in one segment with the end of the handshake must not wait for more to come.
func TestFirstBytesTogetherWithHandshake(t *testing.T) {
	cert := newCertificate(t)
	l := startListener(t, Config{Mode: ModeTLS, TLS: testTLS(serverTLS(cert))}, echo)
	g := &gather{Conn: dial(t, l)}
	conf := clientTLS(cert)
	conf.VerifyConnection = func(tls.ConnectionState) error { // comes before the client's Finished is sent
		g.on = true
		return nil
	}
	k := tlsClient(t, g, conf)
	_, err := io.WriteString(k, "at once")
	require.NoError(t, err)
	_, err = g.Conn.Write(g.held)
	require.NoError(t, err)
	g.on = false
	got := make([]byte, len("at once"))
	_, err = io.ReadFull(k, got)
	require.NoError(t, err)
	require.Equal(t, "at once", string(got))
}

// Reliability row A2, advisory 81: a peer that says nothing, or not enough, is let go, and shuts nobody out meanwhile.
func TestSilentHandshakes(t *testing.T) {
	cert := newCertificate(t)
	lines := make(chanWriter, 100)
	l := startListener(t, Config{
		Mode: ModeTLS, TLS: testTLS(serverTLS(cert)), HandshakeTimeout: 300 * time.Millisecond,
		Gate: limit.NewGate(1, 64), Log: slog.New(slog.NewTextHandler(lines, nil)),
	}, echo)
	began := time.Now()
	var silent []net.Conn
	for i := range 20 {
		c := dial(t, l)
		if i%2 == 0 { // the beginning of a hello
			_, err := c.Write([]byte{22, 3, 1, 1, 0, 1})
			require.NoError(t, err)
		}
		silent = append(silent, c)
	}
	exchange(t, tlsClient(t, dial(t, l), clientTLS(cert)), "not shut out")
	for _, c := range silent {
		requireClosed(t, c)
	}
	require.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond)
	require.EqualValues(t, 20, value(l.owner.metrics.shakeFailures.WithLabelValues("timeout")))
	for range silent {
		require.Contains(t, <-lines, "a TLS handshake was not finished in time")
	}
}

// chanWriter takes log lines.
type chanWriter chan string

func (w chanWriter) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}

func TestNotTLS(t *testing.T) {
	cert := newCertificate(t)
	l := startListener(t, Config{Mode: ModeTLS, TLS: testTLS(serverTLS(cert))}, echo)
	c := dial(t, l)
	_, err := io.WriteString(c, "<stream:stream xmlns='jabber:client'>")
	require.NoError(t, err)
	requireClosed(t, c)
	require.EqualValues(t, 1, value(l.owner.metrics.shakeFailures.WithLabelValues("not_tls")))
}

func TestStartTLSEndsWithContext(t *testing.T) {
	cert := newCertificate(t)
	ctx, cancel := context.WithCancel(context.Background())
	errs := make(chan error, 1)
	l := startListener(t, Config{}, func(c Conn) {
		_ = c.Receive(func([]byte) {})
		time.AfterFunc(10*time.Millisecond, cancel)
		errs <- c.StartTLS(ctx, serverTLS(cert))
	})
	c := dial(t, l)
	_, err := io.WriteString(c, "x")
	require.NoError(t, err)
	_, err = c.Write([]byte{22, 3, 1, 1, 0}) // TLS has begun, and does not go on
	require.NoError(t, err)
	require.ErrorIs(t, <-errs, context.Canceled)
	requireClosed(t, c)
}

// The read deadline that was set before the handshake holds again after it.
func TestDeadlineSurvivesHandshake(t *testing.T) {
	cert := newCertificate(t)
	errs := make(chan error, 2)
	l := startListener(t, Config{HandshakeTimeout: time.Hour}, func(c Conn) {
		_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		errs <- c.StartTLS(context.Background(), serverTLS(cert))
		errs <- c.Receive(func([]byte) {})
	})
	tlsClient(t, dial(t, l), clientTLS(cert))
	require.NoError(t, <-errs)
	require.ErrorIs(t, <-errs, errDeadline)
}

// Reliability row 67: a ticket of before a reload is worth nothing; and a resumed session knows its certificate for the
// channel binding.
func TestSessionTickets(t *testing.T) {
	cert := newCertificate(t)
	var conf atomic.Pointer[tls.Config]
	conf.Store(serverTLS(cert))
	got := make(chan Conn, 1)
	l := startListener(t, Config{Mode: ModeTLS, TLS: conf.Load}, func(c Conn) {
		got <- c
		echo(c)
	})
	client := clientTLS(cert)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	connect := func() (resumed bool) {
		k := tlsClient(t, dial(t, l), client)
		exchange(t, k, "x") // reads the ticket too
		c := <-got
		require.Equal(t, cert.Certificate[0], c.LocalCertificate())
		require.NoError(t, k.Close())
		return k.ConnectionState().DidResume && c.TLS().DidResume
	}
	require.False(t, connect())
	require.True(t, connect())
	conf.Store(serverTLS(cert))
	require.False(t, connect(), "the configuration is another one")
}

func TestLocalCertificateOfAFixedConfig(t *testing.T) {
	cert := newCertificate(t)
	got := make(chan []byte, 1)
	l := startListener(t, Config{Mode: ModeTLS, TLS: testTLS(&tls.Config{Certificates: []tls.Certificate{cert}})},
		func(c Conn) {
			got <- c.LocalCertificate()
		})
	tlsClient(t, dial(t, l), clientTLS(cert))
	require.Equal(t, cert.Certificate[0], <-got)
}

func TestNoCertificate(t *testing.T) {
	conf := TLSConfig(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil })
	l := startListener(t, Config{Mode: ModeTLS, TLS: testTLS(conf)}, echo)
	require.Error(t, tls.Client(dial(t, l), &tls.Config{InsecureSkipVerify: true}).Handshake())
}

// record13 writes TLS 1.3 records as a client, with keys taken from its key log: the library has no way to send what a
// hostile peer can.
type record13 struct {
	aead cipher.AEAD
	iv   []byte
	seq  uint64
	key  []byte // traffic secret
}

func newRecord13(t *testing.T, secret []byte) *record13 {
	r := &record13{key: secret}
	r.rekey(t)
	return r
}

func expandLabel(t *testing.T, secret []byte, label string, n int) []byte {
	full := "tls13 " + label
	info := append(binary.BigEndian.AppendUint16(nil, uint16(n)), byte(len(full)))
	info = append(append(info, full...), 0)
	out, err := hkdf.Expand(sha256.New, secret, string(info), n)
	require.NoError(t, err)
	return out
}

func (r *record13) rekey(t *testing.T) {
	block, err := aes.NewCipher(expandLabel(t, r.key, "key", 16))
	require.NoError(t, err)
	r.aead, err = cipher.NewGCM(block)
	require.NoError(t, err)
	r.iv, r.seq = expandLabel(t, r.key, "iv", 12), 0
}

// seal makes one record of the given content type.
func (r *record13) seal(kind byte, payload []byte) []byte {
	inner := append(append([]byte(nil), payload...), kind)
	head := []byte{23, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(inner)+r.aead.Overhead()))
	nonce := append([]byte(nil), r.iv...)
	for i := range 8 {
		nonce[4+i] ^= byte(r.seq >> (56 - 8*i))
	}
	r.seq++
	return r.aead.Seal(head, nonce, inner, head)
}

// keyUpdate makes a KeyUpdate record (RFC 8446 §4.6.3) and goes on with the next key.
func (r *record13) keyUpdate(t *testing.T, request byte) []byte {
	rec := r.seal(22, []byte{24, 0, 0, 1, request})
	r.key = expandLabel(t, r.key, "traffic upd", 32)
	r.rekey(t)
	return rec
}

// hostileTLS returns a TLS 1.3 connection on which records are written by hand.
func hostileTLS(t *testing.T, l *Listener, cert tls.Certificate) (*net.TCPConn, *record13) {
	tcp := dial(t, l)
	var log strings.Builder
	conf := clientTLS(cert)
	conf.KeyLogWriter, conf.MinVersion = &log, tls.VersionTLS13
	k := tlsClient(t, tcp, conf)
	require.Equal(t, tls.TLS_AES_128_GCM_SHA256, k.ConnectionState().CipherSuite)
	for line := range strings.Lines(log.String()) {
		if f := strings.Fields(line); f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(f[2])
			require.NoError(t, err)
			return tcp, newRecord13(t, secret)
		}
	}
	t.Fatal("no secret in the key log")
	return nil, nil
}

// Reliability row A13, advisories 4 and 60.
func TestTLSFloods(t *testing.T) {
	cert := newCertificate(t)
	const app = 23
	for name, flood := range map[string]func(t *testing.T, r *record13) []byte{
		"key updates":                  func(t *testing.T, r *record13) []byte { return r.keyUpdate(t, 0) },
		"key updates that ask for one": func(t *testing.T, r *record13) []byte { return r.keyUpdate(t, 1) },
		"key updates among tiny records": func(t *testing.T, r *record13) []byte {
			return append(r.keyUpdate(t, 1), r.seal(app, []byte{' '})...)
		},
		"tiny records":  func(_ *testing.T, r *record13) []byte { return r.seal(app, []byte{' '}) },
		"empty records": func(_ *testing.T, r *record13) []byte { return r.seal(app, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			errs := make(chan error, 1)
			l := startListener(t, Config{Mode: ModeTLS, TLS: testTLS(serverTLS(cert))}, func(c Conn) {
				_, err := collect(c)
				errs <- err
			})
			tcp, r := hostileTLS(t, l, cert)
			go func() { _, _ = io.Copy(io.Discard, tcp) }()
			sent := 0
			for sent < 4<<20 {
				var batch []byte
				for len(batch) < 4000 {
					batch = append(batch, flood(t, r)...)
				}
				n, err := tcp.Write(batch)
				sent += n
				if err != nil {
					break
				}
			}
			_ = tcp.CloseWrite() // if the server has let it all pass
			err := <-errs
			require.Error(t, err)
			require.NotErrorIs(t, err, io.EOF)
			require.Less(t, sent, 4<<20, "the server has taken everything")
		})
	}
}

// A few of the same are nothing to complain of.
func TestKeyUpdateIsAnswered(t *testing.T) {
	cert := newCertificate(t)
	l := startListener(t, Config{Mode: ModeTLS, TLS: testTLS(serverTLS(cert))}, echo)
	tcp, r := hostileTLS(t, l, cert)
	for range 10 {
		_, err := tcp.Write(append(r.keyUpdate(t, 1), r.seal(23, []byte("still here"))...))
		require.NoError(t, err)
	}
	require.NoError(t, tcp.CloseWrite())
	answer, err := io.ReadAll(tcp)
	require.NoError(t, err)
	require.Greater(t, len(answer), 10*len("still here"))
}

func TestOverheadIsForgivenWithTime(t *testing.T) {
	var l tlsLayer
	require.True(t, l.pay(overheadBurst/2))
	require.True(t, l.pay(overheadBurst/2+1), "nothing has been spent for a long time")
	require.True(t, l.pay(overheadBurst))
	require.False(t, l.pay(overheadBurst))
	l.since -= 200
	require.True(t, l.pay(1))
	require.True(t, l.pay(-1<<40))
	require.Zero(t, l.spent, "content does not pay in advance")
}

// errDeadline is what the contract promises for a deadline that is over.
var errDeadline = deadlineError()

func deadlineError() error {
	c, _ := Pipe()
	defer func() { _ = c.Close(0) }()
	_ = c.SetReadDeadline(time.Now().Add(-time.Second))
	err := c.Receive(func([]byte) {})
	if err == nil {
		return errors.New("no deadline")
	}
	return err
}
