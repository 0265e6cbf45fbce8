package auth_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/storetest"
)

const phone = "d4565fa7-4d72-4749-b3d3-740edbf87770"

const (
	vectorInitiator = "079f5b2e302b3de1dcec4fd3a995e3bde9aaadbf58451d047e9227186fc8369c"
	vectorResponder = "1a5767d29d3a779a06f81cb8ac657f7e07fc0748ad94a8189cddc49345ff5d03"
)

// tokens is a server that makes login tokens, and where it keeps the devices.
func tokens(t testing.TB, configure ...func(*auth.Config)) (*server, *storetest.MemoryDevices) {
	t.Helper()
	d := &storetest.MemoryDevices{}
	s := newServer(t, append([]func(*auth.Config){func(c *auth.Config) {
		c.Tokens.Devices, c.Tokens.Key, c.Changes = d, []byte("a key of this test, of 32 bytes "), d
	}}, configure...)...)
	s.accounts.devices = d
	return s, d
}

// ht is the message of the mechanisms for tokens, from draft-schmaus-kitten-sasl-ht-09 §3.1, and what the server
// answers.
func ht(name, token string, binding []byte) (message, answer []byte) {
	mac := func(who string) []byte {
		m := hmac.New(sha256.New, []byte(token))
		m.Write([]byte(who))
		m.Write(binding)
		return m.Sum(nil)
	}
	return append([]byte(name+"\x00"), mac("Initiator")...), mac("Responder")
}

// first logs in with the password and asks for a token.
func (s *server) first(t testing.TB, device, mechanism string) string {
	t.Helper()
	e, f := s.scram(t, proxied(), auth.ScramSHA256, newSCRAMClient(auth.ScramSHA256))
	require.Nil(t, f)
	token, ok, err := s.IssueToken(context.Background(), e, auth.Agent{ID: device, Name: "Phone", Software: "Test"},
		mechanism)
	require.NoError(t, err)
	require.True(t, ok)
	require.Len(t, token.Text, 43)
	require.Equal(t, s.clock.Now().UTC().Add(30*24*time.Hour), token.Expires)
	return token.Text
}

// again logs in with a token, and returns the next one, "" when there is none.
func (s *server) again(t testing.TB, token string, use auth.TokenUse) (next string, f *auth.Failure) {
	t.Helper()
	if use.Device == "" {
		use.Device = phone
	}
	message, answer := ht("juliet", token, nil)
	e, f := s.BeginToken(context.Background(), proxied(), auth.HTSHA256None, message, use)
	if f != nil {
		require.Nil(t, e)
		return "", f
	}
	require.True(t, e.Done())
	require.Equal(t, "juliet", e.Account().Name)
	require.Equal(t, answer, e.Additional())
	made, ok, err := s.IssueToken(context.Background(), e, auth.Agent{ID: use.Device}, "")
	require.NoError(t, err)
	require.Equal(t, ok, made.Text != "")
	return made.Text, nil
}

func (s *server) refused(t testing.TB, want auth.SASLCondition, token string, use auth.TokenUse) {
	t.Helper()
	_, f := s.again(t, token, use)
	requireFailure(t, want, f)
}

// TestHTVector: what a client computes, from the text of the draft, worked out by hand with another program.
func TestHTVector(t *testing.T) {
	message, answer := ht("juliet", "secret-token:fast-Oeie4nmlUoLOEkTZUpqdS4qYHj9YqnHsAe8nTuvqXmC2", nil)
	require.Equal(t, "6a756c69657400"+vectorInitiator, hex.EncodeToString(message))
	require.Equal(t, vectorResponder, hex.EncodeToString(answer))
}

