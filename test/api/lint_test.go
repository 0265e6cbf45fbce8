package api_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rules are those of the linter that hold: all that it recommends, but for those that are about a site on the web.
const rules = `extends: [recommended-strict]
rules:
  operation-4xx-response: off # every operation has a default answer, which is a problem
  no-server-example.com: error
  security-defined: off # getToken, revokeToken and getKeySet are for everybody
`

// TestLint: the document is valid by a linter that others wrote.
func TestLint(t *testing.T) {
	linter, err := filepath.Abs("../clients/node_modules/.bin/redocly")
	require.NoError(t, err)
	require.FileExists(t, linter, "run test/setup.sh")
	w := open(t, nil)
	folder := t.TempDir()
	document := w.ask("", "GET", "/v1/openapi.json", nil)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "openapi.json"), []byte(document.text), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "redocly.yaml"), []byte(rules), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	lint := func() (string, error) {
		c := exec.CommandContext(ctx, linter, "lint", "--config", "redocly.yaml", "openapi.json")
		c.Dir = folder
		c.Env = append(os.Environ(), "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true", "NO_COLOR=1",
			"CI=1")
		out, err := c.CombinedOutput()
		return string(out), err
	}
	out, err := lint()
	require.NoError(t, err, out)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "openapi.json"),
		[]byte(`{"openapi":"3.1.0","info":{},"paths":{"/x":{"get":{}}}}`), 0o600))
	_, err = lint()
	require.Error(t, err, "the linter finds something when there is something")
}
