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

// overtaken is a store in which something happens right before a device is made or changed.
type overtaken struct {
	*sqlite.Store
	beforePut, beforeChange func(ctx context.Context)
}

func (o *overtaken) PutDevice(ctx context.Context, d store.Device, basis store.Basis, max int) error {
	if o.beforePut != nil {
		o.beforePut(ctx)
	}
	return o.Store.PutDevice(ctx, d, basis, max)
}

func (o *overtaken) ChangeDevice(ctx context.Context, owner store.AccountID, id string, basis store.Basis,
	change func(*store.Device) error) error {
	if o.beforeChange != nil {
		o.beforeChange(ctx)
	}
	return o.Store.ChangeDevice(ctx, owner, id, basis, change)
}

// TestLogIn: a device is made at its first login and known at the next; one that was overtaken by a change of the
// account, or by being signed out, is not kept.
func TestLogIn(t *testing.T) {
	ctx := t.Context()
	db, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "posthouse.db"), sqlite.Options{Relaxed: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	o := &overtaken{Store: db}
	a, err := auth.New(db, auth.Config{Iterations: iterations,
		Changes: db, Tokens: auth.TokenConfig{Devices: o, Key: make([]byte, 32)}})
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
		laptop := store.Device{Account: made.ID, ID: "laptop"}
		for _, when := range []*func(context.Context){&o.beforePut, &o.beforeChange} {
			put := func(name string) {
				laptop.Name = name
				require.NoError(t, db.PutDevice(ctx, laptop, store.AnyBasis, 10))
			}
			*when = func(ctx context.Context) {
				*when = nil
				put("of the one before")
				require.NoError(t, change(ctx))
				put("of the next login")
			}
			_, err = login("juliet", password, store.Device{ID: "laptop", Name: "of the one that came too late"})
			require.ErrorAs(t, err, &failure, name)
			kept, err := db.Device(ctx, made.ID, "laptop")
			require.NoError(t, err, name)
			require.Equal(t, "of the next login", kept.Name, name)
			_, err = login("juliet", password, store.Device{ID: "laptop"})
			require.NoError(t, err, "this one began after it")
			require.NoError(t, db.RemoveDevice(ctx, made.ID, "laptop"))
		}
	}
	o.beforePut = func(ctx context.Context) { require.NoError(t, db.RemoveDevice(ctx, made.ID, phone.ID)) }
	_, err = login("juliet", password, store.Device{ID: "laptop"})
	require.NoError(t, err, "another device was signed out")
}
