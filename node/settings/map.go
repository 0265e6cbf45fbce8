package settings

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/posthouse-im/posthouse/defaults"
)

// maxMap bounds the entries of one map.
const maxMap = 1000

// setMapText sets a map from the text of a flag or a variable, which is YAML: {a: b, c: [d, e]}. The empty text is the
// empty map.
func setMapText(v reflect.Value, text string) error {
	if len(text) > maxFile {
		return errors.New("it is too long")
	}
	file, err := parse([]byte(text))
	if err != nil {
		return errors.New("it is not of the form {name: value}")
	}
	for _, doc := range file.Docs {
		if doc.Body != nil {
			return setMapNode(v, doc.Body)
		}
	}
	v.Set(reflect.MakeMap(v.Type()))
	return nil
}

// setMapNode sets a map from YAML. v is not changed on error.
func setMapNode(v reflect.Value, n ast.Node) error {
	var pairs []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		pairs = m.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{m}
	default:
		return errors.New("it is not of the form {name: value}")
	}
	if len(pairs) > maxMap {
		return fmt.Errorf("it has more than %d entries", maxMap)
	}
	filled := reflect.MakeMap(v.Type())
	for _, pair := range pairs {
		key, ok := pair.Key.(*ast.StringNode)
		if !ok {
			return errors.New("a name in it is not plain text")
		}
		value := reflect.New(v.Type().Elem()).Elem()
		if err := setMapValue(value, pair.Value); err != nil {
			return fmt.Errorf("the value of %s: %w", clip(key.Value), err)
		}
		filled.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), value)
	}
	v.Set(filled)
	return nil
}

func setMapValue(v reflect.Value, n ast.Node) error {
	if !isList(v.Type()) {
		text, is := scalar(n)
		if is == "" {
			return errors.New("it is " + describeNode(n))
		}
		return defaults.Set(v, text)
	}
	items := []ast.Node{n}
	if s, ok := n.(*ast.SequenceNode); ok {
		items = s.Values
	}
	list := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		if err := setMapValue(list.Index(i), item); err != nil {
			return err
		}
	}
	v.Set(list)
	return nil
}

// formatMap is the reverse of setMapText, in the order of the names.
func formatMap(v reflect.Value) string {
	if v.Len() == 0 {
		return ""
	}
	entries := make(map[string]string, v.Len())
	for _, key := range v.MapKeys() {
		value := v.MapIndex(key)
		text := fmt.Sprintf("%q", format(value))
		if isList(value.Type()) {
			items := make([]string, value.Len())
			for i := range items {
				items[i] = fmt.Sprintf("%q", format(value.Index(i)))
			}
			text = "[" + strings.Join(items, ", ") + "]"
		}
		entries[key.String()] = text
	}
	parts := make([]string, 0, len(entries))
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		parts = append(parts, fmt.Sprintf("%q: %s", key, entries[key]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
