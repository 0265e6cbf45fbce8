package law_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// law is one row of ARCHITECTURE.md's table: what the packages of a folder may import of ours. The first row that
// matches a package holds. "x" is that package alone, "x/" everything below it, "x/..." both; "." is the package itself
// and what is below it.
type law struct {
	folder string
	may    []string
	// outside lists beginnings of import paths, of others, that are not allowed.
	never []string
}

// drivers are what only the folders of storage may know.
var drivers = []string{"database/sql", "modernc.org/sqlite", "github.com/cockroachdb/pebble",
	"github.com/pressly/goose"}

// sockets are what values and codecs have no business with.
var sockets = []string{"net/http", "crypto/tls", "os"}

var laws = []law{
	{folder: "wire/jid", never: join(drivers, sockets)},
	{folder: "wire/stanza", may: []string{"wire/jid"}, never: join(drivers, sockets)},
	{folder: "wire/payload", may: []string{"wire/jid", "wire/stanza"}, never: join(drivers, sockets)},
	{folder: "wire/stream", may: []string{"wire/jid", "wire/stanza"}, never: join(drivers, sockets)},
	{folder: "wire/stream/...", may: []string{"wire/jid", "wire/stanza", "wire/stream", "."},
		never: join(drivers, sockets)},
	{folder: "wire/scram", never: join(drivers, sockets)},
	{folder: "wire/uplink", may: []string{"wire/jid", "wire/stanza"}, never: join(drivers, sockets)},
	{folder: "wire/...", may: []string{"wire/..."}, never: join(drivers, sockets)},
	{folder: "link/...", may: []string{"limit", "defaults", "."}, never: drivers},
	{folder: "defaults", never: join(drivers, sockets)},
	{folder: "limit", never: join(drivers, sockets)},
	{folder: "cache", never: join(drivers, sockets)},
	{folder: "store", may: []string{"wire/..."}, never: drivers},
	{folder: "store/storetest", may: []string{"wire/...", "store"}, never: drivers},
	{folder: "store/...", may: []string{"wire/...", "store", "defaults", "."}},
	{folder: "inbox", may: []string{"wire/...", "store", "defaults"}, never: drivers},
	{folder: "token", may: []string{"wire/...", "store", "cache", "defaults"}, never: drivers},
	{folder: "client", may: []string{"wire/...", "."}, never: drivers},
	{folder: "client/...", may: []string{"wire/...", "."}, never: drivers},
	{folder: "feed", may: []string{"wire/..."}, never: drivers},
	{folder: "feed/...", may: []string{"wire/...", "feed", "."}},
	{folder: "domain/router", may: []string{"wire/...", "defaults"}, never: drivers},
	{folder: "domain/session", may: []string{"wire/...", "limit", "defaults"}, never: drivers},
	{folder: "domain/auth", may: []string{"wire/...", "store", "limit", "cache", "defaults", "."}, never: drivers},
	{folder: "domain/service", may: []string{"wire/...", "store", "defaults"}, never: drivers},
	{folder: "domain/...", may: []string{"wire/...", "store", "inbox", "token", "feed", "link", "limit", "cache",
		"defaults", "domain/router", "domain/session", "domain/auth", "domain/service", "."}, never: drivers},
	{folder: "public/uplink", may: []string{"wire/jid", "wire/stanza", "wire/uplink", "defaults"}, never: drivers},
	{folder: "public/...", may: []string{"wire/...", "store", "inbox", "token", "feed", "limit", "cache", "defaults",
		"public/uplink", "."}, never: drivers},
	{folder: "node/settings", may: []string{"defaults"}, never: drivers},
	{folder: "node/terminal", never: drivers},
	{folder: "node/...", may: []string{"wire/...", "link", "store/...", "inbox", "token", "limit", "cache", "defaults",
		"feed/...", "domain/...", "public/...", "node/..."}},
	{folder: "cmd/posthouse", may: []string{"node/...", "store", "token", "domain/auth"}, never: drivers},
	// a load generator knows no more of a server than its clients do
	{folder: "cmd/...", may: []string{"client/...", "wire/...", "."}, never: drivers},
	{folder: "test/...", may: []string{"..."}},
}

// testsMay is what tests may import beside what their package may: the suites and fakes that exist for them, and real
// stores.
var testsMay = []string{"wire/...", "store/...", "domain/router", "domain/session", "domain/auth", "domain/service",
	"test/script"}

func join(lists ...[]string) (all []string) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// matches reports whether a package is meant by a pattern of a law about folder.
func matches(pattern, folder, name string) bool {
	switch {
	case pattern == "...":
		return true
	case pattern == ".":
		return name == folder || strings.HasPrefix(name, folder+"/")
	case strings.HasSuffix(pattern, "/..."):
		base := strings.TrimSuffix(pattern, "/...")
		return name == base || strings.HasPrefix(name, base+"/")
	}
	return name == pattern
}

// lawOf returns the law for a package.
func lawOf(folder string) (law, bool) {
	for _, l := range laws {
		if matches(l.folder, "", folder) {
			return l, true
		}
	}
	return law{}, false
}

