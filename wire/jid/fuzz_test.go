package jid_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/idna"
	"golang.org/x/text/secure/bidirule"
	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/bidi"

	"github.com/posthouse-im/posthouse/wire/jid"
)

// FuzzParse checks what holds for every address that Parse accepts.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"juliet@example.com/balcony", "example.com", "\u03a3@B\u00dcCHER.example/\u265a", "a@[2001:DB8::1]/b",
		"xn--bcher-kva.example", "xn--example-.com", "\uff21@1.2.3.4", "a@b@c/d/e", "\u0130@\u4f8b\u3048\u3002jp",
		"a\u200db@c",
		"\u0915\u094d\u200d@\u0915\u094d\u200d\u0937.in", "a@ab--cd.e", "\u212a@0x7f/ ", "\xff@\xc3/\xe2\x82",
		strings.Repeat("\uff21", 1023) + "@x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		j, err := jid.Parse(s)
		if err != nil {
			require.True(t, j.IsZero())
			return
		}
		text := j.String()
		require.True(t, utf8.ValidString(text))
		require.NotEmpty(t, j.Domain())
		for _, part := range []string{j.Local(), j.Domain(), j.Resource()} {
			require.LessOrEqual(t, len(part), jid.MaxPart)
		}

		again, err := jid.Parse(text)
		require.NoError(t, err, "%+q from %+q", text, s)
		require.Equal(t, j, again, "%+q from %+q", text, s)

		assembled := j.Domain()
		if j.Local() != "" {
			assembled = j.Local() + "@" + assembled
		}
		require.Equal(t, assembled, j.Bare().String())
		require.True(t, j.Bare().IsBare())
		require.Equal(t, j.Local(), j.Bare().Local())
		require.Equal(t, j.Domain(), j.DomainJID().String())
		if j.IsFull() {
			with, err := j.Bare().WithResource(j.Resource())
			require.NoError(t, err)
			require.Equal(t, j, with)
			assembled += "/" + j.Resource()
		}
		require.Equal(t, assembled, text)
		parts, err := jid.New(j.Local(), j.Domain(), j.Resource())
		require.NoError(t, err)
		require.Equal(t, j, parts)
	})
}

// FuzzPrepare compares each part with x/text and x/net, which the fast ways go past.
func FuzzPrepare(f *testing.F) {
	for _, s := range []string{"juliet", "Juliet", "a.b", "\u00fc", "xn--tda", "-", "a--b", "1.2", "~!", " ", "\u1e9e",
		"\u212a", "a@b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) || len(s) > 300 {
			_, err := jid.PrepareLocal(s)
			require.True(t, err != nil || utf8.ValidString(s))
			return
		}
		local, err := jid.PrepareLocal(s)
		want, oracleErr := precis.UsernameCaseMapped.String(s)
		if errors.Is(oracleErr, bidirule.ErrInvalid) && bidirule.DirectionString(s) == bidi.LeftToRight {
			return // x/text applies the rule to every string
		}
		if err == nil {
			require.NoError(t, oracleErr, "%+q", s)
			require.False(t, strings.ContainsAny(local, "\"&'/:<>@"))
			if stable, _ := precis.UsernameCaseMapped.String(want); stable == want {
				require.Equal(t, want, local)
			}
		} else if oracleErr == nil && want != "" {
			stable, err := precis.UsernameCaseMapped.String(want)
			require.True(t, err != nil || stable != want || strings.ContainsAny(want, "\"&'/:<>@") ||
				len(want) > jid.MaxPart, "%+q", s)
		}

		resource, err := jid.PrepareResource(s)
		want, oracleErr = precis.OpaqueString.String(s)
		require.Equal(t, oracleErr == nil, err == nil, "%+q", s)
		if err == nil {
			require.Equal(t, want, resource)
		}

		domain, err := jid.PrepareDomain(s)
		if err == nil && domain[0] != '[' {
			ascii, err := idna.Lookup.ToASCII(domain)
			require.NoError(t, err, "%+q from %+q", domain, s)
			back, err := jid.PrepareDomain(ascii)
			require.NoError(t, err, "%+q from %+q", ascii, s)
			require.Equal(t, domain, back)
		}
	})
}
