package settings

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

const (
	secretValue = "value"
	secretFile  = "file"
)

// group is a struct of settings.
type group struct {
	path   string
	value  reflect.Value
	names  []string // in order of declaration
	groups map[string]*group
	leaves map[string]*leaf
}

// leaf is one setting. value is addressable.
type leaf struct {
	path, variable string
	value          reflect.Value
	defaultText    string
	// builtIn: there is no default tag and the value is a number, of which 0 stands for what the package thinks best.
	builtIn          bool
	enum             []string
	min, max, secret string
	owner            reflect.Type
	field            string
}

var (
	durationType        = reflect.TypeFor[time.Duration]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// schemaOf describes the struct that root points to.
func schemaOf(root any, prefix string) *group {
	v := reflect.ValueOf(root)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("settings: root is %T, not a pointer to a struct", root))
	}
	g := newGroup("", v.Elem())
	g.read(v.Elem(), prefix, nil)
	seen := make(map[string]string)
	g.each(func(f *leaf) {
		if other, ok := seen[f.variable]; ok {
			panic(fmt.Sprintf("settings: %s and %s have the same environment variable", other, f.path))
		}
		seen[f.variable] = f.path
	})
	return g
}

func newGroup(path string, v reflect.Value) *group {
	return &group{path: path, value: v, groups: make(map[string]*group), leaves: make(map[string]*leaf)}
}

// read adds the fields of a struct, those of inlined structs too, but for the hidden ones.
func (g *group) read(v reflect.Value, prefix string, hidden []string) {
	t := v.Type()
	for i := range t.NumField() {
		field := t.Field(i)
		tag, ok := field.Tag.Lookup("yaml")
		if !ok || tag == "-" || !field.IsExported() {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if options == "inline" {
			g.read(v.Field(i), prefix, hidden)
			continue
		}
		if name == "" || name != strings.ToLower(name) {
			panic(fmt.Sprintf("settings: %s.%s has the yaml name %q, which is not snake_case", t, field.Name, name))
		}
		if slices.Contains(hidden, name) {
			continue
		}
		path := name
		if g.path != "" {
			path = g.path + "." + name
		}
		g.names = append(g.names, name)
		if isGroup(field.Type) {
			sub := newGroup(path, v.Field(i))
			sub.read(v.Field(i), prefix, strings.Split(field.Tag.Get("hide"), ","))
			g.groups[name] = sub
			continue
		}
		mustBeKnown(field.Type, path)
		g.leaves[name] = newLeaf(path, prefix, field, v.Field(i), t)
	}
}

func newLeaf(path, prefix string, field reflect.StructField, v reflect.Value, owner reflect.Type) *leaf {
	f := &leaf{
		path: path, value: v, owner: owner, field: field.Name,
		variable:    variableOf(prefix, path),
		defaultText: field.Tag.Get("default"),
		min:         field.Tag.Get("min"), max: field.Tag.Get("max"), secret: field.Tag.Get("secret"),
	}
	f.builtIn = f.defaultText == "" && (v.CanInt() || v.CanUint() || v.CanFloat())
	if e := field.Tag.Get("enum"); e != "" {
		f.enum = strings.Split(e, ",")
	}
	return f
}

// isGroup reports whether a field holds further settings rather than being one.
func isGroup(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(textUnmarshalerType)
}

// mustBeKnown panics for a type that cannot be written in a configuration.
func mustBeKnown(t reflect.Type, path string) {
	if reflect.PointerTo(t).Implements(textUnmarshalerType) {
		return
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Slice && t.Elem().Kind() != reflect.Map {
			mustBeKnown(t.Elem(), path)
			return
		}
	case reflect.Map:
		if t.Key().Kind() == reflect.String && t.Elem().Kind() != reflect.Map {
			mustBeKnown(t.Elem(), path)
			return
		}
	}
	panic(fmt.Sprintf("settings: %s has the type %s, which cannot be configured", path, t))
}

// each calls visit for every setting, in order of declaration.
func (g *group) each(visit func(*leaf)) {
	for _, name := range g.names {
		if f := g.leaves[name]; f != nil {
			visit(f)
			continue
		}
		g.groups[name].each(visit)
	}
}

// eachGroup calls visit for this group and every one below it, inner ones first.
func (g *group) eachGroup(visit func(*group)) {
	for _, name := range g.names {
		if sub := g.groups[name]; sub != nil {
			sub.eachGroup(visit)
		}
	}
	visit(g)
}

// byPath returns the setting with that path, nil for none.
func (g *group) byPath(path string) *leaf {
	name, rest, nested := strings.Cut(path, ".")
	if !nested {
		return g.leaves[name]
	}
	if sub := g.groups[name]; sub != nil {
		return sub.byPath(rest)
	}
	return nil
}

// variableOf returns the environment variable of a path.
func variableOf(prefix, path string) string {
	return prefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(path))
}

// byVariable returns the setting with that environment variable, nil for none.
func (g *group) byVariable(name string) (found *leaf) {
	g.each(func(f *leaf) {
		if f.variable == name {
			found = f
		}
	})
	return found
}
