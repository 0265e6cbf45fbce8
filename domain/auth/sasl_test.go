package auth_test

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/xdg-go/scram"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/store"
)

func TestOffers(t *testing.T) {
	s := newServer(t)
	inTheClear := []string{auth.ScramSHA256}
	encrypted := []string{auth.ScramSHA256, auth.Plain, auth.ScramSHA1}
	all := []string{auth.ScramSHA256Plus, auth.ScramSHA256, auth.Plain, auth.ScramSHA1Plus, auth.ScramSHA1}
	loopback := plainChannel()
	loopback.Loopback = true
	for name, tc := range map[string]struct {
		ch         *auth.Channel
		mechanisms []string
		bindings   []string
	}{
		"in the clear":    {plainChannel(), inTheClear, nil},
		"loopback":        {loopback, inTheClear, nil},
		"TLS ends before": {proxied(), encrypted, nil},
		"TLS 1.3": {tlsLink(t, tls.VersionTLS13, "ecdsa").server, all,
			[]string{"tls-exporter", "tls-server-end-point"}},
		"TLS 1.2":          {tlsLink(t, tls.VersionTLS12, "ecdsa").server, all, []string{"tls-server-end-point"}},
		"TLS 1.3, Ed25519": {tlsLink(t, tls.VersionTLS13, "ed25519").server, all, []string{"tls-exporter"}},
		"TLS 1.2, Ed25519": {tlsLink(t, tls.VersionTLS12, "ed25519").server, encrypted, nil},
	} {
		require.Equal(t, tc.mechanisms, s.Mechanisms(tc.ch), name)
		require.Equal(t, tc.bindings, s.ChannelBindings(tc.ch), name)
	}

	s = newServer(t, func(c *auth.Config) { c.PlainWithoutTLS = true })
	require.Equal(t, encrypted, s.Mechanisms(loopback))
	require.Equal(t, inTheClear, s.Mechanisms(plainChannel()), "not from elsewhere")

	s = newServer(t, func(c *auth.Config) { c.Mechanisms = []string{auth.ScramSHA256} })
	ch := tlsLink(t, tls.VersionTLS13, "ecdsa").server
	require.Equal(t, []string{auth.ScramSHA256}, s.Mechanisms(ch))
	require.Empty(t, s.ChannelBindings(ch), "nothing to bind with")

	_, err := auth.New(newMemory(), auth.Config{Mechanisms: []string{"CRAM-MD5"}})
	require.ErrorContains(t, err, "CRAM-MD5")
}

// Abuse rows A38 and A8: what is not offered on a channel is refused there.
func TestMechanismsNotOffered(t *testing.T) {
	s := newServer(t)
	for mechanism, want := range map[string]auth.SASLCondition{
		"":                   auth.InvalidMechanism,
		"plain":              auth.InvalidMechanism,
		"EXTERNAL":           auth.InvalidMechanism,
		"SCRAM-SHA-512":      auth.InvalidMechanism,
		auth.ScramSHA256Plus: auth.InvalidMechanism,
		auth.ScramSHA1Plus:   auth.InvalidMechanism,
		auth.ScramSHA1:       auth.EncryptionRequired,
		auth.Plain:           auth.EncryptionRequired,
	} {
		_, _, f := s.Begin(context.Background(), plainChannel(), mechanism, []byte("\x00juliet\x00"+password), true)
		requireFailure(t, want, f, mechanism)
	}
	s = newServer(t, func(c *auth.Config) { c.Mechanisms = []string{auth.ScramSHA256} })
	_, f := s.plain(proxied(), "", "juliet", password)
	requireFailure(t, auth.InvalidMechanism, f)
}

func TestLoginWithEveryMechanism(t *testing.T) {
	s := newServer(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, certificate := range []string{"ecdsa", "ecdsa384", "ed25519"} {
			l := tlsLink(t, version, certificate)
			for _, mechanism := range s.Mechanisms(l.server) {
				types := s.ChannelBindings(l.server)
				if !strings.HasSuffix(mechanism, "-PLUS") {
					types = []string{""}
				}
				for _, binding := range types {
					account, f := s.login(t, l, mechanism, binding)
					require.Nil(t, f, "%s %s", mechanism, binding)
					require.Equal(t, "juliet", account.Name)
					require.NotZero(t, account.ID)
				}
			}
		}
	}
}

