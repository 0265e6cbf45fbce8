package operations

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/node"
	"github.com/posthouse-im/posthouse/node/settings"
	"github.com/posthouse-im/posthouse/test/nodetest"
	"github.com/posthouse-im/posthouse/test/script"
)

var update = flag.Bool("update", false, "write the table of metrics in docs/operations.md anew")

const (
	metricsPage  = "../../docs/operations.md"
	metricsBegin = "<!-- What follows is made from the source: make docs -->\n"
	metricsEnd   = "<!-- end -->\n"
)

// metric is what a Desc says, which it tells in its String only.
var metric = regexp.MustCompile(
	`^Desc\{fqName: "([^"]+)", help: "((?:[^"\\]|\\.)*)",(?: unit: "[^"]*",)? constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}\}$`)

// described returns the table's rows for everything that a node registers.
func described(t *testing.T, r *prometheus.Registry) []string {
	t.Helper()
	all := make(chan *prometheus.Desc)
	go func() { // ends when everything was described
		r.Describe(all)
		close(all)
	}()
	var rows []string
	for d := range all {
		m := metric.FindStringSubmatch(d.String())
		require.NotNil(t, m, "cannot read %s", d)
		if !strings.HasPrefix(m[1], "posthouse_") {
			continue // of the Go runtime and the process
		}
		var labels []string
		for constant := range strings.SplitSeq(m[3], ",") {
			name, _, _ := strings.Cut(constant, "=")
			labels = append(labels, name)
		}
		labels = slices.DeleteFunc(append(labels, strings.Split(m[4], ",")...), func(s string) bool { return s == "" })
		for i := range labels {
			labels[i] = "`" + labels[i] + "`"
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |\n", m[1], strings.Join(labels, ", "),
			strings.ReplaceAll(m[2], "|", `\|`)))
	}
	slices.Sort(rows)
	return slices.Compact(rows)
}

// registered runs a node for as long as it takes to see what it has registered.
func registered(t *testing.T) (rows []string) {
	t.Helper()
	assignments := []settings.Assignment{{Flag: "--data", Path: "data", Value: t.TempDir()}}
	for _, l := range []string{"xmpp", "xmpp_tls", "compact", "http", "metrics"} {
		assignments = append(assignments,
			settings.Assignment{Flag: "--set", Path: "listen." + l + ".address", Value: "127.0.0.1:0"})
	}
	c, _, problems := node.LoadConfig("", nil, assignments)
	require.Empty(t, problems)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	require.NoError(t, node.Run(ctx, node.Options{
		Config: c, Version: "test", Log: io.Discard, Assemble: node.Assemble, Signals: &node.Signals{},
		Started: func(s *node.Runtime) {
			rows = described(t, s.Registry)
			cancel()
		},
	}))
	return rows
}

// TestMetricsReference: the table in docs/operations.md is what a node registers, and everything that it shows is
// there.
func TestMetricsReference(t *testing.T) {
	table := "\n| metric | labels | says |\n|---|---|---|\n" + strings.Join(registered(t), "") + "\n"
	page, err := os.ReadFile(metricsPage)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(page), metricsBegin)
	require.True(t, ok, "the page has no place for the table")
	_, after, ok := strings.Cut(rest, metricsEnd)
	require.True(t, ok, "the page has no end of the table")
	want := before + metricsBegin + table + metricsEnd + after
	if *update {
		require.NoError(t, os.WriteFile(metricsPage, []byte(want), 0o644))
	} else {
		require.Equal(t, want, string(page), "docs/operations.md does not list the metrics that there are: make docs")
	}

	server := nodetest.New(t)
	require.NoError(t, server.AddUser("romeo", secret))
	romeo := person(t, server.Endpoints(), script.TCP, "romeo", secret)
	say(t, romeo, "romeo@localhost", "to myself")
	require.NotEmpty(t, history(t, romeo))
	refused(t, server.Endpoints(), "romeo", other)
	shown := scrape(t, server.Endpoints())
	require.Contains(t, shown, "posthouse_archive_messages_total")
	for _, name := range shown {
		require.Contains(t, table, "| `"+name+"` |", "a node shows a metric that no page names")
	}
}

// scrape returns the names of our metrics that a node shows.
func scrape(t *testing.T, at script.Endpoints) (names []string) {
	t.Helper()
	client := http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + at.Private + "/metrics")
	require.NoError(t, err)
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if words := strings.Fields(lines.Text()); len(words) == 4 && words[1] == "TYPE" &&
			strings.HasPrefix(words[2], "posthouse_") {
			names = append(names, words[2])
		}
	}
	require.NoError(t, lines.Err())
	return names
}
