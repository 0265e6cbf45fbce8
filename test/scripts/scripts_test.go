// Package scripts performs every play in this folder, on every transport, against a whole node.
package scripts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/play"
	"github.com/posthouse-im/posthouse/test/theatre"
)

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
				require.NoError(t, script.Perform(t.Context(), theatre.New(t, script.Settings...), how))
			})
		}
	}
}
