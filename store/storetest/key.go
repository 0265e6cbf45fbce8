package storetest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// Keys runs the suite for store.SigningKeys and store.ServiceKeys.
func Keys(t *testing.T, d Databases) {
	databaseTests{
		"SigningKeys":            testSigningKeys,
		"OneFollowsAnother":      testSigningKeysAtOnce,
		"ServiceKeys":            testServiceKeys,
		"NamesAreFreeAfterwards": testServiceKeyNames,
	}.run(t, d)
}

func signingKey(id string, created time.Duration) store.SigningKey {
	return store.SigningKey{ID: id, Private: bytes.Repeat([]byte(id), 32)[:32], Created: noon().Add(created)}
}

func testSigningKeys(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	all, err := s.SigningKeys(ctx)
	require.NoError(t, err)
	require.Empty(t, all)
	a, b, c := signingKey("a", 0), signingKey("b", time.Hour), signingKey("c", -time.Hour) // the clock was set back
	require.ErrorIs(t, s.AddSigningKey(ctx, a, "z"), store.ErrExists)
	require.NoError(t, s.AddSigningKey(ctx, a, ""))
	require.ErrorIs(t, s.AddSigningKey(ctx, b, ""), store.ErrExists)
	require.NoError(t, s.AddSigningKey(ctx, b, "a"))
	a.Retired = b.Created
	all, err = s.SigningKeys(ctx)
	require.NoError(t, err)
	require.Equal(t, []store.SigningKey{b, a}, all)
	require.ErrorIs(t, s.AddSigningKey(ctx, c, "a"), store.ErrExists)
	require.NoError(t, s.AddSigningKey(ctx, c, "b"))
	b.Retired = c.Created
	all, err = s.SigningKeys(ctx)
	require.NoError(t, err)
	require.Equal(t, []store.SigningKey{c, b, a}, all,
		"the newest is the one that came last, and keeps when it was retired")

	require.NoError(t, s.RemoveSigningKeys(ctx, b.Retired))
	all, err = s.SigningKeys(ctx)
	require.NoError(t, err)
	require.Len(t, all, 3, "before, not at")
	require.NoError(t, s.RemoveSigningKeys(ctx, noon().Add(100*time.Hour)))
	all, err = s.SigningKeys(ctx)
	require.NoError(t, err)
	require.Equal(t, []store.SigningKey{c}, all, "the one in use stays")
}

// testSigningKeysAtOnce: of several processes that add a key after the same one, one does.
func testSigningKeysAtOnce(t *testing.T, d Databases) {
	folder, ctx := t.TempDir(), context.Background()
	var all []Database
	for range 3 {
		s := d.Open(t, folder, noon)
		defer func() { require.NoError(t, s.Close()) }()
		all = append(all, s)
	}
	newest := ""
	for round := range 5 {
		var wg sync.WaitGroup
		won := make([]bool, len(all))
		for i, s := range all {
			wg.Go(func() {
				err := s.AddSigningKey(ctx, signingKey(fmt.Sprint("key", round, i), 0), newest)
				if won[i] = err == nil; !won[i] {
					require.ErrorIs(t, err, store.ErrExists)
				}
			})
		}
		wg.Wait()
		winner := -1
		for i := range won {
			if won[i] {
				require.Equal(t, -1, winner, "two were added")
				winner = i
			}
		}
		keys, err := all[0].SigningKeys(ctx)
		require.NoError(t, err)
		newest = keys[0].ID
		require.Equal(t, fmt.Sprint("key", round, winner), newest)
		require.Len(t, keys, round+1)
	}
}

func serviceKey(id, name string) store.ServiceKey {
	return store.ServiceKey{
		ID: id, Name: name, Hash: bytes.Repeat([]byte{7}, 32), Scopes: []string{"message.send", "admin"},
		Created: noon(), Expires: noon().Add(time.Hour),
	}
}

func testServiceKeys(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	_, err := s.ServiceKey(ctx, "a")
	require.ErrorIs(t, err, store.ErrNotFound)
	a, b := serviceKey("a", "Zoé ☃"), serviceKey("b", "bot")
	b.Scopes, b.Expires = nil, time.Time{}
	for _, k := range []store.ServiceKey{a, b} {
		require.NoError(t, s.AddServiceKey(ctx, k))
		got, err := s.ServiceKey(ctx, k.ID)
		require.NoError(t, err)
		require.Equal(t, k, got)
	}
	require.ErrorIs(t, s.AddServiceKey(ctx, serviceKey("a", "other")), store.ErrExists)
	all, err := s.ListServiceKeys(ctx)
	require.NoError(t, err)
	require.Equal(t, []store.ServiceKey{a, b}, all, "by name")

	a.Used = noon().Add(time.Minute)
	require.NoError(t, s.TouchServiceKey(ctx, "a", a.Used))
	require.NoError(t, s.TouchServiceKey(ctx, "a", noon()), "of a process that is late")
	require.ErrorIs(t, s.TouchServiceKey(ctx, "z", noon()), store.ErrNotFound)
	got, err := s.ServiceKey(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, a, got)
	got, err = s.ServiceKey(ctx, "b")
	require.NoError(t, err)
	require.Equal(t, b, got)
}

func testServiceKeyNames(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	a, b := serviceKey("a", "bot"), serviceKey("b", "bot")
	require.NoError(t, s.AddServiceKey(ctx, a))
	require.ErrorIs(t, s.AddServiceKey(ctx, b), store.ErrExists)
	a.Revoked = noon().Add(time.Minute)
	got, err := s.RevokeServiceKey(ctx, "bot", a.Revoked)
	require.NoError(t, err)
	require.Equal(t, a, got)
	for _, again := range []string{"bot", "a", "nothing"} {
		_, err = s.RevokeServiceKey(ctx, again, noon())
		require.ErrorIs(t, err, store.ErrNotFound)
	}
	require.NoError(t, s.AddServiceKey(ctx, b))
	// An ID comes before a name.
	c, e := serviceKey("c", "b"), serviceKey("e", "x")
	require.NoError(t, s.AddServiceKey(ctx, c))
	require.NoError(t, s.AddServiceKey(ctx, e))
	b.Revoked = noon()
	got, err = s.RevokeServiceKey(ctx, "b", noon())
	require.NoError(t, err)
	require.Equal(t, b, got)
	got, err = s.RevokeServiceKey(ctx, "b", noon())
	require.NoError(t, err)
	require.Equal(t, "c", got.ID)
	all, err := s.ListServiceKeys(ctx)
	require.NoError(t, err)
	require.Len(t, all, 4, "revoked ones are listed")
}