// TestTokenLogin: a token logs in again and again, is not written anywhere, and no login writes anything, or reads
// anything after the first.
func TestTokenLogin(t *testing.T) {
	s, d := tokens(t)
	token := s.first(t, phone, auth.HTSHA256None)
	stored, err := d.ListDevices(context.Background(), 1)
	require.NoError(t, err)
	require.Len(t, stored, 1)
	require.Equal(t, []string{phone, "Phone", "Test"}, []string{stored[0].ID, stored[0].Name, stored[0].Software})
	require.NotContains(t, s.log.String(), token)

	writes := d.Writes()
	next, f := s.again(t, token, auth.TokenUse{})
	require.Nil(t, f)
	require.Empty(t, next)
	reads := d.Reads()
	for range 5 {
		s.clock.Advance(time.Minute)
		_, f = s.again(t, token, auth.TokenUse{})
		require.Nil(t, f)
	}
	require.Equal(t, writes, d.Writes())
	require.Equal(t, reads, d.Reads())
	// What was noted is written when the server stops.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.NoError(t, s.Run(ctx))
	stored, err = d.ListDevices(context.Background(), 1)
	require.NoError(t, err)
	require.Equal(t, s.clock.Now().UTC(), stored[0].Seen)
	require.Equal(t, writes+1, d.Writes())
	require.Contains(t, s.log.String(), "HT-SHA-256-NONE")
}

// TestTokenRefused: whatever is not the token of that account, device and mechanism is told nothing (A50).
func TestTokenRefused(t *testing.T) {
	s, _ := tokens(t, func(c *auth.Config) {
		c.Failures.PerUser, c.Failures.PerAddress, c.Failures.KnownPerUser = -1,
			-1, -1
	})
	_, err := s.Create(context.Background(), "romeo", password)
	require.NoError(t, err)
	token, other := s.first(t, phone, auth.HTSHA256None), s.first(t, "tablet", auth.HTSHA256None)
	bound := s.first(t, "bound", auth.HTSHA256Endp)
	try := func(mechanism string, message []byte, device string) *auth.Failure {
		_, f := s.BeginToken(context.Background(), proxied(), mechanism, message, auth.TokenUse{Device: device})
		return f
	}
	right, _ := ht("juliet", token, nil)
	foreign, _ := ht("romeo", token, nil)
	unknown, _ := ht("nobody", token, nil)
	ofOther, _ := ht("juliet", other, nil)
	ofBound, _ := ht("juliet", bound, nil)
	wrong := append([]byte(nil), right...)
	wrong[len(wrong)-1] ^= 1
	for about, f := range map[string]*auth.Failure{
		"wrong":           try(auth.HTSHA256None, wrong, phone),
		"another account": try(auth.HTSHA256None, foreign, phone),
		"no account":      try(auth.HTSHA256None, unknown, phone),
		"another device":  try(auth.HTSHA256None, ofOther, phone),
		"no device":       try(auth.HTSHA256None, right, "unheard of"),
		"bound token":     try(auth.HTSHA256None, ofBound, "bound"),
	} {
		requireFailure(t, auth.NotAuthorized, f, about)
		require.Empty(t, f.Text, about)
	}
	for about, f := range map[string]*auth.Failure{
		"no NUL":     try(auth.HTSHA256None, []byte("juliet"), phone),
		"no name":    try(auth.HTSHA256None, right[len("juliet"):], phone),
		"too short":  try(auth.HTSHA256None, right[:len(right)-1], phone),
		"too long":   try(auth.HTSHA256None, append(right[:len(right):len(right)], 0), phone),
		"not UTF-8":  try(auth.HTSHA256None, append([]byte("\xff"), right...), phone),
		"device":     try(auth.HTSHA256None, right, ""),
		"big device": try(auth.HTSHA256None, right, strings.Repeat("x", auth.MaxDeviceID+1)),
	} {
		requireFailure(t, auth.MalformedRequest, f, about)
	}
	// A proxy's TLS binds to nothing, and passwords are another matter.
	for _, mechanism := range []string{auth.HTSHA256Endp, auth.HTSHA256Expr, auth.Plain, "HT-SHA-256-UNIQ", ""} {
		requireFailure(t, auth.InvalidMechanism, try(mechanism, right, phone), mechanism)
	}
	_, _, f := s.Begin(context.Background(), proxied(), auth.HTSHA256None, right, true)
	requireFailure(t, auth.InvalidMechanism, f)
	_, f = s.BeginToken(context.Background(), &auth.Channel{Remote: remote, Domain: "example.com"}, auth.HTSHA256None,
		right, auth.TokenUse{Device: phone})
	requireFailure(t, auth.InvalidMechanism, f, "in the clear")
	require.Nil(t, try(auth.HTSHA256None, right, phone))
}

