package operations

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/node"
	"github.com/posthouse-im/posthouse/test/nodetest"
	"github.com/posthouse-im/posthouse/test/script"
)

// TestBackup: what docs/operations.md says of backups. A copy of a stopped node's folder is a node of its own, with
// everything in it; and stanza-ids, by which clients know their place in the history, are the same.
func TestBackup(t *testing.T) {
	original, restored := filepath.Join(t.TempDir(), "original"), filepath.Join(t.TempDir(), "restored")
	var before *script.Element
	t.Run("original", func(t *testing.T) {
		server := nodetest.New(t, "data="+original)
		p, err := node.OpenAccounts(t.Context(),
			node.Config{Data: original, Domain: "localhost", Auth: auth.Config{Iterations: 4096}})
		require.NoError(t, err)
		defer p.Close()
		for _, name := range []string{"romeo", "juliet"} {
			_, err := p.Add(t.Context(), name, secret)
			require.NoError(t, err)
		}
		romeo := person(t, server.Endpoints(), script.TCP, "romeo", secret)
		say(t, romeo, "juliet@localhost", "waits for her")
		before = first(t, romeo)
	})
	// cp -a, which keeps who may read what.
	copied, err := exec.CommandContext(t.Context(), "cp", "-a", original, restored).CombinedOutput()
	require.NoError(t, err, "%s", copied)

	server := nodetest.New(t, "data="+restored)
	juliet, err := script.Connect(t.Context(), server.Endpoints(), script.TCP, "juliet", secret)
	require.NoError(t, err)
	t.Cleanup(juliet.Cut)
	require.NoError(t, juliet.Bind("balcony"))
	require.NoError(t, juliet.Write("<presence xmlns='jabber:client'/>"))
	waited, _, err := juliet.Until(func(n *script.Element) bool { return n.Name.Local == "message" })
	require.NoError(t, err)
	require.Equal(t, "waits for her", waited.Find("jabber:client", "body").Text)

	romeo := person(t, server.Endpoints(), script.TCP, "romeo", secret)
	require.Equal(t, before.String(), first(t, romeo).String())
}

// first returns the first result of a query for a client's whole history.
func first(t *testing.T, a *script.Client) *script.Element {
	t.Helper()
	_, before, err := a.Request("first",
		"<iq xmlns='jabber:client' type='set' id='first'><query xmlns='urn:xmpp:mam:2'/></iq>")
	require.NoError(t, err)
	for _, n := range before {
		if result := n.Find("urn:xmpp:mam:2", "result"); result != nil {
			return result
		}
	}
	require.Fail(t, "there is no history")
	return nil
}
