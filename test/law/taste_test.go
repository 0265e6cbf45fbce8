package law_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// badFolders name the kind of what is in them, and not what it does.
var badFolders = []string{"internal", "pkg", "util", "utils", "common", "manager", "managers", "model", "models",
	"types", "helper", "helpers", "misc", "base", "shared", "lib"}

// shadows are names of packages of the standard library that ours must not have: every file would need an alias.
var shadows = []string{"errors", "log", "path", "bufio", "bytes", "time", "context", "sync", "net", "http", "json",
	"xml", "io", "os", "sort", "strings", "url"}

var fileName = regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)*\.go$`)

// maxFile is how long a file may be, in lines: what holds one idea is shorter.
const maxFile = 700

// maxFunc is how long a function may be, in lines. Tables and tests may be longer.
const maxFunc = 90

// tasteBroken returns what is wrong with one file.
func tasteBroken(s *source) (broken []string) {
	fail := func(n ast.Node, format string, args ...any) {
		broken = append(broken, s.at(n)+": "+fmt.Sprintf(format, args...))
	}
	for part := range strings.SplitSeq(s.folder, "/") {
		if slices.Contains(badFolders, part) {
			fail(s.file, "the folder %q says what kind of thing is in it, and not what it does", part)
		}
	}
	if slices.Contains(shadows, path.Base(s.folder)) {
		fail(s.file, "the package %s has the name of one in the standard library", s.folder)
	}
	if !fileName.MatchString(path.Base(s.path)) {
		fail(s.file, "the file's name is not lower_case.go")
	}
	if lines := s.files.File(s.file.Pos()).LineCount(); lines > maxFile && !s.test() {
		fail(s.file, "%d lines are too many for one file (%d)", lines, maxFile)
	}
	for _, imported := range s.imports {
		if (imported == "math/rand" || imported == "math/rand/v2") && !s.test() && !forTests(s.folder) {
			fail(s.file, "imports %s: use crypto/rand, or take the randomness from the caller", imported)
		}
	}
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			broken = append(broken, functionBroken(s, f)...)
		}
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		switch {
		case s.test() && calls(call, "time", "Sleep"):
			fail(n, "a test sleeps: wait for what it waits for; in a bubble of testing/synctest, for a timer")
		case s.test() && (callsMethod(call, "Skip") || callsMethod(call, "Skipf") || callsMethod(call, "SkipNow")):
			fail(n, "a test that can be skipped is a test that does not run")
		}
		return true
	})
	for _, group := range s.file.Comments {
		for _, c := range group.List {
			if mark := openMark(c.Text); mark != "" {
				fail(c, "%s: do it, or write it into an issue", mark)
			}
		}
	}
	return broken
}

// forTests reports whether a folder holds what only tests and measurements use.
func forTests(folder string) bool {
	return strings.HasPrefix(folder, "test/") || folder == "store/storetest" || folder == "cmd/posthouse-bench"
}

func functionBroken(s *source, f *ast.FuncDecl) (broken []string) {
	if f.Name.Name == "init" && f.Recv == nil {
		broken = append(broken, s.at(f)+": init() runs before anybody asked for it: make a constructor")
	}
	if f.Body == nil || s.test() || forTests(s.folder) {
		return broken
	}
	if lines := s.files.Position(f.End()).Line - s.files.Position(f.Pos()).Line + 1; lines > maxFunc {
		broken = append(broken, fmt.Sprintf("%s: %s has %d lines, more than %d", s.at(f), f.Name.Name, lines, maxFunc))
	}
	return broken
}

// openMark returns the mark of work left open that a comment carries, "" for none.
func openMark(comment string) string {
	for _, mark := range []string{"TO" + "DO", "FIX" + "ME", "X" + "XX"} {
		for word := range strings.FieldsFuncSeq(comment,
			func(r rune) bool { return r != '_' && (r < 'A' || r > 'Z') }) {
			if word == mark {
				return mark
			}
		}
	}
	return ""
}

func calls(call *ast.CallExpr, pkg, name string) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	id, ok := sel.X.(*ast.Ident)
	return ok && id.Name == pkg
}

// callsMethod reports a call of a method of something named t, b, tb or f.
func callsMethod(call *ast.CallExpr, name string) bool {
	return calls(call, "t", name) || calls(call, "b", name) || calls(call, "tb", name) || calls(call, "f", name)
}

func TestTaste(t *testing.T) {
	var broken []string
	for _, s := range allSources(t) {
		if !ast.IsGenerated(s.file) { // the taste of generators is their own
			broken = append(broken, tasteBroken(s)...)
		}
	}
	report(t, broken)
}

func TestTasteBites(t *testing.T) {
	long := "package x\nfunc f() {\n" + strings.Repeat("\tg()\n", maxFunc) + "}\n"
	for _, test := range []struct{ path, text, want string }{
		{"domain/x/a.go", "package x\nfunc f() {}\n", ""},
		{"domain/x/a.go", "package x\nfunc init() {}\n", "init()"},
		{"domain/x/a.go", "package x\nfunc (t) init() {}\n", ""},
		{"domain/util/a.go", "package util\n", `"util"`},
		{"domain/log/a.go", "package log\n", "standard library"},
		{"domain/x/camelCase.go", "package x\n", "lower_case"},
		{"domain/x/a.go", strings.Repeat("// x\n", maxFile+1) + "package x\n", "too many"},
		{"domain/x/a.go", "package x\nimport _ \"math/rand\"\n", "crypto/rand"},
		{"domain/x/a_test.go", "package x\nimport _ \"math/rand\"\n", ""},
		{"domain/x/a_test.go", "package x\nfunc f() { time.Sleep(1) }\n", "sleeps"},
		{"domain/x/a_test.go", "package x\nfunc f() { t.Skip() }\n", "skipped"},
		{"domain/x/a.go", "package x\n// TO" + "DO: later\n", "TO" + "DO"},
		{"domain/x/a.go", long, "lines, more than"},
		{"domain/x/a_test.go", long, ""},
	} {
		broken := tasteBroken(parseSource(t, test.path, test.text))
		if test.want == "" {
			require.Empty(t, broken, "%s: %.60q", test.path, test.text)
			continue
		}
		require.Len(t, broken, 1, "%s: %.60q", test.path, test.text)
		require.Contains(t, broken[0], test.want)
	}
}

// undocumented returns the exported names of a file without a comment. A comment on a group of constants, variables or
// types holds for all of them.
func undocumented(s *source) (broken []string) {
	fail := func(n ast.Node, name string) {
		broken = append(broken, fmt.Sprintf("%s: %s is exported and not documented", s.at(n), name))
	}
	for _, d := range s.file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && !obvious(d.Name.Name) {
				fail(d, d.Name.Name)
			}
		case *ast.GenDecl:
			if d.Tok == token.IMPORT || d.Doc != nil {
				continue
			}
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if spec.Name.IsExported() && spec.Doc == nil {
						fail(spec, spec.Name.Name)
					}
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						if name.IsExported() && spec.Doc == nil && spec.Comment == nil {
							fail(spec, name.Name)
						}
					}
				}
			}
		}
	}
	return broken
}

// exportedReceiver reports whether a function is not a method, or one of an exported type.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}

// obvious reports methods whose meaning their interface of the standard library gives.
func obvious(name string) bool {
	return slices.Contains([]string{"Error", "String", "Unwrap", "Read", "Write", "Close", "Len", "Less", "Swap",
		"MarshalText", "UnmarshalText", "LogValue", "Is"}, name)
}

func TestDocumented(t *testing.T) {
	packages := make(map[string]bool) // folder → has a package comment
	var broken []string
	for _, s := range allSources(t) {
		if !s.test() && !ast.IsGenerated(s.file) {
			broken = append(broken, undocumented(s)...)
		}
		if strings.HasSuffix(s.file.Name.Name, "_test") && !strings.HasPrefix(s.folder, "test/") {
			continue
		}
		packages[s.folder] = packages[s.folder] || s.file.Doc != nil && len(s.file.Doc.Text()) > 40
	}
	for folder, has := range packages {
		if !has {
			broken = append(broken, folder+": the package has no comment that says what it owns and never does")
		}
	}
	report(t, broken)
}

func TestDocumentedBites(t *testing.T) {
	for _, test := range []struct {
		text string
		want int
	}{
		{"package x\nfunc F() {}\n", 1},
		{"package x\n// F does.\nfunc F() {}\n", 0},
		{"package x\nfunc f() {}\n", 0},
		{"package x\ntype T int\nfunc (T) M() {}\n", 2},
		{"package x\ntype t int\nfunc (t) M() {}\n", 0},
		{"package x\nconst A = 1\n", 1},
		{"package x\nconst A = 1 // one\n", 0},
		{"package x\n// Numbers.\nconst (\n\tA = 1\n\tB = 2\n)\n", 0},
		{"package x\nvar A, B int\n", 2},
	} {
		require.Len(t, undocumented(parseSource(t, "domain/x/a.go", test.text)), test.want, test.text)
	}
}
