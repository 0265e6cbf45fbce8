package law_test

import (
	"fmt"
	"go/ast"
	"iter"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Pages that name code rot unless something reads them. In these, whatever stands in backticks in the form of
// package.Name or package.Type.Name is looked up in the source, and whatever looks like a path of a Go file must be
// one.
var pages = []string{"docs/one-message.md", "docs/delivery.md", "ARCHITECTURE.md"}

var (
	inBackticks = regexp.MustCompile("`([^`\n]+)`")
	codeName    = regexp.MustCompile(`^[a-z][a-z0-9]*(\.[A-Za-z_][A-Za-z0-9_]*){1,2}$`)
	filePath    = regexp.MustCompile(`^[a-z0-9_/.-]+\.(go|md|sh|yaml|mod)$`)
)

// names collects what every package declares: pkg.Func, pkg.Type, pkg.Type.Method, pkg.Type.field.
func names(all []*source) map[string]bool {
	known := make(map[string]bool)
	for _, s := range all {
		if s.test() {
			continue
		}
		pkg := s.file.Name.Name
		if pkg == "main" {
			pkg = path.Base(s.folder)
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				known[pkg+"."+methodPrefix(d)+d.Name.Name] = true
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					declare(known, pkg, spec)
				}
			}
		}
	}
	return known
}

func methodPrefix(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return ""
	}
	t := d.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if generic, ok := t.(*ast.IndexExpr); ok {
		t = generic.X
	}
	if id, ok := t.(*ast.Ident); ok {
		return id.Name + "."
	}
	return ""
}

func declare(known map[string]bool, pkg string, spec ast.Spec) {
	switch spec := spec.(type) {
	case *ast.ValueSpec:
		for _, name := range spec.Names {
			known[pkg+"."+name.Name] = true
		}
	case *ast.TypeSpec:
		known[pkg+"."+spec.Name.Name] = true
		var fields *ast.FieldList
		switch t := spec.Type.(type) {
		case *ast.InterfaceType:
			fields = t.Methods
		case *ast.StructType:
			fields = t.Fields
		default:
			return
		}
		for _, field := range fields.List {
			for _, name := range field.Names {
				known[pkg+"."+spec.Name.Name+"."+name.Name] = true
			}
		}
	}
}

// pageBroken returns the names of a page that nothing has, and how many it has that something has.
func pageBroken(page, text string, known map[string]bool, exists func(path string) bool) (broken []string, found int) {
	for number, line := range strings.Split(text, "\n") {
		for _, match := range inBackticks.FindAllStringSubmatch(line, -1) {
			name := strings.TrimSuffix(match[1], "()")
			at := fmt.Sprintf("%s:%d", page, number+1)
			switch {
			case filePath.MatchString(name):
				if strings.HasSuffix(name, ".go") && !exists(name) {
					broken = append(broken, at+": there is no file "+name)
				}
			case codeName.MatchString(name):
				if !known[name] {
					broken = append(broken, at+": nothing is called "+name)
					continue
				}
				found++
			}
		}
	}
	return broken, found
}

func TestPagesNameWhatExists(t *testing.T) {
	known := names(allSources(t))
	exists := func(path string) bool {
		_, err := os.Stat(filepath.Join(root, path))
		return err == nil
	}
	var broken []string
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join(root, page))
		if os.IsNotExist(err) && page != pages[0] {
			continue
		}
		require.NoError(t, err)
		b, found := pageBroken(page, string(text), known, exists)
		broken = append(broken, b...)
		if page == pages[0] {
			require.GreaterOrEqual(t, found, 10, "%s names the functions that a message passes", page)
		}
	}
	report(t, broken)
}

func TestPagesBite(t *testing.T) {
	known := names([]*source{parseSource(t, "domain/router/x.go", `package router
type Router struct { stages []int }
func (r *Router) Accept() {}
func New() {}
type Stage interface { Pass() }
const A = 1
`)})
	text := "`router.New` `router.Router.Accept()` `router.Router.stages` `router.Stage.Pass` `router.A` " +
		"`router.Router` `true` `x=y`\n" +
		"`router.Gone` `router.Router.Gone` `nowhere.New` `domain/router/gone.go` `domain/router/x.go` `node.yaml`"
	broken, found := pageBroken("p.md", text, known, func(path string) bool { return path == "domain/router/x.go" })
	require.Equal(t, 6, found)
	require.Equal(t, []string{
		"p.md:2: nothing is called router.Gone", "p.md:2: nothing is called router.Router.Gone",
		"p.md:2: nothing is called nowhere.New", "p.md:2: there is no file domain/router/gone.go",
	}, broken)
}

// allPages returns the text of every page that people read, by its path from here, in order.
func allPages(t *testing.T) iter.Seq2[string, string] {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "bench/*.md", "deploy/*.md", "test/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		all = append(all, found...)
	}
	require.NotEmpty(t, all)
	slices.Sort(all)
	return func(yield func(string, string) bool) {
		for _, page := range all {
			text, err := os.ReadFile(page)
			require.NoError(t, err)
			if !yield(page, string(text)) {
				return
			}
		}
	}
}

// TestLinks follows the links between our pages.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#: ]+)(#[^)]*)?\)`)
	var broken []string
	for page, text := range allPages(t) {
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), match[1])); err != nil {
				broken = append(broken, fmt.Sprintf("%s: the link %s leads nowhere", page, match[1]))
			}
		}
	}
	report(t, broken)
}
