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

var (
	mapFolder = regexp.MustCompile(`[a-z0-9][a-z0-9-]*/`)
	mapLine   = regexp.MustCompile(`^ {4,}((?:[a-z0-9-]+/ *)+)`)
)

// mapBroken compares the map of the tree, whose lines begin with names of folders, with the folders that hold source.
func mapBroken(text string, folders []string) (broken []string) {
	drawn := make(map[string]bool)
	for line := range strings.Lines(text) {
		if begin := mapLine.FindString(line); begin != "" {
			for _, name := range mapFolder.FindAllString(begin, -1) {
				drawn[strings.TrimSuffix(name, "/")] = true
			}
		}
	}
	exists := make(map[string]bool)
	for _, folder := range folders {
		for part := range strings.SplitSeq(folder, "/") {
			exists[part] = true
			if !drawn[part] {
				broken = append(broken, "ARCHITECTURE.md does not show "+folder)
			}
		}
	}
	for name := range drawn {
		if !exists[name] {
			broken = append(broken, "ARCHITECTURE.md shows "+name+"/, which there is not")
		}
	}
	slices.Sort(broken)
	return slices.Compact(broken)
}

// TestMap: ARCHITECTURE.md shows the folders that there are.
func TestMap(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	require.NoError(t, err)
	_, text, ok := strings.Cut(string(page), "## The parts\n")
	require.True(t, ok)
	text, _, ok = strings.Cut(text, "\n\nA stanza")
	require.True(t, ok)
	// without packages of this module
	folders := []string{"bench", "deploy", "docs", "tools", "test/scripts", "test/clients", "test/powerloss"}
	for _, s := range allSources(t) {
		if s.folder != "wire/stream/pbstream/pb" { // generated, and part of its parent
			folders = append(folders, s.folder)
		}
	}
	for _, folder := range folders {
		require.DirExists(t, filepath.Join(root, folder))
	}
	report(t, mapBroken(text, folders))
}

func TestMapBites(t *testing.T) {
	text := "    a/    one\n      b/  c/  two\n    old/  gone d/\n"
	require.Equal(t, []string{
		"ARCHITECTURE.md does not show e", "ARCHITECTURE.md shows c/, which there is not",
		"ARCHITECTURE.md shows old/, which there is not",
	}, mapBroken(text, []string{"a/b", "e"}))
}
