package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/posthouse-im/posthouse/node"
)

type auditCommand struct {
	List   auditListCommand   `cmd:"" help:"Show what was administered, newest first."`
	Verify auditVerifyCommand `cmd:"" help:"Check that no entry of the audit log was changed or removed."`
}

type auditListCommand struct {
	Limit  int    `default:"50" help:"How many entries at most."`
	Before uint64 `help:"Only entries with lower numbers than this." placeholder:"NUMBER"`
	JSON   bool   `name:"json" help:"As JSON, one entry a line, with its hash."`
}

// entryJSON is an entry in JSON.
type entryJSON struct {
	Number uint64          `json:"number"`
	At     time.Time       `json:"at"`
	Actor  string          `json:"actor"`
	Action string          `json:"action"`
	Target string          `json:"target,omitempty"`
	Detail json.RawMessage `json:"detail,omitempty"`
	Remote string          `json:"remote,omitempty"`
	Hash   string          `json:"hash"`
}

// Run lists.
func (c *auditListCommand) Run(ctx context.Context, a *app, s streams) error {
	if c.Limit < 1 || c.Limit > 100_000 {
		return errors.New("--limit is from 1 to 100000")
	}
	return a.withAccounts(ctx, s, func(accounts *node.Accounts) error {
		entries, err := accounts.Audit(ctx, c.Before, c.Limit)
		if err != nil {
			return err
		}
		if c.JSON {
			out := json.NewEncoder(s.out)
			for _, e := range entries {
				one := entryJSON{e.Number, e.At, e.Actor, e.Action, e.Target, json.RawMessage(e.Detail), e.Remote,
					hex.EncodeToString(e.Hash)}
				if len(one.Detail) > 0 && !json.Valid(one.Detail) {
					one.Detail, _ = json.Marshal(e.Detail)
				}
				if err := out.Encode(one); err != nil {
					return err
				}
			}
			return nil
		}
		w := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "NUMBER\tAT\tACTOR\tACTION\tTARGET\tDETAIL\tREMOTE")
		for _, e := range entries {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Number, moment(e.At), printable(e.Actor),
				printable(e.Action), printable(e.Target),
				printable(e.Detail), printable(e.Remote))
		}
		return w.Flush()
	})
}

type auditVerifyCommand struct {
	Known known `help:"Number and hash of an entry, as an earlier verify has printed them and you have kept them elsewhere." placeholder:"NUMBER:HASH"`
}

// known is an entry that somebody remembers.
type known struct {
	number uint64
	hash   string
}

// UnmarshalText reads it.
func (k *known) UnmarshalText(text []byte) error {
	number, hash, ok := strings.Cut(string(text), ":")
	n, err := strconv.ParseUint(number, 10, 64)
	if raw, bad := hex.DecodeString(hash); !ok || err != nil || n == 0 || bad != nil || len(raw) != 32 {
		return errors.New("write a number, a colon, and 64 hexadecimal digits")
	}
	k.number, k.hash = n, hash
	return nil
}

// Help is shown by posthouse audit verify --help.
func (*auditVerifyCommand) Help() string {
	return `Each entry has a hash over itself and the one before. Somebody who may write to the data folder can still make a whole new chain, or cut off its end;
to notice that, keep what this prints somewhere else, and give it back with --known. The exit code is 1 when something does not fit.`
}

// Run verifies.
func (c *auditVerifyCommand) Run(ctx context.Context, a *app, s streams) error {
	return a.withAccounts(ctx, s, func(accounts *node.Accounts) error {
		last, err := accounts.VerifyAudit(ctx, c.Known.number, c.Known.hash)
		if err != nil {
			return err
		}
		if last.Number == 0 {
			_, err = fmt.Fprintln(s.out, "the audit log is empty")
			return err
		}
		_, err = fmt.Fprintf(s.out, "%d entries in order, the last of %s\n%d:%s\n", last.Number, moment(last.At),
			last.Number, hex.EncodeToString(last.Hash))
		return err
	})
}
