package token

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/posthouse-im/posthouse/cache"
	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// Accounts finds an account by its prepared name, or returns store.ErrNotFound. What it answers must be fresh: it is
// asked whether somebody still may do what a token says.
type Accounts interface {
	Account(ctx context.Context, name string) (store.Account, error)
}

// Config makes a Service.
type Config struct {
	// Lifetime is how long an access token is valid. It is also how long another system that verifies tokens by the
	// published keys alone accepts one whose device was signed out.
	Lifetime time.Duration `yaml:"lifetime" default:"15m" min:"1m" max:"24h"`
	// RefreshLifetime is how long after its last use a refresh token expires.
	RefreshLifetime time.Duration `yaml:"refresh_lifetime" default:"720h" min:"1h"`
	// Rotate is the age at which the signing key is replaced by a new one.
	Rotate time.Duration `yaml:"rotate" default:"720h" min:"1h"`

	// Domain issues the tokens and is whom they are for.
	Domain jid.JID `yaml:"-"`
	// Secret proves which refresh tokens were made here, and what came after each; 32 bytes that are kept with the
	// data.
	Secret   []byte            `yaml:"-"`
	Keys     store.SigningKeys `yaml:"-"`
	Services store.ServiceKeys `yaml:"-"`
	Devices  store.Devices     `yaml:"-"`
	Accounts Accounts          `yaml:"-"`
	// Ended, when not nil, is called after a device was signed out because a refresh token of it was used that it had
	// replaced long ago: its sessions are to be ended.
	Ended func(ctx context.Context, account store.AccountID, device string) `yaml:"-"`

	// Metrics takes the metrics; nil leaves them unregistered.
	Metrics prometheus.Registerer `yaml:"-"`
	// Log takes the audit events; nil discards them.
	Log *slog.Logger `yaml:"-" default:"discard"`
	// Now is the clock; nil means time.Now.
	Now func() time.Time `yaml:"-" default:"now"`
	// Random makes keys and tokens; nil means crypto/rand.
	Random io.Reader `yaml:"-"`
}

const (
	// skew is by how much clocks may differ.
	skew = time.Minute
	// fresh is how long an answer of the store about an account, a device or a service key is believed.
	fresh = 2 * time.Second
	// storeTimeout bounds every call of the store that has no deadline of its own.
	storeTimeout = 10 * time.Second
	// mostVerified, mostHolders and mostServiceKeys bound what is remembered: some 600, 200 and 400 bytes each.
	mostVerified, mostHolders, mostServiceKeys = 20_000, 20_000, 1_000
)

// Service makes and checks tokens. There is one for a domain in each process; several processes may use one store.
// Any goroutine may call it.
type Service struct {
	// Fixed after New.
	config  Config
	metrics *metrics

	// Safe for concurrent use.
	keys     keyring
	verified *cache.Cache[[sha256.Size]byte, *grant]
	holders  *cache.Cache[holder, standing] // by account
	services *cache.Cache[string, store.ServiceKey]
	noted    uses
}

// New returns a service that is ready: it reads the signing keys, and makes one when there is none that is good.
func New(ctx context.Context, c Config) (*Service, error) {
	if c.Domain.IsZero() || c.Domain != c.Domain.DomainJID() {
		return nil, errors.New("token: no domain")
	}
	if len(c.Secret) < 32 {
		return nil, errors.New("token: the secret has less than 32 bytes")
	}
	if c.Keys == nil || c.Services == nil || c.Devices == nil || c.Accounts == nil {
		return nil, errors.New("token: a store is missing")
	}
	defaults.Fill(&c)
	if c.Random == nil {
		c.Random = rand.Reader
	}
	s := &Service{
		config: c, metrics: newMetrics(c.Metrics),
		verified: cache.New(cache.Config[[sha256.Size]byte, *grant]{Limit: mostVerified, Now: c.Now}),
		holders: cache.New(cache.Config[holder, standing]{
			Limit: mostHolders,
			Group: func(h holder) uint64 { return uint64(h.account) },
			Now:   c.Now,
		}),
		services: cache.New(cache.Config[string, store.ServiceKey]{Limit: mostServiceKeys, Now: c.Now}),
	}
	return s, s.Rotate(ctx)
}

// Check takes an access token or a service key, as a Bearer token (RFC 6750 §2.1). The error is one of this package's,
// or the store's, which could not tell.
func (s *Service) Check(ctx context.Context, bearer string) (*Principal, error) {
	if len(bearer) >= len(keyPrefix) && bearer[:len(keyPrefix)] == keyPrefix {
		return s.VerifyKey(ctx, bearer)
	}
	return s.Verify(ctx, bearer)
}

// Forget makes the next token of the device be checked in the store; a device of "" means all of the account. It is
// called after a device was signed out or an account changed, so that it takes effect here at once; other processes
// notice within two seconds.
func (s *Service) Forget(account store.AccountID, device string) {
	s.holders.InvalidateGroup(uint64(account), func(h holder) bool { return device == "" || h.device == device })
}

// ForgetKey makes the next use of a service key be checked in the store, after it was revoked.
func (s *Service) ForgetKey(id string) { s.services.Invalidate(id) }

// rotateEvery is how often the keys of the store are looked at: as fast as they may have to be out of use.
const rotateEvery = fresh

// sweepEvery is how often it is looked for what is too old to be used.
const sweepEvery = time.Minute

// Run keeps the signing keys young, and gives back the memory of what is too old to be used, until ctx ends. It returns
// nil.
func (s *Service) Run(ctx context.Context) error {
	tick, sweep := time.NewTicker(rotateEvery), time.NewTicker(sweepEvery)
	defer tick.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sweep.C:
			s.verified.Sweep()
			s.holders.Sweep()
			s.services.Sweep()
			continue
		case <-tick.C:
		}
		if err := s.Rotate(ctx); err != nil && ctx.Err() == nil {
			s.config.Log.Error("cannot look after the keys that sign tokens; it is tried again", "error", err)
		}
	}
}

// random returns n bytes.
func (s *Service) random(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(s.config.Random, b); err != nil {
		return nil, fmt.Errorf("make a token: %w", err)
	}
	return b, nil
}
