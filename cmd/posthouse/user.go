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
	Admin   userAdminCommand   `cmd:"" help:"Let somebody administer the domain by the API, or no longer."`
	Import  userImportCommand  `cmd:"" help:"Make many accounts from a CSV file."`
}

// withAccounts opens the accounts for one command.
func (a *app) withAccounts(ctx context.Context, s streams, use func(*node.Accounts) error) error {
	config, _, err := a.load(s)
	if err != nil {
		return err
	}
	accounts, err := node.OpenAccounts(ctx, config)
	if err != nil {
		return err
	}
	if accounts.Made {
		fmt.Fprintf(s.err, "posthouse: there were no accounts in %s yet; made a new store there\n", accounts.Folder)
	}
	err = use(accounts)
	if closeErr := accounts.Close(); err == nil && closeErr != nil {
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
	return a.withAccounts(ctx, s, func(accounts *node.Accounts) error {
		password, err := c.read(s)
		if err != nil {
			return err
		}
		address, err := accounts.Add(ctx, c.Name, password)
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
	return a.withAccounts(ctx, s, func(accounts *node.Accounts) error {
		password, err := c.read(s)
		if err != nil {
			return err
		}
		if err := accounts.SetPassword(ctx, c.Name, password); err != nil {
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
	return a.withAccounts(ctx, s, func(accounts *node.Accounts) error {
		if c.JSON {
			e := json.NewEncoder(s.out)
			return accounts.List(ctx, func(account store.Account) error {
				return e.Encode(map[string]any{
					"address": account.Name + "@" + accounts.Domain,
					"created": account.Created.UTC().Format(time.RFC3339), "disabled": account.Disabled,
					"admin": account.Admin,
				})
			})
		}
		w := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "ADDRESS\tCREATED\tSTATE")
		err := accounts.List(ctx, func(account store.Account) error {
			state := "enabled"
			if account.Disabled {
				state = "disabled"
			}
			if account.Admin {
				state += ", administrator"
			}
			_, err := fmt.Fprintf(w, "%s@%s\t%s\t%s\n", account.Name, accounts.Domain,
				account.Created.UTC().Format("2006-01-02 15:04:05Z"), state)
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
	return "Removes the account with its contacts and preferences. Its name stays taken for a year, so that nobody " +
		"gets messages that were meant for another. " +
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
	return a.forEach(ctx, s, c.Names, "removed", (*node.Accounts).Delete)
}

type userDisableCommand struct {
	Names []string `arg:"" name:"name" help:"Accounts to disable."`
}

// Run disables.
func (c *userDisableCommand) Run(ctx context.Context, a *app, s streams) error {
	return a.forEach(ctx, s, c.Names, "disabled", func(p *node.Accounts, ctx context.Context, name string) error {
		return p.SetDisabled(ctx, name, true)
	})
}

type userEnableCommand struct {
	Names []string `arg:"" name:"name" help:"Accounts to enable."`
}

// Run enables.
func (c *userEnableCommand) Run(ctx context.Context, a *app, s streams) error {
	return a.forEach(ctx, s, c.Names, "enabled", func(p *node.Accounts, ctx context.Context, name string) error {
		return p.SetDisabled(ctx, name, false)
	})
}

type userAdminCommand struct {
	Name  string `arg:"" help:"Whose account."`
	State string `arg:"" enum:"on,off" help:"on or off."`
}

// Help is shown by posthouse user admin --help.
func (*userAdminCommand) Help() string {
	return "Administrators manage accounts, sessions and the keys of other systems by the API, with their own " +
		"tokens. A node that runs follows within two seconds. The account must be there: nobody becomes an " +
		"administrator by registering a name."
}

// Run changes who is an administrator.
func (c *userAdminCommand) Run(ctx context.Context, a *app, s streams) error {
	done := "no longer an administrator:"
	if c.State == "on" {
		done = "an administrator now:"
	}
	set := func(p *node.Accounts, ctx context.Context, name string) error {
		return p.SetAdmin(ctx, name, c.State == "on")
	}
	return a.forEach(ctx, s, []string{c.Name}, done, set)
}

// forEach does one thing to each of several accounts or keys, and goes on after a failure.
func (a *app) forEach(ctx context.Context, s streams, names []string, done string,
	do func(*node.Accounts, context.Context, string) error) error {
	return a.withAccounts(ctx, s, func(accounts *node.Accounts) error {
		failed := false
		for _, name := range names {
			if err := do(accounts, ctx, name); err != nil {
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
