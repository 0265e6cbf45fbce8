package token_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/jid"
)

func TestIssueAndVerify(t *testing.T) {
	w := newWorld(t)
	p := w.open()
	a, d := p.person(t, "romeo", "phone")
	w.clock.pass(1500 * time.Millisecond)
	pair, err := p.Issue(t.Context(), a, d)
	require.NoError(t, err)
	require.Equal(t, "phone", pair.Device)
	got, err := p.Verify(t.Context(), pair.Access)
	require.NoError(t, err)
	begin := time.Date(2026, 3, 1, 12, 0, 1, 0, time.UTC)
	require.Len(t, got.TokenID, 22)
	got.TokenID, got.Basis = "", 0
	require.Equal(t, &token.Principal{
		Account: a.ID, JID: jid.MustParse("romeo@posthouse.test"), Device: "phone",
		Scopes: []token.Scope{token.ScopeUser},
		Issued: begin, Expires: begin.Add(15 * time.Minute),
	}, got)
	require.Equal(t, got.Expires, pair.Expires)
	require.Equal(t, begin.Add(30*24*time.Hour), pair.RefreshExpires)
	require.Less(t, len(pair.Access), 700)
	require.True(t, strings.HasPrefix(pair.Refresh, "phr_"))

	// What the caller does to the answer is not remembered.
	got.Scopes[0] = token.ScopeAdmin
	got, err = p.Check(t.Context(), pair.Access)
	require.NoError(t, err)
	require.Equal(t, []token.Scope{token.ScopeUser}, got.Scopes)
	require.True(t, got.May(token.ScopeUser))
	require.False(t, got.May(token.ScopeAdmin))

	stored, err := p.db.Device(t.Context(), a.ID, "phone")
	require.NoError(t, err)
	sum := sha256.Sum256([]byte(pair.Refresh))
	require.Equal(t, sum[:], stored.Refresh, "only the hash is kept")
	require.Equal(t, w.clock.Now(), stored.Seen)
}

// TestTimes: fifteen minutes, and a minute for clocks that differ.
func TestTimes(t *testing.T) {
	for _, test := range []struct {
		passes time.Duration
		want   error
	}{
		{0, nil},
		{15*time.Minute + 59*time.Second, nil},
		{16 * time.Minute, token.ErrExpired},
		{24 * time.Hour, token.ErrExpired},
		{-time.Minute, nil},
		{-61 * time.Second, token.ErrInvalid},
	} {
		w := newWorld(t)
		p := w.open()
		pair := p.issue(t, "romeo", "phone")
		for _, cached := range []bool{false, true} {
			if cached {
				_, err := p.Verify(t.Context(), pair.Access)
				require.NoError(t, err)
			}
			w.clock.pass(test.passes)
			_, err := p.Verify(t.Context(), pair.Access)
			require.ErrorIs(t, err, test.want, "%v, seen before: %v", test.passes, cached)
			w.clock.pass(-test.passes)
		}
	}
}

// TestRevocation: whatever ends a device is noticed by every process within two seconds, and at once where it was done.
func TestRevocation(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *process, store.Account){
		"sign out": func(t *testing.T, p *process, a store.Account) {
			require.NoError(t, p.db.RemoveDevice(t.Context(), a.ID, "phone"))
			p.Forget(a.ID, "phone")
		},
		"sign out of the others": func(t *testing.T, p *process, a store.Account) {
			gone, err := p.db.RemoveDevices(t.Context(), a.ID, "laptop")
			require.NoError(t, err)
			for _, d := range gone {
				p.Forget(a.ID, d)
			}
		},
		"password": func(t *testing.T, p *process, a store.Account) {
			require.NoError(t, p.db.SetCredentials(t.Context(), a.Name, nil))
			p.Forget(a.ID, "")
		},
		"disabled": func(t *testing.T, p *process, a store.Account) {
			require.NoError(t, p.db.SetDisabled(t.Context(), a.Name, true))
			p.Forget(a.ID, "")
		},
		"deleted": func(t *testing.T, p *process, a store.Account) {
			require.NoError(t, p.db.DeleteAccount(t.Context(), a.Name))
			p.Forget(a.ID, "")
		},
		// It has the same ID, and a login later than that of the token.
		"sign out and back": func(t *testing.T, p *process, a store.Account) {
			require.NoError(t, p.db.RemoveDevice(t.Context(), a.ID, "phone"))
			a.Created = a.Created.Add(time.Millisecond)
			p.device(t, a, "phone")
			p.Forget(a.ID, "phone")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			here, there := w.open(), w.open()
			pair := here.issue(t, "romeo", "phone")
			a, _ := here.person(t, "romeo", "laptop")
			for _, p := range []*process{here, there} {
				_, err := p.Verify(t.Context(), pair.Access)
				require.NoError(t, err)
			}
			end(t, here, a)
			_, err := here.Verify(t.Context(), pair.Access)
			require.ErrorIs(t, err, token.ErrRevoked)
			_, _, err = here.Refresh(t.Context(), pair.Refresh)
			require.ErrorIs(t, err, token.ErrRevoked)
			w.clock.pass(2 * time.Second)
			_, err = there.Verify(t.Context(), pair.Access)
			require.ErrorIs(t, err, token.ErrRevoked)
			_, _, err = there.Refresh(t.Context(), pair.Refresh)
			require.ErrorIs(t, err, token.ErrRevoked)
		})
	}
}

