package storetest

import (
	"context"
	"encoding/hex"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// Audit runs the suite for store.Audit. That a chain which somebody has changed is noticed is tested where the storage
// can be changed.
func Audit(t *testing.T, d Databases) {
	databaseTests{
		"Chain":             testAuditChain,
		"Pages":             testAuditPages,
		"SeveralAtOnce":     testAuditAtOnce,
		"HashIsAsWritten":   testAuditHash,
		"FieldsDoNotRunOut": testAuditFields,
	}.run(t, d)
}

func auditEntry(n int) store.AuditEntry {
	return store.AuditEntry{
		At: noon().Add(time.Duration(n) * time.Second), Actor: "romeo@localhost", Action: "account.disable",
		Target: fmt.Sprint("user", n),
		Detail: `{"a":"é ☃"}`, Remote: "192.0.2.1",
	}
}

func testAuditChain(t *testing.T, d Databases) {
	folder, ctx := t.TempDir(), context.Background()
	s := d.Open(t, folder, noon)
	last, err := s.VerifyAudit(ctx)
	require.NoError(t, err)
	require.Zero(t, last)
	var want []store.AuditEntry
	var hash []byte
	for n := range 5 {
		if n == 3 { // another process goes on
			require.NoError(t, s.Close())
			s = d.Open(t, folder, noon)
			defer func() { require.NoError(t, s.Close()) }()
		}
		e := auditEntry(n)
		if n == 4 {
			e = store.AuditEntry{Number: 77, Hash: []byte("x"), Actor: "command line (root)", Action: "key.list"}
		}
		got, err := s.AppendAudit(ctx, e)
		require.NoError(t, err)
		if n == 4 {
			e.At = noon() // of the store's clock
		}
		e.Number = uint64(n + 1)
		e.Hash = store.AuditHash(hash, e)
		hash = e.Hash
		require.Equal(t, e, got)
		want = append([]store.AuditEntry{e}, want...)
	}
	all, err := s.AuditEntries(ctx, 0, 100)
	require.NoError(t, err)
	require.Equal(t, want, all)
	last, err = s.VerifyAudit(ctx)
	require.NoError(t, err)
	require.Equal(t, want[0], last)
}

func testAuditPages(t *testing.T, d Databases) {
	s, ctx := openDatabase(t, d), context.Background()
	for n := range 7 {
		_, err := s.AppendAudit(ctx, auditEntry(n))
		require.NoError(t, err)
	}
	numbers := func(before uint64, limit int) (out []uint64) {
		all, err := s.AuditEntries(ctx, before, limit)
		require.NoError(t, err)
		for _, e := range all {
			out = append(out, e.Number)
		}
		return out
	}
	require.Equal(t, []uint64{7, 6, 5}, numbers(0, 3))
	require.Equal(t, []uint64{4, 3, 2}, numbers(5, 3))
	require.Equal(t, []uint64{1}, numbers(2, 3))
	require.Empty(t, numbers(1, 3))
	require.Equal(t, []uint64{7}, numbers(1<<63, 1))
}

// testAuditAtOnce: several processes write, and there is one chain.
func testAuditAtOnce(t *testing.T, d Databases) {
	folder, ctx := t.TempDir(), context.Background()
	const processes, each = 3, 10
	var wg sync.WaitGroup
	var all []Database
	for range processes {
		s := d.Open(t, folder, noon)
		defer func() { require.NoError(t, s.Close()) }()
		all = append(all, s)
	}
	for i, s := range all {
		wg.Go(func() {
			for n := range each {
				_, err := s.AppendAudit(ctx, auditEntry(100*i+n))
				require.NoError(t, err)
			}
		})
	}
	wg.Wait()
	last, err := all[0].VerifyAudit(ctx)
	require.NoError(t, err)
	require.Equal(t, uint64(processes*each), last.Number)
}

// testAuditHash: the hash is computed as its description says, by which others can check it.
func testAuditHash(t *testing.T, _ Databases) {
	e := store.AuditEntry{Number: 2, At: time.UnixMilli(1_772_366_400_000), Actor: "key:desk", Action: "account.create",
		Target: "romeo@localhost", Remote: "::1"}
	require.Equal(t, "8db326aea8f980ad51ea44c62165b543915dd290490118fdb2eb6e7239fa8e6b",
		hex.EncodeToString(store.AuditHash([]byte{1, 2, 3}, e)))
	require.NotEqual(t, store.AuditHash(nil, e), store.AuditHash([]byte{1, 2, 3}, e))
}

// testAuditFields: what stands at the end of one field cannot be taken for the beginning of the next, and every field
// counts.
func testAuditFields(t *testing.T, _ Databases) {
	base := store.AuditEntry{Number: 1, At: noon(), Actor: "ab", Action: "cd", Target: "ef", Detail: "gh", Remote: "ij"}
	seen := map[string]bool{string(store.AuditHash(nil, base)): true}
	for _, change := range []func(*store.AuditEntry){
		func(e *store.AuditEntry) { e.Number = 2 },
		func(e *store.AuditEntry) { e.At = e.At.Add(time.Millisecond) },
		func(e *store.AuditEntry) { e.Actor, e.Action = "a", "bcd" },
		func(e *store.AuditEntry) { e.Action, e.Target = "cde", "f" },
		func(e *store.AuditEntry) { e.Target, e.Detail = "", "efgh" },
		func(e *store.AuditEntry) { e.Detail, e.Remote = "ghi", "j" },
		func(e *store.AuditEntry) { e.Remote = "" },
	} {
		e := base
		change(&e)
		hash := string(store.AuditHash(nil, e))
		require.False(t, seen[hash])
		seen[hash] = true
	}
}
