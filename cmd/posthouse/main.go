// Command posthouse contains a whole node and the tools to run it. It defines subcommands and flags only; the work is
// done in package node.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/posthouse-im/posthouse/node"
	"github.com/posthouse-im/posthouse/node/settings"
)

// Exit codes. Scripts rely on them.
const (
	exitFailed = 1 // the command was understood, and failed
	exitUsage  = 2 // the command line was not understood
)

// app is the command line.
type app struct {
	Config string   `help:"YAML file with settings. Without it, defaults: a node on loopback ports for the domain localhost." type:"path" placeholder:"FILE" env:"POSTHOUSE_CONFIG"`
	Data   string   `help:"Data folder; default: data. Same as --set data=DIR." placeholder:"DIR"`
	Domain string   `help:"Domain of the node. Same as --set domain=DOMAIN." placeholder:"DOMAIN"`
	Set    []string `help:"Override one setting, such as --set log.level=debug. Can be repeated." placeholder:"PATH=VALUE" sep:"none"`

	Serve   serveCommand   `cmd:"" help:"Run the node until Ctrl-C or SIGTERM."`
	User    userCommand    `cmd:"" help:"Add, list, change and remove people. Works beside a running node."`
	Token   tokenCommand   `cmd:"" help:"Issue tokens for the API. Works beside a running node."`
	Key     keyCommand     `cmd:"" help:"Add, list and revoke the keys of other systems. Works beside a running node."`
	Audit   auditCommand   `cmd:"" help:"Show and verify the log of what was administered."`
	Backup  backupCommand  `cmd:"" help:"Copy accounts and messages into a folder. Works beside a running node."`
	Restore restoreCommand `cmd:"" help:"Copy a backup into an empty data folder."`
	Cfg     configCommand  `cmd:"" name:"config" help:"Check and show the configuration."`
	Version versionCommand `cmd:"" help:"Show the version."`
	Help    helpCommand    `cmd:"" help:"Show help, also for one command: posthouse help user add."`
}

// streams are what a command reads and writes.
type streams struct {
	in       *os.File
	out, err io.Writer
	environ  []string
	// program is how the user called us.
	program string
}

func main() {
	os.Exit(run(context.Background(), os.Args,
		streams{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ(), program: os.Args[0]}))
}

// run is main without the process around it. It returns the exit code.
func run(ctx context.Context, args []string, s streams) int {
	var a app
	parser := newParser(&a, s)
	if len(args) < 2 {
		args = append(args, "help")
	}
	exited := -1
	parser.Exit = func(code int) { exited = code } // --help
	parsed, err := parser.Parse(args[1:])
	if exited >= 0 {
		return exited
	}
	if err != nil {
		fmt.Fprintf(s.err, "posthouse: %v\n", err)
		fmt.Fprintf(s.err, "See: posthouse help%s\n", commandOf(err))
		return exitUsage
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	if err := parsed.Run(&a, s, parser); err != nil {
		if !errors.Is(err, errReported) {
			fmt.Fprintf(s.err, "posthouse: %v\n", err)
		}
		return exitFailed
	}
	return 0
}

// errReported is for a failure that the user has been told of.
var errReported = errors.New("reported")

func newParser(a *app, s streams) *kong.Kong {
	return kong.Must(a,
		kong.Name("posthouse"),
		kong.Description("An XMPP server that an organisation runs on its own machines.\n\n"+
			"Settings come from a file, from environment variables (POSTHOUSE_DATA, POSTHOUSE_LISTEN_XMPP_ADDRESS, "+
			"…) and from flags; "+
			"flags win over the environment, the environment over the file. Every setting is described in "+
			"docs/configuration.md."),
		kong.Writers(s.out, s.err),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, WrapUpperBound: 100}),
	)
}

// commandOf returns the command that a parse error was about, with a space before it.
func commandOf(err error) string {
	var p *kong.ParseError
	if !errors.As(err, &p) || p.Context == nil || p.Context.Command() == "" {
		return ""
	}
	words := strings.Fields(p.Context.Command())
	for i, w := range words {
		if strings.HasPrefix(w, "<") {
			words = words[:i]
			break
		}
	}
	return " " + strings.Join(words, " ")
}

// load reads the configuration, or reports what is wrong with it.
func (a *app) load(s streams) (node.Config, *settings.Loaded, error) {
	flags, err := a.assignments()
	if err != nil {
		return node.Config{}, nil, err
	}
	config, loaded, problems := node.LoadConfig(a.Config, s.environ, flags)
	if len(problems) > 0 {
		fmt.Fprintf(s.err, "posthouse: the configuration is not right:\n%s\n", problems.Error())
		return config, loaded, errReported
	}
	return config, loaded, nil
}

func (a *app) assignments() ([]settings.Assignment, error) {
	var flags []settings.Assignment
	for _, text := range a.Set {
		flag, err := settings.ParseAssignment(text)
		if err != nil {
			return nil, err
		}
		flags = append(flags, flag)
	}
	if a.Data != "" {
		flags = append(flags, settings.Assignment{Flag: "--data", Path: "data", Value: a.Data})
	}
	if a.Domain != "" {
		flags = append(flags, settings.Assignment{Flag: "--domain", Path: "domain", Value: a.Domain})
	}
	return flags, nil
}

// command returns how to call the program for the same node, for hints: from another terminal, which has other
// variables.
func (a *app) command(s streams, config node.Config, loaded *settings.Loaded) string {
	words := []string{s.program}
	if a.Config != "" {
		words = append(words, "--config", quote(a.Config))
	}
	for _, flag := range []struct{ path, value string }{{"data", config.Data}, {"domain", config.Domain}} {
		if kind := loaded.Origin(flag.path).Kind; kind == "environment" || kind == "flag" {
			words = append(words, "--"+flag.path, quote(flag.value))
		}
	}
	return strings.Join(words, " ")
}

// quote makes a word safe to paste into a shell.
func quote(word string) string {
	if strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

type helpCommand struct {
	Command []string `arg:"" optional:"" help:"Command to explain."`
}

// Run shows the help of a command.
func (c *helpCommand) Run(s streams, parser *kong.Kong) error {
	var fresh app
	again := newParser(&fresh, s)
	again.Exit = func(int) {}
	trace, err := kong.Trace(again, c.Command)
	if err != nil {
		return err
	}
	if trace.Error != nil && len(c.Command) > 0 && trace.Selected() == nil {
		return fmt.Errorf("there is no command %q", strings.Join(c.Command, " "))
	}
	return trace.PrintUsage(false)
}
