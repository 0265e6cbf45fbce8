package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/tabwriter"
)

// measured is one line of a file of results.
type measured struct {
	Scenario  string         `json:"scenario"`
	Security  string         `json:"security"`
	Mechanism string         `json:"mechanism"`
	Result    map[string]any `json:"result"`
}

// figure is a row of the comparison: which number of which result it shows.
type figure struct {
	name, scenario, security string
	// loaded takes the measurement at a given rate instead of that at full speed.
	loaded bool
	path   []string
	// mechanism is that of the login; "" for any.
	mechanism string
}

// figures are what peers are compared by.
var figures = []figure{
	{"messages a second", "message", "none", false, []string{"per_second"}, ""},
	{"server CPU a message, µs", "message", "none", false, []string{"server_cpu_us_per_message"}, ""},
	{"given rate, messages a second", "message", "none", true, []string{"per_second"}, ""},
	{"delivery p99 at that rate, ms", "message", "none", true, []string{"delivery", "p99_ms"}, ""},
	{"logins a second", "login", "none", false, []string{"per_second"}, ""},
	{"server CPU a login, ms", "login", "none", false, []string{"server_cpu_ms_per_login"}, ""},
	{"logins a second, STARTTLS", "login", "starttls", false, []string{"per_second"}, ""},
	{"server CPU a login, STARTTLS, ms", "login", "starttls", false, []string{"server_cpu_ms_per_login"}, ""},
	{"logins a second, SCRAM", "login", "none", false, []string{"per_second"}, "SCRAM-SHA-256"},
	{"server CPU a login, SCRAM, ms", "login", "none", false, []string{"server_cpu_ms_per_login"}, "SCRAM-SHA-256"},
	{"wire bytes a message", "message", "none", false, []string{"wire_bytes_per_message", "total"}, ""},
	{"wire bytes to the server", "message", "none", false, []string{"wire_bytes_per_message", "sender_to_server"}, ""},
	{"wire bytes to the recipient", "message", "none", false, []string{"wire_bytes_per_message", "server_to_receiver"},
		""},
	{"wire bytes of a login, up", "login", "none", false, []string{"wire_bytes_to_server_per_login"}, ""},
	{"wire bytes of a login, down", "login", "none", false, []string{"wire_bytes_from_server_per_login"}, ""},
	{"bytes an idle session", "idle", "none", false, []string{"server_bytes_per_session"}, ""},
	{"bytes an idle session, TLS", "idle", "tls", false, []string{"server_bytes_per_session"}, ""},
}

// stamp is what bench/compare.sh puts before the names of files.
var stamp = regexp.MustCompile(`^\d{8}-\d{6}-`)

// compare prints the results of several servers side by side, and the ratio of each to the first. Files are those of
// -out.
func compare(out io.Writer, files []string) error {
	if len(files) == 0 {
		return errors.New("compare: name the files that -out has written")
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	all := make([][]measured, len(files))
	for i, name := range files {
		var err error
		if all[i], err = readMeasured(name); err != nil {
			return err
		}
		fmt.Fprintf(w, "\t%s", stamp.ReplaceAllString(strings.TrimSuffix(filepath.Base(name), ".json"), ""))
		if i > 0 {
			fmt.Fprint(w, "\tratio")
		}
	}
	fmt.Fprintln(w, "\t")
	for _, f := range figures {
		fmt.Fprint(w, f.name)
		first, known := f.in(all[0])
		for i := range all {
			value, ok := f.in(all[i])
			text := "-"
			if ok {
				text = short(value)
			}
			fmt.Fprintf(w, "\t%s", text)
			if i == 0 {
				continue
			}
			ratio := "-"
			if ok && known && first > 0 {
				ratio = short(value / first)
			}
			fmt.Fprintf(w, "\t%s", ratio)
		}
		fmt.Fprintln(w, "\t")
	}
	return w.Flush()
}

func readMeasured(name string) (all []measured, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var m measured
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return nil, fmt.Errorf("compare: %s: %w", name, err)
		}
		all = append(all, m)
	}
	return all, lines.Err()
}

// in returns the number from the last result that fits.
func (f *figure) in(all []measured) (value float64, ok bool) {
	for _, m := range all {
		if _, loaded := m.Result["offered_per_second"]; m.Scenario != f.scenario || m.Security != f.security ||
			loaded != f.loaded || f.mechanism != "" && m.Mechanism != f.mechanism {
			continue
		}
		var at any = m.Result
		for _, step := range f.path {
			object, _ := at.(map[string]any)
			at = object[step]
		}
		if number, is := at.(float64); is {
			value, ok = number, true
		}
	}
	return value, ok
}

// short writes a number with three digits or more.
func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}
