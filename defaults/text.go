package defaults

import (
	"encoding"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Set sets a value from the form that default tags, environment variables and flags have. Lists are separated by
// commas; the empty text is the empty list. v is not changed on error; the error says what the text is not. It panics
// for a type that has no such form.
func Set(v reflect.Value, text string) error {
	if v.Kind() != reflect.Slice || readsItself(v.Type()) {
		return setScalar(v, text)
	}
	var parts []string
	if strings.TrimSpace(text) != "" {
		parts = strings.Split(text, ",")
	}
	list := reflect.MakeSlice(v.Type(), len(parts), len(parts))
	for i, part := range parts {
		if err := setScalar(list.Index(i), strings.TrimSpace(part)); err != nil {
			return err
		}
	}
	v.Set(list)
	return nil
}

func readsItself(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// setScalar sets a value that is not a list. v is not changed on error.
func setScalar(v reflect.Value, text string) error {
	fresh := reflect.New(v.Type())
	if u, ok := fresh.Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			return err
		}
		v.Set(fresh.Elem())
		return nil
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		d, err := parseDuration(text)
		if err != nil {
			return err
		}
		v.SetInt(int64(d))
	case v.Kind() == reflect.String:
		if strings.ContainsRune(text, 0) {
			return errors.New("it holds a NUL character")
		}
		v.SetString(text)
	case v.Kind() == reflect.Bool:
		switch text {
		case "true":
			v.SetBool(true)
		case "false":
			v.SetBool(false)
		default:
			return errors.New("it is neither true nor false")
		}
	case v.CanInt():
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return numberError(err)
		}
		v.SetInt(n)
	case v.CanUint():
		n, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			return numberError(err)
		}
		v.SetUint(n)
	default:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || n != n || n-n != 0 { // neither NaN nor infinite
			return errors.New("it is not a number")
		}
		v.SetFloat(n)
	}
	return nil
}

// parseDuration reads a duration and asks for its unit, for a bare 30 leaves open of what.
func parseDuration(text string) (time.Duration, error) {
	if text == "0" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, errors.New("it is not a duration with a unit")
	}
	return d, nil
}

func numberError(err error) error {
	if errors.Is(err, strconv.ErrRange) {
		return errors.New("it is out of range")
	}
	return errors.New("it is not a whole number")
}
