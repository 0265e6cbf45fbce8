package node

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/public/api"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/sqlite"
)

// TestLoginOvertaken: a login that began before the password was changed, or before its device was signed out, leaves no device.
func TestLoginOvertaken(t *testing.T) {
	ctx := t.Context()
	db, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "posthouse.db"), sqlite.Options{Relaxed: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	authenticator, err := auth.New(db, auth.Config{Tokens: auth.TokenConfig{Devices: db, Key: make([]byte, 32)}})
	require.NoError(t, err)
	a := &assembly{database: db, auth: authenticator}
	id, err := db.CreateAccount(ctx, store.Account{Name: "romeo"})
	require.NoError(t, err)
	put := func(device string) {
		require.NoError(t, a.auth.Devices().PutDevice(ctx, store.Device{Account: id, ID: device}, 10))
	}
	newest := func() int64 {
		number, err := db.NewestChange(ctx)
		require.NoError(t, err)
		return number
	}
	put("phone")
	require.NoError(t, a.confirmDevice(ctx, id, "phone", newest()))
	for _, change := range []func() error{
		func() error { return db.SetCredentials(ctx, "romeo", nil) },
		func() error { return db.RemoveDevice(ctx, id, "phone") },
	} {
		began := newest()
		put("phone")
		require.NoError(t, change())
		put("phone")
		require.ErrorIs(t, a.confirmDevice(ctx, id, "phone", began), api.ErrLogin)
		_, err = db.Device(ctx, id, "phone")
		require.ErrorIs(t, err, store.ErrNotFound)
		began = newest()
		put("phone")
		require.NoError(t, a.confirmDevice(ctx, id, "phone", began), "this one began after it")
	}
	began := newest()
	require.NoError(t, db.RemoveDevice(ctx, id, "phone"))
	put("laptop")
	require.NoError(t, a.confirmDevice(ctx, id, "laptop", began), "another device was signed out")
}