// family returns the folder that "." of a law means for a package: its part, such as domain/c2s for domain/c2s/queue.
func family(folder string) string {
	parts := strings.SplitN(folder, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}

// importsBroken returns the imports of a file that the law does not allow.
func importsBroken(s *source) (broken []string) {
	l, ok := lawOf(s.folder)
	if !ok {
		return []string{fmt.Sprintf("%s: the package %q has no row in the import law (test/law/imports_test.go)",
			s.path, s.folder)}
	}
	for _, imported := range s.imports {
		name, ours := strings.CutPrefix(imported, module+"/")
		switch {
		case !ours:
			if forbidden(l, s, imported) {
				broken = append(broken, fmt.Sprintf("%s: %s imports %s, which is not for it", s.path, s.folder,
					imported))
			}
		case name == s.folder: // an external test package
		case allowed(l, s, name):
		default:
			broken = append(
				broken, fmt.Sprintf("%s: %s imports %s, which the import law does not allow (ARCHITECTURE.md)", s.path,
					s.folder, name))
		}
	}
	return broken
}

func allowed(l law, s *source, name string) bool {
	may := l.may
	if s.test() {
		may = join(may, testsMay)
	}
	own := family(s.folder)
	if strings.HasPrefix(s.folder, "wire/stream/") {
		own = s.folder // codecs never import each other
	}
	for _, pattern := range may {
		if matches(pattern, own, name) {
			return true
		}
	}
	return false
}

func forbidden(l law, s *source, imported string) bool {
	if s.test() {
		return false // tests may look at files and speak to sockets
	}
	for _, never := range l.never {
		if imported == never || strings.HasPrefix(imported, never+"/") {
			return true
		}
	}
	return false
}

func TestImportLaw(t *testing.T) {
	var broken []string
	for _, s := range allSources(t) {
		broken = append(broken, importsBroken(s)...)
	}
	report(t, broken)
}

// TestImportLawBites shows the checker source that breaks the law, and source that does not.
func TestImportLawBites(t *testing.T) {
	for _, test := range []struct {
		path, imports string
		ok            bool
	}{
		{"wire/jid/x.go", "wire/stanza", false},
		{"wire/jid/x.go", "!net/netip", true},
		{"wire/stanza/x.go", "wire/jid", true},
		{"wire/stanza/x.go", "wire/stream", false},
		{"wire/stanza/x.go", "!crypto/tls", false},
		{"wire/payload/x.go", "wire/stanza", true},
		{"wire/payload/x.go", "wire/content", false},
		{"wire/stream/x.go", "domain/router", false},
		{"wire/stream/xmlstream/x.go", "wire/stream", true},
		{"wire/stream/xmlstream/x.go", "wire/stream/pbstream", false},
		{"wire/event/x.go", "wire/stanza", true},
		{"wire/uplink/x.go", "wire/stream", false},
		{"public/uplink/x.go", "wire/uplink", true},
		{"public/uplink/x.go", "wire/stream", false},
		{"link/x.go", "wire/jid", false},
		{"link/x.go", "!net", true},
		{"store/x.go", "wire/jid", true},
		{"store/x.go", "!database/sql", false},
		{"store/x.go", "store/sqlite", false},
		{"store/sqlite/x.go", "!modernc.org/sqlite", true},
		{"store/sqlite/x.go", "store/postgres", false},
		{"store/sqlite/x.go", "domain/auth", false},
		{"store/sqlite/x_test.go", "store/storetest", true},
		{"store/sqlite/x.go", "store/storetest", false},
		{"domain/router/x.go", "domain/session", false},
		{"domain/router/x.go", "store", false},
		{"domain/service/x.go", "store", true},
		{"domain/service/x.go", "domain/session", false},
		{"domain/auth/x.go", "store", true},
		{"domain/auth/x.go", "domain/session", false},
		{"domain/c2s/x.go", "domain/session", true},
		{"domain/c2s/x.go", "domain/archive", false},
		{"domain/c2s/x.go", "store/sqlite", false},
		{"domain/c2s/x_test.go", "domain/archive", false},
		{"domain/archive/x.go", "!github.com/cockroachdb/pebble/v2", false},
		{"domain/archive/x.go", "node", false},
		{"public/api/x.go", "domain/router", false},
		{"public/api/x.go", "public/uplink", true},
		{"public/api/x.go", "public/file", false},
		{"public/uplink/x.go", "store", false},
		{"node/x.go", "domain/c2s", true},
		{"node/x.go", "cmd/posthouse", false},
		{"node/settings/x.go", "node", false},
		{"cmd/posthouse/x.go", "node", true},
		{"cmd/posthouse/x.go", "domain/c2s", false},
		{"cmd/posthouse-bench/x.go", "store", false},
		{"test/nodetest/x.go", "node", true},
		{"domain/c2s/x_test.go", "node", false},
	} {
		text := module + "/" + test.imports
		if outside, ok := strings.CutPrefix(test.imports, "!"); ok {
			text = outside
		}
		broken := importsBroken(parseSource(t, test.path, fmt.Sprintf("package x\nimport _ %q\n", text)))
		if test.ok {
			require.Empty(t, broken, "%s imports %s", test.path, test.imports)
			continue
		}
		require.Len(t, broken, 1, "%s imports %s", test.path, test.imports)
		require.Contains(t, broken[0], strings.TrimPrefix(test.imports, "!"))
	}
	require.NotEmpty(t, importsBroken(parseSource(t, "elsewhere/x.go", "package x\n")),
		"a folder without a row in the law")
}
