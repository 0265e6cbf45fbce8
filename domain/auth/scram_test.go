package auth_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
)

// Abuse row A42, and 38 and 42 of the advisories: SCRAM messages bent in every place.
func TestSCRAMBent(t *testing.T) {
	s := newServer(t, func(c *auth.Config) {
		c.Failures.PerUser, c.Failures.PerAddress, c.Failures.KnownPerUser = -1, -1, -1
	})
	l := tlsLink(t, tls.VersionTLS13, "ecdsa")
	exporter := bindingData(t, l, "tls-exporter")
	other := append([]byte{exporter[0] ^ 1}, exporter[1:]...)
	for name, tc := range map[string]struct {
		bend func(*scramClient)
		plus bool
		want auth.SASLCondition
		text string
	}{
		"wrong password": {bend: func(c *scramClient) { c.password = "x" }, want: auth.NotAuthorized},
		"nonce of client": {bend: func(c *scramClient) { c.bendNonce = func(string) string { return c.nonce } },
			want: auth.NotAuthorized},
		"nonce changed": {bend: func(c *scramClient) {
			c.bendNonce = func(n string) string {
				return n[:len(n)-1] +
					"!"
			}
		}, want: auth.NotAuthorized},
		"nonce longer": {bend: func(c *scramClient) { c.bendNonce = func(n string) string { return n + "x" } },
			want: auth.NotAuthorized},
		"no nonce":         {bend: func(c *scramClient) { c.nonce = "" }, want: auth.MalformedRequest},
		"nonce with space": {bend: func(c *scramClient) { c.nonce = "a b" }, want: auth.MalformedRequest},
		"huge nonce": {bend: func(c *scramClient) { c.nonce = strings.Repeat("a", 513) },
			want: auth.MalformedRequest},
		"mandatory first": {bend: func(c *scramClient) { c.name = "x,m=y"; c.ext = ",m=1" },
			want: auth.MalformedRequest},
		"mandatory in final": {bend: func(c *scramClient) { c.finalExt = ",m=1" }, want: auth.NotAuthorized},
		"reserved extension": {bend: func(c *scramClient) { c.finalExt = ",c=biws" }, want: auth.NotAuthorized},
		"empty extension":    {bend: func(c *scramClient) { c.finalExt = "," }, want: auth.NotAuthorized},
		"no proof":           {bend: func(c *scramClient) { c.withoutProof = true }, want: auth.NotAuthorized},
		"empty proof": {bend: func(c *scramClient) { c.bendProof = func([]byte) []byte { return nil } },
			want: auth.NotAuthorized},
		"short proof": {bend: func(c *scramClient) { c.bendProof = func(p []byte) []byte { return p[1:] } },
			want: auth.NotAuthorized},
		"long proof": {bend: func(c *scramClient) { c.bendProof = func(p []byte) []byte { return append(p, 0) } },
			want: auth.NotAuthorized},
		"header differs": {bend: func(c *scramClient) { c.header = "y,," }, want: auth.NotAuthorized,
			text: "channel-bindings-dont-match"},
		"header with authzid": {
			bend: func(c *scramClient) { c.header = "n,a=juliet@example.com," }, want: auth.NotAuthorized,
			text: "channel-bindings-dont-match",
		},
		"data without binding": {bend: func(c *scramClient) { c.binding = exporter }, want: auth.NotAuthorized,
			text: "channel-bindings-dont-match"},
		"y though offered": {bend: func(c *scramClient) { c.flag = "y" }, want: auth.NotAuthorized,
			text: "server-does-support-channel-binding"},
		"p without plus": {bend: func(c *scramClient) { c.flag = "p=tls-exporter"; c.binding = exporter },
			want: auth.MalformedRequest},
		"n with plus": {bend: func(c *scramClient) { c.flag = "n" }, plus: true, want: auth.MalformedRequest},
		"y with plus": {bend: func(c *scramClient) { c.flag = "y" }, plus: true, want: auth.MalformedRequest},
		"tls-unique": {bend: func(c *scramClient) { c.flag = "p=tls-unique" }, plus: true,
			want: auth.NotAuthorized, text: "unsupported-channel-binding-type"},
		"unknown binding": {bend: func(c *scramClient) { c.flag = "p=x" }, plus: true, want: auth.NotAuthorized,
			text: "unsupported-channel-binding-type"},
		"no binding type": {bend: func(c *scramClient) { c.flag = "p=" }, plus: true, want: auth.MalformedRequest},
		"other channel": {bend: func(c *scramClient) { c.flag, c.binding = "p=tls-exporter", other }, plus: true,
			want: auth.NotAuthorized, text: "channel-bindings-dont-match"},
		"no binding data": {bend: func(c *scramClient) { c.flag = "p=tls-exporter" }, plus: true,
			want: auth.NotAuthorized, text: "channel-bindings-dont-match"},
		"data of other type": {
			bend: func(c *scramClient) { c.flag, c.binding = "p=tls-server-end-point", exporter }, plus: true,
			want: auth.NotAuthorized, text: "channel-bindings-dont-match",
		},
		"header of other type": {
			bend: func(c *scramClient) {
				c.flag, c.binding, c.header = "p=tls-exporter", exporter, "p=tls-server-end-point,,"
			}, plus: true,
			want: auth.NotAuthorized, text: "channel-bindings-dont-match",
		},
		"bad flag":          {bend: func(c *scramClient) { c.flag = "z" }, want: auth.MalformedRequest},
		"no flag":           {bend: func(c *scramClient) { c.flag = "" }, want: auth.MalformedRequest},
		"authzid attribute": {bend: func(c *scramClient) { c.authzid = "b=juliet" }, want: auth.MalformedRequest},
		"name with equals":  {bend: func(c *scramClient) { c.name = "juliet=" }, want: auth.MalformedRequest},
		"name with bad hex": {bend: func(c *scramClient) { c.name = "juliet=2c" }, want: auth.MalformedRequest},
		"no name":           {bend: func(c *scramClient) { c.name = "" }, want: auth.MalformedRequest},
		"name in bad UTF-8": {bend: func(c *scramClient) { c.name = "\xff" }, want: auth.MalformedRequest},
		"name with NUL":     {bend: func(c *scramClient) { c.name = "juliet\x00" }, want: auth.MalformedRequest},
	} {
		mechanism := auth.ScramSHA256
		if tc.plus {
			mechanism = auth.ScramSHA256Plus
		}
		c := newSCRAMClient(mechanism)
		tc.bend(c)
		_, f := s.scram(t, l.server, mechanism, c)
		requireFailure(t, tc.want, f, name)
		if tc.text != "" {
			require.Equal(t, tc.text, f.Text, name)
		}
	}
	_, _, f := s.Begin(context.Background(), l.server, auth.ScramSHA256, []byte("n,,m=x,n=juliet,r=abc"), true)
	requireFailure(t, auth.NotAuthorized, f)
	require.Equal(t, "extensions-not-supported", f.Text)
	e, _, f := s.Begin(context.Background(), l.server, auth.ScramSHA256, newSCRAMClient("").firstMessage(), true)
	require.Nil(t, f)
	_, _, f = e.Step(context.Background(), []byte("m=x,c=biws,r=abc,p=aaaa"))
	requireFailure(t, auth.NotAuthorized, f)
	require.Equal(t, "extensions-not-supported", f.Text)
	for _, final := range []string{"", ",", "p=", "c=biws", "c=biws,r=", "c=b!ws,r=a,p=aaaa", "c=biws,r=a,p=!!!!",
		"r=a,c=biws,p=aaaa", "\xff", strings.Repeat("a", 1<<20)} {
		e, _, f := s.Begin(context.Background(), l.server, auth.ScramSHA256, newSCRAMClient("").firstMessage(), true)
		require.Nil(t, f)
		_, _, f = e.Step(context.Background(), []byte(final))
		require.NotNil(t, f, "%.40q", final)
		require.Contains(t, []auth.SASLCondition{auth.NotAuthorized, auth.MalformedRequest}, f.Condition)
		_, _, f = e.Step(context.Background(), []byte(final))
		requireFailure(t, auth.MalformedRequest, f, "an exchange that failed is over")
		require.False(t, e.Done())
	}
}

