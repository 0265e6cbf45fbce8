package law_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// maxWidth is how many columns a line may have, a tab being four.
const maxWidth = 120

// tooWide returns a complaint about each line that should be wrapped, but for those that stand as they are.
func tooWide(path, text string, stands func(number int, line string) bool) (broken []string) {
	number := 0
	for line := range strings.SplitSeq(text, "\n") {
		number++
		columns := utf8.RuneCountInString(line) + 3*strings.Count(line, "\t")
		if !stands(number, line) && columns > maxWidth {
			broken = append(broken, fmt.Sprintf("%s:%d: %d columns, wrap at %d", path, number, columns, maxWidth))
		}
	}
	return broken
}

// codeTooWide is tooWide for a source. What is between back quotes stands as it is.
func codeTooWide(s *source) []string {
	quoted := map[int]bool{}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && lit.Value[0] == '`' {
			for line := s.files.Position(lit.Pos()).Line; line <= s.files.Position(lit.End()).Line; line++ {
				quoted[line] = true
			}
		}
		return true
	})
	return tooWide(s.path, s.text, func(number int, _ string) bool { return quoted[number] })
}

// proseTooWide is tooWide for a page. Tables and code stand as they are.
func proseTooWide(page, text string) []string {
	fence := ""
	return tooWide(page, text, func(_ int, line string) bool {
		trimmed := strings.TrimSpace(line)
		switch {
		case fence != "" && strings.HasPrefix(trimmed, fence):
			fence = ""
		case fence == "" && (strings.HasPrefix(trimmed, "```") || strings.HasPrefix(trimmed, "~~~")):
			fence = trimmed[:3]
		}
		code := fence != "" || strings.HasPrefix(line, "    ")
		return code || strings.HasPrefix(line, "|") || !strings.Contains(trimmed, " ")
	})
}

// wrapped are the kinds of other files whose lines wrap.
var wrapped = []string{".script", ".json", ".py", ".mjs", ".mts", ".sql", ".sh", ".yml", ".yaml", ".proto", ".conf"}

// otherFiles returns the files of these kinds, by path.
func otherFiles(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (skipped(path) || path == filepath.Join(root, "bench", "results")):
			return filepath.SkipDir
		case d.IsDir() || !slices.Contains(wrapped, filepath.Ext(path)):
			return nil
		}
		text, err := os.ReadFile(path)
		all[path] = string(text)
		return err
	}))
	return all
}

// nothingStands is for files in which every line wraps.
func nothingStands(int, string) bool { return false }

func TestWidth(t *testing.T) {
	var broken []string
	for _, s := range allSources(t) {
		if !ast.IsGenerated(s.file) {
			broken = append(broken, codeTooWide(s)...)
		}
	}
	for page, text := range allPages(t) {
		broken = append(broken, proseTooWide(page, text)...)
	}
	seen := map[string]bool{}
	for path, text := range otherFiles(t) {
		seen[filepath.Ext(path)] = true
		broken = append(broken, tooWide(path, text, nothingStands)...)
	}
	for _, kind := range wrapped {
		require.True(t, seen[kind], "no file of the kind %s was found", kind)
	}
	report(t, broken)
}

func TestWidthBites(t *testing.T) {
	wide := strings.Repeat("x ", maxWidth/2+1)
	for text, want := range map[string]int{
		"package x\n// " + wide + "\n":                      1,
		"package x\nconst a = `\n" + wide + "\n`\n":         0,
		"package x\nconst a = \"" + wide + "\"\n":           1,
		"package x\n\n" + strings.Repeat("\t", 29) + "/**/": 0,
		"package x\n\n" + strings.Repeat("\t", 30) + "/**/": 1,
	} {
		require.Len(t, codeTooWide(parseSource(t, "x.go", text)), want, "%q", text)
	}
	for text, want := range map[string]int{
		wide:                              1,
		"| " + wide + "|":                 0,
		"```\n" + wide + "\n```\n" + wide: 1,
		"    " + wide:                     0,
	} {
		require.Len(t, proseTooWide("x.md", text), want, "%q", text)
	}
	require.Len(t, tooWide("x.sh", "    "+wide+"\n\t"+wide, nothingStands), 2)
}