// TestTokenBinding: a token of a mechanism with channel binding is good on the channel that it names, with that
// mechanism only.
func TestTokenBinding(t *testing.T) {
	s, _ := tokens(t)
	l := tlsLink(t, tls.VersionTLS13, "ecdsa")
	exporter, err := l.client.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	require.NoError(t, err)
	endPoint := sha256.Sum256(l.server.LocalCertificate)
	data := map[string][]byte{auth.HTSHA256Expr: exporter, auth.HTSHA256Endp: endPoint[:], auth.HTSHA256None: nil}
	require.Equal(t, []string{auth.HTSHA256Expr, auth.HTSHA256Endp, auth.HTSHA256None}, s.TokenMechanisms(l.server))
	for asked := range data {
		token := s.first(t, asked, asked)
		for used, binding := range data {
			for about, shown := range map[string][]byte{"right": binding, "none": nil, "another": []byte("x")} {
				message, _ := ht("juliet", token, shown)
				_, f := s.BeginToken(context.Background(), l.server, used, message, auth.TokenUse{Device: asked})
				require.Equal(t, asked == used && string(shown) == string(binding), f == nil,
					"token for %s, used with %s, binding %s", asked, used, about)
			}
		}
	}
	require.Equal(t, []string{auth.HTSHA256Endp, auth.HTSHA256None},
		s.TokenMechanisms(tlsLink(t, tls.VersionTLS12, "ecdsa").server))
	require.Equal(t, []string{auth.HTSHA256None}, s.TokenMechanisms(proxied()))
	require.Empty(t, s.TokenMechanisms(plainChannel()))
	require.Empty(t, newServer(t).TokenMechanisms(proxied()))
}

// TestTokenExpires, and a right one whose time is over is told so.
func TestTokenExpires(t *testing.T) {
	s, _ := tokens(t)
	token := s.first(t, phone, auth.HTSHA256None)
	s.clock.Advance(30*24*time.Hour - time.Second)
	_, f := s.again(t, token, auth.TokenUse{})
	require.Nil(t, f)
	s.clock.Advance(time.Second)
	s.refused(t, auth.CredentialsExpired, token, auth.TokenUse{})
}

// TestTokenRotation: past half of its life a token brings the next one. The old one is good until the new one is used,
// and never beyond its own time; the one that was lost on the way is given again.
func TestTokenRotation(t *testing.T) {
	s, d := tokens(t)
	one := s.first(t, phone, auth.HTSHA256None)
	next, f := s.again(t, one, auth.TokenUse{})
	require.Nil(t, f)
	require.Empty(t, next)
	s.clock.Advance(16 * 24 * time.Hour)
	two, f := s.again(t, one, auth.TokenUse{})
	require.Nil(t, f)
	require.NotEmpty(t, two)
	require.NotEqual(t, one, two)
	writes := d.Writes()
	same, f := s.again(t, one, auth.TokenUse{})
	require.Nil(t, f)
	require.Equal(t, two, same)
	require.Equal(t, writes, d.Writes())

	s.clock.Advance(14*24*time.Hour + time.Second)
	s.refused(t, auth.CredentialsExpired, one, auth.TokenUse{})
	next, f = s.again(t, two, auth.TokenUse{})
	require.Nil(t, f)
	require.Empty(t, next)
	s.refused(t, auth.CredentialsExpired, one, auth.TokenUse{})

	s.clock.Advance(2 * 24 * time.Hour)
	three, f := s.again(t, two, auth.TokenUse{})
	require.Nil(t, f)
	require.NotEmpty(t, three)
	_, f = s.again(t, three, auth.TokenUse{})
	require.Nil(t, f)
	s.refused(t, auth.CredentialsExpired, two, auth.TokenUse{})
	s.refused(t, auth.CredentialsExpired, one, auth.TokenUse{})
	_, f = s.again(t, three, auth.TokenUse{})
	require.Nil(t, f)
}

