package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/posthouse-im/posthouse/node"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
)

type keyCommand struct {
	Add    keyAddCommand    `cmd:"" help:"Make a service key, with which another system uses the API; prints it once."`
	List   keyListCommand   `cmd:"" help:"List service keys."`
	Revoke keyRevokeCommand `cmd:"" help:"Revoke service keys; they are refused within seconds."`
}

// life is how long something is good: a duration as Go writes it, whole days such as 90d, or never.
type life time.Duration

// UnmarshalText reads it.
func (l *life) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "never" {
		*l = 0
		return nil
	}
	var d time.Duration
	var err error
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		if n, err = strconv.Atoi(days); n > 36500 {
			err = strconv.ErrRange
		}
		d = time.Duration(n) * 24 * time.Hour
	} else {
		d, err = time.ParseDuration(s)
	}
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is not a duration: write 90d, 12h, or never", s)
	}
	*l = life(d)
	return nil
}

type keyAddCommand struct {
	Name    string        `arg:"" help:"Name of the other system, for people: 1 to 64 bytes."`
	Scope   []token.Scope `required:"" enum:"message.send,message.send_as,directory.read,token.introspect,admin" help:"What it may do: ${enum}. Can be repeated."`
	Expires life          `default:"365d" help:"For how long it is good, such as 90d or 12h, or never."`
	JSON    bool          `name:"json" help:"As JSON."`
}

// Help is shown by posthouse key add --help.
func (*keyAddCommand) Help() string {
	return `message.send sends as the system, message.send_as on behalf of anybody, directory.read reads names and who is online,
token.introspect asks whether a token is good, admin administers. Only a hash of the key is stored. It is written to the audit log.`
}

// keyJSON is a key in JSON. Times that never were are left out.
type keyJSON struct {
	Key     string     `json:"key,omitempty"`
	ID      string     `json:"id"`
	Name    string     `json:"name"`
	Scopes  []string   `json:"scopes"`
	State   string     `json:"state"`
	Created time.Time  `json:"created"`
	Expires *time.Time `json:"expires,omitempty"`
	Used    *time.Time `json:"used,omitempty"`
	Revoked *time.Time `json:"revoked,omitempty"`
}

func describeKey(secret string, k store.ServiceKey, now time.Time) keyJSON {
	at := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC().Truncate(time.Second)
		return &t
	}
	return keyJSON{
		Key: secret, ID: k.ID, Name: k.Name, Scopes: k.Scopes, State: stateOf(k, now), Created: *at(k.Created),
		Expires: at(k.Expires), Used: at(k.Used), Revoked: at(k.Revoked),
	}
}

func stateOf(k store.ServiceKey, now time.Time) string {
	switch {
	case !k.Revoked.IsZero():
		return "revoked"
	case !k.Expires.IsZero() && !now.Before(k.Expires):
		return "expired"
	}
	return "good"
}

// Run adds.
func (c *keyAddCommand) Run(ctx context.Context, a *app, s streams) error {
	return a.withAccounts(ctx, s, func(accounts *node.Accounts) error {
		now := time.Now()
		var expires time.Time
		if c.Expires > 0 {
			expires = now.Add(time.Duration(c.Expires))
		}
		secret, key, err := accounts.AddKey(ctx, c.Name, c.Scope, expires)
		if err != nil {
			return err
		}
		if c.JSON {
			return json.NewEncoder(s.out).Encode(describeKey(secret, key, now))
		}
		fmt.Fprintf(s.err, "added the key %s; it is not kept anywhere and not shown again:\n", key.ID)
		_, err = fmt.Fprintln(s.out, secret)
		return err
	})
}

type keyListCommand struct {
	JSON bool `name:"json" help:"As JSON, one key a line."`
}

// Run lists.
func (c *keyListCommand) Run(ctx context.Context, a *app, s streams) error {
	return a.withAccounts(ctx, s, func(accounts *node.Accounts) error {
		keys, err := accounts.Keys(ctx)
		if err != nil {
			return err
		}
		now := time.Now()
		if c.JSON {
			e := json.NewEncoder(s.out)
			for _, k := range keys {
				if err := e.Encode(describeKey("", k, now)); err != nil {
					return err
				}
			}
			return nil
		}
		w := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "NAME\tID\tSCOPES\tCREATED\tEXPIRES\tUSED\tSTATE")
		for _, k := range keys {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", printable(k.Name), k.ID, strings.Join(k.Scopes, ","),
				moment(k.Created), moment(k.Expires), moment(k.Used), stateOf(k, now))
		}
		return w.Flush()
	})
}

// moment shows a time; one that never was, or will be, as never.
func moment(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// printable makes a text safe for a terminal and a table.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

type keyRevokeCommand struct {
	Keys []string `arg:"" name:"key" help:"IDs or names of keys."`
}

// Run revokes each, and goes on after a failure.
func (c *keyRevokeCommand) Run(ctx context.Context, a *app, s streams) error {
	return a.forEach(ctx, s, c.Keys, "revoked", func(p *node.Accounts, ctx context.Context, name string) error {
		_, err := p.RevokeKey(ctx, name)
		return err
	})
}
