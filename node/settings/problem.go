package settings

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with the configuration.
type Problem struct {
	At Origin
	// Path of the setting, "" when the problem is not with one setting.
	Path string
	// What is wrong, and what to do about it.
	What, Remedy string
	excerpt      string
}

// String returns the problem on one or several lines, without a line end.
func (p Problem) String() string {
	var b strings.Builder
	if at := p.At.String(); at != "" {
		b.WriteString(at + ": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.What)
	if p.excerpt != "" {
		b.WriteString("\n" + p.excerpt)
	}
	if p.Remedy != "" {
		b.WriteString("\n    remedy: " + p.Remedy)
	}
	return b.String()
}

// Problems is everything that is wrong. It is an error when it is not empty.
type Problems []Problem

// Error returns all problems, each beginning on its own line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Err returns the problems as an error, nil when there are none.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// sort puts the problems of the file first, in its order, then the others as they came.
func (ps Problems) sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if (a.At.Line > 0) != (b.At.Line > 0) {
			return cmp.Compare(b.At.Line, a.At.Line)
		}
		return cmp.Or(cmp.Compare(a.At.Line, b.At.Line), cmp.Compare(a.At.Column, b.At.Column))
	})
}

// excerpt shows the line of the file that a problem is about, with a mark below the place.
// Lines that may hold a secret are not shown.
func (l *loader) excerpt(at Origin) string {
	if at.Line < 1 || l.holdsSecrets() {
		return ""
	}
	lines := strings.Split(string(l.src.Content), "\n")
	if at.Line > len(lines) {
		return ""
	}
	line := strings.TrimRight(strings.ReplaceAll(lines[at.Line-1], "\t", " "), "\r")
	if len(line) > 200 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' }) {
		return ""
	}
	return fmt.Sprintf("%6d | %s\n       | %s^", at.Line, line,
		strings.Repeat(" ", min(max(at.Column-1, 0), len(line))))
}
