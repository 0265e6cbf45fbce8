// Package auth owns logins: accounts and their cached directory, SASL mechanisms, passwords, and the throttles that
// limit password guessing and new connections.
//
// It knows nothing of streams or XML: a connection is a [Channel], and an authentication is an [Exchange] that is
// stepped with bytes. It never stores a password, only what RFC 5802 §3 lets a server store.
//
// Concurrency: any goroutine may call [Authenticator], [Directory] and [Connections]. An Exchange belongs to the
// goroutine that reads its stream. The package starts no goroutine; its owner runs [Authenticator.Run] on one. Every
// map in it is bounded, and says what is dropped when it is full.
package auth

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/posthouse-im/posthouse/cache"
	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/limit"
	"github.com/posthouse-im/posthouse/store"
)

// Config is what an operator can set. The zero value works.
type Config struct {
	// Iterations of PBKDF2 for new passwords. The default is the value of XEP-0438 for higher security. The cost is
	// borne by the client, and by the server for PLAIN; a SCRAM login costs the server the same with any number. Keys
	// of fewer iterations are made anew when their owner logs in with a password that the server sees.
	Iterations int `yaml:"iterations" default:"100000" min:"4096"`
	// PasswordMin is the minimum length of a new password, in characters.
	PasswordMin int `yaml:"password_min" default:"8" min:"1" max:"128"`
	// AllowCommonPasswords accepts passwords that are on the built-in list of common ones.
	AllowCommonPasswords bool `yaml:"allow_common_passwords"`
	// Mechanisms are the SASL mechanisms to offer; empty means all of SCRAM-SHA-256-PLUS, SCRAM-SHA-256, PLAIN,
	// SCRAM-SHA-1-PLUS and SCRAM-SHA-1. PLAIN and those with SHA-1, which only old clients need, are offered over TLS
	// only; posthouse_auth_logins_total tells how many logins each of them has.
	Mechanisms []string `yaml:"mechanisms" enum:"SCRAM-SHA-256-PLUS,SCRAM-SHA-256,PLAIN,SCRAM-SHA-1-PLUS,SCRAM-SHA-1"`
	// PlainWithoutTLS offers what needs TLS also on unencrypted connections from this machine.
	PlainWithoutTLS bool `yaml:"plain_without_tls"`
	// DowngradeProtectionOff omits the attribute of XEP-0474, for clients that refuse unknown attributes.
	DowngradeProtectionOff bool `yaml:"downgrade_protection_off"`
	// PlainCacheOff turns the cache of PLAIN logins off, so that each of them computes PBKDF2. See plainMemo for what
	// the cache holds.
	PlainCacheOff bool `yaml:"plain_cache_off"`
	// PlainCacheTTL is how long a PLAIN login is remembered.
	PlainCacheTTL time.Duration `yaml:"plain_cache_ttl" default:"1h" min:"1s"`
	// ReservedNames are refused to whoever registers an account, beside those that are built in.
	ReservedNames []string `yaml:"reserved_names"`

	Tokens      TokenConfig      `yaml:"tokens"`
	Directory   DirectoryConfig  `yaml:"directory"`
	Failures    FailureConfig    `yaml:"failures"`
	Connections ConnectionConfig `yaml:"connections"`

	// Changes tells whether an account was changed after it was read. nil: what is held of it is believed until then.
	Changes Changes `yaml:"-"`
	// Secret makes the answers for unknown names the same after a restart and on every node; 32 bytes that are
	// kept with the data. Without it, a restart tells unknown names from accounts.
	Secret []byte `yaml:"-"`
	// Registerer takes the metrics; nil leaves them unregistered.
	Registerer prometheus.Registerer `yaml:"-"`
	// Log takes the audit events; nil discards them.
	Log *slog.Logger `yaml:"-" default:"discard"`
	// Now is the clock; nil means time.Now.
	Now func() time.Time `yaml:"-"`
	// Random makes nonces; nil means crypto/rand.
	Random io.Reader `yaml:"-"`
}

// Changes tells of changes by anybody: store.Changes.
type Changes interface {
	ChangedSince(ctx context.Context, account store.AccountID, device string, basis store.Basis) (changed bool,
		now store.Basis, err error)
}

