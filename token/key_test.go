package token_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/jid"
)

func TestServiceKey(t *testing.T) {
	w := newWorld(t)
	here, there := w.open(), w.open()
	secret, key, err := here.NewServiceKey(t.Context(), "desk",
		[]token.Scope{token.ScopeSend, token.ScopeDirectory, token.ScopeSend}, w.clock.Now().Add(time.Hour))
	require.NoError(t, err)
	require.Regexp(t, `^phk_[a-z2-7]{16}_[A-Za-z0-9_-]{43}$`, secret)
	require.Equal(t, key.ID, secret[4:20])
	sum := sha256.Sum256([]byte(secret))
	require.Equal(t, sum[:], key.Hash)
	for _, p := range []*process{here, there} {
		got, err := p.Check(t.Context(), secret)
		require.NoError(t, err)
		require.Equal(t, &token.Principal{
			Key: key.ID, KeyName: "desk", Scopes: []token.Scope{token.ScopeSend, token.ScopeDirectory},
			Issued: key.Created, Expires: key.Expires,
		}, got)
		require.False(t, got.May(token.ScopeUser))
		require.False(t, got.May(token.ScopeAdmin))
	}

	// Revoked by one process, refused by the other two seconds later, and at once where it is forgotten.
	_, err = here.db.RevokeServiceKey(t.Context(), "desk", w.clock.Now())
	require.NoError(t, err)
	here.ForgetKey(key.ID)
	_, err = here.VerifyKey(t.Context(), secret)
	require.ErrorIs(t, err, token.ErrRevoked)
	w.clock.pass(2 * time.Second)
	_, err = there.VerifyKey(t.Context(), secret)
	require.ErrorIs(t, err, token.ErrRevoked)
}

func TestServiceKeyExpires(t *testing.T) {
	w := newWorld(t)
	p := w.open()
	secret, _, err := p.NewServiceKey(t.Context(), "desk", token.ServiceScopes, w.clock.Now().Add(time.Hour))
	require.NoError(t, err)
	forever, _, err := p.NewServiceKey(t.Context(), "old desk", token.ServiceScopes, time.Time{})
	require.NoError(t, err)
	w.clock.pass(time.Hour - time.Second)
	_, err = p.VerifyKey(t.Context(), secret)
	require.NoError(t, err)
	w.clock.pass(time.Second)
	_, err = p.VerifyKey(t.Context(), secret)
	require.ErrorIs(t, err, token.ErrExpired)
	w.clock.pass(100 * 365 * 24 * time.Hour)
	_, err = p.VerifyKey(t.Context(), forever)
	require.NoError(t, err)
}

// TestServiceKeyUsed: its last use is noted, to the minute, by one write a minute.
func TestServiceKeyUsed(t *testing.T) {
	w := newWorld(t)
	touches := &touched{}
	p := w.open(func(c *token.Config) { touches.ServiceKeys = c.Services; c.Services = touches })
	secret, key, err := p.NewServiceKey(t.Context(), "desk", []token.Scope{token.ScopeSend}, time.Time{})
	require.NoError(t, err)
	w.clock.pass(30 * time.Second)
	minute := w.clock.Now().Truncate(time.Minute)
	for range 20 {
		_, err = p.VerifyKey(t.Context(), secret)
		require.NoError(t, err)
		w.clock.pass(time.Second)
	}
	got, err := p.db.ServiceKey(t.Context(), key.ID)
	require.NoError(t, err)
	require.Equal(t, minute, got.Used)
	require.Equal(t, 1, touches.n)
	w.clock.pass(time.Minute)
	_, err = p.VerifyKey(t.Context(), secret)
	require.NoError(t, err)
	require.Equal(t, 2, touches.n)
	_, err = p.VerifyKey(t.Context(), secret[:len(secret)-1]+"_")
	require.ErrorIs(t, err, token.ErrInvalid)
	w.clock.pass(time.Minute)
	require.Equal(t, 2, touches.n, "who does not know the secret does not use it")
}

