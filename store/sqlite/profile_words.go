package sqlite

import (
	"cmp"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// fold makes texts equal that differ in case or in how characters are composed only.
func fold(text string) string { return norm.NFKC.String(cases.Fold().String(norm.NFKC.String(text))) }

// withoutSpaces are scripts in which words are not parted by spaces.
var withoutSpaces = []*unicode.RangeTable{unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul,
	unicode.Bopomofo}

// wordsOf returns what somebody by that name is found by the beginnings of, folded, in order and without repetition:
// what stands between spaces, the words in that, and the rest of a word from each character of a script without spaces
// on. 王小明 is found by 小明 too.
func wordsOf(name string) []string {
	var words []string
	for _, token := range strings.Fields(fold(name)) {
		words = append(words, token)
		for _, word := range strings.FieldsFunc(token, separates) {
			words = append(words, word)
			before := false
			for i, r := range word {
				alone := unicode.In(r, withoutSpaces...)
				if alone || before {
					words = append(words, word[i:])
				}
				before = alone
			}
		}
	}
	slices.Sort(words)
	return slices.Compact(words)
}

// separates reports whether a character is not part of a word.
func separates(r rune) bool { return !unicode.In(r, unicode.L, unicode.N, unicode.M) }

// searchWords folds the words of a search, the longest first.
func searchWords(words []string) []string {
	var out []string
	for _, w := range words {
		out = append(out, strings.Fields(fold(w))...)
	}
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b)) })
	out = slices.Compact(out)
	return out[:min(len(out), maxWords)]
}
