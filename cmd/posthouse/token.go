package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/posthouse-im/posthouse/node"
)

type tokenCommand struct {
	Issue  tokenIssueCommand  `cmd:"" help:"Print an access token for the API, in the name of somebody."`
	Rotate tokenRotateCommand `cmd:"" help:"Make a new key that signs access tokens, now."`
}

type tokenIssueCommand struct {
	User   string `arg:"" help:"The part before the @, or the whole address."`
	Device string `default:"command line" help:"Name of the device that the token belongs to, as the person sees it. The same name is the same device." placeholder:"NAME"`
	JSON   bool   `name:"json" help:"As JSON, with the refresh token and the times."`
}

// Help is shown by posthouse token issue --help.
func (*tokenIssueCommand) Help() string {
	return `The token stands alone on standard output and is good for a quarter of an hour (tokens.lifetime): curl -H "Authorization: Bearer $(posthouse token issue alice)" …
The person sees the device in the list of theirs, and can sign it out; then the token is dead, as it is when the password is changed. It is written to the audit log.`
}

// issuedJSON is what --json shows.
type issuedJSON struct {
	Address        string    `json:"address"`
	Device         string    `json:"device"`
	AccessToken    string    `json:"access_token"`
	Expires        time.Time `json:"expires"`
	RefreshToken   string    `json:"refresh_token"`
	RefreshExpires time.Time `json:"refresh_expires"`
}

// Run issues.
func (c *tokenIssueCommand) Run(ctx context.Context, a *app, s streams) error {
	return a.withAccounts(ctx, s, func(accounts *node.Accounts) error {
		pair, address, err := accounts.IssueToken(ctx, c.User, c.Device)
		if err != nil {
			return err
		}
		if c.JSON {
			shown := issuedJSON{address, pair.Device, pair.Access, pair.Expires, pair.Refresh, pair.RefreshExpires}
			return json.NewEncoder(s.out).Encode(shown) //nolint:gosec // to show the tokens is what the command is for
		}
		_, err = fmt.Fprintln(s.out, pair.Access)
		return err
	})
}

type tokenRotateCommand struct {
	Forget bool `help:"Forget the old keys: every access token that was signed before is dead. Devices renew theirs by themselves."`
}

// Help is shown by posthouse token rotate --help.
func (*tokenRotateCommand) Help() string {
	return `A new key is made every month anyway (tokens.rotate). Do this when the data folder or a backup was in wrong hands, with --forget. What is in there
also lets its holder log in as a device that is remembered, and try passwords; a new password (posthouse user passwd) signs all devices of an account out.`
}

// Run rotates.
func (c *tokenRotateCommand) Run(ctx context.Context, a *app, s streams) error {
	return a.withAccounts(ctx, s, func(accounts *node.Accounts) error {
		if err := accounts.RotateTokens(ctx, c.Forget); err != nil {
			return err
		}
		fmt.Fprintln(s.err, "a new key signs access tokens")
		return nil
	})
}
