// Package law_test enforces the rules of the source tree: which package may import which, what every package must have,
// and what none may do. It reads source and runs nothing. Each rule is a function over a small description of the
// source. A test of its own shows that the rule finds violations.
package law_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/posthouse-im/posthouse"

// source is one Go file. Paths are relative to the root of the tree, with forward slashes.
type source struct {
	path string
	text string
	// folder that it lies in, "" for the root.
	folder  string
	file    *ast.File
	files   *token.FileSet
	imports []string
}

func (s *source) test() bool { return strings.HasSuffix(s.path, "_test.go") }

// at returns where a node stands.
func (s *source) at(n ast.Node) string {
	return s.path + ":" + strconv.Itoa(s.files.Position(n.Pos()).Line)
}

// parseSource makes a source from text, for the tables that show that a rule bites.
func parseSource(t *testing.T, path, text string) *source {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, text, parser.ParseComments)
	require.NoError(t, err)
	return newSource(path, text, files, file)
}

func newSource(path string, text string, files *token.FileSet, file *ast.File) *source {
	folder := filepath.ToSlash(filepath.Dir(path))
	if folder == "." {
		folder = ""
	}
	s := &source{path: path, text: text, folder: folder, file: file, files: files}
	for _, i := range file.Imports {
		name, _ := strconv.Unquote(i.Path.Value) // the parser has checked it
		s.imports = append(s.imports, name)
	}
	return s
}

// root of the tree, from this folder.
const root = "../.."

// skipped reports whether a folder holds no source of this module: what others wrote, builds, and modules of their own.
func skipped(path string) bool {
	base := filepath.Base(path)
	return base == "node_modules" || base == "testdata" || base == "vendor" || base == "bin" || base == "data" &&
		filepath.Dir(path) == root ||
		strings.HasPrefix(base, ".") && base != "." && base != ".."
}

// tree reads every Go file of the module, once.
var tree = sync.OnceValues(func() ([]*source, error) {
	var all []*source
	files := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (skipped(path) || hasModule(path)):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(files, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		all = append(all, newSource(filepath.ToSlash(relative), string(text), files, file))
		return nil
	})
	return all, err
})

func hasModule(folder string) bool {
	found, err := filepath.Glob(filepath.Join(folder, "go.mod"))
	return err == nil && len(found) > 0
}

func allSources(t *testing.T) []*source {
	t.Helper()
	all, err := tree()
	require.NoError(t, err)
	require.Greater(t, len(all), 30, "the tree was not found")
	return all
}

// report fails once for each broken rule.
func report(t *testing.T, broken []string) {
	t.Helper()
	slices.Sort(broken)
	for _, b := range slices.Compact(broken) {
		t.Error(b)
	}
}
