package settings

import (
	"strings"
)

// suggestPath proposes the settings whose paths are nearest to a wrong one.
func (l *loader) suggestPath(path string) string {
	if g := l.groupAt(path); g != nil && len(g.names) > 0 {
		return "this is a group of settings; name one of them, such as " + g.path + "." + g.names[0]
	}
	var known []string
	l.root.each(func(f *leaf) { known = append(known, f.path) })
	return didYouMean(path, known, "see docs/configuration.md, or posthouse config show, for all settings")
}

// suggestVariable proposes the nearest environment variable.
func (l *loader) suggestVariable(name string) string {
	known := append([]string{}, l.src.Reserved...)
	l.root.each(func(f *leaf) { known = append(known, f.variable) })
	return didYouMean(name, known, "unset it; posthouse config show lists all variables")
}

func (l *loader) groupAt(path string) *group {
	g := l.root
	for name := range strings.SplitSeq(path, ".") {
		if g = g.groups[name]; g == nil {
			return nil
		}
	}
	return g
}

// suggestKey proposes a key for a wrong one in a group: a sibling first, then the same name elsewhere.
func (l *loader) suggestKey(g *group, key string) string {
	if near := nearest(key, g.names); near != "" {
		return "did you mean " + near + "?"
	}
	var elsewhere string
	l.root.each(func(f *leaf) {
		if elsewhere == "" && (f.path == key || strings.HasSuffix(f.path, "."+key)) {
			elsewhere = f.path
		}
	})
	if elsewhere != "" {
		return "did you mean " + elsewhere + "?"
	}
	where := "at the top"
	if g.path != "" {
		where = "in " + g.path
	}
	return "remove it; known " + where + ": " + strings.Join(g.names, ", ")
}

func didYouMean(name string, known []string, otherwise string) string {
	if near := nearest(name, known); near != "" {
		return "did you mean " + near + "?"
	}
	return otherwise
}

// nearest returns the known name that name begins, or else the one with the fewest edits from it;
// "" when none is near enough to be meant.
func nearest(name string, known []string) string {
	for _, k := range known {
		if len(name) >= 3 && strings.HasPrefix(k, name) {
			return k
		}
	}
	best, fewest := "", len(name)/3+2
	for _, k := range known {
		if d := distance(name, k, fewest); d < fewest {
			best, fewest = k, d
		}
	}
	return best
}

// distance counts the edits (insert, delete, replace, swap neighbours) between two names, up to limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit || len(a) > 200 {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
