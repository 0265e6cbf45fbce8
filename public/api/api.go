// Package api is the HTTP API under /v1/ for phones, web pages and other systems that hold a token. Its OpenAPI
// document is made from the Go types that requests are decoded into, so the two cannot differ.
//
// It reads through the reading halves of the stores and the inbox, and makes changes only by stanzas through the
// uplink. It identifies a caller by the token alone; there are no cookies. Data of other accounts is answered like data
// that does not exist.
//
// It starts no goroutine: everything runs on the goroutine of the request. Its only state is counters for rate limits,
// which are bounded.
package api

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/inbox"
	"github.com/posthouse-im/posthouse/limit"
	"github.com/posthouse-im/posthouse/public/uplink"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// Inbox is what an account sees of the store: *inbox.View.
type Inbox interface {
	Sync(ctx context.Context, o inbox.Owner, cursor string, limit, bytes int) (inbox.Page, error)
	Conversations(ctx context.Context, o inbox.Owner, from inbox.Position, limit int) (list []inbox.Conversation,
		next inbox.Position, err error)
	AddNewest(ctx context.Context, list []inbox.Conversation, next inbox.Position) ([]inbox.Conversation,
		inbox.Position, error)
	Conversation(ctx context.Context, o inbox.Owner, with jid.JID) (inbox.Conversation, error)
	Message(ctx context.Context, o inbox.Owner, id store.MessageID) (store.Message, store.ConversationKey, error)
	History(ctx context.Context, o inbox.Owner, with jid.JID, q inbox.HistoryQuery) (c inbox.Conversation,
		found []store.Message, more bool, err error)
}

// Tokens checks and renews what callers show: *token.Service.
type Tokens interface {
	Check(ctx context.Context, bearer string) (*token.Principal, error)
	Refresh(ctx context.Context, refresh string) (token.Pair, token.Principal, error)
	KeySet() []byte
}

// Login is somebody who gives a password.
type Login struct {
	// Name is the localpart or the bare address. Password is never kept.
	Name, Password string
	// Device names the device to get tokens for, "" for a new one; DeviceName and Software are for people.
	Device, DeviceName, Software string
	// Remote is whose connection it is; Secure, that it is over TLS; Loopback, that it comes from this machine.
	Remote           netip.Addr
	Secure, Loopback bool
}

// ErrLogin: the name or the password is wrong. ErrThrottled: there were too many failures.
var (
	ErrLogin     = errors.New("the login failed")
	ErrThrottled = errors.New("too many logins have failed")
)

// Config configures an API. What is not marked as optional is required.
type Config struct {
	// Domain is the domain of the accounts.
	Domain jid.JID        `yaml:"-"`
	Uplink *uplink.Uplink `yaml:"-"`
	Inbox  Inbox          `yaml:"-"`
	Tokens Tokens         `yaml:"-"`
	// Login checks a password, throttled, and makes tokens; the error may be ErrLogin or ErrThrottled.
	Login    func(ctx context.Context, l Login) (token.Pair, error) `yaml:"-"`
	Accounts inbox.Accounts                                         `yaml:"-"`
	Rosters  store.RosterReader                                     `yaml:"-"`
	Profiles store.ProfileReader                                    `yaml:"-"`
	Devices  store.DeviceReader                                     `yaml:"-"`
	Keys     store.ServiceKeyReader                                 `yaml:"-"`
	Audit    store.AuditReader                                      `yaml:"-"`
	People   store.AccountReader                                    `yaml:"-"`
	// Preferences tells what accounts have chosen for themselves.
	Preferences store.ArchivePreferenceReader `yaml:"-"`
	// StanzaID and ParseStanzaID translate between the log's identities and public ones.
	StanzaID      func(id uint64) string                 `yaml:"-"`
	ParseStanzaID func(text string) (id uint64, ok bool) `yaml:"-"`
	// Client returns who sent a request; nil takes the peer of the connection. Origin reports whether the web page that
	// made it may; nil allows none.
	Client func(r *http.Request) netip.AddrPort `yaml:"-"`
	Origin func(h http.Header) bool             `yaml:"-"`
	// Secure reports whether a request came over TLS, which need not end here; nil looks at the connection.
	Secure func(r *http.Request) bool `yaml:"-"`
	// Authenticated is told of every request with a good token, for the throttle of unauthenticated connections; nil
	// tells nobody.
	Authenticated func(r *http.Request) `yaml:"-"`
	// Turn bounds how many large answers are made for an account at a time: it waits for a turn, and leave ends it. ok
	// is false when there was none for too long. nil bounds nothing.
	Turn func(ctx context.Context, account uint64) (leave func(), ok bool) `yaml:"-"`
	// Version of the software, for the document.
	Version string `yaml:"-"`
	// Metrics receives the package's metrics; nil leaves them unregistered.
	Metrics prometheus.Registerer `yaml:"-"`
	// Logger receives what an operator can act on; nil discards it.
	Logger *slog.Logger `yaml:"-" default:"discard"`
	// Now is the clock; nil means time.Now.
	Now func() time.Time `yaml:"-" default:"now"`

	// Rate and Burst limit the requests of one token or key: so many a second, and so many at once; a negative rate: no
	// limit.
	Rate  float64 `yaml:"rate" default:"20"`
	Burst int     `yaml:"burst" default:"60" min:"1"`
	// AddressRate and AddressBurst limit those of one address, with or without a token.
	AddressRate  float64 `yaml:"address_rate" default:"100"`
	AddressBurst int     `yaml:"address_burst" default:"300" min:"1"`
	// LoginRate and LoginBurst limit logins and renewals from one address, beside the throttle for failures.
	LoginRate  float64 `yaml:"login_rate" default:"0.5"`
	LoginBurst int     `yaml:"login_burst" default:"20" min:"1"`
	// BodyTime is how long the body of a request may take to come in.
	BodyTime time.Duration `yaml:"body_time" default:"10s" min:"10ms"`
	// Waits is how many requests of one account may wait for news at once.
	Waits int `yaml:"waits" default:"10" min:"1"`
}

