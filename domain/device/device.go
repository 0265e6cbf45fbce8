// Package device answers a client's requests about the devices of its account. It issues tokens for the API
// (urn:posthouse:token:1), lists devices and sessions, and signs them out (urn:posthouse:device:1).
//
// It owns only the rate limit of these requests. It starts no goroutine, and any goroutine may call it. domain/session
// knows the device of each session, token knows what a token permits, and the store holds the records of devices.
package device

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/limit"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// The namespaces of the requests that are answered here. See docs/tokens.md.
const (
	NSToken  = "urn:posthouse:token:1"
	NSDevice = "urn:posthouse:device:1"
)

// Tokens makes tokens for a device that is in the store.
type Tokens interface {
	Issue(ctx context.Context, account store.Account, device store.Device) (token.Pair, error)
	Forget(account store.AccountID, device string)
}

// Config makes a Keeper.
type Config struct {
	// Rate and Burst are how many requests an account may make: so many a second, and so many at once. Each of its
	// devices may sign devices out as often, whatever else was asked.
	Rate  float64 `yaml:"rate" default:"0.5" min:"0"`
	Burst float64 `yaml:"burst" default:"20" min:"1"`

	// MaxDevices is how many devices of an account are remembered.
	MaxDevices int              `yaml:"-" default:"50"`
	Devices    store.Devices    `yaml:"-"`
	Accounts   token.Accounts   `yaml:"-"`
	Tokens     Tokens           `yaml:"-"`
	Sessions   *session.Manager `yaml:"-"`
	// Ended, when not nil, is called after a device was signed out: what runs for it elsewhere is to be ended.
	Ended func(account store.AccountID, device string) `yaml:"-"`

	// Metrics takes the metrics; nil leaves them unregistered.
	Metrics prometheus.Registerer `yaml:"-"`
	// Log takes the audit events; nil discards them.
	Log *slog.Logger `yaml:"-" default:"discard"`
	// Now is the clock; nil means time.Now.
	Now func() time.Time `yaml:"-" default:"now"`
}

// Keeper answers. There is one for a domain.
type Keeper struct {
	// Fixed after New.
	config  Config
	log     *slog.Logger
	removed prometheus.Counter
	refused prometheus.Counter

	// Safe for concurrent use.
	budget   *limit.Table[store.AccountID]
	removals *limit.Table[own]
}

// own is a device of an account. Removals are counted by the device that asks for them, so that whoever has got hold of
// another one cannot keep the owner from signing that out.
type own struct {
	account store.AccountID
	device  string
}

// New returns a keeper.
func New(c Config) (*Keeper, error) {
	if c.Devices == nil || c.Accounts == nil || c.Tokens == nil || c.Sessions == nil {
		return nil, errors.New("device: a part is missing")
	}
	defaults.Fill(&c)
	k := &Keeper{
		config:   c,
		log:      c.Log,
		budget:   limit.NewTable[store.AccountID](limit.Per(c.Rate, time.Second, c.Burst), 0, c.Now),
		removals: limit.NewTable[own](limit.Per(c.Rate, time.Second, c.Burst), 0, c.Now),
		removed: prometheus.NewCounter(prometheus.CounterOpts{Name: "posthouse_device_removed_total",
			Help: "Devices that were signed out by request."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "posthouse_device_refused_total", Help: "Requests about devices and tokens that came too often.",
		}),
	}
	if c.Metrics != nil {
		c.Metrics.MustRegister(k.removed, k.refused)
	}
	return k, nil
}

// Handlers answers an account's own clients; what others ask is answered as a request that nobody understands.
func (k *Keeper) Handlers() []service.Handler {
	return []service.Handler{
		{At: service.AtAccount, Type: stanza.TypeGet, Space: NSToken, Local: "token", From: service.Self,
			Handle: k.limited(k.ask, k.token)},
		{At: service.AtAccount, Type: stanza.TypeGet, Space: NSDevice, Local: "devices", From: service.Self,
			Handle: k.limited(k.ask, k.list)},
		{At: service.AtAccount, Type: stanza.TypeSet, Space: NSDevice, Local: "remove", From: service.Self,
			Handle: k.limited(k.askRemoval, k.remove)},
		{At: service.AtAccount, Type: stanza.TypeSet, Space: NSDevice, Local: "remove-others", From: service.Self,
			Handle: k.limited(k.askRemoval, k.removeOthers)},
	}
}

