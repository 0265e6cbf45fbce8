package auth_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/sqlite"
)

// overtaken is a store in which something happens right after a device was stored.
type overtaken struct {
	*sqlite.Store
	then func(ctx context.Context)
}

func (o *overtaken) PutDevice(ctx context.Context, d store.Device, max int) error {
	err := o.Store.PutDevice(ctx, d, max)
	o.then(ctx)
	return err
}

// TestLogIn: a device is made at its first login and known at the next; one that was overtaken by a change of the
// account, or by being signed out, is not kept.
func TestLogIn(t *testing.T) {
	ctx := t.Context()
	db, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "posthouse.db"), sqlite.Options{Relaxed: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	o := &overtaken{Store: db, then: func(context.Context) {}}
	a, err := auth.New(db, auth.Config{Iterations: iterations,
		Tokens: auth.TokenConfig{Devices: o, Changes: db, Key: make([]byte, 32)}})
	require.NoError(t, err)
	made, err := a.Create(ctx, "juliet", password)
	require.NoError(t, err)
	login := func(name, password string, d store.Device) (store.Device, error) {
		account, kept, err := a.LogIn(ctx, proxied(), name, password, d)
		if err == nil {
			require.Equal(t, made.ID, account.ID)
			require.Equal(t, made.ID, kept.Account)
		}
		return kept, err
	}
	phone, err := login("juliet@example.com", password, store.Device{Name: "Phone", Software: "1"})
	require.NoError(t, err)
	require.NotEmpty(t, phone.ID)
	_, err = login("Juliet", password, store.Device{ID: phone.ID, Software: "2"})
	require.NoError(t, err)
	kept, err := db.Device(ctx, made.ID, phone.ID)
	require.NoError(t, err)
	require.Equal(t, "Phone 2", kept.Name+" "+kept.Software)
	require.False(t, kept.Created.IsZero())

	var failure *auth.Failure
	for _, name := range []string{"juliet@example.org", "romeo"} {
		_, err = login(name, password, store.Device{})
		require.ErrorAs(t, err, &failure, name)
	}
	_, err = login("juliet", "another password", store.Device{})
	require.ErrorAs(t, err, &failure)

	for name, change := range map[string]func(ctx context.Context) error{
		"disabled":   func(ctx context.Context) error { return db.SetDisabled(ctx, "juliet", false) },
		"signed out": func(ctx context.Context) error { return db.RemoveDevice(ctx, made.ID, "laptop") },
	} {
		o.then = func(ctx context.Context) { require.NoError(t, change(ctx)) }
		_, err = login("juliet", password, store.Device{ID: "laptop"})
		require.ErrorAs(t, err, &failure, name)
		_, err = db.Device(ctx, made.ID, "laptop")
		require.ErrorIs(t, err, store.ErrNotFound, name)
		o.then = func(context.Context) {}
		_, err = login("juliet", password, store.Device{ID: "laptop"})
		require.NoError(t, err, "this one began after it")
		require.NoError(t, db.RemoveDevice(ctx, made.ID, "laptop"))
	}
	o.then = func(ctx context.Context) { require.NoError(t, db.RemoveDevice(ctx, made.ID, phone.ID)) }
	_, err = login("juliet", password, store.Device{ID: "laptop"})
	require.NoError(t, err, "another device was signed out")
}
