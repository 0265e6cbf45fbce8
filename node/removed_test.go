package node

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/node/settings"
)

// TestRemovedSettings: a node does not start with a setting that is gone, wherever it comes from, and says what to do
// instead.
func TestRemovedSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "posthouse.yaml")
	require.NoError(t, os.WriteFile(file, []byte("auth:\n  admins: [romeo]\n"), 0o600))
	for name, load := range map[string]func() settings.Problems{
		"file": func() settings.Problems { _, _, p := LoadConfig(file, nil, nil); return p },
		"environment": func() settings.Problems {
			_, _, p := LoadConfig("", []string{"POSTHOUSE_AUTH_ADMINS=romeo"}, nil)
			return p
		},
		"flag": func() settings.Problems {
			_, _, p := LoadConfig("", nil, []settings.Assignment{{Flag: "--set", Path: "auth.admins", Value: "romeo"}})
			return p
		},
	} {
		problems := load()
		require.Len(t, problems, 1, name)
		require.Contains(t, problems.Error(), "this setting was removed", name)
		require.Contains(t, problems.Error(), "posthouse user admin NAME on", name)
	}
}
