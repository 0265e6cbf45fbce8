package token_test

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
)

func TestRefresh(t *testing.T) {
	w := newWorld(t)
	p := w.open()
	first := p.issue(t, "romeo", "phone")
	w.clock.pass(14 * time.Minute)
	second, who, err := p.Refresh(t.Context(), first.Refresh)
	require.NoError(t, err)
	require.Equal(t, "romeo@posthouse.test", who.JID.String())
	require.Equal(t, "phone", who.Device)
	require.True(t, who.May(token.ScopeUser))
	require.NotEqual(t, first.Refresh, second.Refresh)
	require.Equal(t, w.clock.Now().Add(15*time.Minute), second.Expires)
	require.Equal(t, w.clock.Now().Add(30*24*time.Hour), second.RefreshExpires)
	for _, access := range []string{first.Access, second.Access} {
		_, err = p.Verify(t.Context(), access)
		require.NoError(t, err)
	}
	stored, err := p.db.Device(t.Context(), who.Account, "phone")
	require.NoError(t, err)
	for token, hash := range map[string][]byte{second.Refresh: stored.Refresh, first.Refresh: stored.RefreshBefore} {
		sum := sha256.Sum256([]byte(token))
		require.Equal(t, sum[:], hash)
	}
	require.Equal(t, w.clock.Now(), stored.Seen)

	// Another process goes on from there, for as long as one likes.
	there := w.open()
	for range 40 {
		w.clock.pass(29 * 24 * time.Hour)
		second, _, err = there.Refresh(t.Context(), second.Refresh)
		require.NoError(t, err)
	}
	w.clock.pass(30 * 24 * time.Hour)
	_, _, err = p.Refresh(t.Context(), second.Refresh)
	require.ErrorIs(t, err, token.ErrExpired)
	require.Empty(t, p.ended)
}

// TestRefreshAtOnce: two parts of a program, in two processes even, use the same token; both go on, and from the same
// place.
func TestRefreshAtOnce(t *testing.T) {
	w := newWorld(t)
	here, there := w.open(), w.open()
	pair := here.issue(t, "romeo", "phone")
	var wg sync.WaitGroup
	got := make([]string, 6)
	for i := range got {
		p := here
		if i%2 == 1 {
			p = there
		}
		wg.Go(func() {
			next, _, err := p.Refresh(t.Context(), pair.Refresh)
			require.NoError(t, err)
			got[i] = next.Refresh
		})
	}
	wg.Wait()
	for _, next := range got[1:] {
		require.Equal(t, got[0], next)
	}
	_, _, err := here.Refresh(t.Context(), got[0])
	require.NoError(t, err)
}

// TestAnswerLost: the answer did not arrive; the token that was shown is good for another two minutes.
func TestAnswerLost(t *testing.T) {
	for _, test := range []struct {
		after time.Duration
		want  error
	}{
		{0, nil}, {2 * time.Minute, nil}, {2*time.Minute + time.Second, token.ErrRevoked},
	} {
		w := newWorld(t)
		p := w.open()
		pair := p.issue(t, "romeo", "phone")
		lost, _, err := p.Refresh(t.Context(), pair.Refresh)
		require.NoError(t, err)
		w.clock.pass(test.after)
		again, _, err := p.Refresh(t.Context(), pair.Refresh)
		require.ErrorIs(t, err, test.want)
		if test.want == nil {
			require.Equal(t, lost.Refresh, again.Refresh)
		}
	}
}

// TestGraceIsOverWhenItIsOver: the time in which a token may be used again runs from its replacement. Using it changes
// nothing, and neither does another lifetime of refresh tokens.
func TestGraceIsOverWhenItIsOver(t *testing.T) {
	for name, lifetime := range map[string]time.Duration{
		"as before": 0, "shorter": time.Hour, "longer": 9000 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.open()
			old := p.issue(t, "romeo", "phone")
			_, _, err := p.Refresh(t.Context(), old.Refresh)
			require.NoError(t, err)
			romeo, err := p.db.Account(t.Context(), "romeo")
			require.NoError(t, err)
			before, err := p.db.ListDevices(t.Context(), romeo.ID)
			require.NoError(t, err)
			p = w.open(func(c *token.Config) { c.RefreshLifetime = lifetime })
			w.clock.pass(119 * time.Second)
			again, _, err := p.Refresh(t.Context(), old.Refresh)
			require.NoError(t, err)
			require.Equal(t, before[0].RefreshExpires, again.RefreshExpires)
			after, err := p.db.ListDevices(t.Context(), romeo.ID)
			require.NoError(t, err)
			require.Equal(t, before, after)
			w.clock.pass(119 * time.Second)
			_, _, err = p.Refresh(t.Context(), old.Refresh)
			require.ErrorIs(t, err, token.ErrRevoked)
			require.Equal(t, []string{"phone"}, p.ended)
		})
	}
}

