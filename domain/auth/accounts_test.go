package auth_test

import (
	"context"
	"errors"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
)

const goodPassword = "a good long password"

// Abuse row A53.
func TestRegisterNames(t *testing.T) {
	s := newServer(t, func(c *auth.Config) { c.ReservedNames = []string{"CEO", "not valid"} })
	_, err := s.Create(context.Background(), "capa", goodPassword)
	require.NoError(t, err)
	for name, want := range map[string]error{
		"romeo":                          nil,
		"Mercutio":                       nil,
		"m\u00fcller":                    nil, // Latin with a mark
		"\u0432\u043e\u0432\u0430":       nil,
		"\u0441\u043e\u0441\u043e":       nil, // looks like "coco", whom nobody is
		"\u03b5\u03bb\u03ad\u03bd\u03b7": nil,
		"\u5c71\u7530\u305f\u308d\u3046": nil, // Han and Hiragana
		"tanaka\u7530":                   nil, // Latin and Han
		"\uae40\u5c71":                   nil, // Hangul and Han
		"\u0627\u0628\u062a":             nil,
		"user.name_1":                    nil,
		"a b":                            auth.RefusedNameMalformed,
		"":                               auth.RefusedNameMalformed,
		"a@b":                            auth.RefusedNameMalformed,
		"admin":                          auth.RefusedNameReserved,
		"ADMIN":                          auth.RefusedNameReserved,
		"\uff21\uff24\uff2d\uff29\uff2e": auth.RefusedNameReserved, // full-width
		"postmaster":                     auth.RefusedNameReserved,
		"ceo":                            auth.RefusedNameReserved,
		"adm\u0456n":                     auth.RefusedNameConfusable, // a Cyrillic letter
		"jul\u0456et":                    auth.RefusedNameConfusable,
		"\u0430dmin":                     auth.RefusedNameConfusable,
		"\u03bfmega":                     auth.RefusedNameConfusable, // Greek and Latin
		"\u0441\u0430\u0440\u0430":       auth.RefusedNameConfusable, // all Cyrillic, looks like "capa"
		"\u0441\u0435\u043e":             auth.RefusedNameConfusable, // all Cyrillic, looks like "ceo"
		"\u3053\uae40":                   auth.RefusedNameConfusable, // Hiragana and Hangul
		"\u0967\u09e8":                   auth.RefusedNameConfusable, // digits of two sets
		"1\u0967":                        auth.RefusedNameConfusable,
		"juliet":                         auth.RefusedNameTaken,
	} {
		a, err := s.Register(context.Background(), name, goodPassword)
		if want != nil {
			require.ErrorIs(t, err, want, name)
			require.Zero(t, a)
			continue
		}
		require.NoError(t, err, name)
		require.NotZero(t, a.ID)
		_, f := s.plain(proxied(), "", name, goodPassword)
		require.Nil(t, f, name)
	}
	// An operator may do what registration refuses.
	for _, name := range []string{"admin", "adm\u0456n"} {
		_, err := s.Create(context.Background(), name, goodPassword)
		require.NoError(t, err, name)
	}
}

// The rule on digits rests on how Unicode lays them out.
func TestDigitsComeInRowsOfTen(t *testing.T) {
	for _, row := range unicode.Nd.R16 {
		require.EqualValues(t, 1, row.Stride)
		require.Zero(t, (row.Hi-row.Lo+1)%10, "%U", row.Lo)
	}
	for _, row := range unicode.Nd.R32 {
		require.EqualValues(t, 1, row.Stride)
		require.Zero(t, (row.Hi-row.Lo+1)%10, "%U", row.Lo)
	}
}

func TestAccountChanges(t *testing.T) {
	s := quickServer(t)
	ctx := context.Background()
	_, err := s.Register(ctx, "romeo", "short")
	require.ErrorIs(t, err, auth.RefusedPasswordShort)
	_, ok, _ := s.Directory().Lookup(ctx, "romeo")
	require.False(t, ok)
	romeo, err := s.Register(ctx, "Romeo", goodPassword)
	require.NoError(t, err)
	require.Equal(t, "romeo", romeo.Name)
	id, ok, _ := s.Directory().Lookup(ctx, "romeo")
	require.True(t, ok, "a name that was unknown a moment ago")
	require.Equal(t, romeo.ID, id)

	require.NoError(t, s.SetPassword(ctx, "ROMEO", "another good password"))
	_, f := s.plain(proxied(), "", "romeo", goodPassword)
	requireFailure(t, auth.NotAuthorized, f)
	_, f = s.plain(proxied(), "", "romeo", "another good password")
	require.Nil(t, f)

	require.NoError(t, s.Delete(ctx, "romeo"))
	_, ok, _ = s.Directory().Lookup(ctx, "romeo")
	require.False(t, ok)
	_, f = s.plain(proxied(), "", "romeo", "another good password")
	requireFailure(t, auth.NotAuthorized, f)

	for _, change := range []func(name string) error{
		func(name string) error { return s.SetPassword(ctx, name, goodPassword) },
		func(name string) error { return s.SetDisabled(ctx, name, true) },
		func(name string) error { return s.Delete(ctx, name) },
	} {
		require.ErrorIs(t, change("romeo"), auth.RefusedNoAccount)
		require.ErrorIs(t, change("ro meo"), auth.RefusedNameMalformed)
		s.accounts.fail(errors.New("disk on fire"))
		err := change("juliet")
		require.ErrorContains(t, err, "disk on fire")
		var refusal auth.Refusal
		require.False(t, errors.As(err, &refusal))
		s.accounts.fail(nil)
	}
	s.accounts.fail(errors.New("disk on fire"))
	_, err = s.Register(ctx, "benvolio", goodPassword)
	require.ErrorContains(t, err, "disk on fire")
}
