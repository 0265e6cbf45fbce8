package node

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/node/settings"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

const (
	referencePage  = "../docs/configuration.md"
	referenceBegin = "<!-- What follows is made from the source: make docs -->\n"
	referenceEnd   = "<!-- end -->\n"
)

// TestConfigurationReference: the table in docs/configuration.md is what the source says, and every setting is
// explained.
func TestConfigurationReference(t *testing.T) {
	var c Config
	loaded, problems := settings.Load(&c, settings.Sources{Prefix: Prefix})
	require.Empty(t, problems)
	table := newReference(t).render(loaded.Settings())
	page, err := os.ReadFile(referencePage)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(page), referenceBegin)
	require.True(t, ok, "the page has no place for the table")
	_, after, ok := strings.Cut(rest, referenceEnd)
	require.True(t, ok, "the page has no end of the table")
	want := before + referenceBegin + table + referenceEnd + after
	if *update {
		require.NoError(t, os.WriteFile(referencePage, []byte(want), 0o644))
		return
	}
	require.Equal(t, want, string(page), "docs/configuration.md is not what the source says: make docs")
}

// reference knows the doc comments of structs of settings.
type reference struct {
	t *testing.T
	// docs of a struct's fields, and of the struct itself under "".
	docs map[string]map[string]string
}

const modulePath = "github.com/posthouse-im/posthouse/"

func newReference(t *testing.T) *reference {
	return &reference{t: t, docs: make(map[string]map[string]string)}
}

// fields returns the comments of a struct's fields.
func (r *reference) fields(owner reflect.Type) map[string]string {
	key := owner.PkgPath() + "." + owner.Name()
	if _, ok := r.docs[key]; !ok {
		r.read(owner.PkgPath())
	}
	require.Contains(r.t, r.docs, key, "the source of %s was not found", key)
	return r.docs[key]
}

func (r *reference) read(pkg string) {
	folder := filepath.Join("..", strings.TrimPrefix(pkg, modulePath))
	files := token.NewFileSet()
	entries, err := fs.Glob(os.DirFS(folder), "*.go")
	require.NoError(r.t, err)
	for _, name := range entries {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, filepath.Join(folder, name), nil, parser.ParseComments)
		require.NoError(r.t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				r.docs[pkg+"."+spec.Name.Name] = structDocs(files, s)
			}
			return false
		})
	}
}

// structDocs returns what is written over each field. A field without a comment of its own, right below one that has
// one, shares it.
func structDocs(files *token.FileSet, s *ast.StructType) map[string]string {
	names := make(map[string]string) // Go names → names of settings
	for _, f := range s.Fields.List {
		if f.Tag == nil || len(f.Names) == 0 {
			continue
		}
		if yaml := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("yaml"); yaml != "" && yaml != "-" {
			names[f.Names[0].Name] = "`" + yaml + "`"
		}
	}
	docs := make(map[string]string)
	shared, last := "", 0
	for _, f := range s.Fields.List {
		line := files.Position(f.Pos()).Line
		switch {
		case f.Doc != nil:
			shared = xmlName.ReplaceAllString(settingNames(oneLine(f.Doc.Text()), names), "`$0`")
		case line != last+1:
			shared = ""
		}
		last = files.Position(f.End()).Line
		for _, name := range f.Names {
			docs[name.Name] = shared
		}
	}
	return docs
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// xmlName is what Markdown would take for HTML.
var xmlName = regexp.MustCompile(`<[a-z/][^<> ]*>`)

var goWord = regexp.MustCompile(`\b[A-Z][A-Za-z0-9]+\b`)

// settingNames replaces Go names by those of the settings.
func settingNames(text string, names map[string]string) string {
	return goWord.ReplaceAllStringFunc(text, func(w string) string {
		if name, ok := names[w]; ok {
			return name
		}
		return w
	})
}

// render writes one table for each group.
func (r *reference) render(all []settings.Setting) string {
	var b strings.Builder
	group := "\x00"
	for _, s := range all {
		at, name := "", s.Path
		if i := strings.LastIndexByte(s.Path, '.'); i >= 0 {
			at, name = s.Path[:i], s.Path[i+1:]
		}
		if at != group {
			group = at
			title := "### " + at
			if at == "" {
				title = "### At the top"
			}
			fmt.Fprintf(&b, "\n%s\n\n", title)
			if doc := r.groupDoc(at); doc != "" {
				fmt.Fprintf(&b, "%s\n\n", wrapped(doc))
			}
			b.WriteString("| setting | takes | default | meaning |\n|---|---|---|---|\n")
		}
		doc := r.fields(s.Owner)[s.Field]
		require.NotEmpty(r.t, doc, "%s (%s.%s) has no comment that explains it", s.Path, s.Owner, s.Field)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, takes(s), defaultOf(s), strings.ReplaceAll(doc, "|", `\|`))
	}
	b.WriteString("\n")
	return b.String()
}

// wrapped breaks a paragraph into lines of at most 120 columns.
func wrapped(text string) string {
	var b strings.Builder
	columns := 0
	for word := range strings.FieldsSeq(text) {
		switch n := utf8.RuneCountInString(word); {
		case columns == 0:
			columns = n
		case columns+1+n > 120:
			b.WriteByte('\n')
			columns = n
		default:
			b.WriteByte(' ')
			columns += 1 + n
		}
		b.WriteString(word)
	}
	return b.String()
}

// groupDoc returns the comment on the field that holds a group.
func (r *reference) groupDoc(path string) string {
	owner := reflect.TypeFor[Config]()
	doc := ""
	for name := range strings.SplitSeq(path, ".") {
		doc = ""
		for i := range owner.NumField() {
			f := owner.Field(i)
			if tag, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); tag == name && name != "" {
				doc, owner = r.fields(owner)[f.Name], f.Type
				break
			}
		}
	}
	return doc
}

func takes(s settings.Setting) string {
	text := s.Type
	if s.Enum != nil {
		text = "`" + strings.Join(s.Enum, "`, `") + "`"
		if strings.HasPrefix(s.Type, "list") {
			text = "list of " + text
		}
	}
	switch {
	case s.Min != "" && s.Max != "":
		text += ", " + s.Min + " to " + s.Max
	case s.Min != "":
		text += ", from " + s.Min
	case s.Max != "":
		text += ", up to " + s.Max
	}
	return text
}

func defaultOf(s settings.Setting) string {
	switch s.Default {
	case settings.BuiltIn:
		return "see there"
	case "":
		return "empty"
	}
	return "`" + s.Default + "`"
}

// TestReferenceNames shows how comments on Go fields become descriptions of settings.
func TestReferenceNames(t *testing.T) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "x.go",
		"package x\ntype C struct {\n\t// Rate and Burst limit it.\n\tRate int `yaml:\"rate\"`\n"+
			"\tBurst int `yaml:\"burst_size\"`\n\n\tNaked int `yaml:\"naked\"`\n}", parser.ParseComments)
	require.NoError(t, err)
	var s *ast.StructType
	ast.Inspect(file, func(n ast.Node) bool {
		if found, ok := n.(*ast.StructType); ok {
			s = found
		}
		return s == nil
	})
	require.Equal(t, map[string]string{
		"Rate": "`rate` and `burst_size` limit it.", "Burst": "`rate` and `burst_size` limit it.", "Naked": "",
	}, structDocs(files, s))
}
