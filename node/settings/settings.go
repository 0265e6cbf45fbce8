// Package settings fills a tree of Go structs from one YAML file, the environment and the command line.
//
// It does not know what the settings mean: the structs belong to the packages that read them. A setting is a field with
// a yaml tag. Its path is the tags from the root on, joined by dots (archive.batch_size). Its environment variable is a
// prefix and the path in capitals with underscores (POSTHOUSE_ARCHIVE_BATCH_SIZE). Fields without a yaml tag are not
// settings.
//
// Precedence, from lowest to highest: the struct's default tag, the file, the environment, the command line.
//
// Nothing is guessed, and nothing unknown is accepted. Every problem is collected, with its file, line and column (or
// its variable or flag), and with what to do about it. The package starts no goroutine and holds no state.
//
// Tags beside yaml:
//
//	default:"5m"            the value when nothing sets it, in the form of an environment variable
//	enum:"full,relaxed"     the only values allowed
//	min:"1" max:"4096"      bounds of a number or a duration, inclusive
//	secret:"value"          never shown; a file that contains it must be readable by its owner only
//	secret:"file"           the value is the path of a file that must be readable by its owner only
//	hide:"a,b"              on a struct of settings: these settings are given by the program, and cannot be set
//
// A type that parses itself from text may have a method SettingType() string that names it for users.
//
// A struct or value with a method Validate() error is validated after everything was filled in. Its error may have the
// methods Setting() string (path below the struct) and Remedy() string, and may be several errors joined by
// errors.Join.
package settings

import (
	"fmt"
	"reflect"
	"strings"
)

// Sources says where settings come from. The zero value is defaults only.
type Sources struct {
	// File is the path of the YAML file, "" for none.
	File string
	// Content is the file's text. It is read from File when nil.
	Content []byte
	// Prefix begins every environment variable, such as "POSTHOUSE_".
	Prefix string
	// Environ is in the form of os.Environ. Variables without the prefix are passed over.
	Environ []string
	// Reserved lists variables with the prefix that are not settings, such as "POSTHOUSE_CONFIG".
	Reserved []string
	// Flags are the assignments of the command line, later ones winning.
	Flags []Assignment
	// Removed says of settings that there were, by their paths, what to do instead.
	Removed map[string]string
}

// Assignment is one value from the command line.
type Assignment struct {
	// Flag is how the user wrote it, for messages: "--data" or "--set".
	Flag string
	// Path is the setting's path.
	Path, Value string
}

// ParseAssignment takes a --set flag apart: path=value.
func ParseAssignment(text string) (Assignment, error) {
	path, value, ok := strings.Cut(text, "=")
	if !ok || path == "" {
		return Assignment{}, fmt.Errorf("--set %s: write it as --set path=value, such as --set log.level=debug",
			clip(text))
	}
	return Assignment{Flag: "--set", Path: path, Value: value}, nil
}

// Origin says where a value came from.
type Origin struct {
	// Kind is "default", "file", "environment" or "flag".
	Kind string
	// Name is the file's path, the variable or the flag.
	Name string
	// Line and Column count from 1; 0 outside a file.
	Line, Column int
}

// String returns the origin as a person would point at it.
func (o Origin) String() string {
	switch {
	case o.Line > 0:
		return fmt.Sprintf("%s:%d:%d", o.Name, o.Line, o.Column)
	case o.Name != "":
		return o.Name
	}
	return o.Kind
}

// Setting is one setting with its effective value.
type Setting struct {
	// Path, such as "archive.batch_size"; Variable, such as "POSTHOUSE_ARCHIVE_BATCH_SIZE".
	Path, Variable string
	// Type in words for people: "duration", "list of addresses".
	Type string
	// Default and Value are in the form of an environment variable; the value of a secret is "(hidden)" when it is set.
	// "(built in)" stands for a number that the package chooses, and that the setting's description tells.
	Default, Value string
	// Enum lists the values allowed, nil for any.
	Enum []string
	// Min and Max are the bounds, "" for none.
	Min, Max string
	// Origin of the value.
	Origin Origin
	// Owner and Field name the Go struct that declares it, for its doc comment.
	Owner reflect.Type
	Field string
}

// BuiltIn is shown for a default that is not in a tag.
const BuiltIn = "(built in)"

