package script

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

// dictionary is what docs/protocol/compact.md says in tables.
type dictionary struct {
	schema         uint32
	spaces, words  []string // by number; 0 is not used
	signals        []name
	numberOfSpace  map[string]uint32
	numberOfWord   map[string]uint32
	numberOfSignal map[name]uint32
}

// name is that of an element.
type name struct{ space, local string }

var (
	schemaText = regexp.MustCompile(`\*\*schema ([0-9]+)\*\*`)
	cellText   = regexp.MustCompile("`([^`]*)`")
	rowNumber  = regexp.MustCompile(`^\| *([0-9]+) *\|`)
	wordNumber = regexp.MustCompile(`([0-9]+) ([^,\s]+)`)
)

// readDictionary reads the page, which lies beside this package in the tree.
func readDictionary() (*dictionary, error) {
	_, here, _, _ := runtime.Caller(0)
	page, err := os.ReadFile(filepath.Join(filepath.Dir(here), "..", "..", "docs", "protocol", "compact.md"))
	if err != nil {
		return nil, err
	}
	text := string(page)
	d := &dictionary{numberOfSpace: map[string]uint32{}, numberOfWord: map[string]uint32{}, numberOfSignal: map[name]uint32{}}
	found := schemaText.FindStringSubmatch(text)
	if found == nil {
		return nil, fmt.Errorf("the page does not tell its schema")
	}
	schema, err := strconv.ParseUint(found[1], 10, 32)
	if err != nil {
		return nil, err
	}
	d.schema = uint32(schema)
	if err := d.readSpaces(text); err != nil {
		return nil, err
	}
	if err := d.readWords(text); err != nil {
		return nil, err
	}
	return d, d.readSignals(text)
}

// section returns what stands between <!-- title --> and <!-- end of title -->.
func section(text, title string) string {
	_, rest, _ := strings.Cut(text, "<!-- "+title+" -->")
	inside, _, _ := strings.Cut(rest, "<!-- end of "+title+" -->")
	return inside
}

// rows returns the cells in backquotes of each numbered row, which must be numbered 1, 2, 3, …
func rows(text, title string) (all [][]string, err error) {
	for line := range strings.Lines(section(text, title)) {
		n := rowNumber.FindStringSubmatch(line)
		if n == nil {
			continue
		}
		if n[1] != strconv.Itoa(len(all)+1) {
			return nil, fmt.Errorf("table of %s: row %s is not in its place", title, n[1])
		}
		var cells []string
		for _, c := range cellText.FindAllStringSubmatch(line, -1) {
			cells = append(cells, c[1])
		}
		all = append(all, cells)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("there is no table of %s", title)
	}
	return all, nil
}

func (d *dictionary) readSpaces(text string) error {
	all, err := rows(text, "namespaces")
	d.spaces = []string{""}
	for i, cells := range all {
		space := cells[0]
		if space == "(none)" {
			space = ""
		}
		d.spaces = append(d.spaces, space)
		d.numberOfSpace[space] = uint32(i + 1)
	}
	return err
}

func (d *dictionary) readWords(text string) error {
	d.words = []string{""}
	for _, found := range wordNumber.FindAllStringSubmatch(section(text, "words"), -1) {
		if found[1] != strconv.Itoa(len(d.words)) {
			return fmt.Errorf("word %s is not in its place", found[1])
		}
		d.numberOfWord[found[2]] = uint32(len(d.words))
		d.words = append(d.words, found[2])
	}
	if len(d.words) == 1 {
		return errors.New("the page has no words")
	}
	return nil
}

func (d *dictionary) readSignals(text string) error {
	all, err := rows(text, "signals")
	d.signals = []name{{}}
	for i, cells := range all {
		n := name{space: cells[1], local: cells[0]}
		d.signals = append(d.signals, n)
		d.numberOfSignal[n] = uint32(i + 1)
	}
	return err
}
