package sqlite

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store/storetest"
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
