package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCompare: figures of several files stand side by side, each with its ratio to the first.
func TestCompare(t *testing.T) {
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	ours := write("ours.json", `{"scenario":"login","security":"none","result":{"per_second":5000}}
{"scenario":"message","security":"none","result":{"per_second":40000,"server_cpu_us_per_message":12.5,"delivery":{"p99_ms":9}}}
{"scenario":"message","security":"none","result":{"per_second":20000,"offered_per_second":20000,"delivery":{"p99_ms":1.25}}}
`)
	peer := write(
		"peer.json",
		`{"scenario":"message","security":"none","result":{"per_second":4000,"server_cpu_us_per_message":400}}
`)
	var b strings.Builder
	require.NoError(t, compare(&b, []string{ours, peer}))
	rows := map[string][]string{}
	for line := range strings.Lines(b.String()) {
		for _, f := range figures {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(line), f.name+" "); ok {
				rows[f.name] = strings.Fields(rest)
			}
		}
	}
	require.Equal(t, []string{"40000", "4000", "0.100"}, rows["messages a second"])
	require.Equal(t, []string{"12.5", "400", "32.0"}, rows["server CPU a message, µs"])
	require.Equal(t, []string{"1.25", "-", "-"}, rows["delivery p99 at that rate, ms"])
	require.Equal(t, []string{"5000", "-", "-"}, rows["logins a second"])
	require.Equal(t, []string{"-", "-", "-"}, rows["bytes an idle session"])

	require.ErrorContains(t, compare(&b, nil), "name the files")
	require.ErrorContains(t, compare(&b, []string{write("bad.json", "{")}), "bad.json")
	require.Error(t, compare(&b, []string{filepath.Join(t.TempDir(), "none")}))
}
