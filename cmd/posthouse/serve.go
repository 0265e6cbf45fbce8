package main

import (
	"context"
	"io"
	"os"

	"github.com/posthouse-im/posthouse/node"
)

type serveCommand struct {
	Quiet bool `help:"Do not print where the node listens and how to begin; the log says it too."`
}

// Help is shown by posthouse serve --help.
func (*serveCommand) Help() string {
	return `Without a configuration it serves the domain localhost on loopback ports: XMPP on 5222 (STARTTLS) and 5223 (direct TLS),
compact streams on 5225, WebSocket on 5280, health and metrics on 5290; it keeps its data in the folder data, and makes itself a certificate.

SIGTERM or Ctrl-C ends it in order: what was accepted is finished and clients are told, within shutdown.timeout; a second one hurries. SIGHUP
reads the certificate files again.`
}

// Run runs a node.
func (c *serveCommand) Run(ctx context.Context, a *app, s streams) error {
	config, loaded, err := a.load(s)
	if err != nil {
		return err
	}
	var banner io.Writer
	if !c.Quiet {
		banner = s.out
	}
	return node.Run(ctx, node.Options{
		Config: config, Version: version(), Log: s.err, Banner: banner,
		Command: a.command(s, config, loaded), Language: language(os.Getenv),
		Assemble: node.Assemble,
	})
}

// language returns the user's language as the C library would choose it.
func language(getenv func(string) string) string {
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if v := getenv(name); v != "" {
			return v
		}
	}
	return ""
}