// login logs juliet in with a channel binding type, "" for none.
func (s *server) login(t *testing.T, l *link, mechanism, binding string) (store.Account, *auth.Failure) {
	t.Helper()
	if mechanism == auth.Plain {
		e, f := s.plain(l.server, "", "juliet", password)
		if f != nil {
			return store.Account{}, f
		}
		return e.Account(), nil
	}
	c := newSCRAMClient(mechanism)
	if binding != "" {
		c.flag = "p=" + binding
		c.binding = bindingData(t, l, binding)
	}
	e, f := s.scram(t, l.server, mechanism, c)
	if f != nil {
		return store.Account{}, f
	}
	return e.Account(), nil
}

// bindingData computes what the client binds to, on its side of the connection.
func bindingData(t *testing.T, l *link, binding string) []byte {
	t.Helper()
	if binding == "tls-exporter" {
		data, err := l.client.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
		require.NoError(t, err)
		return data
	}
	certificate := l.client.PeerCertificates[0]
	if strings.Contains(certificate.SignatureAlgorithm.String(), "SHA384") {
		sum := sha512.Sum384(certificate.Raw)
		return sum[:]
	}
	sum := sha256.Sum256(certificate.Raw)
	return sum[:]
}

// The client of another implementation.
func TestLoginWithXDGClient(t *testing.T) {
	s := newServer(t, func(c *auth.Config) { c.Iterations = 4096 }) // it refuses fewer
	l := tlsLink(t, tls.VersionTLS13, "ecdsa")
	for _, mechanism := range []string{auth.ScramSHA256Plus, auth.ScramSHA1Plus, auth.ScramSHA256, auth.ScramSHA1} {
		hash := scram.SHA256
		if strings.HasPrefix(mechanism, "SCRAM-SHA-1") {
			hash = scram.SHA1
		}
		client, err := hash.NewClient("juliet", password, "")
		require.NoError(t, err)
		conversations := []*scram.ClientConversation{client.NewConversation()}
		if strings.HasSuffix(mechanism, "-PLUS") {
			exporter, err := scram.NewTLSExporterBinding(&l.client)
			require.NoError(t, err)
			endPoint, err := scram.NewTLSServerEndpointBinding(&l.client)
			require.NoError(t, err)
			conversations = []*scram.ClientConversation{
				client.NewConversationWithChannelBinding(exporter), client.NewConversationWithChannelBinding(endPoint),
			}
		}
		for _, conversation := range conversations {
			message, err := conversation.Step("")
			require.NoError(t, err)
			e, challenge, f := s.Begin(context.Background(), l.server, mechanism, []byte(message), true)
			require.Nil(t, f)
			message, err = conversation.Step(string(challenge))
			require.NoError(t, err)
			_, done, f := e.Step(context.Background(), []byte(message))
			require.Nil(t, f)
			require.True(t, done)
			_, err = conversation.Step(string(e.Additional()))
			require.NoError(t, err)
			require.True(t, conversation.Valid(), mechanism)
			require.Equal(t, "juliet", e.Account().Name)
		}
	}
}

func TestBeginWithoutInitialResponse(t *testing.T) {
	s := newServer(t)
	e, challenge, f := s.Begin(context.Background(), proxied(), auth.Plain, nil, false)
	require.Nil(t, f)
	require.Empty(t, challenge)
	require.NotNil(t, challenge)
	require.False(t, e.Done())
	_, done, f := e.Step(context.Background(), []byte("\x00juliet\x00"+password))
	require.Nil(t, f)
	require.True(t, done)
	require.Nil(t, e.Additional())

	c := newSCRAMClient(auth.ScramSHA256)
	e, _, f = s.Begin(context.Background(), plainChannel(), auth.ScramSHA256, nil, false)
	require.Nil(t, f)
	challenge, done, f = e.Step(context.Background(), c.firstMessage())
	require.Nil(t, f)
	require.False(t, done)
	_, done, f = e.Step(context.Background(), c.finalMessage(t, challenge))
	require.Nil(t, f)
	require.True(t, done)

	_, done, f = e.Step(context.Background(), nil)
	requireFailure(t, auth.MalformedRequest, f)
	require.False(t, done)
	require.True(t, e.Done(), "what was achieved stays")

	// An empty initial response is not an absent one.
	_, _, f = s.Begin(context.Background(), proxied(), auth.Plain, []byte{}, true)
	requireFailure(t, auth.MalformedRequest, f)
}

