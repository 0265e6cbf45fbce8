package law_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	// standard is how comments and pages name a document.
	standard = regexp.MustCompile(`\b(?:RFC \d{4}|XEP-\d{4})\b`)
	coverage = regexp.MustCompile("(?m)^\\| (RFC \\d{4}|XEP-\\d{4}) \\|.*\\| ((?:`[a-z0-9/]+`(?:, )?)+) \\|$")
	// lists are pages that say how a standard is followed; the first has a row for each that is implemented.
	lists = []string{"docs/protocol/README.md", "docs/payloads.md"}
)

// cited returns the standards that each package cites, in its comments and texts.
func cited(files map[string]string) map[string]map[string]bool {
	by := make(map[string]map[string]bool)
	for path, text := range files {
		folder := filepath.ToSlash(filepath.Dir(path))
		if by[folder] == nil {
			by[folder] = make(map[string]bool)
		}
		for _, name := range standard.FindAllString(text, -1) {
			by[folder][name] = true
		}
	}
	return by
}

// coverageBroken compares what pages say is implemented with what packages cite.
func coverageBroken(table, others string, by map[string]map[string]bool) (broken []string) {
	rows := coverage.FindAllStringSubmatch(table, -1)
	for _, row := range rows {
		for folder := range strings.SplitSeq(row[2], ", ") {
			folder = strings.Trim(folder, "`")
			if !by[folder][row[1]] {
				broken = append(broken, fmt.Sprintf("%s: %s is said to be in %s, which does not cite it", lists[0],
					row[1], folder))
			}
		}
	}
	for folder, names := range by {
		for name := range names {
			if !strings.Contains(table, name) && !strings.Contains(others, name) {
				broken = append(broken, fmt.Sprintf("%s cites %s, of which %s says nothing", folder, name, lists[0]))
			}
		}
	}
	return broken
}

func TestProtocolCoverage(t *testing.T) {
	files := make(map[string]string)
	for _, s := range allSources(t) {
		if s.test() || strings.HasPrefix(s.folder, "test/") || strings.HasPrefix(s.folder, "cmd/") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, s.path))
		require.NoError(t, err)
		files[s.path] = string(text)
	}
	var pages []string
	for _, name := range lists {
		text, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		pages = append(pages, string(text))
	}
	require.Greater(t, len(coverage.FindAllString(pages[0], -1)), 40, "the rows were not understood")
	report(t, coverageBroken(pages[0], strings.Join(pages[1:], ""), cited(files)))
}

func TestProtocolCoverageBites(t *testing.T) {
	table := "| RFC 6120 | core | much | `domain/c2s`, `wire/x` |\n| XEP-0030 | disco | 2.4 | all | `domain/local` " +
		"|\n* XEP-0091\n"
	by := cited(map[string]string{
		"domain/c2s/a.go": "// RFC 6120 §4", "wire/x/a.go": "// nothing",
		"domain/local/a.go": "// XEP-0030 §3, XEP-0091", "domain/local/b.go": "// XEP-0999, XEP-0384",
	})
	require.ElementsMatch(t, []string{
		"docs/protocol/README.md: RFC 6120 is said to be in wire/x, which does not cite it",
		"domain/local cites XEP-0999, of which docs/protocol/README.md says nothing",
	}, coverageBroken(table, "XEP-0384", by))
}
