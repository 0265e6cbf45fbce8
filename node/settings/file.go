package settings

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/posthouse-im/posthouse/defaults"
)

const (
	// maxFile bounds the file, in bytes: whoever points --config at something else should be told quickly.
	maxFile = 1 << 20
	// maxDepth bounds nesting, far above what any settings need.
	maxDepth = 32
)

// readFile sets what the YAML file says.
func (l *loader) readFile() {
	at := Origin{Kind: "file", Name: l.src.File}
	if l.src.File == "" {
		return
	}
	if l.src.Content == nil {
		content, err := readLimited(l.src.File)
		if err != nil {
			l.fail(at, "", "the file cannot be read: "+reason(err),
				"check the path and the permissions, or leave --config out to use defaults")
			return
		}
		l.src.Content = content
	}
	if len(l.src.Content) > maxFile {
		l.fail(at, "", "the file is larger than 1 MiB", "check that it is the configuration")
		return
	}
	if !utf8.Valid(l.src.Content) {
		l.fail(at, "", "the file is not UTF-8 text", "save it as UTF-8")
		return
	}
	file, err := parse(l.src.Content)
	if err != nil {
		l.failSyntax(at, err)
		return
	}
	docs := 0
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if docs++; docs > 1 {
			l.fail(l.place(doc.Body), "", "the file holds more than one document", "keep one, without --- lines")
			return
		}
		l.readGroup(l.root, doc.Body, 0)
	}
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// parse returns the syntax tree. The parser is someone else's code that reads a file that people write by hand:
// should it panic, that is a syntax error and not a stack trace.
func parse(content []byte) (file *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the YAML parser gave up: %v", r)
		}
	}()
	return parser.ParseBytes(content, 0)
}

func (l *loader) failSyntax(at Origin, err error) {
	what := err.Error()
	var y yaml.Error
	if errors.As(err, &y) {
		what = y.GetMessage()
		if t := y.GetToken(); t != nil && t.Position != nil {
			at.Line, at.Column = t.Position.Line, t.Position.Column
		}
	}
	remedy := "correct the YAML"
	if strings.ContainsAny(what, "\t") {
		remedy = "indent with spaces; YAML allows no tabs there"
	}
	if strings.Contains(what, "already defined") {
		remedy = "keep one of the two"
	}
	l.fail(at, "", "not valid YAML: "+what, remedy)
}

// place returns where a node stands in the file.
func (l *loader) place(n ast.Node) Origin {
	at := Origin{Kind: "file", Name: l.src.File}
	if t := n.GetToken(); t != nil && t.Position != nil {
		at.Line, at.Column = t.Position.Line, t.Position.Column
	}
	return at
}

// readGroup reads a mapping into a struct.
func (l *loader) readGroup(g *group, n ast.Node, depth int) {
	var pairs []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		pairs = m.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{m}
	case *ast.NullNode, *ast.CommentGroupNode:
		return // an empty section, or a file with nothing but comments
	default:
		what := "the file must be a list of settings, each as name: value"
		if g.path != "" {
			what = "this is a group of settings, not a single value"
		}
		l.fail(l.place(n), g.path, what, "write its settings below it, indented: "+strings.Join(g.names, ", "))
		return
	}
	if depth > maxDepth {
		l.fail(l.place(n), g.path, "nested too deeply", "correct the indentation")
		return
	}
	for _, pair := range pairs {
		l.readPair(g, pair, depth)
	}
}

func (l *loader) readPair(g *group, pair *ast.MappingValueNode, depth int) {
	at := l.place(pair.Key)
	key, ok := pair.Key.(*ast.StringNode)
	if !ok {
		l.fail(at, g.path, "this key is not a plain name",
			"use the names of docs/configuration.md; anchors and merges are not supported")
		return
	}
	if sub := g.groups[key.Value]; sub != nil {
		l.readGroup(sub, pair.Value, depth+1)
		return
	}
	f := g.leaves[key.Value]
	if f == nil {
		path := key.Value
		if g.path != "" {
			path = g.path + "." + path
		}
		if !l.removed(at, func(removed string) bool { return removed == path }) {
			l.fail(at, clip(path), "there is no such setting", l.suggestKey(g, key.Value))
		}
		return
	}
	l.readLeaf(f, pair.Value)
}

func (l *loader) readLeaf(f *leaf, n ast.Node) {
	at := l.place(n)
	if _, null := n.(*ast.NullNode); null {
		l.fail(at, f.path, "the value is missing", f.expectation()+"; or remove the line to use the default")
		return
	}
	if f.value.Kind() == reflect.Map {
		if err := setMapNode(f.value, n); err != nil {
			l.fail(at, f.path, "the value cannot be used: "+err.Error(), f.expectation())
			return
		}
		l.origins[f.path] = at
		return
	}
	if !isList(f.value.Type()) {
		if l.setNode(f, f.value, n) {
			l.origins[f.path] = at
		}
		return
	}
	items := []ast.Node{n} // a list of one may be written without its dash
	if s, ok := n.(*ast.SequenceNode); ok {
		items = s.Values
	}
	list := reflect.MakeSlice(f.value.Type(), len(items), len(items))
	good := true
	for i, item := range items {
		good = l.setNode(f, list.Index(i), item) && good
	}
	if good {
		f.value.Set(list)
		l.origins[f.path] = at
	}
}

// setNode sets one value from a scalar, and tells whether it could.
// The types of YAML must match: the text 5 is not the number 5, nor the number 5 a text.
func (l *loader) setNode(f *leaf, v reflect.Value, n ast.Node) bool {
	at := l.place(n)
	text, is := scalar(n)
	if is == "" {
		l.fail(at, f.path, "this is "+describeNode(n)+", not a "+f.typeName(), f.expectation())
		return false
	}
	wants := "text"
	switch {
	case v.Type() == durationType:
		if is == "number" && text == "0" {
			is = "text"
		}
	case reflect.PointerTo(v.Type()).Implements(textUnmarshalerType):
	case v.Kind() == reflect.Bool:
		wants = "true or false"
	case v.Kind() != reflect.String:
		wants = "number"
	}
	if is != wants {
		remedy := f.expectation()
		switch {
		case v.Kind() == reflect.String:
			remedy = "put it in quotes when it is meant as text"
		case is == "text" && defaults.Set(reflect.New(v.Type()).Elem(), text) == nil:
			remedy = "write it without quotes"
		}
		l.fail(at, f.path, "this is a "+is+", where a "+f.typeName()+" belongs", remedy)
		return false
	}
	if err := defaults.Set(v, text); err != nil {
		l.fail(at, f.path, f.describe(err, text), f.expectation())
		return false
	}
	return true
}

// scalar returns the text of a scalar and what YAML says it is; is is "" for anything else.
func scalar(n ast.Node) (text, is string) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, "text"
	case *ast.LiteralNode:
		if s.Value == nil {
			return "", "text"
		}
		return s.Value.Value, "text"
	case *ast.IntegerNode:
		return fmt.Sprint(s.Value), "number"
	case *ast.FloatNode:
		return fmt.Sprint(s.Value), "number"
	case *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, "number"
	case *ast.BoolNode:
		return fmt.Sprint(s.Value), "true or false"
	}
	return "", ""
}

func describeNode(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a group"
	case *ast.SequenceNode:
		return "a list"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "an anchor or alias, which is not supported"
	case *ast.TagNode:
		return "a YAML tag, which is not supported"
	}
	if t := n.GetToken(); t != nil && t.Type == token.MergeKeyType {
		return "a merge key, which is not supported"
	}
	return "something else"
}

// reason returns what the system said, without the path that the message names already.
func reason(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