// Abuse row A36.
func TestDecode(t *testing.T) {
	for text, want := range map[string]string{"": "", "=": "", "biws": "n,,", "AA==": "\x00"} {
		data, f := auth.Decode(text)
		require.Nil(t, f, text)
		require.NotNil(t, data)
		require.Equal(t, want, string(data), text)
	}
	for _, text := range []string{"biw", "bi ws", "bi\nws", "biws\r\n", "b!ws", "AA=", "AB==", "==", "biws=", "-_-_",
		"\xff"} {
		_, f := auth.Decode(text)
		requireFailure(t, auth.IncorrectEncoding, f, text)
	}
}

// Abuse row A37.
func TestPlainMalformed(t *testing.T) {
	s := newServer(t)
	long := strings.Repeat("a", 1025)
	for _, message := range []string{
		"", "juliet", "juliet\x00" + password, "\x00juliet\x00" + password + "\x00", "\x00\x00\x00\x00", "\x00\x00",
		"\x00juliet\x00", "\x00\x00" + password,
		"\x00juliet\x00\xff", "\xff\x00juliet\x00" + password, "\x00ju\xc3\x00" + password,
		long + "\x00juliet\x00" + password, "\x00" + long + "\x00" + password, "\x00juliet\x00" + long,
		strings.Repeat("\x00", 1<<20),
	} {
		_, _, f := s.Begin(context.Background(), proxied(), auth.Plain, []byte(message), true)
		requireFailure(t, auth.MalformedRequest, f, "%.40q", message)
	}
}

// Abuse rows A39 and 1 of the advisories: nobody acts as somebody else, with any mechanism, in any spelling.
func TestAuthzidMatrix(t *testing.T) {
	s := newServer(t, func(c *auth.Config) {
		c.Failures.PerAddress, c.Failures.PerUser, c.Failures.KnownPerUser = -1,
			-1, -1
	})
	_, err := s.Create(context.Background(), "romeo", "wherefore art")
	require.NoError(t, err)
	l := tlsLink(t, tls.VersionTLS13, "ecdsa")
	forms := map[string]bool{
		"":                           true,
		"juliet@example.com":         true,
		"JULIET@EXAMPLE.COM":         true,
		"juliet@example.com.":        true,
		"romeo@example.com":          false,
		"romeo":                      false,
		"juliet":                     false,
		"example.com":                false,
		"juliet@example.com/balcony": false,
		"juliet@example.net":         false,
		"juliet@":                    false,
		"@example.com":               false,
		"juliet@example.com@x":       false,
		"jul\u0456et@example.com":    false,
		" juliet@example.com":        false,
		"romeo@example.com,x":        false,
		"admin@example.com":          false,
	}
	for _, mechanism := range s.Mechanisms(l.server) {
		for authzid, allowed := range forms {
			var e *auth.Exchange
			var f *auth.Failure
			if mechanism == auth.Plain {
				e, f = s.plain(l.server, authzid, "juliet", password)
			} else {
				c := newSCRAMClient(mechanism)
				if strings.HasSuffix(mechanism, "-PLUS") {
					c.flag, c.binding = "p=tls-exporter", bindingData(t, l, "tls-exporter")
				}
				if authzid != "" {
					c.authzid = "a=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(authzid)
				}
				e, f = s.scram(t, l.server, mechanism, c)
			}
			if allowed {
				require.Nil(t, f, "%s %q", mechanism, authzid)
				require.Equal(t, "juliet", e.Account().Name)
				continue
			}
			requireFailure(t, auth.InvalidAuthzid, f, "%s %q", mechanism, authzid)
		}
	}
	require.Contains(t, s.log.String(), `"reason":"authzid"`)
}