// TestTwoGenerationsOld: a token whose successor was used is a stolen one, however little time has passed: whoever used
// the successor had got the answer.
func TestTwoGenerationsOld(t *testing.T) {
	w := newWorld(t)
	p := w.open()
	first := p.issue(t, "romeo", "phone")
	second, _, err := p.Refresh(t.Context(), first.Refresh)
	require.NoError(t, err)
	third, _, err := p.Refresh(t.Context(), second.Refresh)
	require.NoError(t, err)
	w.clock.pass(time.Second)
	_, _, err = p.Refresh(t.Context(), first.Refresh)
	require.ErrorIs(t, err, token.ErrRevoked)
	require.Equal(t, []string{"phone"}, p.ended)
	for _, dead := range []token.Pair{second, third} {
		_, _, err = p.Refresh(t.Context(), dead.Refresh)
		require.ErrorIs(t, err, token.ErrRevoked)
		_, err = p.Verify(t.Context(), dead.Access)
		require.ErrorIs(t, err, token.ErrRevoked)
	}
}

// TestStolenRefreshToken: whoever of the two uses it second ends the device, and so what the first has made of it.
func TestStolenRefreshToken(t *testing.T) {
	for uses := 1; uses <= 40; uses += 13 {
		w := newWorld(t)
		p := w.open()
		stolen := p.issue(t, "romeo", "phone")
		other := p.issue(t, "romeo", "laptop")
		pair := stolen
		for range uses {
			w.clock.pass(14 * time.Minute)
			var err error
			pair, _, err = p.Refresh(t.Context(), pair.Refresh)
			require.NoError(t, err)
		}
		w.clock.pass(10 * time.Minute)
		_, _, err := p.Refresh(t.Context(), stolen.Refresh)
		require.ErrorIs(t, err, token.ErrRevoked)
		require.Equal(t, []string{"phone"}, p.ended)
		_, err = p.Verify(t.Context(), pair.Access)
		require.ErrorIs(t, err, token.ErrRevoked)
		_, _, err = p.Refresh(t.Context(), pair.Refresh)
		require.ErrorIs(t, err, token.ErrRevoked)
		_, _, err = p.Refresh(t.Context(), other.Refresh)
		require.NoError(t, err, "the other device has nothing to do with it")
		require.InDelta(t, 1, p.metric(t, "posthouse_token_reused_total"), 0)
	}
}

// TestSupersededRefreshToken: a new login of the device ends the earlier refresh token, which is no sign of theft: two
// windows of a browser may be one device.
func TestSupersededRefreshToken(t *testing.T) {
	w := newWorld(t)
	p := w.open()
	first := p.issue(t, "romeo", "phone")
	renewed, _, err := p.Refresh(t.Context(), first.Refresh)
	require.NoError(t, err)
	second := p.issue(t, "romeo", "phone")
	for _, old := range []string{first.Refresh, renewed.Refresh} {
		_, _, err := p.Refresh(t.Context(), old)
		require.ErrorIs(t, err, token.ErrRevoked)
	}
	require.Empty(t, p.ended)
	for _, access := range []string{first.Access, renewed.Access, second.Access} {
		_, err := p.Verify(t.Context(), access)
		require.NoError(t, err)
	}
	_, _, err = p.Refresh(t.Context(), second.Refresh)
	require.NoError(t, err)
}

// TestForgedRefreshToken: what was not made here is refused before the store is asked, and ends nobody's device.
func TestForgedRefreshToken(t *testing.T) {
	w := newWorld(t)
	p := w.open()
	pair := p.issue(t, "romeo", "phone")
	raw, err := base64.RawURLEncoding.DecodeString(pair.Refresh[4:])
	require.NoError(t, err)
	for i := range raw {
		changed := append([]byte{}, raw...)
		changed[i] ^= 1
		_, _, err := p.Refresh(t.Context(), "phr_"+base64.RawURLEncoding.EncodeToString(changed))
		require.ErrorIs(t, err, token.ErrInvalid, i)
	}
	other := newWorld(t)
	other.secret = []byte(strings.Repeat("x", 32))
	foreign := other.open().issue(t, "romeo", "phone")
	for _, text := range []string{
		"", "phr_", "phr_ab", "phr_" + strings.Repeat("A", 88), "phr_" + strings.Repeat("A", 4000),
		pair.Refresh[:len(pair.Refresh)-1], pair.Refresh + "A",
		pair.Refresh[4:], "phk_" + pair.Refresh[4:], pair.Access, foreign.Refresh, pair.Refresh + "\n", " " +
			pair.Refresh,
	} {
		_, _, err := p.Refresh(t.Context(), text)
		require.ErrorIs(t, err, token.ErrInvalid, text)
	}
	require.Empty(t, p.ended)
	_, _, err = p.Refresh(t.Context(), pair.Refresh)
	require.NoError(t, err)
}

// TestRefreshAfterNameChangedHands: the identity counts, not the name.
func TestRefreshAfterNameChangedHands(t *testing.T) {
	w := newWorld(t)
	p := w.open()
	pair := p.issue(t, "romeo", "phone")
	require.NoError(t, p.db.DeleteAccount(t.Context(), "romeo"))
	w.clock.pass(366 * 24 * time.Hour)
	_, err := p.db.CreateAccount(t.Context(), store.Account{Name: "romeo"})
	require.NoError(t, err)
	p.person(t, "romeo", "phone")
	_, _, err = p.Refresh(t.Context(), pair.Refresh)
	require.ErrorIs(t, err, token.ErrRevoked)
	require.Empty(t, p.ended)
}