// TestTokenAskedFor: who asks for a token with the password gets a new one; the one before is good until that is used,
// and one that was never used and is not the first is no good any more.
func TestTokenAskedFor(t *testing.T) {
	s, _ := tokens(t)
	first := s.first(t, phone, auth.HTSHA256None)
	unused := s.first(t, phone, auth.HTSHA256None)
	one := s.first(t, phone, auth.HTSHA256None)
	s.refused(t, auth.CredentialsExpired, unused, auth.TokenUse{})
	_, f := s.again(t, first, auth.TokenUse{})
	require.Nil(t, f)
	_, f = s.again(t, one, auth.TokenUse{})
	require.Nil(t, f)
	s.refused(t, auth.CredentialsExpired, first, auth.TokenUse{})
	two := s.first(t, phone, auth.HTSHA256None)
	_, f = s.again(t, one, auth.TokenUse{})
	require.Nil(t, f, "until the new one is used")
	_, f = s.again(t, two, auth.TokenUse{})
	require.Nil(t, f)
	s.refused(t, auth.CredentialsExpired, one, auth.TokenUse{})
	// Without an id of a device, or for another mechanism, there is none.
	e, f := s.plain(proxied(), "", "juliet", password)
	require.Nil(t, f)
	for _, row := range []struct{ device, mechanism string }{{"", auth.HTSHA256None}, {phone, auth.Plain},
		{strings.Repeat("x", 65), auth.HTSHA256None}} {
		_, ok, err := s.IssueToken(context.Background(), e, auth.Agent{ID: row.device}, row.mechanism)
		require.NoError(t, err)
		require.False(t, ok)
	}
}

// TestTokenCounter: a counter that was seen is refused, in memory, after it was written, and after a restart (XEP-0484
// §3.4).
func TestTokenCounter(t *testing.T) {
	s, d := tokens(t)
	token := s.first(t, phone, auth.HTSHA256None)
	stop, cancel := context.WithCancel(context.Background())
	cancel()
	use := func(n uint64) auth.TokenUse { return auth.TokenUse{Count: n} }
	good := func(n uint64) {
		t.Helper()
		_, f := s.again(t, token, use(n))
		require.Nil(t, f)
	}
	good(3)
	s.refused(t, auth.NotAuthorized, token, use(3))
	good(4)
	s.refused(t, auth.NotAuthorized, token, use(4))
	s.refused(t, auth.NotAuthorized, token, use(1))
	good(0) // it does not count: nothing is promised
	good(7)
	require.NoError(t, s.Run(stop))
	s.refused(t, auth.NotAuthorized, token, use(7))
	good(8)
	require.NoError(t, s.Run(stop))
	restarted, err := auth.New(s.accounts,
		auth.Config{Iterations: iterations, Now: s.clock.Now, Tokens: auth.TokenConfig{
			Devices: d, Key: []byte("a key of this test, of 32 bytes "),
		}})
	require.NoError(t, err)
	s.Authenticator = restarted
	s.refused(t, auth.NotAuthorized, token, use(8))
	good(9)
	// The next token begins anew.
	token = s.first(t, phone, auth.HTSHA256None)
	good(1)
	s.refused(t, auth.NotAuthorized, token, use(1))
}