// What RFC 5802 allows and few clients do.
func TestSCRAMUnusual(t *testing.T) {
	s := newServer(t)
	for name, bend := range map[string]func(*scramClient){
		"extension in first": func(c *scramClient) { c.ext = ",x=y=z" },
		"extension in final": func(c *scramClient) { c.finalExt = ",x=19C6532F,Y=1" },
		"capitals":           func(c *scramClient) { c.name = "JULIET" },
		"y without offer":    func(c *scramClient) { c.flag = "y" },
	} {
		c := newSCRAMClient(auth.ScramSHA256)
		bend(c)
		e, f := s.scram(t, plainChannel(), auth.ScramSHA256, c)
		require.Nil(t, f, name)
		require.Equal(t, "juliet", e.Account().Name)
	}
	_, err := s.Create(context.Background(), "a,b=c", "a password, a=b")
	require.NoError(t, err)
	c := newSCRAMClient(auth.ScramSHA1)
	c.name, c.password = "a=2Cb=3Dc", "a password, a=b"
	e, f := s.scram(t, proxied(), auth.ScramSHA1, c)
	require.Nil(t, f)
	require.Equal(t, "a,b=c", e.Account().Name)
}

// Row 38 of the advisories: the server's part of the nonce is at least 18 bytes and new each time.
func TestServerNonce(t *testing.T) {
	s := newServer(t)
	seen := make(map[string]bool)
	for range 100 {
		c := newSCRAMClient(auth.ScramSHA256)
		_, challenge, f := s.Begin(context.Background(), plainChannel(), auth.ScramSHA256, c.firstMessage(), true)
		require.Nil(t, f)
		nonce, _, _ := strings.Cut(strings.TrimPrefix(string(challenge), "r="+c.nonce), ",")
		require.False(t, seen[nonce])
		seen[nonce] = true
		raw, err := base64.StdEncoding.DecodeString(nonce)
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(raw), 18)
	}
	s = newServer(t, func(c *auth.Config) { c.Random = strings.NewReader("") })
	_, _, f := s.Begin(context.Background(), plainChannel(), auth.ScramSHA256, newSCRAMClient("").firstMessage(), true)
	requireFailure(t, auth.TemporaryAuthFailure, f, "no randomness, no login")
}

