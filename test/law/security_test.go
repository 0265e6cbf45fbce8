package law_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSecurityPage: every test that docs/security-tests.md names exists, in the package that it says.
func TestSecurityPage(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "security-tests.md"))
	require.NoError(t, err)
	files := exec.Command("git", "ls-files", "-co", "--exclude-standard", "*_test.go")
	files.Dir = root
	list, err := files.Output()
	require.NoError(t, err)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	there := map[string]bool{}
	for file := range strings.FieldsSeq(string(list)) {
		text, err := os.ReadFile(filepath.Join(root, file))
		require.NoError(t, err)
		for _, f := range function.FindAllSubmatch(text, -1) {
			there[filepath.Base(filepath.Dir(file))+"."+string(f[1])] = true
		}
	}
	named := regexp.MustCompile("`(\\w+\\.(?:Test|Fuzz)\\w+)`").FindAllSubmatch(page, -1)
	require.Greater(t, len(named), 100)
	for _, n := range named {
		require.True(t, there[string(n[1])], "docs/security-tests.md names %s, which does not exist", n[1])
	}
}