func (c *Config) complete() error {
	if c.Domain.IsZero() || c.Uplink == nil || c.Inbox == nil || c.Tokens == nil || c.Login == nil ||
		c.Accounts == nil ||
		c.Rosters == nil || c.Profiles == nil || c.Devices == nil || c.Keys == nil || c.Audit == nil ||
		c.People == nil || c.Preferences == nil ||
		c.StanzaID == nil || c.ParseStanzaID == nil {
		return errors.New("api: a required part is missing")
	}
	if c.Client == nil {
		c.Client = func(r *http.Request) netip.AddrPort {
			a, _ := netip.ParseAddrPort(r.RemoteAddr)
			return a
		}
	}
	if c.Origin == nil {
		c.Origin = func(http.Header) bool { return false }
	}
	if c.Secure == nil {
		c.Secure = func(r *http.Request) bool { return r.TLS != nil }
	}
	defaults.Fill(c)
	return nil
}

// API answers the requests that Owns names. It is an http.Handler; all methods may be called from any goroutine.
type API struct {
	// Fixed after New.
	config    Config
	log       *slog.Logger
	now       func() time.Time
	mux       *http.ServeMux
	routes    routes
	states    map[string]func(r *http.Request, q *request, w *responder) // what reads a state with a tag, by pattern
	document  []byte                                                     // OpenAPI, as JSON
	reference []byte                                                     // the page for people
	metrics   *metrics
	stopping  chan struct{} // closed by Stop
	stop      sync.Once

	byToken            *limit.Table[caller]
	byAddress, byLogin *limit.Table[limit.Address]
	originLog          *limit.Table[struct{}] // of lines in the log, which anybody can cause

	seed     maphash.Seed
	changing [64]sync.Mutex // each held while what has a tag is changed, by account and path

	mu      sync.Mutex              // guards waiting
	waiting map[store.AccountID]int // requests that wait for news, by account
}

// New returns an API.
func New(c Config) (*API, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	a := &API{
		config: c, log: c.Logger, now: c.Now, mux: http.NewServeMux(), metrics: newMetrics(c.Metrics),
		waiting: map[store.AccountID]int{}, stopping: make(chan struct{}), seed: maphash.MakeSeed(),
		states:    map[string]func(*http.Request, *request, *responder){},
		byToken:   limiter[caller](&c, c.Rate, c.Burst),
		byAddress: limiter[limit.Address](&c, c.AddressRate, c.AddressBurst),
		byLogin:   limiter[limit.Address](&c, c.LoginRate, c.LoginBurst),
		originLog: limiter[struct{}](&c, 0.1, 5),
	}
	return a, a.register()
}

// metrics count what was answered.
type metrics struct {
	requests *prometheus.CounterVec
	waiting  prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "posthouse_api_requests_total", Help: "Requests to the HTTP API, by operation and class of status.",
		}, []string{"operation", "status"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "posthouse_api_waiting",
			Help: "Requests that wait for news now."}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.waiting)
	}
	return m
}

// count notes an answer. Operations are a closed set; whatever was asked for besides is "none".
func (m *metrics) count(w *responder) {
	operation := w.route
	if operation == "" {
		operation = "none"
	}
	class := "5xx"
	if w.status >= 100 && w.status < 500 {
		class = string(rune('0'+w.status/100)) + "xx"
	}
	m.requests.WithLabelValues(operation, class).Inc()
}
