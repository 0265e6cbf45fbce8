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
	// Rate and Burst are how many requests an account may make: so many a second, and so many at once.
	Rate  float64 `yaml:"rate" default:"0.5" min:"0"`
	Burst float64 `yaml:"burst" default:"20" min:"1"`

	// MaxDevices is how many devices of an account are remembered.
	MaxDevices int              `yaml:"-" default:"50"`
	Devices    store.Devices    `yaml:"-"`
	Accounts   token.Accounts   `yaml:"-"`
	Changes    store.Changes    `yaml:"-"`
	Tokens     Tokens           `yaml:"-"`
	Sessions   *session.Manager `yaml:"-"`

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
	budget *limit.Table[store.AccountID]
}

// New returns a keeper.
func New(c Config) (*Keeper, error) {
	if c.Devices == nil || c.Accounts == nil || c.Changes == nil || c.Tokens == nil || c.Sessions == nil {
		return nil, errors.New("device: a part is missing")
	}
	defaults.Fill(&c)
	k := &Keeper{
		config: c,
		log:    c.Log,
		budget: limit.NewTable[store.AccountID](limit.Per(c.Rate, time.Second, c.Burst), 0, c.Now),
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
			Handle: k.limited(k.token)},
		{At: service.AtAccount, Type: stanza.TypeGet, Space: NSDevice, Local: "devices", From: service.Self,
			Handle: k.limited(k.list)},
		{At: service.AtAccount, Type: stanza.TypeSet, Space: NSDevice, Local: "remove", From: service.Self,
			Handle: k.limited(k.remove)},
		{At: service.AtAccount, Type: stanza.TypeSet, Space: NSDevice, Local: "remove-others", From: service.Self,
			Handle: k.limited(k.removeOthers)},
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

// limited calls a handler as long as the account has not asked too often.
func (k *Keeper) limited(handle func(context.Context, request) ([]stanza.Element, *stanza.Error)) service.Handle {
	return func(ctx context.Context, req *service.Request) ([]stanza.Element, *stanza.Error) {
		from := k.config.Sessions.Lookup(req.From)
		if from == nil || from.Account() != req.Account {
			return nil, stanza.Refuse(stanza.NotAuthorized, "The session has ended.")
		}
		if k.budget.Take(store.AccountID(req.Account), 1) > 0 {
			k.refused.Inc()
			return nil, stanza.Refuse(stanza.ResourceConstraint, "That was asked too often. Try again in a minute.")
		}
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		return handle(ctx, request{store.AccountID(req.Account), req.IQ, from})
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
	device := store.Device{Account: r.account, ID: of(r.iq.From.Resource(), r.from.Device())}
	pair, err := k.config.Tokens.Issue(ctx, account, device)
	if errors.Is(err, token.ErrRevoked) {
		if err = k.make(ctx, r, device); err == nil {
			pair, err = k.config.Tokens.Issue(ctx, account, device)
		}
	}
	if err == nil { // the device of that name may be a later one, which is not this session's
		err = k.overtaken(ctx, r, device.ID)
	}
	switch {
	case errors.Is(err, token.ErrRevoked):
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

// make makes the device that a session belongs to, when it is not in the store, and takes it away again when the
// session is overtaken.
func (k *Keeper) make(ctx context.Context, r request, d store.Device) error {
	now := k.config.Now()
	d.Created, d.Seen, d.Name = now, now, strings.ToValidUTF8(clip(r.iq.From.Resource(), maxName), "")
	if err := k.config.Devices.PutDevice(ctx, d, k.config.MaxDevices); err != nil {
		return err
	}
	err := k.overtaken(ctx, r, d.ID) // only now: whatever is changed later removes the device itself
	if err == nil {
		return nil
	}
	if gone := k.config.Devices.RemoveDevice(ctx, r.account, d.ID); gone != nil && !errors.Is(gone, store.ErrNotFound) {
		err = errors.Join(err, gone)
	}
	return err
}

// overtaken returns token.ErrRevoked when the device was signed out, or the account changed, since the session began:
// then the session is about to end.
func (k *Keeper) overtaken(ctx context.Context, r request, device string) error {
	changed, err := k.config.Changes.LastChange(ctx, r.account, device)
	if err == nil && !changed.IsZero() && !changed.Before(r.from.Bound()) {
		err = token.ErrRevoked
	}
	return err
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
