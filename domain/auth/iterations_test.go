package auth_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/scram"
)

// reopened is the server with another count of iterations, as after a restart.
func (s *server) reopened(t *testing.T, iterations int, configure ...func(*auth.Config)) {
	t.Helper()
	c := auth.Config{
		Iterations: iterations, Now: s.clock.Now, Secret: []byte("a secret of this test, 32 bytes "),
		Failures: auth.FailureConfig{PerUser: -1, PerAddress: -1, KnownPerUser: -1},
	}
	for _, f := range configure {
		f(&c)
	}
	var err error
	s.Authenticator, err = auth.New(s.accounts, c)
	require.NoError(t, err)
}

// asked is what SCRAM says of a name.
func (s *server) asked(t *testing.T, mechanism, name string) (salt string, count int) {
	t.Helper()
	c := newSCRAMClient(mechanism)
	c.name = name
	_, challenge, f := s.Begin(context.Background(), proxied(), mechanism, c.firstMessage(), true)
	require.Nil(t, f)
	fields := scram.Fields(challenge)
	raw, err := base64.StdEncoding.DecodeString(fields['s'])
	require.NoError(t, err)
	require.Len(t, raw, 16)
	count, err = strconv.Atoi(fields['i'])
	require.NoError(t, err)
	return fields['s'], count
}

// TestUnknownNamesTakeCountsInUse: after the setting was changed, names without an account answer the counts that
// accounts have, as often as accounts do, and each the same again and again. When accounts move on, so do names, with
// another salt, and never back.
func TestUnknownNamesTakeCountsInUse(t *testing.T) {
	const names = 400
	s := newServer(t)
	ctx := context.Background()
	for i := range 3 {
		_, err := s.Create(ctx, fmt.Sprint("old-", i), password)
		require.NoError(t, err)
	}
	for _, mechanism := range []string{auth.ScramSHA256, auth.ScramSHA1} {
		s.reopened(t, 2*iterations)
		ask := func() (salts []string, counts []int, higher int) {
			for i := range names {
				salt, count := s.asked(t, mechanism, fmt.Sprint("nobody-", i))
				again, sameCount := s.asked(t, mechanism, fmt.Sprint("nobody-", i))
				require.Equal(t, salt, again)
				require.Equal(t, count, sameCount)
				salts, counts = append(salts, salt), append(counts, count)
				switch count {
				case 2 * iterations:
					higher++
				default:
					require.Equal(t, iterations, count, "a count that no account has")
				}
			}
			return salts, counts, higher
		}
		salts, counts, higher := ask()
		require.Zero(t, higher, "all accounts have the old one")
		require.NoError(t, s.accounts.update("juliet", func(a *store.Account) {
			a.Credentials, _ = auth.MakeCredentials(password, 2*iterations)
		}))
		require.NoError(t, s.accounts.update("old-0", func(a *store.Account) {
			a.Credentials, _ = auth.MakeCredentials(password, 2*iterations)
		}))
		s.clock.Advance(time.Hour)
		moved, after, higher := ask()
		require.InDelta(t, names/2, higher, names/8, "half of the accounts have the new one")
		for i := range names {
			require.GreaterOrEqual(t, after[i], counts[i])
			require.Equal(t, after[i] == counts[i], moved[i] == salts[i])
		}
		for _, name := range []string{"juliet", "old-0"} { // as they were, for the other mechanism
			require.NoError(t, s.accounts.update(name, func(a *store.Account) {
				a.Credentials = credentialsOf(t, password)
			}))
		}
	}
}

// TestKeysAreRenewed: a password that the server sees makes keys of fewer iterations anew, for all hashes. Nobody is
// logged out by that, not even who is in the middle of a login.
func TestKeysAreRenewed(t *testing.T) {
	ctx := context.Background()
	for name, login := range map[string]func(s *server) *auth.Failure{
		"PLAIN":   func(s *server) *auth.Failure { _, f := s.plain(proxied(), "", "juliet", password); return f },
		"the API": func(s *server) *auth.Failure { _, f := s.Verify(ctx, proxied(), "juliet", password); return f },
	} {
		t.Run(name, func(t *testing.T) {
			s, d := tokens(t)
			token := s.first(t, phone, auth.HTSHA256None)
			s.reopened(t, 2*iterations, func(c *auth.Config) {
				c.Tokens.Devices, c.Tokens.Key, c.Changes = d, []byte("a key of this test, of 32 bytes "), d
			})
			for _, mechanism := range []string{auth.ScramSHA256, auth.ScramSHA1} { // which do not show the password
				_, f := s.scram(t, proxied(), mechanism, newSCRAMClient(mechanism))
				require.Nil(t, f)
				_, count := s.asked(t, mechanism, "juliet")
				require.Equal(t, iterations, count)
			}
			_, f := s.plain(proxied(), "", "juliet", "another password")
			requireFailure(t, auth.NotAuthorized, f)
			_, count := s.asked(t, auth.ScramSHA256, "juliet")
			require.Equal(t, iterations, count, "a wrong password changes nothing")

			begun := newSCRAMClient(auth.ScramSHA256)
			e, challenge, f := s.Begin(ctx, proxied(), auth.ScramSHA256, begun.firstMessage(), true)
			require.Nil(t, f)
			require.Nil(t, login(s))
			_, done, f := e.Step(ctx, begun.finalMessage(t, challenge))
			require.Nil(t, f, "who had begun with the old keys")
			require.True(t, done)
			for _, mechanism := range []string{auth.ScramSHA256, auth.ScramSHA1} {
				_, count := s.asked(t, mechanism, "juliet")
				require.Equal(t, 2*iterations, count)
				_, f := s.scram(t, proxied(), mechanism, newSCRAMClient(mechanism))
				require.Nil(t, f)
			}
			before, err := s.accounts.Account(ctx, "juliet")
			require.NoError(t, err)
			require.Nil(t, login(s))
			after, err := s.accounts.Account(ctx, "juliet")
			require.NoError(t, err)
			require.Equal(t, before.Credentials, after.Credentials, "once is enough")
			_, f = s.again(t, token, auth.TokenUse{})
			require.Nil(t, f, "login tokens stay")

			s.reopened(t, iterations)
			require.Nil(t, login(s))
			_, count = s.asked(t, auth.ScramSHA256, "juliet")
			require.Equal(t, 2*iterations, count, "keys are not made weaker")
		})
	}
}
