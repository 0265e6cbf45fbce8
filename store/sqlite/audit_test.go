package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/storetest"
)

func TestKeys(t *testing.T)  { storetest.Keys(t, databases()) }
func TestAudit(t *testing.T) { storetest.Audit(t, databases()) }

// TestAuditCannotBeChanged (P32): the database refuses, and whoever gets around that is noticed.
func TestAuditCannotBeChanged(t *testing.T) {
	ctx := t.Context()
	s, err := Open(ctx, filepath.Join(t.TempDir(), "posthouse.db"), Options{Relaxed: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	for range 1010 { // more than are verified at a time
		if _, err = s.AppendAudit(ctx,
			store.AuditEntry{Actor: "key:desk", Action: "account.disable", Target: "romeo@localhost"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, refused := range []string{
		`UPDATE audit SET target = 'juliet@localhost' WHERE number = 2`,
		`UPDATE OR IGNORE audit SET hash = x'00'`,
		`DELETE FROM audit WHERE number = 1010`,
		`DELETE FROM audit`,
		`INSERT OR REPLACE INTO audit SELECT number, at, actor, action, 'x', detail, remote, hash FROM audit WHERE number = 3`,
		`INSERT INTO audit SELECT 9999, at, actor, action, target, detail, remote, hash FROM audit WHERE number = 3`,
	} {
		_, err := s.write.ExecContext(ctx, refused)
		require.ErrorContains(t, err, "entries of the audit log", refused)
	}
	last, err := s.VerifyAudit(ctx)
	require.NoError(t, err)
	require.Equal(t, uint64(1010), last.Number)

	for _, name := range []string{"audit_update", "audit_delete", "audit_insert"} {
		_, err := s.write.ExecContext(ctx, `DROP TRIGGER `+name)
		require.NoError(t, err)
	}
	for _, test := range []struct{ change, want string }{
		{`UPDATE audit SET target = 'juliet@localhost' WHERE number = 1005`, "entry 1005 is not what was written"},
		{`UPDATE audit SET at = at + 1 WHERE number = 1`, "entry 1 is not what was written"},
		{`UPDATE audit SET hash = x'00' WHERE number = 1010`, "entry 1010 is not what was written"},
		{`DELETE FROM audit WHERE number = 1000`, "entry 1000 is missing"},
		{`DELETE FROM audit WHERE number = 1`, "entry 1 is missing"},
		{`DELETE FROM audit WHERE number > 1008`, "entry 1009 is missing"},
		{`DELETE FROM audit`, "entry 1 is missing"},
	} {
		tx, err := s.write.BeginTx(ctx, nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(ctx, `CREATE TABLE keep AS SELECT * FROM audit`)
		require.NoError(t, err)
		_, err = tx.ExecContext(ctx, test.change)
		require.NoError(t, err)
		require.NoError(t, tx.Commit())
		_, err = s.VerifyAudit(ctx)
		require.ErrorIs(t, err, store.ErrDamaged)
		require.ErrorContains(t, err, test.want)
		for _, undo := range []string{`DELETE FROM audit`, `INSERT INTO audit SELECT * FROM keep`, `DROP TABLE keep`} {
			_, err = s.write.ExecContext(ctx, undo)
			require.NoError(t, err)
		}
	}
	_, err = s.VerifyAudit(ctx)
	require.NoError(t, err)
}