// TestTokenEnds: sign-out, a new password, disabling and deletion end a token at once, also for good when a device of
// the same name comes again.
func TestTokenEnds(t *testing.T) {
	ctx := context.Background()
	for name, end := range map[string]func(s *server, d store.Devices) error{
		"invalidated": func(s *server, _ store.Devices) error { return nil },
		"removed":     func(_ *server, d store.Devices) error { return d.RemoveDevice(ctx, 1, phone) },
		"all removed": func(_ *server, d store.Devices) error {
			_,
				err := d.RemoveDevices(ctx, 1, "another")
			return err
		},
		"password": func(s *server, _ store.Devices) error { return s.SetPassword(ctx, "juliet", password) },
		"deleted":  func(s *server, _ store.Devices) error { return s.Delete(ctx, "juliet") },
		"disabled": func(s *server, _ store.Devices) error { return s.SetDisabled(ctx, "juliet", true) },
		"too many": func(_ *server, d store.Devices) error {
			return d.PutDevice(ctx, store.Device{Account: 1, ID: "another", Seen: time.Now()}, store.AnyBasis, 1)
		},
		"another process": func(s *server, _ store.Devices) error {
			_, err := s.accounts.devices.RemoveDevices(ctx, 1, "")
			s.ForgetDevices(1)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := tokens(t)
			token := s.first(t, phone, auth.HTSHA256None)
			_, f := s.again(t, token, auth.TokenUse{})
			require.Nil(t, f)
			message, _ := ht("juliet", token, nil)
			e, f := s.BeginToken(ctx, proxied(), auth.HTSHA256None, message,
				auth.TokenUse{Device: phone, Invalidate: name == "invalidated"})
			require.Nil(t, f)
			require.NoError(t, end(s, s.Devices()))
			changed, _, err := s.accounts.devices.ChangedSince(ctx, 1, phone, e.Account().Basis)
			require.NoError(t, err)
			require.Equal(t, name != "invalidated", changed, "who has just logged in is told to leave")
			_, ok, err := s.IssueToken(ctx, e, auth.Agent{ID: phone}, "")
			require.NoError(t, err)
			require.False(t, ok)
			s.refused(t, auth.NotAuthorized, token, auth.TokenUse{})
			if name == "deleted" {
				return
			}
			if name == "disabled" {
				require.NoError(t, s.SetDisabled(ctx, "juliet", false))
			}
			s.refused(t, auth.NotAuthorized, token, auth.TokenUse{})
			fresh := s.first(t, phone, auth.HTSHA256None)
			s.refused(t, auth.NotAuthorized, token, auth.TokenUse{})
			_, f = s.again(t, fresh, auth.TokenUse{})
			require.Nil(t, f)
		})
	}
}

// TestTokenAfterPasswordChange: a login that began before a change of the password gets no token after it.
func TestTokenAfterPasswordChange(t *testing.T) {
	s, d := tokens(t)
	e, f := s.plain(proxied(), "", "juliet", password)
	require.Nil(t, f)
	require.NoError(t, s.accounts.SetCredentials(context.Background(), "juliet", credentialsOf(t, "another password")))
	_, ok, err := s.IssueToken(context.Background(), e, auth.Agent{ID: phone}, auth.HTSHA256None)
	require.NoError(t, err)
	require.False(t, ok)
	list, err := d.ListDevices(context.Background(), 1)
	require.NoError(t, err)
	require.Empty(t, list)
}

// TestTokenGuessing is throttled as guessing of passwords is.
func TestTokenGuessing(t *testing.T) {
	s, _ := tokens(t)
	for range 5 {
		s.refused(t, auth.NotAuthorized, "guess", auth.TokenUse{})
	}
	s.refused(t, auth.TemporaryAuthFailure, "guess", auth.TokenUse{})
}

// TestTokenStoreDown: when the store fails a token that is not known is not refused for good, and a password still logs
// in.
func TestTokenStoreDown(t *testing.T) {
	broken := &brokenDevices{}
	s := newServer(t, func(c *auth.Config) { c.Tokens.Devices, c.Tokens.Key = broken, make([]byte, 32) })
	s.refused(t, auth.TemporaryAuthFailure, "any", auth.TokenUse{})
	e, f := s.plain(proxied(), "", "juliet", password)
	require.Nil(t, f)
	_, ok, err := s.IssueToken(context.Background(), e, auth.Agent{ID: phone}, auth.HTSHA256None)
	require.ErrorIs(t, err, errBroken)
	require.False(t, ok)
}

