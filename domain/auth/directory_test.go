package auth_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/store"
)

func newDirectory(t *testing.T, config auth.DirectoryConfig, names ...string) (*auth.Directory, *memory, *clock) {
	t.Helper()
	m, c := newMemory(), newClock()
	for _, name := range names {
		_, err := m.CreateAccount(context.Background(),
			store.Account{Name: name, Credentials: credentialsOf(t, password)})
		require.NoError(t, err)
	}
	return auth.NewDirectory(m, config, c.Now), m, c
}

func TestDirectoryLookup(t *testing.T) {
	d, m, clock := newDirectory(t, auth.DirectoryConfig{}, "juliet")
	for range 10 {
		id, ok, err := d.Lookup(context.Background(), "juliet")
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, store.AccountID(1), id)
		a, err := d.Account(context.Background(), "juliet")
		require.NoError(t, err)
		require.Len(t, a.Credentials, 2)
		_, ok, err = d.Lookup(context.Background(), "romeo")
		require.NoError(t, err)
		require.False(t, ok)
		_, err = d.Account(context.Background(), "romeo")
		require.ErrorIs(t, err, store.ErrNotFound)
	}
	require.EqualValues(t, 2, m.reads.Load(), "one read for each name")
	_, ok, err := d.Lookup(context.Background(), "")
	require.NoError(t, err)
	require.False(t, ok)
	require.EqualValues(t, 2, m.reads.Load())

	clock.Advance(2 * time.Second)
	_, _, _ = d.Lookup(context.Background(), "juliet")
	require.EqualValues(t, 2, m.reads.Load())
	_, _, _ = d.Lookup(context.Background(), "romeo")
	require.EqualValues(t, 3, m.reads.Load(), "unknown names are asked for again soon")
	clock.Advance(30 * time.Second)
	_, _, _ = d.Lookup(context.Background(), "juliet")
	require.EqualValues(t, 4, m.reads.Load())
}

func TestDirectoryInvalidate(t *testing.T) {
	d, m, _ := newDirectory(t, auth.DirectoryConfig{}, "juliet")
	_, ok, _ := d.Lookup(context.Background(), "juliet")
	require.True(t, ok)
	_, ok, _ = d.Lookup(context.Background(), "romeo")
	require.False(t, ok)
	require.NoError(t, m.DeleteAccount(context.Background(), "juliet"))
	_, err := m.CreateAccount(context.Background(), store.Account{Name: "romeo"})
	require.NoError(t, err)
	_, ok, _ = d.Lookup(context.Background(), "juliet")
	require.True(t, ok, "it cannot know yet")
	d.Invalidate("juliet")
	d.Invalidate("romeo")
	_, ok, _ = d.Lookup(context.Background(), "juliet")
	require.False(t, ok)
	id, ok, _ := d.Lookup(context.Background(), "romeo")
	require.True(t, ok)
	require.Equal(t, store.AccountID(2), id)
	require.NoError(t, m.DeleteAccount(context.Background(), "romeo"))
	d.InvalidateAll()
	_, ok, _ = d.Lookup(context.Background(), "romeo")
	require.False(t, ok)
}

// An answer that was read before a change and comes after it must not stay.
func TestDirectoryInvalidateOvertakesRead(t *testing.T) {
	for name, invalidate := range map[string]func(*auth.Directory){
		"one": func(d *auth.Directory) { d.Invalidate("juliet") },
		"all": func(d *auth.Directory) { d.InvalidateAll() },
	} {
		d, m, _ := newDirectory(t, auth.DirectoryConfig{}, "juliet")
		hasRead, goOn := make(chan struct{}), make(chan struct{})
		m.hold = func() {
			hasRead <- struct{}{}
			<-goOn
		}
		done := make(chan bool)
		go func() {
			_, ok, _ := d.Lookup(context.Background(), "juliet")
			done <- ok
		}()
		<-hasRead
		require.NoError(t, m.DeleteAccount(context.Background(), "juliet"))
		invalidate(d)
		close(goOn)
		require.True(t, <-done, "the reader began before the change")
		m.hold = nil
		_, ok, err := d.Lookup(context.Background(), "juliet")
		require.NoError(t, err)
		require.False(t, ok, name)
		_, err = d.Account(context.Background(), "juliet")
		require.ErrorIs(t, err, store.ErrNotFound, name)
	}
}

func TestDirectoryErrorsAreNotRemembered(t *testing.T) {
	d, m, _ := newDirectory(t, auth.DirectoryConfig{}, "juliet")
	m.fail(errors.New("disk on fire"))
	_, _, err := d.Lookup(context.Background(), "juliet")
	require.ErrorContains(t, err, "disk on fire")
	_, err = d.Account(context.Background(), "juliet")
	require.ErrorContains(t, err, "disk on fire")
	m.fail(nil)
	_, ok, err := d.Lookup(context.Background(), "juliet")
	require.NoError(t, err)
	require.True(t, ok)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	d.InvalidateAll()
	_, _, err = d.Lookup(ctx, "juliet")
	require.ErrorIs(t, err, context.Canceled)
}

