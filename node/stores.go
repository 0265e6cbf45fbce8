package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/pebble"
	"github.com/posthouse-im/posthouse/store/sqlite"
)

// restoring is a file in the data folder while a backup is restored there.
const restoring = "restoring"

// remedy ends every refusal of stores that do not fit.
const remedy = "restore both from one backup (posthouse restore)"

// stores are the database and the message log of a data folder, which belong together.
type stores struct {
	folder   string
	database *sqlite.Store
	log      *pebble.Log // nil when only the database was opened
}

// paths returns where the stores of a data folder are.
func paths(folder string) (database, log string) {
	return filepath.Join(folder, Database), filepath.Join(folder, MessageLog)
}

// openDatabase opens the database of a data folder, and makes it when the folder has neither a database nor a message
// log. The folder must be of that domain.
func openDatabase(ctx context.Context, folder, domain string, o sqlite.Options) (*sqlite.Store, error) {
	path, log := paths(folder)
	logThere, err := pebble.Exists(log)
	if err != nil {
		return nil, fmt.Errorf("look for the message log: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for the database: %w", err)
	}
	if missing := err != nil || info.Size() == 0; missing && logThere {
		return nil, fmt.Errorf(
			"the database %s is missing, and its message log %s is there: put the database back, or %s; "+
				"to begin without accounts and messages, move the message log away", path, log, remedy)
	}
	database, err := sqlite.Open(ctx, path, o)
	if err != nil {
		return nil, err
	}
	if err := checkDomain(ctx, database, folder, domain); err != nil {
		return nil, errors.Join(err, database.Close())
	}
	return database, nil
}

// unfinished refuses a folder in which a restore was begun and has not ended.
func unfinished(folder string) error {
	_, err := os.Stat(filepath.Join(folder, restoring))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for an unfinished restore: %w", err)
	}
	return fmt.Errorf(
		"a restore into the data folder %s is running or was interrupted: what is there is not complete; "+
			"run posthouse restore again, which begins anew", folder)
}

// checkDomain notes the domain of a new database, and refuses another one than that.
func checkDomain(ctx context.Context, database *sqlite.Store, folder, domain string) error {
	st, err := database.State(ctx)
	switch {
	case err != nil:
		return err
	case st.Domain == "":
		return database.SetDomain(ctx, domain)
	case st.Domain != domain:
		return fmt.Errorf(
			"the data folder %s is of the domain %s, and the configuration says %s: set domain to %s (--domain), or "+
				"give the domain %s a data folder of its own (--data). A domain cannot be renamed: its addresses "+
				"stand in contact lists, in stored messages and with the contacts of its people",
			folder, st.Domain, domain, st.Domain, domain)
	}
	return nil
}

// openStores opens both stores of a data folder, and makes them when there are neither. Stores that do not belong
// together, or of which one is older than the other, are refused, and so is what an interrupted restore has left.
func openStores(ctx context.Context, folder, domain string, database sqlite.Options,
	log pebble.Options) (*stores, error) {
	if err := unfinished(folder); err != nil {
		return nil, err
	}
	return openBoth(ctx, folder, domain, database, log)
}

func openBoth(ctx context.Context, folder, domain string, database sqlite.Options,
	log pebble.Options) (s *stores, err error) {
	s = &stores{folder: folder}
	database.Known = func(ctx context.Context, id store.AccountID) (bool, error) {
		if s.log == nil {
			return false, nil
		}
		return s.log.KnowsAccount(ctx, id)
	}
	if s.database, err = openDatabase(ctx, folder, domain, database); err != nil {
		return nil, err
	}
	if err := s.openLog(ctx, log); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *stores) close() error {
	var err error
	if s.log != nil {
		err = s.log.Close()
	}
	return errors.Join(err, s.database.Close())
}