// Authenticator checks who logs in and keeps accounts. There is one for a domain.
type Authenticator struct {
	// Fixed after New.
	config   Config
	accounts store.Accounts
	log      *slog.Logger
	random   io.Reader
	secret   []byte
	reserved map[string]struct{}
	enabled  func(mechanism string) bool
	offers   map[offerKey]*offer
	metrics  *metrics

	// Safe for concurrent use.
	directory   *Directory
	devices     *devices // nil: no login tokens
	bindings    bindings
	failures    *failures
	connections *Connections
	hashing     *limit.Gate // where keys are derived
	memo        *plainMemo
	iterations  *cache.Cache[struct{}, []store.IterationCount] // in use
	registered  *limit.Table[limit.Address]
}

// New returns an authenticator over a store of accounts. The error names a mechanism that does not exist.
func New(accounts store.Accounts, config Config) (*Authenticator, error) {
	for _, name := range config.Mechanisms {
		if findMechanism(name) == nil {
			return nil, fmt.Errorf("mechanism %q is not known", name)
		}
	}
	defaults.Fill(&config)
	if config.Random == nil {
		config.Random = rand.Reader
	}
	if len(config.Secret) == 0 {
		config.Secret = make([]byte, 32)
		if _, err := rand.Read(config.Secret); err != nil {
			return nil, fmt.Errorf("making a secret: %w", err)
		}
	}
	enabled := func(name string) bool {
		return len(config.Mechanisms) == 0 || slices.Contains(config.Mechanisms, name)
	}
	a := &Authenticator{
		config: config, accounts: accounts, log: config.Log, random: config.Random, secret: config.Secret,
		reserved: reservedNameSet(config.ReservedNames), enabled: enabled, offers: newOffers(enabled),
		directory:   NewDirectory(accounts, config.Directory, config.Now),
		bindings:    newBindings(),
		failures:    newFailures(config.Failures, config.Now),
		connections: newConnections(config.Connections, monotonic(config.Now)),
		hashing:     limit.NewGate(runtime.GOMAXPROCS(0), maxWaitingHashes),
		registered:  newRegistrationTable(config.Failures, config.Now),
		iterations:  cache.New(cache.Config[struct{}, []store.IterationCount]{Limit: 64, Now: config.Now}),
	}
	if t := &config.Tokens; t.Devices != nil && len(t.Key) > 0 {
		a.devices = newDevices(t.Devices, t.Cached, config.Now)
	}
	var err error
	if !config.PlainCacheOff {
		if a.memo, err = newPlainMemo(config.Directory.Records, config.PlainCacheTTL, config.Now); err != nil {
			return nil, err
		}
	}
	if a.metrics, err = newMetrics(config.Registerer, a); err != nil {
		return nil, err
	}
	return a, nil
}

// Directory returns the cached view of the accounts.
func (a *Authenticator) Directory() *Directory { return a.directory }

// Connections returns the throttle for accept loops.
func (a *Authenticator) Connections() *Connections { return a.connections }

// Mechanisms returns the names of the mechanisms to offer on a channel, the best first (RFC 6120 §6.3.3). It may be
// empty. The list is shared and must not be changed. All of it must be advertised, or the hash of XEP-0474 will not
// fit.
func (a *Authenticator) Mechanisms(ch *Channel) []string { return a.offer(ch).mechanisms }

// ChannelBindings returns the channel binding types to advertise (XEP-0440), strongest first: none where no mechanism
// with channel binding is offered. As Mechanisms.
func (a *Authenticator) ChannelBindings(ch *Channel) []string { return a.offer(ch).bindings }

// Verify checks a name and a password that came by another way than SASL, such as HTTP, with the throttles and the
// audit of a login. The name need not be prepared. It costs as much for unknown names as for wrong passwords.
func (a *Authenticator) Verify(ctx context.Context, ch *Channel, name, password string) (store.Account, *Failure) {
	e := &Exchange{auth: a, channel: ch, mechanism: &mechanism{name: "password"}, offer: a.offer(ch)}
	e.setName(name)
	r := e.checkPassword(ctx, password)
	e.finish(r)
	if r != nil {
		return store.Account{}, &r.Failure
	}
	return e.account, nil
}