// Abuse row A40: an unknown user answers like a known one with another password.
func TestUnknownUserIsNotToldApart(t *testing.T) {
	s := newServer(t, func(c *auth.Config) { c.Failures.PerUser, c.Failures.PerAddress = -1, -1 })
	wrong := func(name string) *auth.Failure {
		_, f := s.plain(proxied(), "", name, "not the password")
		return f
	}
	require.Equal(t, wrong("juliet"), wrong("nobody"))
	require.Equal(t, wrong("juliet"), wrong("no body"), "a name that cannot exist")
	requireFailure(t, auth.NotAuthorized, wrong("nobody"))

	for _, mechanism := range []string{auth.ScramSHA256, auth.ScramSHA1} {
		first := func(s *server, name, nonce string) map[byte]string {
			c := newSCRAMClient(mechanism)
			c.name, c.nonce = name, nonce
			_, challenge, f := s.Begin(context.Background(), channelFor(mechanism), mechanism, c.firstMessage(), true)
			require.Nil(t, f)
			fields := make(map[byte]string)
			for field := range strings.SplitSeq(string(challenge), ",") {
				fields[field[0]] = field[2:]
			}
			return fields
		}
		known, unknown, again := first(s, "juliet", "a"), first(s, "nobody", "a"), first(s, "NOBODY", "b")
		require.Equal(t, known['i'], unknown['i'])
		require.Len(t, unknown['s'], len(known['s']))
		require.Equal(t, unknown['s'], again['s'], "the same salt at every try")
		require.NotEqual(t, unknown['s'], first(s, "nobody2", "a")['s'])
		require.Equal(t, unknown['s'], first(newServer(t), "nobody", "c")['s'], "also after a restart")

		c := newSCRAMClient(mechanism)
		c.name = "nobody"
		_, unknownFailure := s.scram(t, channelFor(mechanism), mechanism, c)
		c = newSCRAMClient(mechanism)
		c.password = "not the password"
		_, knownFailure := s.scram(t, channelFor(mechanism), mechanism, c)
		require.Equal(t, knownFailure, unknownFailure)
		requireFailure(t, auth.NotAuthorized, knownFailure)
	}
	require.Contains(t, s.log.String(),
		`"mechanism":"SCRAM-SHA-256","account":"nobody","remote":"192.0.2.1","tls":false,"event":"auth.login_failed","reason":"unknown-account"`,
		"the operator is told apart what the client is not")
}

// Abuse row A41.
func TestDisabledAccount(t *testing.T) {
	s := newServer(t, func(c *auth.Config) { c.Failures.PerUser, c.Failures.PerAddress = -1, -1 })
	require.NoError(t, s.SetDisabled(context.Background(), "juliet", true))
	_, f := s.plain(proxied(), "", "juliet", password)
	requireFailure(t, auth.AccountDisabled, f)
	_, f = s.plain(proxied(), "", "juliet", "not the password")
	requireFailure(t, auth.NotAuthorized, f)
	for _, mechanism := range []string{auth.ScramSHA256, auth.ScramSHA1} {
		_, f = s.scram(t, channelFor(mechanism), mechanism, newSCRAMClient(mechanism))
		requireFailure(t, auth.AccountDisabled, f)
		c := newSCRAMClient(mechanism)
		c.password = "not the password"
		_, f = s.scram(t, channelFor(mechanism), mechanism, c)
		requireFailure(t, auth.NotAuthorized, f)
	}
	require.NoError(t, s.SetDisabled(context.Background(), "juliet", false))
	_, f = s.plain(proxied(), "", "juliet", password)
	require.Nil(t, f)
}

// Abuse row A47.
func TestStoreDown(t *testing.T) {
	s := newServer(t)
	s.accounts.fail(errors.New("disk on fire"))
	_, f := s.plain(proxied(), "", "juliet", password)
	requireFailure(t, auth.TemporaryAuthFailure, f)
	require.False(t, f.Exhausted)
	_, f = s.scram(t, plainChannel(), auth.ScramSHA256, newSCRAMClient(auth.ScramSHA256))
	requireFailure(t, auth.TemporaryAuthFailure, f)
	require.NotContains(t, f.Text, "fire")
	require.Contains(t, s.log.String(), "disk on fire")
	for range 50 { // and nobody is throttled for it
		_, f = s.plain(proxied(), "", "juliet", password)
		requireFailure(t, auth.TemporaryAuthFailure, f)
		require.False(t, f.Exhausted)
	}
	s.accounts.fail(nil)
	_, f = s.plain(proxied(), "", "juliet", password)
	require.Nil(t, f)

	// A store that fails between the two steps of SCRAM.
	c := newSCRAMClient(auth.ScramSHA256)
	e, challenge, f := s.Begin(context.Background(), plainChannel(), auth.ScramSHA256, c.firstMessage(), true)
	require.Nil(t, f)
	s.Directory().InvalidateAll()
	s.accounts.fail(errors.New("disk on fire"))
	_, _, f = e.Step(context.Background(), c.finalMessage(t, challenge))
	requireFailure(t, auth.TemporaryAuthFailure, f)
}