// Abuse row A43: the hash of XEP-0474 covers what was advertised, so that a client sees when its list was another one.
func TestDowngradeProtection(t *testing.T) {
	hashOf := func(s *server, l *link) string {
		_, challenge, f := s.Begin(context.Background(), l.server, auth.ScramSHA256, newSCRAMClient("").firstMessage(),
			true)
		require.Nil(t, f)
		_, h, found := strings.Cut(string(challenge), ",h=")
		if !found {
			return ""
		}
		return h
	}
	s := newServer(t)
	sum := sha256.Sum256(
		[]byte("PLAIN\x1eSCRAM-SHA-1\x1eSCRAM-SHA-1-PLUS\x1eSCRAM-SHA-256\x1eSCRAM-SHA-256-PLUS\x1f" +
			"tls-exporter\x1etls-server-end-point"))
	require.Equal(t, base64.StdEncoding.EncodeToString(sum[:]), hashOf(s, tlsLink(t, tls.VersionTLS13, "ecdsa")))
	sum = sha256.Sum256([]byte("SCRAM-SHA-256"))
	require.Equal(t, base64.StdEncoding.EncodeToString(sum[:]), hashOf(s, &link{server: plainChannel()}))
	s = newServer(t, func(c *auth.Config) { c.DowngradeProtectionOff = true })
	require.Empty(t, hashOf(s, &link{server: plainChannel()}))

	// Whoever changes the hash on its way breaks the proof.
	s = newServer(t)
	c := newSCRAMClient(auth.ScramSHA256)
	e, challenge, f := s.Begin(context.Background(), plainChannel(), auth.ScramSHA256, c.firstMessage(), true)
	require.Nil(t, f)
	forged := []byte(string(challenge[:len(challenge)-44]) + strings.Repeat("A", 43) + "=")
	_, _, f = e.Step(context.Background(), c.finalMessage(t, forged))
	requireFailure(t, auth.NotAuthorized, f)
	// And whoever changes the iteration count.
	e, challenge, f = s.Begin(context.Background(), plainChannel(), auth.ScramSHA256, c.firstMessage(), true)
	require.Nil(t, f)
	_, _, f = e.Step(context.Background(),
		c.finalMessage(t, []byte(strings.Replace(string(challenge), ",i=512", ",i=1", 1))))
	requireFailure(t, auth.NotAuthorized, f)
}