// Loaded is what Load found out beside the values.
type Loaded struct {
	root    *group
	origins map[string]Origin
	// Warnings are problems that do not stop the node.
	Warnings []Problem
}

// Load fills the struct that root points to. It always tries everything, so that one run shows every problem;
// root must not be used unless problems is empty. It panics when the struct itself is not fit to be settings,
// which is a defect that any test that calls it finds.
func Load(root any, src Sources) (loaded *Loaded, problems Problems) {
	l := &loader{src: src, root: schemaOf(root, src.Prefix), origins: make(map[string]Origin)}
	l.setDefaults()
	l.readFile()
	l.readEnvironment()
	l.readFlags()
	l.checkBounds()
	if len(l.problems) == 0 {
		// What the structs themselves say makes sense only when the values are as they were meant.
		l.validate()
		l.checkSecrets()
	}
	l.problems.sort()
	return &Loaded{root: l.root, origins: l.origins, Warnings: l.warnings}, l.problems
}

// Settings returns every setting in the order in which the structs declare them.
func (l *Loaded) Settings() []Setting {
	var all []Setting
	l.root.each(func(f *leaf) {
		s := Setting{
			Path: f.path, Variable: f.variable, Type: f.typeName(), Default: f.defaultText,
			Value: format(f.value), Enum: f.enum, Min: f.min, Max: f.max,
			Origin: l.Origin(f.path), Owner: f.owner, Field: f.field,
		}
		if f.builtIn {
			s.Default = BuiltIn
			if s.Origin.Kind == "default" {
				s.Value = BuiltIn
			}
		}
		if f.secret == secretValue && s.Value != "" {
			s.Value = "(hidden)"
		}
		all = append(all, s)
	})
	return all
}

// Origin returns where the value of a setting came from.
func (l *Loaded) Origin(path string) Origin {
	if o, ok := l.origins[path]; ok {
		return o
	}
	return Origin{Kind: "default"}
}

type loader struct {
	src      Sources
	root     *group
	origins  map[string]Origin
	problems Problems
	warnings []Problem
}

// fail records a problem at a place.
func (l *loader) fail(at Origin, path, what, remedy string) {
	l.problems = append(l.problems, Problem{At: at, Path: path, What: what, Remedy: remedy, excerpt: l.excerpt(at)})
}

func (l *loader) setDefaults() {
	l.root.each(func(f *leaf) {
		if f.defaultText == "" {
			f.defaultText = format(f.value)
			return
		}
		if err := setText(f.value, f.defaultText); err != nil {
			panic(fmt.Sprintf("settings: default of %s: %v", f.path, err))
		}
	})
}

func (l *loader) readEnvironment() {
	reserved := make(map[string]bool, len(l.src.Reserved))
	for _, name := range l.src.Reserved {
		reserved[name] = true
	}
	for _, entry := range l.src.Environ {
		name, value, _ := strings.Cut(entry, "=")
		if l.src.Prefix == "" || !strings.HasPrefix(name, l.src.Prefix) || reserved[name] {
			continue
		}
		at := Origin{Kind: "environment", Name: name}
		f := l.root.byVariable(name)
		if f == nil {
			if l.removed(at, func(path string) bool { return variableOf(l.src.Prefix, path) == name }) {
				continue
			}
			l.fail(at, "", "no setting has this environment variable", l.suggestVariable(name))
			continue
		}
		l.setLeaf(f, value, at)
	}
}

func (l *loader) readFlags() {
	for _, a := range l.src.Flags {
		at := Origin{Kind: "flag", Name: a.Flag}
		f := l.root.byPath(a.Path)
		if f == nil {
			if !l.removed(at, func(path string) bool { return path == a.Path }) {
				l.fail(at, a.Path, "there is no such setting", l.suggestPath(a.Path))
			}
			continue
		}
		l.setLeaf(f, a.Value, at)
	}
}

// removed reports a setting that is no longer there, when it is one of those, with what to do instead.
func (l *loader) removed(at Origin, is func(path string) bool) bool {
	for path, instead := range l.src.Removed {
		if is(path) {
			l.fail(at, path, "this setting was removed", instead)
			return true
		}
	}
	return false
}

func (l *loader) setLeaf(f *leaf, text string, at Origin) {
	if err := setText(f.value, text); err != nil {
		l.fail(at, f.path, f.describe(err, text), f.expectation())
		return
	}
	l.origins[f.path] = at
}