// What changes between the two steps of an exchange counts.
func TestAccountChangesDuringExchange(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*server) error
		want   auth.SASLCondition
	}{
		"password": {func(s *server) error { return s.SetPassword(context.Background(), "juliet", "another one") },
			auth.NotAuthorized},
		"deleted": {func(s *server) error { return s.Delete(context.Background(), "juliet") }, auth.NotAuthorized},
		"disabled": {func(s *server) error { return s.SetDisabled(context.Background(), "juliet", true) },
			auth.AccountDisabled},
		"recreated": {func(s *server) error {
			if err := s.Delete(context.Background(), "juliet"); err != nil {
				return err
			}
			_, err := s.Create(context.Background(), "juliet", password)
			return err
		}, auth.NotAuthorized},
		"recreated with the same keys": {func(s *server) error {
			a, err := s.accounts.Account(context.Background(), "juliet")
			require.NoError(t, err)
			require.NoError(t, s.Delete(context.Background(), "juliet"))
			_, err = s.accounts.CreateAccount(context.Background(), a)
			s.Directory().Invalidate("juliet")
			return err
		}, auth.NotAuthorized},
	} {
		s := newServer(t)
		c := newSCRAMClient(auth.ScramSHA256)
		e, challenge, f := s.Begin(context.Background(), plainChannel(), auth.ScramSHA256, c.firstMessage(), true)
		require.Nil(t, f)
		require.NoError(t, tc.change(s), name)
		_, _, f = e.Step(context.Background(), c.finalMessage(t, challenge))
		requireFailure(t, tc.want, f, name)
		require.Zero(t, e.Account())
	}
}

// An account that has no keys for a hash cannot be told from one that does not exist.
func TestAccountWithOneHash(t *testing.T) {
	s := newServer(t)
	require.NoError(t, s.accounts.SetCredentials(context.Background(), "juliet", credentialsOf(t, password)[:1]))
	s.Directory().Invalidate("juliet")
	_, f := s.scram(t, proxied(), auth.ScramSHA1, newSCRAMClient(auth.ScramSHA1))
	requireFailure(t, auth.NotAuthorized, f)
	_, f = s.scram(t, plainChannel(), auth.ScramSHA256, newSCRAMClient(auth.ScramSHA256))
	require.Nil(t, f)
}

func TestVerify(t *testing.T) {
	s := newServer(t)
	a, f := s.Verify(context.Background(), plainChannel(), "Juliet", password)
	require.Nil(t, f)
	require.Equal(t, "juliet", a.Name)
	a, f = s.Verify(context.Background(), plainChannel(), "juliet", "wrong")
	requireFailure(t, auth.NotAuthorized, f)
	require.Zero(t, a)
	_, f = s.Verify(context.Background(), plainChannel(), "", "")
	requireFailure(t, auth.NotAuthorized, f)
	require.ErrorContains(t, f, "not-authorized")
}

// The audit says who and where, and no secret.
func TestAudit(t *testing.T) {
	s := newServer(t)
	_, f := s.plain(proxied(), "", "juliet", password)
	require.Nil(t, f)
	_, f = s.plain(proxied(), "", "juliet", "wrong secret word")
	require.NotNil(t, f)
	require.NoError(t, s.SetPassword(context.Background(), "juliet", "a new secret word"))
	log := s.log.String()
	require.Contains(
		t, log, `"mechanism":"PLAIN","account":"juliet","remote":"192.0.2.1","tls":true,"event":"auth.login_ok"`)
	require.Contains(t, log, `"event":"auth.login_failed","reason":"wrong-proof"`)
	require.Contains(t, log, `"event":"auth.account_password","account":"juliet"`)
	require.NotContains(t, log, password)
	require.NotContains(t, log, "secret word")
}