// TestServiceKeyForged: nothing is told about a key to whoever does not know its secret.
func TestServiceKeyForged(t *testing.T) {
	w := newWorld(t)
	p := w.open()
	secret, key, err := p.NewServiceKey(t.Context(), "desk", []token.Scope{token.ScopeAdmin},
		w.clock.Now().Add(time.Minute))
	require.NoError(t, err)
	wrong := secret[:30] + strings.Repeat("A", len(secret)-30)
	try := func() {
		t.Helper()
		for _, text := range []string{
			wrong, "phk_", "phk_" + strings.Repeat("a", 16) + "_" + strings.Repeat("A", 43), secret + "A",
			secret[:len(secret)-1], strings.ToUpper(secret),
			"phk_" + key.ID + "-" + secret[21:], secret[4:], " " + secret, secret + "\x00", "phr_" + secret[4:],
			strings.Repeat("phk_", 10_000),
		} {
			_, err := p.Check(t.Context(), text)
			require.ErrorIs(t, err, token.ErrInvalid, text)
		}
	}
	try()
	w.clock.pass(time.Hour)
	try()
	_, err = p.db.RevokeServiceKey(t.Context(), key.ID, w.clock.Now())
	require.NoError(t, err)
	w.clock.pass(time.Hour)
	try()
}

func TestNewServiceKeyRefuses(t *testing.T) {
	w := newWorld(t)
	p := w.open()
	good := []token.Scope{token.ScopeSend}
	_, _, err := p.NewServiceKey(t.Context(), "taken", good, time.Time{})
	require.NoError(t, err)
	for _, test := range []struct {
		name    string
		scopes  []token.Scope
		expires time.Time
		want    error
	}{
		{"", good, time.Time{}, token.ErrKeyName},
		{strings.Repeat("é", 33), good, time.Time{}, token.ErrKeyName},
		{"a\nb", good, time.Time{}, token.ErrKeyName},
		{"a\xff", good, time.Time{}, token.ErrKeyName},
		{"\u202eabc", good, time.Time{}, token.ErrKeyName},
		{"x", nil, time.Time{}, token.ErrKeyScopes},
		{"x", []token.Scope{token.ScopeUser}, time.Time{}, token.ErrKeyScopes},
		{"x", []token.Scope{token.ScopeSend, "everything"}, time.Time{}, token.ErrKeyScopes},
		{"x", good, w.clock.Now(), token.ErrKeyExpired},
		{"taken", good, time.Time{}, store.ErrExists},
	} {
		secret, _, err := p.NewServiceKey(t.Context(), test.name, test.scopes, test.expires)
		require.ErrorIs(t, err, test.want, "%q", test.name)
		require.Empty(t, secret)
	}
	all, err := p.db.ListServiceKeys(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
}

// touched counts how often the use of a key is noted.
type touched struct {
	store.ServiceKeys
	n int
}

func (s *touched) TouchServiceKey(ctx context.Context, id string, at time.Time) error {
	s.n++
	return s.ServiceKeys.TouchServiceKey(ctx, id, at)
}

// TestNoRandomness: without randomness nothing is made, and nothing stored.
func TestNoRandomness(t *testing.T) {
	w := newWorld(t)
	p := w.open(func(c *token.Config) { c.Random = io.LimitReader(rand.Reader, 32) }) // enough for the signing key
	_, _, err := p.NewServiceKey(t.Context(), "desk", []token.Scope{token.ScopeSend}, time.Time{})
	require.ErrorIs(t, err, io.EOF)
	a, d := p.person(t, "romeo", "phone")
	_, err = p.Issue(t.Context(), a, d)
	require.ErrorIs(t, err, io.EOF)
	all, err := p.db.ListServiceKeys(t.Context())
	require.NoError(t, err)
	require.Empty(t, all)
	stored, err := p.db.Device(t.Context(), a.ID, "phone")
	require.NoError(t, err)
	require.Empty(t, stored.Refresh)
	_, err = token.New(t.Context(), token.Config{
		Domain: jid.MustParse("other.test"), Secret: w.secret, Keys: noKeys{}, Services: p.db, Devices: p.db,
		Accounts: p.db, Random: strings.NewReader("short"),
	})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// noKeys is a store without signing keys, into which none may be put.
type noKeys struct{ signingKeys }

func (noKeys) SigningKeys(context.Context) ([]store.SigningKey, error) { return nil, nil }
