package law_test

import (
	"go/ast"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// writes are how the methods begin that change something in a store.
var writes = regexp.MustCompile(
	`^(Add|Append|Change|Create|Delete|Deliver|Note|Open|Put|Remove|Revoke|Secret|Set|Touch)([A-Z]|$)`)

// storeWriters returns the interfaces of package store that change something, also by those that they embed.
func storeWriters(all []*source) map[string]bool {
	embeds, writers := map[string][]string{}, map[string]bool{}
	for _, s := range all {
		if s.folder != "store" || s.test() {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			i, ok := spec.Type.(*ast.InterfaceType)
			if !ok {
				return false
			}
			for _, m := range i.Methods.List {
				if id, ok := m.Type.(*ast.Ident); ok && len(m.Names) == 0 {
					embeds[spec.Name.Name] = append(embeds[spec.Name.Name], id.Name)
				}
				for _, name := range m.Names {
					writers[spec.Name.Name] = writers[spec.Name.Name] || writes.MatchString(name.Name)
				}
			}
			return false
		})
	}
	for changed := true; changed; {
		changed = false
		for name, parts := range embeds {
			for _, part := range parts {
				if writers[part] && !writers[name] {
					writers[name], changed = true, true
				}
			}
		}
	}
	return writers
}

// writerBroken returns where a file of the public layer, or of the inbox, which it reads by, names something that
// writes to a store.
func writerBroken(s *source, writers map[string]bool) (broken []string) {
	if s.test() || !strings.HasPrefix(s.folder, "public/") && s.folder != "inbox" {
		return nil
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "store" && writers[sel.Sel.Name] {
				broken = append(broken, s.at(n)+": store."+sel.Sel.Name+
					" writes; the public layer has reading halves only, and changes things by stanzas")
			}
		}
		return true
	})
	return broken
}

func TestPublicReadsOnly(t *testing.T) {
	all := allSources(t)
	writers := storeWriters(all)
	var broken []string
	for _, s := range all {
		broken = append(broken, writerBroken(s, writers)...)
	}
	report(t, broken)
}

func TestPublicReadsOnlyBites(t *testing.T) {
	writers := storeWriters(allSources(t))
	for name, writes := range map[string]bool{
		"Rosters": true, "RosterReader": false, "Accounts": true, "AccountReader": false, "Audit": true,
		"AuditReader": false, "MessageLog": true,
		"MessageReader": false, "Secrets": true,
	} {
		require.Equal(t, writes, writers[name], name)
		text := "package x\n\nimport \"" + module + "/store\"\n\ntype C struct{ X store." + name + " }\n"
		for folder, law := range map[string]bool{"public/x": true, "inbox": true, "domain/x": false} {
			require.Equal(t, writes && law, len(writerBroken(parseSource(t, folder+"/x.go", text), writers)) > 0,
				"%s in %s", name, folder)
		}
	}
}
