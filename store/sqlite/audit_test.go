package sqlite

import (
	"fmt"
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
	const last = auditPage + 10 // more than are verified at a time
	for range last {
		if _, err = s.AppendAudit(ctx,
			store.AuditEntry{Actor: "key:desk", Action: "account.disable", Target: "romeo@localhost"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, refused := range []string{
		`UPDATE audit SET target = 'juliet@localhost' WHERE number = 2`,
		`UPDATE OR IGNORE audit SET hash = x'00'`,
		fmt.Sprint(`DELETE FROM audit WHERE number = `, last),
		`DELETE FROM audit`,
		`INSERT OR REPLACE INTO audit SELECT number, at, actor, action, 'x', detail, remote, hash FROM audit WHERE number = 3`,
		`INSERT INTO audit SELECT 9999, at, actor, action, target, detail, remote, hash FROM audit WHERE number = 3`,
	} {
		_, err := s.write.ExecContext(ctx, refused)
		require.ErrorContains(t, err, "entries of the audit log", refused)
	}
	verified, err := s.VerifyAudit(ctx)
	require.NoError(t, err)
	require.Equal(t, uint64(last), verified.Number)

	for _, name := range []string{"audit_update", "audit_delete", "audit_insert"} {
		_, err := s.write.ExecContext(ctx, `DROP TRIGGER `+name)
		require.NoError(t, err)
	}
	for _, test := range []struct{ change, want string }{
		{fmt.Sprint(`UPDATE audit SET target = 'juliet@localhost' WHERE number = `, last-5),
			fmt.Sprintf("entry %d is not what was written", last-5)},
		{`UPDATE audit SET at = at + 1 WHERE number = 1`, "entry 1 is not what was written"},
		{fmt.Sprint(`UPDATE audit SET hash = x'00' WHERE number = `, last),
			fmt.Sprintf("entry %d is not what was written", last)},
		{fmt.Sprint(`DELETE FROM audit WHERE number = `, auditPage),
			fmt.Sprintf("entry %d is missing", auditPage)},
		{`DELETE FROM audit WHERE number = 1`, "entry 1 is missing"},
		{fmt.Sprint(`DELETE FROM audit WHERE number > `, last-2), fmt.Sprintf("entry %d is missing", last-1)},
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