// TestAnswerOvertaken: an answer of the store that was on its way while a device was signed out is not remembered.
func TestAnswerOvertaken(t *testing.T) {
	w := newWorld(t)
	slow := &slowDevices{}
	p := w.open(func(c *token.Config) { slow.Devices = c.Devices; c.Devices = slow })
	a, d := p.person(t, "romeo", "phone")
	pair, err := p.Issue(t.Context(), a, d)
	require.NoError(t, err)
	slow.before = func() {
		slow.before = nil
		require.NoError(t, p.db.RemoveDevice(t.Context(), a.ID, "phone"))
		p.Forget(a.ID, "phone")
	}
	_, err = p.Verify(t.Context(), pair.Access)
	require.NoError(t, err, "it was asked before")
	_, err = p.Verify(t.Context(), pair.Access)
	require.ErrorIs(t, err, token.ErrRevoked)
}

// slowDevices lets something happen after a device was read and before the answer arrives.
type slowDevices struct {
	store.Devices
	before func()
	broken error
}

func (s *slowDevices) Device(ctx context.Context, a store.AccountID, id string) (store.Device, error) {
	d, err := s.Devices.Device(ctx, a, id)
	if s.before != nil {
		s.before()
	}
	return d, errors.Join(err, s.broken)
}

// TestStoreFails: a store that cannot tell is not taken for a revoked token, and what was heard before is not believed
// for longer.
func TestStoreFails(t *testing.T) {
	w := newWorld(t)
	slow := &slowDevices{}
	p := w.open(func(c *token.Config) { slow.Devices = c.Devices; c.Devices = slow })
	pair := p.issue(t, "romeo", "phone")
	_, err := p.Verify(t.Context(), pair.Access)
	require.NoError(t, err)
	slow.broken = errors.New("the disk is on fire")
	_, err = p.Verify(t.Context(), pair.Access)
	require.NoError(t, err, "for two seconds")
	w.clock.pass(2 * time.Second)
	_, err = p.Verify(t.Context(), pair.Access)
	require.ErrorContains(t, err, "on fire")
	for _, kind := range []error{token.ErrInvalid, token.ErrExpired, token.ErrRevoked} {
		require.NotErrorIs(t, err, kind)
	}
	slow.broken = nil
	_, err = p.Verify(t.Context(), pair.Access)
	require.NoError(t, err)
}

// TestSignatureOnce: the signature of a token is computed once, however often it is shown.
func TestSignatureOnce(t *testing.T) {
	w := newWorld(t)
	p := w.open()
	pair := p.issue(t, "romeo", "phone")
	var wg sync.WaitGroup
	_, err := p.Verify(t.Context(), pair.Access)
	require.NoError(t, err)
	for range 8 {
		wg.Go(func() {
			for range 50 {
				_, err := p.Verify(t.Context(), pair.Access)
				require.NoError(t, err)
			}
		})
	}
	wg.Wait()
	require.InDelta(t, 1, p.metric(t, "posthouse_token_signatures_total"), 0)
	require.InDelta(t, 401, p.metric(t, "posthouse_token_checked_total", "kind", "access", "result", "good"), 0)
}

// TestAdmins: an administrator's token says so. What the holder may do follows the account within two seconds, also
// when another process changes it, whatever an earlier token says.
func TestAdmins(t *testing.T) {
	w := newWorld(t)
	p, other := w.open(), w.open()
	before := p.issue(t, "escalus", "phone")
	both := []token.Scope{token.ScopeUser, token.ScopeAdmin}
	for _, admin := range []bool{true, false, true} {
		require.NoError(t, other.db.SetAdmin(t.Context(), "escalus", admin))
		w.clock.pass(3 * time.Second)
		want := both[:1]
		if admin {
			want = both
		}
		again := p.issue(t, "escalus", "phone")
		renewed, who, err := p.Refresh(t.Context(), again.Refresh)
		require.NoError(t, err)
		require.Equal(t, want, who.Scopes)
		for _, access := range []string{before.Access, again.Access, renewed.Access} {
			got, err := p.Verify(t.Context(), access)
			require.NoError(t, err)
			require.Equal(t, want, got.Scopes)
		}
		claims, err := base64.RawURLEncoding.DecodeString(strings.Split(renewed.Access, ".")[1])
		require.NoError(t, err)
		require.Equal(t, admin, strings.Contains(string(claims), `"user admin"`), "as other systems see it")
	}
}

// TestIssueRefused: nobody who may not log in gets a token.
func TestIssueRefused(t *testing.T) {
	w := newWorld(t)
	p := w.open()
	a, d := p.person(t, "romeo", "phone")
	d.ID = "gone"
	_, err := p.Issue(t.Context(), a, d)
	require.ErrorIs(t, err, token.ErrRevoked)
	a.Disabled, d.ID = true, "phone"
	_, err = p.Issue(t.Context(), a, d)
	require.ErrorIs(t, err, token.ErrRevoked)
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t)
	p := w.open()
	for want, change := range map[string]func(*token.Config){
		"no domain":          func(c *token.Config) { c.Domain = jid.MustParse("a@b") },
		"less than 32 bytes": func(c *token.Config) { c.Secret = c.Secret[:31] },
		"a store is missing": func(c *token.Config) { c.Services = nil },
	} {
		c := token.Config{Domain: jid.MustParse("posthouse.test"), Secret: w.secret, Keys: p.db, Services: p.db,
			Devices: p.db, Accounts: p.db}
		change(&c)
		_, err := token.New(t.Context(), c)
		require.ErrorContains(t, err, want)
	}
}
