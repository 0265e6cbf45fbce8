// Package defaults sets the fields that a configuration leaves out, from the tags of its struct, so that each default
// is written once.
//
// A field of a configuration has the tag default:"15s", in the form of an environment variable (see Set). The zero
// value of the field means that default, both in a configuration file and in a struct made by a program. Two values
// have a special text: default:"discard" on a *slog.Logger and default:"now" on a func() time.Time.
package defaults

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"
)

// Fill gives every field that is zero and has a default tag that default, in the struct that config points to and in
// the structs in it. It panics for a tag that its field cannot have, which is a defect that every use finds.
func Fill(config any) { fill(reflect.ValueOf(config).Elem()) }

func fill(v reflect.Value) {
	for i := range v.NumField() {
		field, declared := v.Field(i), v.Type().Field(i)
		text, ok := declared.Tag.Lookup("default")
		switch {
		case !declared.IsExported():
		case !ok:
			if field.Kind() == reflect.Struct && !readsItself(field.Type()) {
				fill(field)
			}
		case field.IsZero():
			if err := set(field, text); err != nil {
				panic(fmt.Sprintf("defaults: %s.%s: %v", v.Type(), declared.Name, err))
			}
		}
	}
}

func set(field reflect.Value, text string) error {
	switch f := field.Addr().Interface().(type) {
	case **slog.Logger:
		if text != "discard" {
			return fmt.Errorf("%q is no logger", text)
		}
		*f = slog.New(slog.DiscardHandler)
	case *func() time.Time:
		if text != "now" {
			return fmt.Errorf("%q is no clock", text)
		}
		*f = time.Now
	case *bool:
		return errors.New("false could not be chosen then")
	default:
		return Set(field, text)
	}
	return nil
}
