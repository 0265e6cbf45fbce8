package script

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
)

// dictionary is what wire/stream/pbstream/dictionary.json publishes.
type dictionary struct {
	Schema           uint32
	Namespaces       []string // by number, as all lists; null is ""
	Words            []string
	StreamConditions []string `json:"stream_conditions"`
	Types            []string
	Signals          []published
	Payloads         []form
	Forms            map[string]form

	numberOfSpace  map[string]uint32
	numberOfWord   map[string]uint32
	numberOfType   map[string]uint32
	numberOfSignal map[published]uint32
}

type (
	// published is an element with nothing but text.
	published struct{ Namespace, Element, Text string }
	// form says what the fields of a message stand for.
	form struct {
		Namespace, Element, Within string
		Implied                    struct{ Attribute, Is string }
		Fields                     []field
	}
	field struct {
		Number                                int32
		As, Attribute, Namespace, Child, Form string
		Names                                 []string
		Repeated                              bool
	}
)

// readDictionary reads the file, which lies in the tree with this package.
func readDictionary() (*dictionary, error) {
	_, here, _, _ := runtime.Caller(0)
	text, err := os.ReadFile(filepath.Join(filepath.Dir(here), "..", "..", "wire", "stream", "pbstream",
		"dictionary.json"))
	if err != nil {
		return nil, err
	}
	d := &dictionary{}
	if err := json.Unmarshal(text, d); err != nil {
		return nil, err
	}
	d.numberOfSpace, d.numberOfWord, d.numberOfType = numbers(d.Namespaces), numbers(d.Words), numbers(d.Types)
	d.numberOfSignal = numbers(d.Signals)
	return d, nil
}

// numbers turns a list around; what is numbered 0 is not an entry.
func numbers[T comparable](list []T) map[T]uint32 {
	out := make(map[T]uint32)
	for i := len(list) - 1; i > 0; i-- {
		out[list[i]] = uint32(i)
	}
	return out
}
