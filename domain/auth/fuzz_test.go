package auth_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// fuzzServer has no throttles.
func fuzzServer(f *testing.F) *server {
	return newServer(f, func(c *auth.Config) {
		c.Iterations = 2
		c.Failures.PerUser, c.Failures.PerAddress, c.Failures.KnownPerUser = -1, -1, -1
	})
}

// FuzzSCRAM drives the state machine with a client that knows the password and bends its messages. Whoever gets in must
// have said nothing but the truth.
func FuzzSCRAM(f *testing.F) {
	s := fuzzServer(f)
	add := func(flag, authzid, name, nonce, ext, header, finalExt, nonceEnd string, binding []byte, bits byte) {
		f.Add(flag, authzid, name, nonce, ext, header, finalExt, nonceEnd, binding, bits)
	}
	add("n", "", "juliet", "abc", "", "", "", "", nil, 0)
	add("y", "a=juliet@example.com", "JULIET", "abc", ",x=1", "", ",y=2", "", nil, 0)
	add("p=tls-exporter", "", "juliet", "abc", "", "", "", "", []byte("data"), 2)
	add("n", "a=romeo@example.com", "juliet", "abc", "", "n,,", "", "", nil, 0)
	add("n", "", "m=1,juliet", "", ",m=1", "", ",m=1", "x", nil, 1)
	add("n", "", "ju=2Cliet=3D", "~!", ",", "y,,", ",c=biws", "", []byte{0}, 4)
	f.Fuzz(func(t *testing.T, flag, authzid, name, nonce, ext, header, finalExt, nonceEnd string, binding []byte,
		bits byte) {
		mechanism := auth.ScramSHA256
		if bits&2 != 0 {
			mechanism = auth.ScramSHA1
		}
		c := newSCRAMClient(mechanism)
		c.flag, c.authzid, c.name, c.nonce, c.ext, c.header, c.finalExt, c.binding = flag, authzid, name, nonce, ext,
			header, finalExt, binding
		c.bendNonce = func(n string) string { return n + nonceEnd }
		if bits&1 != 0 {
			c.bendProof = func(p []byte) []byte { return append([]byte{p[0] ^ 1}, p[1:]...) }
		}
		if bits&4 != 0 {
			c.password = "wrong password"
		}
		e, challenge, failure := s.Begin(context.Background(), channelFor(mechanism), mechanism, c.firstMessage(), true)
		if failure != nil {
			require.Nil(t, e)
			return
		}
		require.True(t, strings.HasPrefix(string(challenge), "r="+nonce), "the client's nonce comes first")
		_, done, failure := e.Step(context.Background(), c.finalMessage(t, challenge))
		require.Equal(t, failure == nil, done)
		_, again, late := e.Step(context.Background(), []byte("c=biws"))
		require.False(t, again)
		require.NotNil(t, late)
		if !done {
			require.False(t, e.Done())
			require.Zero(t, e.Account())
			return
		}
		require.Equal(t, "juliet", e.Account().Name)
		require.Zero(t, bits&5, "wrong proof")
		require.Empty(t, nonceEnd)
		require.NotEmpty(t, nonce)
		require.Contains(t, []string{"n", "y"}, flag)
		signed := header
		if signed == "" {
			signed = c.gs2()
		}
		require.Equal(t, c.gs2(), signed+string(binding))
		require.False(t, strings.Contains(","+ext+finalExt, ",m="))
		if authzid != "" {
			j, err := jid.Parse(strings.NewReplacer("=2C", ",", "=3D", "=").Replace(strings.TrimPrefix(authzid, "a=")))
			require.NoError(t, err)
			require.Equal(t, "juliet@example.com", j.String())
		}
		prepared, err := jid.PrepareLocal(strings.NewReplacer("=2C", ",", "=3D", "=").Replace(name))
		require.NoError(t, err)
		require.Equal(t, "juliet", prepared)
	})
}

// FuzzSCRAMMessages feeds arbitrary messages: nobody gets in, nothing panics.
func FuzzSCRAMMessages(f *testing.F) {
	s := fuzzServer(f)
	f.Add("n,,n=juliet,r=abc", "c=biws,r=abc,p=AAAA")
	f.Add("p=tls-exporter,a=juliet@example.com,n=juliet,r=abc", "c=,r=,p=")
	f.Add("y,,m=x,n==2C=3D,r=,", ",,,")
	f.Add("n,,n=juliet,r=abc,x=y", "c=biws,r=abc,x=y,p=AAAA")
	f.Fuzz(func(t *testing.T, first, final string) {
		for _, mechanism := range []string{auth.ScramSHA256, auth.ScramSHA1} {
			e, challenge, failure := s.Begin(context.Background(), channelFor(mechanism), mechanism, []byte(first),
				true)
			if failure != nil {
				continue
			}
			require.NotEmpty(t, challenge)
			_, done, failure := e.Step(context.Background(), []byte(final))
			require.False(t, done)
			require.NotNil(t, failure)
		}
	})
}

// FuzzPlain feeds arbitrary messages: only the right password gets in, and only as oneself.
func FuzzPlain(f *testing.F) {
	s := fuzzServer(f)
	f.Add([]byte("\x00juliet\x00" + password))
	f.Add([]byte("juliet@example.com\x00JULIET\x00" + password))
	f.Add([]byte("romeo@example.com\x00juliet\x00" + password))
	f.Add([]byte("\x00\x00\x00"))
	f.Add([]byte("\x00juliet\x00correct\u00a0horse"))
	f.Add([]byte("\xff\x00juliet\x00" + password))
	f.Fuzz(func(t *testing.T, message []byte) {
		e, challenge, failure := s.Begin(context.Background(), proxied(), auth.Plain, message, true)
		if failure != nil {
			require.Nil(t, e)
			return
		}
		require.True(t, e.Done(), "PLAIN is one step")
		require.Empty(t, challenge)
		require.Equal(t, "juliet", e.Account().Name)
		parts := strings.Split(string(message), "\x00")
		require.Len(t, parts, 3)
		if parts[0] != "" {
			require.Equal(t, jid.MustParse("juliet@example.com"), jid.MustParse(parts[0]))
		}
		name, err := jid.PrepareLocal(parts[1])
		require.NoError(t, err)
		require.Equal(t, "juliet", name)
	})
}

// FuzzDecode: what is decoded is what was encoded, in one way.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"", "=", "biws", "AA==", "AB==", "bi\nws"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		data, failure := auth.Decode(text)
		if failure != nil {
			require.Equal(t, auth.IncorrectEncoding, failure.Condition)
			return
		}
		if text != "=" {
			require.Equal(t, text, encode(data))
		}
	})
}
