package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/posthouse-im/posthouse/node"
	"github.com/posthouse-im/posthouse/node/terminal"
	"github.com/posthouse-im/posthouse/store"
)

type userCommand struct {
	Add     userAddCommand     `cmd:"" help:"Make an account; asks for its password."`
	Passwd  userPasswdCommand  `cmd:"" help:"Change a password; whoever is logged in with the old one is logged out."`
	List    userListCommand    `cmd:"" help:"List accounts."`
	Del     userDelCommand     `cmd:"" help:"Remove accounts for good."`
	Disable userDisableCommand `cmd:"" help:"Keep somebody from logging in; their data stays."`
	Enable  userEnableCommand  `cmd:"" help:"Let somebody log in again."`
	Import  userImportCommand  `cmd:"" help:"Make many accounts from a CSV file."`
}

// withPeople opens the accounts for one command.
func (a *app) withPeople(ctx context.Context, s streams, use func(*node.People) error) error {
	config, _, err := a.load(s)
	if err != nil {
		return err
	}
	people, err := node.OpenPeople(ctx, config)
	if err != nil {
		return err
	}
	if people.Made {
		fmt.Fprintf(s.err, "posthouse: there were no accounts in %s yet; made a new store there\n", people.Folder)
	}
	err = use(people)
	if closeErr := people.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("close the accounts: %w", closeErr)
	}
	return err
}

type userAddCommand struct {
	Name string `arg:"" help:"The part before the @, or the whole address."`
	passwordFlags
}

// Run adds.
func (c *userAddCommand) Run(ctx context.Context, a *app, s streams) error {
	return a.withPeople(ctx, s, func(people *node.People) error {
		password, err := c.read(s)
		if err != nil {
			return err
		}
		address, err := people.Add(ctx, c.Name, password)
		if err != nil {
			return fmt.Errorf("%w%s", err, advice(err))
		}
		fmt.Fprintf(s.err, "added %s\n", address)
		c.show(s, password)
		return nil
	})
}

type userPasswdCommand struct {
	Name string `arg:"" help:"Whose password."`
	passwordFlags
}

// Run changes the password.
func (c *userPasswdCommand) Run(ctx context.Context, a *app, s streams) error {
	return a.withPeople(ctx, s, func(people *node.People) error {
		password, err := c.read(s)
		if err != nil {
			return err
		}
		if err := people.SetPassword(ctx, c.Name, password); err != nil {
			return fmt.Errorf("%w%s", err, advice(err))
		}
		fmt.Fprintf(s.err, "changed the password of %s\n", c.Name)
		c.show(s, password)
		return nil
	})
}

type userListCommand struct {
	JSON bool `name:"json" help:"As JSON, one account a line."`
}

// Run lists.
func (c *userListCommand) Run(ctx context.Context, a *app, s streams) error {
	return a.withPeople(ctx, s, func(people *node.People) error {
		if c.JSON {
			e := json.NewEncoder(s.out)
			return people.List(ctx, func(account store.Account) error {
				return e.Encode(map[string]any{
					"address": account.Name + "@" + people.Domain, "created": account.Created.UTC().Format(time.RFC3339), "disabled": account.Disabled,
				})
			})
		}
		w := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "ADDRESS\tCREATED\tSTATE")
		err := people.List(ctx, func(account store.Account) error {
			state := "enabled"
			if account.Disabled {
				state = "disabled"
			}
			_, err := fmt.Fprintf(w, "%s@%s\t%s\t%s\n", account.Name, people.Domain, account.Created.UTC().Format("2006-01-02 15:04:05Z"), state)
			return err
		})
		if err != nil {
			return err
		}
		return w.Flush()
	})
}

type userDelCommand struct {
	Names []string `arg:"" name:"name" help:"Accounts to remove."`
	Yes   bool     `short:"y" help:"Do not ask."`
}

// Help is shown by posthouse user del --help.
func (*userDelCommand) Help() string {
	return "Removes the account with its contacts and preferences. Its name stays taken for a year, so that nobody gets messages that were meant for another. " +
		"At a terminal it asks first. To lock somebody out for a while, use: posthouse user disable."
}

// Run removes.
func (c *userDelCommand) Run(ctx context.Context, a *app, s streams) error {
	if !c.Yes && terminal.Is(s.in) {
		fmt.Fprintf(s.err, "Remove %s for good? [y/N] ", strings.Join(c.Names, ", "))
		answer, _ := bufio.NewReader(s.in).ReadString('\n')
		if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
			return fmt.Errorf("nothing was removed")
		}
	}
	return a.eachPerson(ctx, s, c.Names, "removed", (*node.People).Delete)
}

type userDisableCommand struct {
	Names []string `arg:"" name:"name" help:"Accounts to disable."`
}

// Run disables.
func (c *userDisableCommand) Run(ctx context.Context, a *app, s streams) error {
	return a.eachPerson(ctx, s, c.Names, "disabled", func(p *node.People, ctx context.Context, name string) error {
		return p.SetDisabled(ctx, name, true)
	})
}

type userEnableCommand struct {
	Names []string `arg:"" name:"name" help:"Accounts to enable."`
}

// Run enables.
func (c *userEnableCommand) Run(ctx context.Context, a *app, s streams) error {
	return a.eachPerson(ctx, s, c.Names, "enabled", func(p *node.People, ctx context.Context, name string) error {
		return p.SetDisabled(ctx, name, false)
	})
}

// eachPerson does one thing to several accounts, and goes on after a failure.
func (a *app) eachPerson(ctx context.Context, s streams, names []string, done string, do func(*node.People, context.Context, string) error) error {
	return a.withPeople(ctx, s, func(people *node.People) error {
		failed := false
		for _, name := range names {
			if err := do(people, ctx, name); err != nil {
				fmt.Fprintf(s.err, "posthouse: %v\n", err)
				failed = true
				continue
			}
			fmt.Fprintf(s.err, "%s %s\n", done, name)
		}
		if failed {
			return errReported
		}
		return nil
	})
}
