// Command posthouse-bench measures an XMPP server from outside: idle sessions, logins and one-to-one messages.
//
// It speaks plain XMPP (RFC 6120, SASL SCRAM or PLAIN, XEP-0198) and registers its users in band (XEP-0077), so it can
// measure any XMPP server. It can also use compact frames (docs/protocol/compact.md). It reads the server's CPU time
// and memory from /proc, for which it needs the process ids. It owns its connections and workers; all of them end with
// the scenario that started them.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the command line's settings.
type options struct {
	address, domain, transport     string
	security, mechanism            string
	prefix, password, resource     string
	pids                           string
	users, sessions, pairs, window int
	workers, size                  int
	rate                           float64
	duration, warmup, settle       time.Duration
	register, originID, json       bool
	receiverSM, ack                bool
	file                           string    // results as JSON are appended to it, "" for none
	out                            io.Writer // results
	progress                       io.Writer // the progress line
}

// scenarios in the order in which "all" runs them.
var scenarios = []struct {
	name, help string
	run        func(context.Context, *options) (any, error)
}{
	{"register", "make the users in band (XEP-0077); those that exist are left alone", runRegister},
	{"login", "whole logins per second: connect, negotiate, bind, initial presence, close", runLogin},
	{"idle", "hold sessions open and divide the server's growth in memory by their number", runIdle},
	{"message", "one-to-one messages: closed loop at full speed, or -rate messages per second", runMessage},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "posthouse-bench:", err)
			os.Exit(1)
		}
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	o := &options{out: out, progress: progress}
	set := flags(o, progress)
	if err := set.Parse(args); err != nil {
		return err
	}
	names := set.Args()
	if len(names) == 0 {
		set.Usage()
		return errors.New("name at least one scenario")
	}
	if err := o.check(); err != nil {
		return err
	}
	if names[0] == "compare" {
		return compare(out, names[1:])
	}
	if len(names) == 1 && names[0] == "all" {
		names = nil
		for _, s := range scenarios {
			names = append(names, s.name)
		}
	}
	for _, name := range names {
		i := slices.IndexFunc(scenarios, func(s struct {
			name, help string
			run        func(context.Context, *options) (any, error)
		}) bool {
			return s.name == name
		})
		if i < 0 {
			return fmt.Errorf("there is no scenario %q", name)
		}
		result, err := scenarios[i].run(ctx, o)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := o.report(name, result); err != nil {
			return fmt.Errorf("writing the result: %w", err)
		}
	}
	return nil
}

func flags(o *options, errOut io.Writer) *flag.FlagSet {
	set := flag.NewFlagSet("posthouse-bench", flag.ContinueOnError)
	set.SetOutput(errOut)
	set.StringVar(&o.address, "address", "",
		"server `host:port` (default 127.0.0.1:5222, and 127.0.0.1:5225 for compact)")
	set.StringVar(&o.domain, "domain", "localhost", "XMPP domain")
	set.StringVar(&o.transport, "transport", "xml", "what to speak: `xml` or compact (docs/protocol/compact.md)")
	set.StringVar(&o.security, "security", "none", "`none`, starttls or tls (direct TLS; certificates are not checked)")
	set.StringVar(&o.mechanism, "mechanism", "",
		"SASL mechanism: SCRAM-SHA-256 (default with xml), SCRAM-SHA-1 or PLAIN;\nwith compact, token (default: as a "+
			"returning device does) or SCRAM-SHA-256")
	set.StringVar(&o.prefix, "prefix", "bench", "user names are this and a number")
	set.StringVar(&o.password, "password", "correct-horse-bench", "password of every user")
	set.StringVar(&o.resource, "resource", "b", "resource to bind")
	set.StringVar(&o.pids, "pid", "", "process ids of the server, with commas; their children are counted too")
	set.IntVar(&o.users, "users", 400, "number of users for register and login")
	set.IntVar(&o.sessions, "sessions", 5000, "idle: number of sessions (users needed: as many)")
	set.IntVar(&o.pairs, "pairs", 200, "message: number of pairs (users needed: twice as many)")
	set.IntVar(&o.window, "window", 16, "message: unacknowledged messages a sender may have")
	set.IntVar(&o.workers, "workers", 32, "logins at a time")
	set.IntVar(&o.size, "size", 60, "message: characters of the body")
	set.Float64Var(&o.rate, "rate", 0, "message: messages per second in all; 0 is as fast as acknowledgements come")
	set.DurationVar(&o.duration, "duration", 20*time.Second, "how long to measure")
	set.DurationVar(&o.warmup, "warmup", 3*time.Second, "how long to run before measuring")
	set.DurationVar(&o.settle, "settle", 5*time.Second, "idle: how long to wait before memory is read")
	set.BoolVar(&o.register, "register", false, "register missing users before any scenario")
	set.BoolVar(&o.originID, "origin-id", false, "message: send an origin-id (XEP-0359) with each message")
	set.BoolVar(&o.ack, "ack", true,
		"message: enable stream management (XEP-0198) and count a message when it is acknowledged")
	set.BoolVar(&o.receiverSM, "receiver-ack", false,
		"message: receivers enable stream management too and answer its requests")
	set.BoolVar(&o.json, "json", false, "print results as JSON, one object a line")
	set.StringVar(&o.file, "out", "", "also append results as JSON, one object a line, to this `file`")
	set.Usage = func() {
		fmt.Fprintf(errOut, "Usage: posthouse-bench [flags] SCENARIO…\n\nScenarios:\n")
		for _, s := range scenarios {
			fmt.Fprintf(errOut, "  %-9s %s\n", s.name, s.help)
		}
		fmt.Fprintf(
			errOut,
			"  %-9s all of them\n  %-9s no scenario: show the figures in the files named after it (see -out) side by "+
				"side\n\nFlags:\n", "all", "compare")
		set.PrintDefaults()
	}
	return set
}

