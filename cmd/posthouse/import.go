package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/posthouse-im/posthouse/node"
)

// mostRefused is how many refused lines are told one by one.
const mostRefused = 50

type userImportCommand struct {
	File string `arg:"" help:"CSV file, or - for standard input."`
}

// Help is shown by posthouse user import --help.
func (*userImportCommand) Help() string {
	return `The first line names the columns: name,password or name,password,disabled (true or false). Names that exist are left as they are, so that
the command can be run again. Lines that are wrong are told by their number, the others are imported, and the exit code is 1.`
}

// Run imports.
func (c *userImportCommand) Run(ctx context.Context, a *app, s streams) error {
	return a.withAccounts(ctx, s, func(accounts *node.Accounts) error {
		var file io.Reader = s.in
		if c.File != "-" {
			f, err := os.Open(c.File)
			if err != nil {
				return fmt.Errorf("import: %w", err)
			}
			defer f.Close()
			warnLoose(s, c.File)
			file = f
		}
		p := newProgress(s, "accounts")
		result, err := accounts.Import(ctx, file, p.show)
		p.end()
		for i, line := range result.Refused {
			if i == mostRefused {
				fmt.Fprintf(s.err, "… and %d more\n", len(result.Refused)-mostRefused)
				break
			}
			fmt.Fprintf(s.err, "line %d: %v\n", line.Line, line.Err)
		}
		if err != nil {
			return fmt.Errorf("import %s: %w", c.File, err)
		}
		fmt.Fprintf(s.out, "%d added, %d there before, %d refused\n", result.Created, result.Existing,
			len(result.Refused))
		if len(result.Refused) > 0 {
			return errReported
		}
		return nil
	})
}

// progress shows how far something is, once it has taken more than a second: on one line of a terminal, or else a line
// every ten seconds.
type progress struct {
	out         io.Writer
	what        string // is counted
	live, shown bool
	began, last time.Time
	now         func() time.Time
}

func (p *progress) show(done, all int) {
	now := p.now()
	every := 200 * time.Millisecond
	if !p.live {
		every = 10 * time.Second
	}
	if now.Sub(p.began) < time.Second || now.Sub(p.last) < every {
		return
	}
	p.last = now
	if p.live {
		p.shown = true
		fmt.Fprintf(p.out, "\r%d of %d %s", done, all, p.what)
		return
	}
	fmt.Fprintf(p.out, "%d of %d %s\n", done, all, p.what)
}

func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
