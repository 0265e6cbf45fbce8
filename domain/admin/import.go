package admin

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// importBatch is how many accounts are stored in one transaction.
const importBatch = 512

// ImportLine is one line of a file of accounts that was not imported.
type ImportLine struct {
	// Line counts from 1, the header included.
	Line int
	Err  error
}

// Imported is what became of a file of accounts.
type Imported struct {
	// Created and Existing count lines: those made, and those whose name was there before, which are left as they are.
	Created, Existing int
	// Refused are the other lines.
	Refused []ImportLine
}

// importedAccount is one line of the file.
type importedAccount struct {
	line           int
	name, password string
	disabled       bool
	account        store.Account // ready to store
	exists         bool
	err            error
}

// Import makes an account for every line of a CSV file with the columns name, password and, if wanted, disabled (true
// or false), in any order, named by its first line. Names that exist are left alone, so that it can be run again. A
// line that is wrong is refused, and the others are imported; an error means that the file as a whole cannot be read,
// or that the store failed. progress is called now and then with the lines done and the lines there are.
func (o *Operator) Import(ctx context.Context, file io.Reader, progress func(done, all int)) (Imported, error) {
	accounts, err := readAccounts(file)
	if err != nil {
		return Imported{}, err
	}
	if err := o.record(ctx, "account.import", "", map[string]any{"lines": len(accounts)}); err != nil {
		return Imported{}, err
	}
	o.refuseRepeated(accounts)
	var result Imported
	for done := 0; done < len(accounts); {
		batch := accounts[done:min(done+importBatch, len(accounts))]
		if err := o.prepare(ctx, batch, func(n int) { progress(done+n, len(accounts)) }); err != nil {
			return result, err
		}
		if err := o.store(ctx, batch, &result); err != nil {
			return result, err
		}
		done += len(batch)
		progress(done, len(accounts))
	}
	return result, nil
}

// readAccounts reads the whole file, so that a mistake in its form is told before anything is changed.
func readAccounts(file io.Reader) ([]importedAccount, error) {
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("read the file: %w", err)
	}
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff")))) // spreadsheets begin with it
	header, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("line 1: it must name the columns: name,password or name,password,disabled: %w", err)
	}
	columns := map[string]int{"name": -1, "password": -1, "disabled": -1}
	for i, title := range header {
		title = strings.ToLower(strings.TrimSpace(title))
		if at, known := columns[title]; !known || at >= 0 {
			return nil, fmt.Errorf("line 1: %q is not a column: use name,password or name,password,disabled", title)
		}
		columns[title] = i
	}
	if columns["name"] < 0 || columns["password"] < 0 {
		return nil, errors.New("line 1: it must name the columns: name,password or name,password,disabled")
	}
	var accounts []importedAccount
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return accounts, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the file: %w", err) // names the line
		}
		line, _ := r.FieldPos(0)
		one := importedAccount{line: line, name: strings.TrimSpace(record[columns["name"]]),
			password: record[columns["password"]]}
		if at := columns["disabled"]; at >= 0 {
			switch strings.ToLower(strings.TrimSpace(record[at])) {
			case "true":
				one.disabled = true
			case "false", "":
			default:
				one.err = fmt.Errorf("disabled is %q: use true or false", record[at])
			}
		}
		accounts = append(accounts, one)
	}
}

// refuseRepeated refuses a name that an earlier line has.
func (o *Operator) refuseRepeated(accounts []importedAccount) {
	first := make(map[string]int, len(accounts))
	for i := range accounts {
		one := &accounts[i]
		name, err := o.name(one.name)
		if err != nil {
			one.err = err
			continue
		}
		one.name = name
		if line, ok := first[name]; ok {
			one.err = fmt.Errorf("%s stands on line %d already", name, line)
			continue
		}
		first[name] = one.line
	}
}

// prepare derives the keys, which is slow by design, on all processors.
func (o *Operator) prepare(ctx context.Context, batch []importedAccount, progress func(done int)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		group sync.WaitGroup
		mu    sync.Mutex // guards next and done
		next  int
		done  int
	)
	take := func() *importedAccount {
		mu.Lock()
		defer mu.Unlock()
		if next == len(batch) || ctx.Err() != nil {
			return nil
		}
		next++
		return &batch[next-1]
	}
	for range min(runtime.GOMAXPROCS(0), len(batch)) {
		group.Go(func() {
			for one := take(); one != nil; one = take() {
				if err := o.prepareOne(ctx, one); err != nil {
					cancel(err)
					return
				}
				mu.Lock()
				done++
				progress(done)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}

// prepareOne makes an account ready to be stored, or says why not. The error is a failure of the store.
func (o *Operator) prepareOne(ctx context.Context, one *importedAccount) error {
	if one.err != nil {
		return nil
	}
	prepared, err := jid.PrepareLocal(one.name)
	if err != nil {
		one.err = auth.RefusedNameMalformed
		return nil
	}
	switch _, err := o.Database.Account(ctx, prepared); {
	case err == nil:
		one.exists = true
		return nil
	case !errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("look up %s: %w", prepared, err)
	}
	one.account, one.err = o.Auth.NewAccount(ctx, one.name, one.password)
	one.account.Disabled = one.disabled
	return nil
}

// store writes a batch in one transaction and counts.
func (o *Operator) store(ctx context.Context, batch []importedAccount, result *Imported) error {
	var accounts []store.Account
	for _, one := range batch {
		if one.err == nil && !one.exists {
			accounts = append(accounts, one.account)
		}
	}
	ids, err := o.Database.CreateAccounts(ctx, accounts)
	if err != nil {
		return fmt.Errorf("store accounts: %w", err)
	}
	for _, one := range batch {
		switch {
		case one.err != nil:
			result.Refused = append(result.Refused, ImportLine{Line: one.line, Err: one.err})
		case one.exists:
			result.Existing++
		case ids[0] == 0: // another spelling of a name above, or made meanwhile
			result.Existing++
			ids = ids[1:]
		default:
			result.Created++
			ids = ids[1:]
		}
	}
	return nil
}
