package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var example = regexp.MustCompile("(?ms)^```(sh|json)\n(.*?)^```$")

// TestExamples runs the examples of docs/api.md as they are printed, one after the other in one shell, and compares the
// form of their last answers with the printed ones.
func TestExamples(t *testing.T) {
	page, err := os.ReadFile("../../docs/api.md")
	require.NoError(t, err)
	w := open(t, []string{"nurse"})
	for _, name := range []string{"romeo", "juliet"} {
		require.NoError(t, w.AddUser(name, password))
	}
	const mark = "=== end of example"
	var script strings.Builder
	script.WriteString("set -euo pipefail\n")
	var printed []string // the answer after each block, "" for none
	for _, m := range example.FindAllStringSubmatch(string(page), -1) {
		if m[1] == "json" {
			require.Empty(t, printed[len(printed)-1])
			printed[len(printed)-1] = m[2]
			continue
		}
		printed = append(printed, "")
		fmt.Fprintf(&script, "%s\necho\necho '%s'\n", m[2], mark)
	}
	require.Greater(t, len(printed), 10)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-c", script.String())
	shell.Env = append(os.Environ(), "POSTHOUSE="+w.base, "ADMIN="+w.tokens["nurse"])
	out, err := shell.CombinedOutput()
	require.NoError(t, err, "%s", out)
	answers := strings.Split(string(out), mark)
	require.Len(t, answers, len(printed)+1)
	for i, want := range printed {
		if want == "" {
			continue
		}
		lines := strings.Split(strings.TrimSpace(answers[i]), "\n")
		var printedForm, form any
		require.NoError(t, json.Unmarshal([]byte(want), &printedForm), want)
		require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &form), lines)
		require.Equal(t, formOf(printedForm), formOf(form), "%s\n%s", want, lines[len(lines)-1])
	}
}

// formOf keeps names and kinds of values, and of numbers, words and true what is the same in every run.
func formOf(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, value := range v {
			out[name] = formOf(value)
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, value := range v {
			out = append(out, formOf(value))
		}
		return out
	case string:
		return "text"
	case float64:
		if v < 100 {
			return v
		}
		return "number"
	}
	return v
}