var errBroken = errors.New("the disk is gone")

// brokenDevices fails.
type brokenDevices struct{ storetest.MemoryDevices }

func (*brokenDevices) Device(context.Context, store.AccountID, string) (store.Device, error) {
	return store.Device{}, errBroken
}

func (*brokenDevices) ChangeDevice(
	context.Context, store.AccountID, string, store.Basis, func(*store.Device) error,
) error {
	return errBroken
}

// TestTokenConcurrent: of many who show the same new counter at once one gets in, and the rest is refused.
func TestTokenConcurrent(t *testing.T) {
	s, _ := tokens(t, func(c *auth.Config) {
		c.Failures.PerUser, c.Failures.PerAddress, c.Failures.KnownPerUser = -1,
			-1, -1
	})
	token := s.first(t, phone, auth.HTSHA256None)
	message, _ := ht("juliet", token, nil)
	for count := uint64(1); count < 20; count++ {
		var all sync.WaitGroup
		in := make(chan struct{}, 4)
		for range cap(in) {
			all.Go(func() {
				_, f := s.BeginToken(context.Background(), proxied(), auth.HTSHA256None, message,
					auth.TokenUse{Device: phone, Count: count})
				if f == nil {
					in <- struct{}{}
				}
			})
		}
		all.Wait()
		require.Len(t, in, 1)
	}
}

// FuzzHT: whatever is said, nobody gets in but with the token, and nothing breaks.
func FuzzHT(f *testing.F) {
	s, _ := tokens(f, func(c *auth.Config) {
		c.Failures.PerUser, c.Failures.PerAddress, c.Failures.KnownPerUser = -1,
			-1, -1
	})
	token := s.first(f, phone, auth.HTSHA256None)
	right, _ := ht("juliet", token, nil)
	f.Add(right, phone, uint64(0), false)
	f.Add(right[:20], phone, uint64(1), false)
	f.Add([]byte("juliet\x00"), "", uint64(1<<63), false)
	f.Add([]byte{0}, phone, uint64(5), true)
	f.Fuzz(func(t *testing.T, message []byte, device string, count uint64, invalidate bool) {
		if string(message) == string(right) {
			invalidate = false
		}
		e, failure := s.BeginToken(context.Background(), proxied(), auth.HTSHA256None, message,
			auth.TokenUse{Device: device, Count: count, Invalidate: invalidate})
		require.Equal(t, failure == nil, e != nil)
		if failure == nil {
			name, _, _ := strings.Cut(string(message), "\x00")
			require.Equal(t, "juliet", strings.ToLower(name))
			require.Equal(t, string(right[len("juliet"):]), string(message[len(name):]))
			require.Equal(t, phone, device)
		}
	})
}

// TestLoginsAreWritten every minute, together, and at once by whoever finds that too many wait.
func TestLoginsAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, d := tokens(t, func(c *auth.Config) { c.Now = nil })
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		e, f := s.scram(t, proxied(), auth.ScramSHA256, newSCRAMClient(auth.ScramSHA256))
		require.Nil(t, f)
		login := func(device string) {
			t.Helper()
			_, ok, err := s.IssueToken(ctx, e, auth.Agent{ID: device}, "")
			require.NoError(t, err)
			require.False(t, ok)
		}
		login("one")
		login("one")
		login("two")
		require.Zero(t, d.Writes())
		<-time.After(time.Minute + time.Second)
		require.Equal(t, 1, d.Writes())
		<-time.After(time.Hour)
		require.Equal(t, 1, d.Writes(), "nothing to write")
		for i := range 16_384 {
			login(strconv.Itoa(i))
		}
		require.Equal(t, 1, d.Writes())
		login("one more")
		require.Equal(t, 2, d.Writes())
		cancel()
		require.NoError(t, <-done)
		require.Equal(t, 3, d.Writes())
	})
}
