// Package scripts runs every script in this folder, on every transport, against a whole node.
package scripts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/nodetest"
	"github.com/posthouse-im/posthouse/test/script"
)

// A ping on a compact stream gets a pong; there is no line for it in a script, since XML has none.
func TestPing(t *testing.T) {
	node := nodetest.New(t)
	require.NoError(t, node.AddUser("romeo", "wherefore-art-thou"))
	for _, how := range []script.Transport{script.CompactTCP, script.CompactTLS, script.CompactWebSocket} {
		a, err := script.Connect(t.Context(), node.Endpoints(), how, "romeo", "wherefore-art-thou")
		require.NoError(t, err)
		ping := func() {
			require.NoError(t, a.Write(script.Ping))
			n, err := a.Next()
			require.NoError(t, err)
			require.Equal(t, "pong", n.Name.Local, how)
		}
		ping()
		require.NoError(t, a.Bind("orchard"))
		ping()
		require.NoError(t, a.Leave())
	}
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("*.script")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		parsed, err := script.Parse(file, string(text))
		require.NoError(t, err)
		for _, how := range script.Transports() {
			t.Run(strings.TrimSuffix(file, ".script")+"/"+string(how), func(t *testing.T) {
				t.Parallel()
				require.NoError(t, parsed.Run(t.Context(), nodetest.New(t, parsed.Settings...), how))
			})
		}
	}
}