func (o *options) check() error {
	mechanisms := []string{"SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"}
	address := "127.0.0.1:5222"
	switch o.transport {
	case "xml":
	case "compact":
		mechanisms = []string{tokenMechanism, "SCRAM-SHA-256"}
		address = "127.0.0.1:5225"
	default:
		return fmt.Errorf("-transport %q is not known; use xml or compact", o.transport)
	}
	o.mechanism, o.address = cmp.Or(o.mechanism, mechanisms[0]), cmp.Or(o.address, address)
	if !slices.Contains([]string{"none", "starttls", "tls"}, o.security) {
		return fmt.Errorf("-security %q is not known; use none, starttls or tls", o.security)
	}
	if o.security == "starttls" && o.transport == "compact" {
		return errors.New("the compact transport has no STARTTLS; use -security tls or none")
	}
	if !slices.Contains(mechanisms, o.mechanism) {
		return fmt.Errorf("-mechanism %q is not known with -transport %s; use %s", o.mechanism, o.transport,
			strings.Join(mechanisms, ", "))
	}
	for name, n := range map[string]int{"users": o.users, "sessions": o.sessions, "pairs": o.pairs, "window": o.window,
		"workers": o.workers, "size": o.size} {
		if n < 1 {
			return fmt.Errorf("-%s must be at least 1", name)
		}
	}
	return nil
}

// report prints one scenario's result.
func (o *options) report(name string, result any) error {
	line, err := json.Marshal(map[string]any{
		"scenario": name, "transport": o.transport, "security": o.security, "mechanism": o.mechanism,
		"address": o.address, "result": result,
	})
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if o.file != "" {
		if err := appendTo(o.file, line); err != nil {
			return err
		}
	}
	if o.json {
		_, err = o.out.Write(line)
		return err
	}
	text, err := json.MarshalIndent(result, "  ", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(o.out, "%s (%s, %s)\n  %s\n", name, o.transport, o.security, humanize(string(text)))
	return err
}

func appendTo(name string, line []byte) error {
	file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(line)
	return errors.Join(err, file.Close())
}

// humanize turns an indented JSON object into aligned lines without its punctuation.
func humanize(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.NewReplacer(`"`, "", ",\n", "\n", " {\n", "\n", "{\n", "").Replace(line)
		if strings.Trim(line, " {}\n") == "" {
			continue
		}
		b.WriteString(line)
	}
	return strings.TrimSpace(b.String())
}

// user returns the name of the i-th user.
func (o *options) user(i int) string { return fmt.Sprintf("%s%d", o.prefix, i) }

// progressf rewrites the progress line.
func (o *options) progressf(format string, args ...any) {
	fmt.Fprintf(o.progress, "\r\033[K"+format, args...)
}

// clearProgress ends the progress line.
func (o *options) clearProgress() { fmt.Fprint(o.progress, "\r\033[K") }