func (s *stores) openLog(ctx context.Context, o pebble.Options) error {
	databasePath, path := paths(s.folder)
	st, err := s.database.State(ctx)
	if err != nil {
		return err
	}
	there, err := pebble.Exists(path)
	if err != nil {
		return fmt.Errorf("look for the message log: %w", err)
	}
	if !there && st.Mark > 0 {
		return fmt.Errorf(
			"the message log %s is missing, and its database %s is there: put the log back, or %s; to begin without "+
				"accounts and messages, move the database away", path, databasePath, remedy)
	}
	// A log that was begun with mark 1 may have got no further than its folder.
	begun := st.Mark == 0 && st.Begun > 0
	o.Existing = there && !begun
	if !there {
		if o.Mark, err = s.database.BeginMark(ctx); err != nil {
			return err
		}
		st.Begun = o.Mark
	}
	o.Identity = st.Identity
	if o.Mark == 0 {
		o.Mark = st.Begun
	}
	if s.log, err = pebble.Open(path, o); err != nil {
		return err
	}
	if s.log.Identity().IsZero() && st.Begun == 0 { // both are of a program that did not note what belongs together
		if err := s.log.SetIdentity(ctx, st.Identity); err != nil {
			return err
		}
		return s.step(ctx)
	}
	if err := s.fit(st); err != nil {
		return err
	}
	if st.Mark == 0 {
		return s.database.EndMark(ctx)
	}
	return nil
}

// fit compares the stores.
func (s *stores) fit(st sqlite.State) error {
	database, log := paths(s.folder)
	mark := s.log.Mark()
	switch {
	case s.log.Identity() != st.Identity:
		return fmt.Errorf("the database %s and the message log %s do not belong together: %s", database, log, remedy)
	case mark < st.Mark:
		return fmt.Errorf(
			"the message log %s is older than the database %s: it was put back from an earlier copy, and "+
				"messages that were acknowledged are missing; put the newer log back, or %s", log, database, remedy)
	case mark > st.Begun:
		return fmt.Errorf(
			"the database %s is older than the message log %s: it was put back from an earlier copy, and "+
				"accounts that have messages may be missing; put the newer database back, or %s", database, log, remedy)
	}
	return nil
}

// step brings the stores into step: from now on neither fits to an older copy of the other.
func (s *stores) step(ctx context.Context) error {
	mark, err := s.database.BeginMark(ctx)
	if err != nil {
		return err
	}
	if err := s.log.SetMark(ctx, mark); err != nil {
		return err
	}
	return s.database.EndMark(ctx)
}

const (
	// stepInterval is how often the node looks whether the stores have changed.
	stepInterval = time.Second
	// quietSteps is after how many looks at least messages alone are a reason to bring the stores into step. A change
	// of accounts is one at once.
	quietSteps = 30
)

// stepper brings the stores into step while they change.
type stepper struct {
	*stores
	change int64
	last   store.MessageID
	looks  int
}

// keepInStep looks until ctx ends, and then once more.
func (a *assembly) keepInStep(ctx context.Context) error {
	s := &stepper{stores: a.stores}
	failing := false
	tick := time.NewTicker(stepInterval)
	defer tick.Stop()
	for {
		done := false
		select {
		case <-ctx.Done():
			done = true
		case <-tick.C:
		}
		err := s.look(context.WithoutCancel(ctx), done)
		if err != nil && !failing {
			a.Log.Warn("cannot note how far database and message log are; it is tried again", "error", err)
		}
		if failing = err != nil; done {
			return nil
		}
	}
}

// look brings the stores into step when there is a reason; last makes every change one.
func (s *stepper) look(ctx context.Context, last bool) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	change, err := s.database.NewestChange(ctx)
	if err != nil {
		return err
	}
	position, err := s.log.Last(ctx)
	if err != nil {
		return err
	}
	s.looks++
	due := change != s.change || position != s.last && (last || s.looks >= quietSteps)
	if !due {
		return nil
	}
	if err := s.step(ctx); err != nil {
		return err
	}
	s.change, s.last, s.looks = change, position, 0
	return nil
}

// stepTimeout bounds one look.
const stepTimeout = 10 * time.Second
