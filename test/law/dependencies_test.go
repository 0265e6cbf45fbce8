package law_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var required = regexp.MustCompile(`(?m)^\s*(?:require )?([a-z0-9.]+\.[a-z]+/\S+) v\S+( // indirect)?$`)

// undescribed compares the modules that a go.mod requires directly with a table, and returns what is in one and not in
// the other.
func undescribed(mod, table string) (missing, gone []string) {
	direct := make(map[string]bool)
	all := make(map[string]bool)
	for _, m := range required.FindAllStringSubmatch(mod, -1) {
		all[m[1]] = true
		if m[2] == "" {
			direct[m[1]] = true
		}
	}
	described := make(map[string]bool)
	for line := range strings.Lines(table) {
		if name, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ = strings.Cut(name, "`")
			described[name] = true
			if !all[name] {
				gone = append(gone, name)
			}
		}
	}
	for name := range direct {
		if !described[name] {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return missing, gone
}

func TestDependenciesAreDescribed(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	table, err := os.ReadFile(filepath.Join(root, "docs/dependencies.md"))
	require.NoError(t, err)
	missing, gone := undescribed(string(mod), string(table))
	require.Empty(t, missing, "required by go.mod and not in docs/dependencies.md")
	require.Empty(t, gone, "in docs/dependencies.md and not in go.mod")
}

func TestDependenciesBite(t *testing.T) {
	mod := "module x\n\nrequire (\n\texample.org/a v1.0.0\n\texample.org/b/v2 v2.0.0\n\texample.org/c v1.0.0 // " +
		"indirect\n)\nrequire example.org/d v0.1.0\n"
	missing, gone := undescribed(mod, "| `example.org/a` | x |\n| `example.org/c` | x |\n| `example.org/old` | x |\n")
	require.Equal(t, []string{"example.org/b/v2", "example.org/d"}, missing)
	require.Equal(t, []string{"example.org/old"}, gone)
}
