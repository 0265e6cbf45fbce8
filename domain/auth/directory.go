package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/cache"
	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/scram"
)

// DirectoryConfig bounds what is remembered of accounts. The zero value works.
type DirectoryConfig struct {
	// Accounts is how many names with their account ids are held, some 80 bytes each.
	Accounts int `yaml:"accounts" default:"200000" min:"1"`
	// Records is how many whole accounts with their credentials are held, some 500 bytes each: those that log in. They
	// are not held for long after TTL.
	Records int `yaml:"records" default:"20000" min:"1"`
	// Unknown is how many names without an account are held.
	Unknown int `yaml:"unknown" default:"20000" min:"1"`
	// TTL is how long an answer is good when another process may change accounts behind this one's back.
	// Changes that go through this process are seen at once.
	TTL time.Duration `yaml:"ttl" default:"30s" min:"0s"`
	// UnknownTTL is the same for names without an account, shorter because a new user is waiting.
	UnknownTTL time.Duration `yaml:"unknown_ttl" default:"2s" min:"0s"`
}

// storeTimeout bounds every call of the store that has no deadline of its own.
const storeTimeout = 10 * time.Second

// Directory answers from memory whether a name has an account. It is asked for every message.
// Any goroutine may call it.
type Directory struct {
	accounts store.AccountReader
	config   DirectoryConfig

	known   *cache.Cache[string, store.AccountID]
	unknown *cache.Cache[string, struct{}]
	records *cache.Cache[string, *store.Account]
}

// NewDirectory returns an empty directory over a store. now may be nil.
func NewDirectory(accounts store.AccountReader, config DirectoryConfig, now func() time.Time) *Directory {
	defaults.Fill(&config)
	return &Directory{
		accounts: accounts,
		config:   config,
		known:    cache.New(cache.Config[string, store.AccountID]{Limit: config.Accounts, Now: now}),
		unknown:  cache.New(cache.Config[string, struct{}]{Limit: config.Unknown, Now: now}),
		records:  cache.New(cache.Config[string, *store.Account]{Limit: config.Records, Now: now}),
	}
}

// Lookup returns the identity of the account with that prepared localpart, and whether there is one. A disabled account
// is one: it goes on receiving. An error means that the store could not tell.
func (d *Directory) Lookup(ctx context.Context, name string) (store.AccountID, bool, error) {
	if id, ok := d.known.Get(name); ok {
		return id, true, nil
	}
	if _, ok := d.unknown.Get(name); ok || name == "" {
		return 0, false, nil
	}
	a, err := d.load(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	return a.ID, true, nil
}

// Account returns the whole account, or store.ErrNotFound. The credentials are shared: they must not be changed.
func (d *Directory) Account(ctx context.Context, name string) (store.Account, error) {
	if a, ok := d.records.Get(name); ok {
		return *a, nil
	}
	if _, ok := d.unknown.Get(name); ok || name == "" {
		return store.Account{}, store.ErrNotFound
	}
	a, err := d.load(ctx, name)
	if err != nil {
		return store.Account{}, err
	}
	return *a, nil
}

// load asks the store, once for all who ask at the same time, and remembers the answer unless Invalidate was called
// meanwhile.
func (d *Directory) load(ctx context.Context, name string) (*store.Account, error) {
	name = strings.Clone(name) // it may be a part of what somebody sent
	return d.records.Load(ctx, name, func(ctx context.Context) (*store.Account, time.Duration, error) {
		known, unknown := d.known.Begin(name), d.unknown.Begin(name)
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		a, err := d.accounts.Account(ctx, name)
		switch {
		case errors.Is(err, store.ErrNotFound):
			d.unknown.Put(unknown, name, struct{}{}, d.config.UnknownTTL)
			return nil, 0, store.ErrNotFound
		case err != nil:
			return nil, 0, fmt.Errorf("reading an account: %w", err)
		}
		compact(&a, name)
		d.known.Put(known, name, a.ID, d.config.TTL)
		return &a, d.config.TTL, nil
	})
}

// compact puts all that a record refers to into one piece of memory: there is one for each account that was heard of.
func compact(a *store.Account, name string) {
	a.Name = name
	size := 0
	for i := range a.Credentials {
		c := &a.Credentials[i]
		size += len(c.Salt) + len(c.StoredKey) + len(c.ServerKey)
	}
	all := make([]byte, 0, size)
	keep := func(b []byte) []byte {
		all = append(all, b...)
		return all[len(all)-len(b) : len(all) : len(all)]
	}
	credentials := make([]store.Credential, len(a.Credentials))
	for i, c := range a.Credentials {
		switch c.Hash {
		case scram.SHA256.Name:
			c.Hash = scram.SHA256.Name
		case scram.SHA1.Name:
			c.Hash = scram.SHA1.Name
		}
		c.Salt, c.StoredKey, c.ServerKey = keep(c.Salt), keep(c.StoredKey), keep(c.ServerKey)
		credentials[i] = c
	}
	a.Credentials = credentials
}

// Invalidate forgets what is known of a name. It is called after every change of the account; answers that were on
// their way from the store then are not remembered.
func (d *Directory) Invalidate(name string) {
	d.known.Invalidate(name)
	d.unknown.Invalidate(name)
	d.records.Invalidate(name)
}

// InvalidateAll forgets everything, after changes of many accounts.
func (d *Directory) InvalidateAll() {
	d.known.Clear()
	d.unknown.Clear()
	d.records.Clear()
}

// sweep gives back the memory of what is too old to be answered.
func (d *Directory) sweep() {
	d.known.Sweep()
	d.unknown.Sweep()
	d.records.Sweep()
}

// monotonic returns a clock that counts from now on. now may be nil.
func monotonic(now func() time.Time) func() time.Duration {
	if now == nil {
		start := time.Now()
		return func() time.Duration { return time.Since(start) }
	}
	start := now()
	return func() time.Duration { return now().Sub(start) }
}
