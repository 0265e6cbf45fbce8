package token_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/token"
)

// TestExamplesInDocs: what docs/tokens.md tells others to do takes what we issue, and refuses what we refuse. Node.js
// is asked where it is installed.
func TestExamplesInDocs(t *testing.T) {
	w := newWorld(t)
	w.clock.now = time.Now()
	p := w.open()
	p.person(t, "escalus", "phone")
	require.NoError(t, p.db.SetAdmin(t.Context(), "escalus", true))
	pair := p.issue(t, "escalus", "phone")
	short := w.open(func(c *token.Config) { c.Lifetime = time.Minute })
	w.clock.pass(-time.Hour)
	old := short.issue(t, "romeo", "phone")
	w.clock.pass(time.Hour)
	other := newWorld(t)
	other.clock.now = time.Now()
	foreign := other.open().issue(t, "escalus", "phone")
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		_,
			_ = out.Write(p.KeySet())
	}))
	defer server.Close()

	text, err := os.ReadFile("../docs/tokens.md")
	require.NoError(t, err)
	folder := t.TempDir()
	example := func(language, name string) string {
		_, after, ok := strings.Cut(string(text), "\n```"+language+"\n")
		require.True(t, ok, language)
		code, _, _ := strings.Cut(after, "\n```\n")
		file := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(file, []byte(code+"\n"), 0o600))
		return file
	}
	source, program := example("go", "verify.go"), filepath.Join(folder, "verify")
	built, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, source).CombinedOutput()
	require.NoError(t, err, string(built))
	commands := [][]string{{program}}
	script := example("js", "verify.mjs")
	if node, err := exec.LookPath("node"); err == nil {
		commands = append(commands, []string{node, script})
	}
	for _, command := range commands {
		verify := func(domain, access string) (string, error) {
			c := exec.CommandContext(t.Context(), command[0], append(command[1:], server.URL, domain, access)...)
			out, err := c.CombinedOutput()
			return strings.TrimSpace(string(out)), err
		}
		out, err := verify("posthouse.test", pair.Access)
		require.NoError(t, err, out)
		require.Equal(t, "escalus@posthouse.test user admin", out)
		for name, test := range map[string][2]string{
			"another domain": {"example.org", pair.Access},
			"expired":        {"posthouse.test", old.Access},
			"another's key":  {"posthouse.test", foreign.Access},
			"changed":        {"posthouse.test", strings.Replace(pair.Access, ".eyJ", ".eyK", 1)},
			"cut":            {"posthouse.test", pair.Access[:strings.LastIndex(pair.Access, ".")+1]},
		} {
			out, err := verify(test[0], test[1])
			require.Error(t, err, name)
			require.Equal(t, "the token is not good", out, name)
		}
	}
}
