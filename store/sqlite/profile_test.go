package sqlite

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// A search costs as much as it finds: the engine looks words and accounts up, and goes through neither.
func TestSearchGoesByIndexes(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "posthouse.db"), Options{})
	require.NoError(t, err)
	defer s.Close()
	for _, words := range [][]string{{"one"}, {"one", "two"}, {"one", "two", "three"}} {
		query, args := searchQuery(words, "", 10)
		rows, err := s.readers.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
		require.NoError(t, err)
		for rows.Next() {
			var id, parent, unused int
			var detail string
			require.NoError(t, rows.Scan(&id, &parent, &unused, &detail))
			require.False(t, strings.HasPrefix(detail, "SCAN account") || strings.HasPrefix(detail, "SCAN a") ||
				strings.HasPrefix(detail, "SCAN profile") ||
				strings.HasPrefix(detail, "SCAN p") ||
				strings.HasPrefix(detail, "SEARCH a USING INDEX sqlite_autoindex_account_1"), "%q: %s", words, detail)
			t.Log(detail)
		}
		require.NoError(t, rows.Err())
		require.NoError(t, rows.Close())
	}
}

func TestWordsOf(t *testing.T) {
	for name, want := range map[string][]string{
		"":                nil,
		" , - ":           {",", "-"},
		"Alice":           {"alice"},
		"Ann-Marie  ANN":  {"ann", "ann-marie", "marie"},
		"王小明":             {"小明", "明", "王小明"},
		"ﬁne ÅNGSTRÖM":    {"fine", "ångström"},
		"John王":           {"john王", "王"},
		"ドラえもん":           {"えもん", "もん", "ん", "ドラえもん", "ラえもん"},
		"a\u200db \x00 c": {"\x00", "a", "a\u200db", "b", "c"},
	} {
		require.Equal(t, want, wordsOf(name), "%q", name)
	}
	require.Equal(t, searchWords([]string{"STRASSE"}), searchWords([]string{"straße"}))
}

// However a name is made, it is found by itself and by each of its beginnings.
func FuzzSearchProfiles(f *testing.F) {
	s, err := Open(f.Context(), filepath.Join(f.TempDir(), "posthouse.db"), Options{Relaxed: true})
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, s.Close()) })
	id, err := s.CreateAccount(f.Context(), store.Account{Name: "alice"})
	require.NoError(f, err)
	for _, seed := range []string{"Alice B", "王小明", "O'Neil", "%", "'; DROP TABLE profile; --", "İstanbul", "ﬀ"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if len(name) > 128 {
			return
		}
		_, err := s.SetProfile(t.Context(), store.Profile{Account: id, Name: name})
		require.NoError(t, err)
		found, err := s.SearchProfiles(t.Context(), []string{name}, "", 10)
		require.NoError(t, err)
		require.Len(t, found, 1, "%q", name)
	})
}