func TestDirectoryIsBounded(t *testing.T) {
	m := newMemory()
	for i := range 2000 {
		_, err := m.CreateAccount(context.Background(), store.Account{Name: fmt.Sprintf("user%d", i)})
		require.NoError(t, err)
	}
	d := auth.NewDirectory(m, auth.DirectoryConfig{Accounts: 640, Records: 128, Unknown: 128}, newClock().Now)
	for i := range 2000 {
		_, ok, err := d.Lookup(context.Background(), fmt.Sprintf("user%d", i))
		require.NoError(t, err)
		require.True(t, ok)
		_, ok, err = d.Lookup(context.Background(), fmt.Sprintf("nobody%d", i))
		require.NoError(t, err)
		require.False(t, ok)
	}
	known, unknown, records := auth.DirectorySizes(d)
	require.LessOrEqual(t, known, 640)
	require.LessOrEqual(t, unknown, 128)
	require.LessOrEqual(t, records, 128)
	require.Greater(t, known, 300)

	// Those in use stay while many others come by.
	hot := []string{"user1", "user2", "user3"}
	again := int64(0) // reads of names in use
	for i := range 5000 {
		before := m.reads.Load()
		for _, name := range hot {
			_, _, _ = d.Lookup(context.Background(), name)
		}
		again += m.reads.Load() - before
		_, _, _ = d.Lookup(context.Background(), fmt.Sprintf("user%d", 10+i%1900))
	}
	require.LessOrEqual(t, again, int64(12), "chance alone would give some 25")
}

func TestDirectoryConcurrently(t *testing.T) {
	d, m, _ := newDirectory(t, auth.DirectoryConfig{Accounts: 64, Records: 64, Unknown: 64}, "juliet")
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				name := fmt.Sprintf("user%d", i%100)
				switch i % 10 {
				case w % 10:
					_, _ = m.CreateAccount(context.Background(), store.Account{Name: name})
					d.Invalidate(name)
				case 9:
					d.InvalidateAll()
				default:
					_, _, err := d.Lookup(context.Background(), name)
					require.NoError(t, err)
				}
			}
		})
	}
	wg.Wait()
	for i := range 100 { // in the end it says what the store says
		name := fmt.Sprintf("user%d", i)
		_, err := m.Account(context.Background(), name)
		_, ok, lookupErr := d.Lookup(context.Background(), name)
		require.NoError(t, lookupErr)
		require.Equal(t, err == nil, ok, name)
	}
}

// A warm login reads nothing.
func TestWarmLoginReadsNothing(t *testing.T) {
	s := newServer(t)
	_, f := s.plain(proxied(), "", "juliet", password)
	require.Nil(t, f)
	reads := s.accounts.reads.Load()
	_, f = s.plain(proxied(), "", "juliet", password)
	require.Nil(t, f)
	_, f = s.scram(t, plainChannel(), auth.ScramSHA256, newSCRAMClient(auth.ScramSHA256))
	require.Nil(t, f)
	require.Equal(t, reads, s.accounts.reads.Load())
}

// Credentials are not held for ever because somebody has logged in once.
func TestCredentialsAreNotHeldForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quickServer(t, func(c *auth.Config) { c.Now = nil })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		require.Nil(t, s.from("192.0.2.1", "juliet", password))
		known, _, records := auth.DirectorySizes(s.Directory())
		require.Equal(t, []int{1, 1}, []int{known, records})
		<-time.After(2 * time.Minute)
		synctest.Wait()
		known, _, records = auth.DirectorySizes(s.Directory())
		require.Equal(t, []int{0, 0}, []int{known, records})
		cancel()
		require.NoError(t, <-done)
	})
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := quickServer(t, func(c *auth.Config) { c.Registerer = registry })
	require.Nil(t, s.from("192.0.2.1", "juliet", password))
	for range 6 {
		require.NotNil(t, s.from("192.0.2.2", "nobody", wrong))
	}
	values := make(map[string]float64)
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				key += "/" + l.GetValue()
			}
			values[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	require.EqualValues(t, 1, values["posthouse_auth_logins_total/PLAIN"])
	require.EqualValues(t, 5, values["posthouse_auth_login_failures_total/unknown-account"])
	require.EqualValues(t, 1, values["posthouse_auth_login_failures_total/throttled"])
	require.EqualValues(t, 1, values["posthouse_auth_throttled_total"])
	require.EqualValues(t, 1, values["posthouse_auth_account_changes_total/created"])
	require.Contains(t, values, "posthouse_auth_connections_open")
	_, err = auth.New(newMemory(), auth.Config{Registerer: registry})
	require.ErrorContains(t, err, "registering metrics")
}
