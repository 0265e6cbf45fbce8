package auth_test

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/store"
)

func TestMakeCredentials(t *testing.T) {
	first, err := auth.MakeCredentials(password, 1000)
	require.NoError(t, err)
	second, err := auth.MakeCredentials(password, 1000)
	require.NoError(t, err)
	require.Len(t, first, 2)
	salts := make(map[string]bool)
	for _, c := range slices.Concat(first, second) {
		require.Len(t, c.Salt, 16)
		require.Equal(t, 1000, c.Iterations)
		salts[string(c.Salt)] = true
	}
	require.Len(t, salts, 4, "a salt of its own for each")
	require.Equal(t, "SHA-256", first[0].Hash)
	require.Equal(t, "SHA-1", first[1].Hash)
	require.Len(t, first[0].StoredKey, 32)
	require.Len(t, first[1].StoredKey, 20)
	salted, err := pbkdf2.Key(sha256.New, password, first[0].Salt, 1000, 32)
	require.NoError(t, err)
	require.NotContains(t, [][]byte{first[0].StoredKey, first[0].ServerKey}, salted)

	for _, bad := range []string{"", "a\x00b", "\xff", "tab\there", strings.Repeat("a", 129),
		strings.Repeat("a", 1<<20)} {
		_, err := auth.MakeCredentials(bad, 1)
		require.ErrorIs(t, err, auth.RefusedPasswordMalformed, "%.20q", bad)
	}
}

// Abuse row A52: OpaqueString, and what is no password.
func TestPasswordPreparation(t *testing.T) {
	s := newServer(t)
	for stored, typed := range map[string]string{
		"caf\u00e9 cr\u00e8me":        "cafe\u0301 cre\u0300me", // composed
		"eight\u00a0chars":            "eight chars",            // spaces
		"\U0001f600 emoji pass":       "\U0001f600 emoji pass",
		"\uff21 width is kept":        "\uff21 width is kept",
		"Case Is Kept":                "Case Is Kept",
		strings.Repeat("\u4f8b", 128): strings.Repeat("\u4f8b", 128),
	} {
		require.NoError(t, s.SetPassword(context.Background(), "juliet", stored))
		_, f := s.plain(proxied(), "", "juliet", typed)
		require.Nil(t, f, stored)
	}
	require.NoError(t, s.SetPassword(context.Background(), "juliet", "Case Is Kept"))
	for _, wrong := range []string{"case is kept", strings.Repeat("a", 129), "unassigned \U000e0fff", "control \x01"} {
		_, f := s.plain(proxied(), "", "juliet", wrong)
		requireFailure(t, auth.NotAuthorized, f, wrong)
	}
}

func TestPasswordPolicy(t *testing.T) {
	s := newServer(t)
	for pass, want := range map[string]error{
		"":                                auth.RefusedPasswordShort,
		"1234567":                         auth.RefusedPasswordShort,
		"\u00e9\u00e9\u00e9\u00e9":        auth.RefusedPasswordShort, // eight bytes, four characters
		"e\u0301e\u0301e\u0301e\u0301":    auth.RefusedPasswordShort, // counted after preparation
		"12345678":                        auth.RefusedPasswordCommon,
		"PassWord":                        auth.RefusedPasswordCommon,
		"juliet":                          auth.RefusedPasswordShort,
		"a\tb4567890":                     auth.RefusedPasswordMalformed,
		"bad \xff utf-8":                  auth.RefusedPasswordMalformed,
		strings.Repeat("ab", 65):          auth.RefusedPasswordLong,
		strings.Repeat("a", 1<<20):        auth.RefusedPasswordLong,
		"long enough":                     nil,
		strings.Repeat("\U0001f600", 8):   nil,
		strings.Repeat("\U0001f600a", 64): nil,
	} {
		err := s.SetPassword(context.Background(), "juliet", pass)
		require.ErrorIs(t, err, want, "%.30q", pass)
	}
	_, err := s.Create(context.Background(), "longusername", "LongUserName")
	require.ErrorIs(t, err, auth.RefusedPasswordCommon)
	s = newServer(t, func(c *auth.Config) { c.PasswordMin, c.AllowCommonPasswords = 3, true })
	require.NoError(t, s.SetPassword(context.Background(), "juliet", "123"))
	require.NoError(t, s.SetPassword(context.Background(), "juliet", "password"))
}

// Abuse row A40: a wrong password costs as much for a name without an account, which is the rounds of PBKDF2: all the
// rest is a thousandth of it.
func TestUnknownUserCostsTheSame(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := newServer(t, func(c *auth.Config) {
		c.Iterations, c.Registerer = 3000, registry
		c.Failures.PerUser, c.Failures.PerAddress = -1, -1
	})
	spent := func() float64 {
		families, err := registry.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == "posthouse_auth_rounds_total" {
				return f.GetMetric()[0].GetCounter().GetValue()
			}
		}
		require.Fail(t, "no such metric")
		return 0
	}
	for _, name := range []string{"juliet", "nobody", "no body"} {
		for range 3 {
			before := spent()
			_, f := s.plain(proxied(), "", name, "wrong password")
			requireFailure(t, auth.NotAuthorized, f)
			require.Equal(t, 3000.0, spent()-before, name)
		}
	}
}

