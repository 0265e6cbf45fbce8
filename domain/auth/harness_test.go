package auth_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/scram"
)

const (
	iterations = 512 // few, for speed
	password   = "correct horse"
)

var remote = netip.MustParseAddr("192.0.2.1")

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_800_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// server is an authenticator with the account juliet, and what it stands on.
type server struct {
	*auth.Authenticator
	accounts *memory
	clock    *clock
	log      *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newServer(t testing.TB, configure ...func(*auth.Config)) *server {
	t.Helper()
	s := &server{accounts: newMemory(), clock: newClock(), log: &syncBuffer{}}
	config := auth.Config{
		Iterations: iterations, Now: s.clock.Now, Secret: []byte("a secret of this test, 32 bytes "),
		Log: slog.New(slog.NewJSONHandler(s.log, nil)),
	}
	for _, c := range configure {
		c(&config)
	}
	var err error
	s.Authenticator, err = auth.New(s.accounts, config)
	require.NoError(t, err)
	_, err = s.Create(context.Background(), "juliet", password)
	require.NoError(t, err)
	return s
}

func plainChannel() *auth.Channel {
	return &auth.Channel{Remote: remote, Domain: "example.com"}
}

// proxied is a channel whose TLS ends in front of the server.
func proxied() *auth.Channel {
	ch := plainChannel()
	ch.Secure = true
	return ch
}

// channelFor is one without TLS here that a mechanism is offered on.
func channelFor(mechanism string) *auth.Channel {
	if mechanism == auth.ScramSHA1 {
		return proxied()
	}
	return plainChannel()
}

// link is both ends of a TLS connection.
type link struct {
	server *auth.Channel
	client tls.ConnectionState
}

var tlsLinks sync.Map // of linkKey to *link: handshakes are slow

type linkKey struct {
	version uint16
	kind    string
}

// tlsLink returns a channel with TLS of that version, with a certificate "ecdsa" or "ed25519".
func tlsLink(t testing.TB, version uint16, kind string) *link {
	t.Helper()
	key := linkKey{version, kind}
	if l, ok := tlsLinks.Load(key); ok {
		made := *l.(*link)
		ch := *made.server
		made.server = &ch
		return &made
	}
	certificate := selfSigned(t, kind)
	clientSide, serverSide := net.Pipe()
	server := tls.Server(serverSide,
		&tls.Config{Certificates: []tls.Certificate{certificate}, MaxVersion: version, MinVersion: version})
	client := tls.Client(clientSide,
		&tls.Config{InsecureSkipVerify: true, MaxVersion: version, MinVersion: tls.VersionTLS12})
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	require.NoError(t, client.Handshake())
	require.NoError(t, <-done)
	state := server.ConnectionState()
	l := &link{
		server: &auth.Channel{Secure: true, TLS: &state, LocalCertificate: certificate.Certificate[0], Remote: remote,
			Domain: "example.com"},
		client: client.ConnectionState(),
	}
	tlsLinks.Store(key, l)
	return tlsLink(t, version, kind)
}

func selfSigned(t testing.TB, kind string) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "example.com"}, DNSNames: []string{"example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	var public, private any
	switch kind {
	case "ed25519":
		pub, priv, err := ed25519.GenerateKey(rand.Reader)
		require.NoError(t, err)
		public, private = pub, priv
	case "ecdsa", "ecdsa384":
		curve := elliptic.P256()
		if kind == "ecdsa384" {
			curve = elliptic.P384()
		}
		priv, err := ecdsa.GenerateKey(curve, rand.Reader)
		require.NoError(t, err)
		public, private = priv.Public(), priv
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}

// scramClient is a client written from RFC 5802 for these tests, every part of which can be bent.
type scramClient struct {
	hash     *scram.Hash
	password string
	// The client-first-message.
	flag, authzid, name, nonce, ext string
	// The client-final-message.
	binding      []byte // channel binding data
	header       string // in cbind-input; "" means that of the first message
	bendNonce    func(string) string
	finalExt     string
	withoutProof bool
	bendProof    func([]byte) []byte
	serverSecret []byte // to check the server's signature

	bare string
}

func newSCRAMClient(mechanism string) *scramClient {
	return &scramClient{hash: scram.HashOf(mechanism), password: password, flag: "n", name: "juliet",
		nonce: "fyko+d2lbbFgONRv9qkxdawL"}
}

func (c *scramClient) gs2() string { return c.flag + "," + c.authzid + "," }

func (c *scramClient) firstMessage() []byte {
	c.bare = "n=" + c.name + ",r=" + c.nonce + c.ext
	return []byte(c.gs2() + c.bare)
}

func (c *scramClient) finalMessage(t testing.TB, challenge []byte) []byte {
	t.Helper()
	fields := scram.Fields(challenge)
	salt, err := base64.StdEncoding.DecodeString(fields['s'])
	require.NoError(t, err)
	count, err := strconv.Atoi(fields['i'])
	require.NoError(t, err)
	keys, err := c.hash.Derive(c.password, salt, count)
	require.NoError(t, err)
	header := c.header
	if header == "" {
		header = c.gs2()
	}
	nonce := fields['r']
	if c.bendNonce != nil {
		nonce = c.bendNonce(nonce)
	}
	final := "c=" + base64.StdEncoding.EncodeToString(append([]byte(header), c.binding...)) + ",r=" + nonce + c.finalExt
	message := []byte(c.bare + "," + string(challenge) + "," + final)
	proof := c.hash.Proof(keys, message)
	if c.bendProof != nil {
		proof = c.bendProof(proof)
	}
	c.serverSecret = c.hash.HMAC(keys.Server, message)
	if c.withoutProof {
		return []byte(final)
	}
	return []byte(final + ",p=" + base64.StdEncoding.EncodeToString(proof))
}

// login runs a whole exchange. A failure of either step is returned.
func (s *server) scram(t testing.TB, ch *auth.Channel, mechanism string, c *scramClient) (*auth.Exchange,
	*auth.Failure) {
	t.Helper()
	e, challenge, f := s.Begin(context.Background(), ch, mechanism, c.firstMessage(), true)
	if f != nil {
		return nil, f
	}
	require.False(t, e.Done())
	_, done, f := e.Step(context.Background(), c.finalMessage(t, challenge))
	require.Equal(t, f == nil, done)
	require.Equal(t, done, e.Done())
	if f != nil {
		require.Zero(t, e.Account())
		return nil, f
	}
	require.Equal(t, "v="+base64.StdEncoding.EncodeToString(c.serverSecret), string(e.Additional()))
	return e, nil
}

func (s *server) plain(ch *auth.Channel, authzid, name, password string) (*auth.Exchange, *auth.Failure) {
	e, _, f := s.Begin(context.Background(), ch, auth.Plain, []byte(authzid+"\x00"+name+"\x00"+password), true)
	return e, f
}

func requireFailure(t testing.TB, want auth.SASLCondition, f *auth.Failure, about ...any) {
	t.Helper()
	require.NotNil(t, f, about...)
	require.Equal(t, want, f.Condition, about...)
}

func credentialsOf(t testing.TB, password string) []store.Credential {
	t.Helper()
	c, err := auth.MakeCredentials(password, iterations)
	require.NoError(t, err)
	return c
}
