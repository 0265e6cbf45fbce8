package main

import (
	"context"
	"fmt"
	"time"

	"github.com/posthouse-im/posthouse/node"
	"github.com/posthouse-im/posthouse/node/terminal"
)

type backupCommand struct {
	Folder string `arg:"" help:"Folder of the backup, which is made." type:"path"`
}

// Help is shown by posthouse backup --help.
func (*backupCommand) Help() string {
	return `Copies the accounts and the messages as they are at one moment, in a running node or a stopped one. All that was acknowledged before the
command began is in the backup. It holds the database, with the keys and secrets in it, the message log, the development certificate with its key,
and a manifest with checksums; only its owner can read it. The configuration file, and the certificate and key that it names, are not in it.
The folder has its name only when the backup is complete. It is written to the audit log.`
}

// Run backs up.
func (c *backupCommand) Run(ctx context.Context, a *app, s streams) error {
	config, _, err := a.load(s)
	if err != nil {
		return err
	}
	p := newProgress(s, "MiB copied")
	done, err := node.Backup(ctx, config, version(), c.Folder, p.bytes)
	p.end()
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	fmt.Fprintf(s.err, "backed up %s to %s: %d files, %d bytes\n", config.Data, done.Folder, done.Files, done.Bytes)
	if a.Config != "" {
		fmt.Fprintf(s.err, "not in it: %s\n", a.Config)
	}
	for _, file := range []string{config.TLS.Certificate, config.TLS.Key} {
		if file != "" {
			fmt.Fprintf(s.err, "not in it: %s\n", file)
		}
	}
	return nil
}

type restoreCommand struct {
	Folder string `arg:"" help:"Folder that posthouse backup has made." type:"path"`
}

// Help is shown by posthouse restore --help.
func (*restoreCommand) Help() string {
	return `Copies a backup into the data folder, which must be empty, and checks each file. Clients may know more than the backup has: their sync
cursors and roster versions are not accepted any more, and they start over. When it is interrupted, run it again; a node does not start on half a
backup. It is written to the audit log.`
}

// Run restores.
func (c *restoreCommand) Run(ctx context.Context, a *app, s streams) error {
	config, _, err := a.load(s)
	if err != nil {
		return err
	}
	p := newProgress(s, "MiB copied")
	done, err := node.Restore(ctx, config, c.Folder, p.bytes)
	p.end()
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	fmt.Fprintf(s.err, "restored the backup of %s to %s: %d files, %d bytes\n", done.Created.Format(time.RFC3339),
		done.Folder, done.Files, done.Bytes)
	return nil
}

// newProgress returns what shows how far something is.
func newProgress(s streams, what string) *progress {
	return &progress{out: s.err, what: what, live: terminal.Is(s.err), began: time.Now(), now: time.Now}
}

// bytes is show for bytes.
func (p *progress) bytes(done, all int64) { p.show(int(done>>20), int(all>>20)) }
