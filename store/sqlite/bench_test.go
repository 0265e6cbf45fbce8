package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// house is a database with accounts that have contacts.
func house(b *testing.B, accounts, contacts int) (*Store, []store.AccountID) {
	b.Helper()
	ctx := context.Background()
	s, err := Open(ctx, filepath.Join(b.TempDir(), "posthouse.db"), Options{})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.Close()) })
	made := make([]store.Account, accounts)
	key := make([]byte, 32)
	for i := range made {
		made[i] = store.Account{Name: fmt.Sprint("user", i), Credentials: []store.Credential{
			{Hash: "SHA-1", Salt: key[:16], Iterations: 4096, StoredKey: key[:20], ServerKey: key[:20]},
			{Hash: "SHA-256", Salt: key[:16], Iterations: 4096, StoredKey: key, ServerKey: key},
		}}
	}
	ids, err := s.CreateAccounts(ctx, made)
	require.NoError(b, err)
	for i := range contacts {
		contact := jid.MustParse(fmt.Sprintf("contact%d@example.org", i))
		_, _, err := s.ChangeRosterItem(ctx, ids[0], contact, contacts, func(it *store.RosterItem) error {
			*it = store.RosterItem{JID: contact, Name: "Contact", To: true, From: true, Listed: true,
				Groups: []string{"Friends"}}
			return nil
		})
		require.NoError(b, err)
	}
	return s, ids
}

func BenchmarkAccount(b *testing.B) {
	s, ids := house(b, 10_000, 0)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		_, err := s.Account(ctx, fmt.Sprint("user", n%len(ids)))
		require.NoError(b, err)
		n += 37
	}
}

func BenchmarkRoster(b *testing.B) {
	for _, contacts := range []int{0, 10, 100} {
		b.Run(fmt.Sprint(contacts), func(b *testing.B) {
			s, ids := house(b, 100, contacts)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			b.ReportAllocs()
			for b.Loop() {
				items, _, err := s.Roster(ctx, ids[0])
				require.NoError(b, err)
				require.Len(b, items, contacts)
			}
		})
	}
}

func BenchmarkCreateAccounts(b *testing.B) {
	for b.Loop() {
		house(b, 20_000, 0)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/20_000, "µs/account")
}

func BenchmarkChangeRosterItem(b *testing.B) {
	s, ids := house(b, 100, 0)
	n := 0
	for b.Loop() {
		_, _, err := s.ChangeRosterItem(b.Context(), ids[n%len(ids)], jid.MustParse("contact@example.org"), 10,
			func(it *store.RosterItem) error {
				it.Listed, it.To = true, !it.To
				return nil
			})
		require.NoError(b, err)
		n++
	}
}