// request is who asks for what.
type request struct {
	account store.AccountID
	iq      *stanza.Stanza
	// from is the session that asks.
	from *session.Session
}

// storeTimeout bounds what one request may wait for the store.
const storeTimeout = 10 * time.Second

// ask counts a request, and reports whether there are not too many.
func (k *Keeper) ask(r request) bool { return k.budget.Take(r.account, 1) == 0 }

// askRemoval is ask for a request to sign something out.
func (k *Keeper) askRemoval(r request) bool {
	return k.removals.Take(own{r.account, current(r)}, 1) == 0
}

// limited calls a handler as long as there are not too many requests.
func (k *Keeper) limited(
	allowed func(request) bool, handle func(context.Context, request) ([]stanza.Element, *stanza.Error),
) service.Handle {
	return func(ctx context.Context, req *service.Request) ([]stanza.Element, *stanza.Error) {
		from := session.Of(req.Session)
		if from == nil || from.Ended() {
			return nil, stanza.Refuse(stanza.NotAuthorized, "The session has ended.")
		}
		r := request{store.AccountID(req.Account), req.IQ, from}
		if !allowed(r) {
			k.refused.Inc()
			return nil, stanza.Refuse(stanza.ResourceConstraint, "That was asked too often. Try again in a minute.")
		}
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		return handle(ctx, r)
	}
}

// of returns the device that a session belongs to. A client that has named none gets one of its own by its resource.
func of(resource, device string) string {
	if device != "" {
		return device
	}
	sum := sha256.Sum256([]byte(resource))
	return "resource." + base64.RawURLEncoding.EncodeToString(sum[:15])
}

// token answers with new tokens for the API (docs/tokens.md).
func (k *Keeper) token(ctx context.Context, r request) ([]stanza.Element, *stanza.Error) {
	// another system acts: what it may do is said by its own key, and it is not to become somebody else
	if r.from.Hidden() {
		return nil, stanza.Refuse(stanza.NotAllowed, "Tokens are for the account's own devices.")
	}
	account, err := k.config.Accounts.Account(ctx, r.iq.From.Local())
	if err == nil && (account.ID != r.account || account.Disabled) || errors.Is(err, store.ErrNotFound) {
		return nil, signedOut()
	}
	if err != nil {
		return nil, k.broken(r, err)
	}
	// the device of that name may be a later one, which is not this session's
	account.Basis = min(account.Basis, store.Basis(r.from.Basis()))
	device := store.Device{Account: r.account, ID: of(r.iq.From.Resource(), r.from.Device())}
	pair, err := k.config.Tokens.Issue(ctx, account, device)
	if errors.Is(err, token.ErrRevoked) {
		if err = k.make(ctx, r, device, account.Basis); err == nil {
			pair, err = k.config.Tokens.Issue(ctx, account, device)
		}
	}
	switch {
	case errors.Is(err, token.ErrRevoked), errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrOvertaken):
		return nil, signedOut()
	case err != nil:
		return nil, k.broken(r, err)
	}
	r.from.SetDevice(device.ID)
	return []stanza.Element{stanza.New(NSToken, "token",
			"access", pair.Access, "expires", stanza.FormatSeconds(pair.Expires),
			"refresh", pair.Refresh, "refresh-expires", stanza.FormatSeconds(pair.RefreshExpires), "device",
			pair.Device)},
		nil
}

// make makes the device that a session belongs to, unless the session is overtaken.
func (k *Keeper) make(ctx context.Context, r request, d store.Device, basis store.Basis) error {
	now := k.config.Now()
	d.Created, d.Seen, d.Name = now, now, strings.ToValidUTF8(clip(r.iq.From.Resource(), maxName), "")
	return k.config.Devices.PutDevice(ctx, d, basis, k.config.MaxDevices)
}

// maxName bounds the name of a device, in bytes.
const maxName = 128

func clip(s string, n int) string { return s[:min(len(s), n)] }

func signedOut() *stanza.Error {
	return stanza.Refuse(stanza.NotAuthorized, "The device was signed out. Log in again.")
}

// ended is what a session is told whose device was signed out.
func ended() *stream.Error { return stream.Fail(stream.NotAuthorized, "The device was signed out.") }

// broken logs that the store failed, and refuses.
func (k *Keeper) broken(r request, err error) *stanza.Error {
	k.log.Error("cannot answer about devices", "account", r.iq.From.Bare().String(), "error", err)
	return stanza.Refuse(stanza.InternalServerError, "The server cannot tell at the moment.")
}
