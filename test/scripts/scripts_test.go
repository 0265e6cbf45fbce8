// Package scripts performs every play in this folder, on every transport, against a whole node.
package scripts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/nodetest"
	"github.com/posthouse-im/posthouse/test/play"
)

// A ping on a compact stream gets a pong; there is no line for it in a play, since XML has none.
func TestPing(t *testing.T) {
	node := nodetest.New(t)
	require.NoError(t, node.AddUser("romeo", "wherefore-art-thou"))
	for _, how := range []play.Transport{play.CompactTCP, play.CompactTLS, play.CompactWebSocket} {
		a, err := play.Connect(t.Context(), node.Place(), how, "romeo", "wherefore-art-thou")
		require.NoError(t, err)
		ping := func() {
			require.NoError(t, a.Write(play.Ping))
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

func TestPlays(t *testing.T) {
	files, err := filepath.Glob("*.play")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		script, err := play.Parse(file, string(text))
		require.NoError(t, err)
		for _, how := range play.Transports() {
			t.Run(strings.TrimSuffix(file, ".play")+"/"+string(how), func(t *testing.T) {
				t.Parallel()
				require.NoError(t, script.Perform(t.Context(), nodetest.New(t, script.Settings...), how))
			})
		}
	}
}
