package sqlite

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/storetest"
	"github.com/posthouse-im/posthouse/wire/jid"
)

func databases() storetest.Databases {
	return storetest.Databases{Open: func(t testing.TB, folder string, now func() time.Time) storetest.Database {
		t.Helper()
		s, err := Open(t.Context(), filepath.Join(folder, "posthouse.db"), Options{Now: now})
		require.NoError(t, err)
		return s
	}}
}

func TestAccounts(t *testing.T)    { storetest.Accounts(t, databases()) }
func TestRosters(t *testing.T)     { storetest.Rosters(t, databases()) }
func TestSettings(t *testing.T)    { storetest.Settings(t, databases()) }
func TestProfiles(t *testing.T)    { storetest.Profiles(t, databases()) }
func TestPreferences(t *testing.T) { storetest.Preferences(t, databases()) }
func TestDevices(t *testing.T)     { storetest.Devices(t, databases()) }
func TestChanges(t *testing.T)     { storetest.Changes(t, databases()) }

// torn is a store whose change of a roster item is not one: the item is read, and written later whatever it is by then.
// The first time it waits in between until the other handle has read, too.
type torn struct {
	*Store
	meet func()
}

func (s torn) ChangeRosterItem(ctx context.Context, owner store.AccountID, contact jid.JID, limit int,
	change func(*store.RosterItem) error) (store.RosterItem, uint64, error) {
	item, _, err := rosterItem(ctx, s.read, owner, contact)
	if err != nil {
		return item, 0, err
	}
	s.meet()
	if err := change(&item); err != nil {
		return item, 0, err
	}
	return s.Store.ChangeRosterItem(ctx, owner, contact, limit, func(i *store.RosterItem) error {
		*i = item
		return nil
	})
}

// TestTornChangeIsFound: the suite notices a store that loses changes.
func TestTornChangeIsFound(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "posthouse.db"), Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	owner, err := s.CreateAccount(t.Context(), store.Account{Name: "alice"})
	require.NoError(t, err)
	var both sync.WaitGroup
	both.Add(2)
	handle := func() torn {
		return torn{s, sync.OnceFunc(func() {
			both.Done()
			both.Wait()
		})}
	}
	require.ErrorContains(t, storetest.RosterChangers(t.Context(), owner, handle(), handle()), "groups")
}
