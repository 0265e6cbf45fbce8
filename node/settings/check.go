package settings

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/posthouse-im/posthouse/defaults"
)

// checkBounds compares every value that somebody set with its enum, min and max tags. What nobody set is the default of
// the package that reads it, where zero may stand for a number of its own.
func (l *loader) checkBounds() {
	l.root.each(func(f *leaf) {
		if _, set := l.origins[f.path]; !set {
			return
		}
		if f.value.Kind() == reflect.Map {
			return
		}
		values := []reflect.Value{f.value}
		if isList(f.value.Type()) {
			values = values[:0]
			for i := range f.value.Len() {
				values = append(values, f.value.Index(i))
			}
		}
		for _, v := range values {
			text := format(v)
			switch {
			case f.enum != nil && !slices.Contains(f.enum, text):
				l.fail(l.origin(f.path), f.path, fmt.Sprintf("%q is not a value that it takes", clip(text)),
					f.expectation())
			case f.min != "" && below(v, f.min):
				l.fail(l.origin(f.path), f.path, text+" is too small", f.expectation())
			case f.max != "" && above(v, f.max):
				l.fail(l.origin(f.path), f.path, text+" is too large", f.expectation())
			}
		}
	})
}

func (l *loader) origin(path string) Origin {
	if o, ok := l.origins[path]; ok {
		return o
	}
	return Origin{Kind: "default"}
}

// below reports whether a number or duration is smaller than a bound from a tag.
func below(v reflect.Value, bound string) bool { return compare(v, bound) < 0 }

func above(v reflect.Value, bound string) bool { return compare(v, bound) > 0 }

func compare(v reflect.Value, bound string) int {
	b := reflect.New(v.Type()).Elem()
	if err := defaults.Set(b, bound); err != nil {
		panic(fmt.Sprintf("settings: bound %q: %v", bound, err))
	}
	switch {
	case v.CanInt():
		return cmp.Compare(v.Int(), b.Int())
	case v.CanUint():
		return cmp.Compare(v.Uint(), b.Uint())
	case v.CanFloat():
		return cmp.Compare(v.Float(), b.Float())
	}
	panic("settings: a bound on something that is not a number")
}

// validator is what a struct of settings may be.
type validator interface{ Validate() error }

// validate asks every group that wants to be asked, inner ones first.
func (l *loader) validate() {
	l.root.eachGroup(func(g *group) {
		v, ok := g.value.Addr().Interface().(validator)
		if !ok {
			return
		}
		for _, err := range flatten(v.Validate()) {
			path, remedy := g.path, ""
			if s, ok := err.(interface{ Setting() string }); ok {
				path = strings.Trim(g.path+"."+s.Setting(), ".")
			}
			if r, ok := err.(interface{ Remedy() string }); ok {
				remedy = r.Remedy()
			}
			l.fail(l.origin(path), path, err.Error(), remedy)
		}
	})
}

// flatten takes apart what errors.Join put together.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range many.Unwrap() {
			all = append(all, flatten(e)...)
		}
		return all
	}
	return []error{err}
}

// Invalid is an error for Validate: what is wrong with one setting, and what to do about it.
type Invalid struct {
	// Path of the setting below the struct that is asked, "" for the struct as a whole.
	Path, What, Advice string
}

// Error returns what is wrong.
func (e *Invalid) Error() string { return e.What }

// Setting returns the path.
func (e *Invalid) Setting() string { return e.Path }

// Remedy returns what to do.
func (e *Invalid) Remedy() string { return e.Advice }

// checkSecrets refuses secrets that others on the machine can read.
func (l *loader) checkSecrets() {
	l.root.each(func(f *leaf) {
		switch {
		case f.secret == secretFile && format(f.value) != "":
			path := format(f.value)
			l.checkMode(path, l.origin(f.path), f.path)
		case f.secret == secretValue && l.origin(f.path).Kind == "file":
			l.checkMode(l.src.File, l.origin(f.path), f.path)
		}
	})
}

func (l *loader) checkMode(file string, at Origin, path string) {
	info, err := os.Stat(file)
	if err != nil {
		l.fail(at, path, fmt.Sprintf("the file %s cannot be used: %s", file, reason(err)),
			"check the path and the permissions")
		return
	}
	if loose := Loose(info); loose != "" {
		l.fail(at, path, fmt.Sprintf("%s holds a secret and %s", file, loose), "chmod 600 "+file)
	}
}

// Loose says in what way a file is open to others, "" when its owner alone (and a reading group) can open it. A group
// may read, as packagers give keys to a group of their own; others may do nothing, and nobody but the owner may write.
func Loose(info fs.FileInfo) string {
	mode := info.Mode().Perm()
	switch {
	case mode&0o022 != 0:
		return fmt.Sprintf("can be written by others than its owner (mode %04o)", mode)
	case mode&0o007 != 0:
		return fmt.Sprintf("can be read by everyone (mode %04o)", mode)
	}
	return ""
}

// holdsSecrets reports whether any setting is a secret by value, so that lines of the file are not for showing.
func (l *loader) holdsSecrets() (yes bool) {
	l.root.each(func(f *leaf) { yes = yes || f.secret == secretValue })
	return yes
}
