package settings

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/defaults"
)

// setText sets a value from the form that environment variables, flags and default tags have. Maps are written as in
// YAML: {a: b, c: [d, e]}. v is not changed on error.
func setText(v reflect.Value, text string) error {
	if v.Kind() == reflect.Map {
		return setMapText(v, text)
	}
	return defaults.Set(v, text)
}

// isList reports whether a type is written as a list: a slice that does not read itself from text.
func isList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && !reflect.PointerTo(t).Implements(textUnmarshalerType)
}

// format is the reverse of setText.
func format(v reflect.Value) string {
	if isList(v.Type()) {
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = format(v.Index(i))
		}
		return strings.Join(parts, ",")
	}
	if v.Kind() == reflect.Map {
		return formatMap(v)
	}
	if v.Type() == durationType {
		return shortDuration(time.Duration(v.Int()))
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err != nil {
			return fmt.Sprintf("(%v)", err)
		}
		return string(text)
	}
	return fmt.Sprint(v.Interface())
}

// shortDuration writes 5m0s as 5m.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// typeName says for people what the setting takes.
func (f *leaf) typeName() string {
	if f.value.Kind() == reflect.Map {
		elem := f.value.Type().Elem()
		if isList(elem) {
			return "map of names to lists of " + scalarName(elem.Elem())
		}
		return "map of names to " + scalarName(elem)
	}
	if isList(f.value.Type()) {
		return "list of " + scalarName(f.value.Type().Elem())
	}
	return scalarName(f.value.Type())
}

func scalarName(t reflect.Type) string {
	switch {
	case t == durationType:
		return "duration"
	case reflect.PointerTo(t).Implements(textUnmarshalerType):
		if d, ok := reflect.Zero(t).Interface().(interface{ SettingType() string }); ok {
			return d.SettingType()
		}
		return strings.ToLower(t.Name())
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Float64:
		return "number"
	case t.Kind() == reflect.String:
		return "text"
	}
	return "whole number"
}

// describe says what is wrong with a value. Secrets are not repeated.
func (f *leaf) describe(err error, text string) string {
	if f.secret == secretValue {
		return "the value cannot be used: " + err.Error()
	}
	return fmt.Sprintf("%q cannot be used: %v", clip(text), err)
}

// clip keeps messages readable when somebody points the configuration at the wrong file.
func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// expectation says what the setting takes, as a remedy.
func (f *leaf) expectation() string {
	switch {
	case f.enum != nil:
		return "use one of: " + strings.Join(f.enum, ", ")
	case f.value.Type() == durationType:
		return "write a number with its unit, such as 30s, 5m or 2h" + f.bounds()
	}
	return "give a " + f.typeName() + f.bounds()
}

func (f *leaf) bounds() string {
	switch {
	case f.min != "" && f.max != "":
		return ", from " + f.min + " to " + f.max
	case f.min != "":
		return ", " + f.min + " or more"
	case f.max != "":
		return ", " + f.max + " or less"
	}
	return ""
}
