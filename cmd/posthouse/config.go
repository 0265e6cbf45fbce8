package main

import (
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/posthouse-im/posthouse/node"
	"github.com/posthouse-im/posthouse/node/settings"
)

type configCommand struct {
	Check configCheckCommand `cmd:"" help:"Check a configuration and tell everything that is wrong with it."`
	Show  configShowCommand  `cmd:"" help:"Show every setting, its value and where the value comes from."`
}

type configCheckCommand struct {
	File string `arg:"" optional:"" type:"path" help:"YAML file; default: that of --config."`
}

// Help is shown by posthouse config check --help.
func (*configCheckCommand) Help() string {
	return "Reads the file, the environment and the flags as serve would, and starts nothing. The exit code is 0 " +
		"when serve would take them, 1 otherwise."
}

// Run checks.
func (c *configCheckCommand) Run(a *app, s streams) error {
	if c.File != "" {
		a.Config = c.File
	}
	config, _, err := a.load(s)
	if err != nil {
		return err
	}
	if config.TLS.Certificate != "" {
		if err := node.CheckCertificate(config.TLS, config.Domain); err != nil {
			return err
		}
	}
	what := a.Config
	if what == "" {
		what = "defaults, environment and flags"
	}
	fmt.Fprintf(s.out, "%s: the configuration is right\n", what)
	return nil
}

type configShowCommand struct {
	JSON    bool `help:"As JSON, for programs." name:"json"`
	Changed bool `help:"Only what differs from the default."`
}

// Help is shown by posthouse config show --help.
func (*configShowCommand) Help() string {
	return "Secrets are not shown. What each setting means is in docs/configuration.md."
}

// shown is one setting in JSON.
type shown struct {
	Path     string `json:"path"`
	Value    string `json:"value"`
	Default  string `json:"default"`
	From     string `json:"from"`
	Variable string `json:"variable"`
}

// Run shows.
func (c *configShowCommand) Run(a *app, s streams) error {
	_, loaded, err := a.load(s)
	if err != nil {
		return err
	}
	list := []shown{}
	for _, setting := range loaded.Settings() {
		if c.Changed && setting.Origin.Kind == "default" {
			continue
		}
		list = append(list, shown{setting.Path, setting.Value, setting.Default, setting.Origin.String(),
			setting.Variable})
	}
	if c.JSON {
		e := json.NewEncoder(s.out)
		e.SetIndent("", "  ")
		return e.Encode(list)
	}
	w := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "SETTING\tVALUE\tFROM\tVARIABLE")
	for _, l := range list {
		value := l.Value
		if value == "" {
			value = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", l.Path, value, l.From, l.Variable)
	}
	return w.Flush()
}

// warnLoose tells the user that a file with passwords is open to others.
func warnLoose(s streams, path string) {
	info, err := os.Stat(path)
	if err != nil {
		return
	}
	if loose := settings.Loose(info); loose != "" {
		fmt.Fprintf(s.err, "posthouse: warning: %s holds passwords and %s: chmod 600 %[1]s\n", path, loose)
	}
}