// Abuse row A46: no more keys are derived at a time than there are processors, a hundred wait, the others are told to
// come back.
func TestPasswordChecksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, func(c *auth.Config) {
			c.Iterations = 1
			c.Failures.PerUser, c.Failures.PerAddress, c.Failures.KnownPerUser = -1, -1, -1
		})
		release := make(chan struct{})
		busy := auth.HoldHashing(s.Authenticator, runtime.GOMAXPROCS(0), release)
		const clients = 400
		conditions := make(chan auth.SASLCondition, clients)
		for range clients {
			go func() {
				_, f := s.plain(proxied(), "", "juliet", "wrong password")
				conditions <- f.Condition
			}()
		}
		synctest.Wait()
		require.Len(t, conditions, clients-100, "all but a hundred have their answer")
		for range clients - 100 {
			require.Equal(t, auth.TemporaryAuthFailure, <-conditions)
		}
		_, err := s.Create(context.Background(), "romeo", "wherefore art")
		require.ErrorIs(t, err, auth.RefusedBusy, "a new password is a key to derive too")
		// SCRAM derives nothing, and is served meanwhile.
		c := newSCRAMClient(auth.ScramSHA256)
		_, f := s.scram(t, plainChannel(), auth.ScramSHA256, c)
		require.Nil(t, f)
		close(release)
		busy.Wait()
		for range 100 {
			require.Equal(t, auth.NotAuthorized, <-conditions)
		}
		_, f = s.plain(proxied(), "", "juliet", password)
		require.Nil(t, f)
	})
}

// Who waits for a processor stops waiting when the connection is gone.
func TestWaitingForHashEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		release := make(chan struct{})
		busy := auth.HoldHashing(s.Authenticator, runtime.GOMAXPROCS(0), release)
		ctx, cancel := context.WithCancel(context.Background())
		failure := make(chan *auth.Failure, 1)
		go func() {
			_, _, f := s.Begin(ctx, proxied(), auth.Plain, []byte("\x00juliet\x00wrong password"), true)
			failure <- f
		}()
		synctest.Wait()
		require.Empty(t, failure, "it waits")
		cancel()
		requireFailure(t, auth.TemporaryAuthFailure, <-failure)
		close(release)
		busy.Wait()
	})
}

// derives reports whether a PLAIN login derives a key: with every processor taken, it would have to wait.
func derives(t *testing.T, s *server, name, password string) bool {
	t.Helper()
	_, _ = s.Directory().Account(context.Background(), name) // warm, because the login has no time to read
	release := make(chan struct{})
	busy := auth.HoldHashing(s.Authenticator, runtime.GOMAXPROCS(0), release)
	defer busy.Wait()
	defer close(release)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, f := s.Begin(ctx, proxied(), auth.Plain, []byte("\x00"+name+"\x00"+password), true)
	if f == nil {
		return false
	}
	requireFailure(t, auth.TemporaryAuthFailure, f)
	return true
}

func TestPlainMemo(t *testing.T) {
	s := newServer(t)
	require.False(t, derives(t, s, "juliet", password), "registration primes it")
	require.True(t, derives(t, s, "juliet", "wrong password"))
	_, f := s.plain(proxied(), "", "juliet", "wrong password")
	requireFailure(t, auth.NotAuthorized, f)
	require.True(t, derives(t, s, "juliet", "wrong password"), "what was wrong is not remembered")
	require.False(t, derives(t, s, "juliet", password))

	// A password change and a new account of the same name find nothing of the old one.
	require.NoError(t, s.SetPassword(context.Background(), "juliet", "another password"))
	require.True(t, derives(t, s, "juliet", password))
	require.True(t, derives(t, s, "juliet", "another password"))
	_, f = s.plain(proxied(), "", "juliet", "another password")
	require.Nil(t, f)
	require.False(t, derives(t, s, "juliet", "another password"))
	require.NoError(t, s.Delete(context.Background(), "juliet"))
	require.True(t, derives(t, s, "juliet", "another password"))

	// It ends, and can be turned off.
	for name, configure := range map[string]func(*auth.Config){
		"ended": func(c *auth.Config) { c.PlainCacheTTL = time.Minute },
		"off":   func(c *auth.Config) { c.PlainCacheOff = true },
	} {
		s = newServer(t, configure)
		s.clock.Advance(time.Minute)
		require.True(t, derives(t, s, "juliet", password), name)
		_, f = s.plain(proxied(), "", "juliet", password)
		require.Nil(t, f)
	}
	// A throttled address does not learn from it whether a password is right.
	s = newServer(t)
	for range 5 {
		_, f = s.plain(proxied(), "", "juliet", "wrong password")
		requireFailure(t, auth.NotAuthorized, f)
	}
	_, f = s.plain(proxied(), "", "juliet", password)
	requireFailure(t, auth.TemporaryAuthFailure, f)
}

func TestNewAccountForImport(t *testing.T) {
	s := newServer(t)
	a, err := s.NewAccount(context.Background(), "Romeo", "wherefore art")
	require.NoError(t, err)
	require.Equal(t, "romeo", a.Name)
	require.Zero(t, a.ID)
	ids, err := s.accounts.CreateAccounts(context.Background(), []store.Account{a})
	require.NoError(t, err)
	require.Len(t, ids, 1)
	_, f := s.plain(proxied(), "", "romeo", "wherefore art")
	require.Nil(t, f)
	_, err = s.NewAccount(context.Background(), "ro meo", "wherefore art")
	require.ErrorIs(t, err, auth.RefusedNameMalformed)
}
