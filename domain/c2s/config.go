package c2s

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/link"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Router takes a stanza into the domain. *router.Router is one.
type Router interface {
	Accept(ctx context.Context, e *router.Envelope)
}

// Sessions knows who is connected. *session.Manager is one.
type Sessions interface {
	Bind(b session.Binding) (*session.Session, *stanza.Error)
	Unbind(s *session.Session)
	SetCarbons(s *session.Session, on bool) bool
	Supersede(s *session.Session) int
	Confirm(s *session.Session, basis int64)
}

// Marker is told which stored messages reached a device: they were written to the socket of a client without
// stream management, or acknowledged by one with it. It must not block.
type Marker interface {
	Delivered(account, id uint64)
}

// Returner takes back what a session that has ended was never seen to receive, in order: messages, presence and
// IQs, stored or not. A packet whose bytes were handed to the socket without an acknowledgement is among them, so that
// the client gets it at least once. It is called once for a session, after Unbind, with a deadline.
type Returner interface {
	Return(ctx context.Context, s *session.Session, unacked []*stream.Packet)
}

// Config configures a Server. The fields without a yaml name are its collaborators, given by the composition root.
// Of the settings, a negative rate or timeout means none.
type Config struct {
	// Domain is the one domain served here, in canonical form; required.
	Domain string `yaml:"-"`
	// GoneDomains were served here in the past: a stream to one of them gets <host-gone/> (RFC 6120 §4.9.3.5).
	GoneDomains []string `yaml:"gone_domains"`

	// LoginTimeout bounds the time from the first byte to a bound resource. It is absolute: no traffic extends it.
	LoginTimeout time.Duration `yaml:"login_timeout" default:"30s"`
	// IdleTimeout ends a bound connection that has not sent a byte for so long, white space included; 0: none. Dead
	// peers are found by TCP keepalive and by <r/>. A value below ten minutes cuts off well-behaved mobile clients.
	IdleTimeout time.Duration `yaml:"idle_timeout" default:"0s"`
	// KeepAliveMin and KeepAliveMax bound the interval that a client may agree on with the server
	// (urn:posthouse:stream:1). A client that is silent for more than two intervals is considered dead. They have no
	// effect without an agreement.
	KeepAliveMin time.Duration `yaml:"keep_alive_min" default:"15s" min:"1s"`
	KeepAliveMax time.Duration `yaml:"keep_alive_max" default:"30m" min:"1s"`
	// CloseTimeout is how long a closing connection may take to accept the server's stream error and footer.
	CloseTimeout time.Duration `yaml:"close_timeout" default:"5s" min:"1ms"`
	// DrainTime is the time over which Drain spreads the ends of the streams at a shutdown.
	DrainTime time.Duration `yaml:"drain_time" default:"10s" min:"1ms"`
	// ReconnectSpread is the longest time over which clients are asked to spread their reconnections when the node
	// stops; with few clients it is less. Negative: all reconnect at once.
	ReconnectSpread time.Duration `yaml:"reconnect_spread" default:"1m"`

	// MaxStanzaBytes and MaxElements bound one stanza of a logged-in client.
	// Before the login it is 10,000 bytes and 32 elements (RFC 6120 §13.12 forbids less than 10,000 bytes).
	MaxStanzaBytes int `yaml:"max_stanza_bytes" default:"262144" min:"10000"`
	MaxElements    int `yaml:"max_elements" default:"5000" min:"32"`
	// RateBytes and RateStanzas are what a client may send per second on average, and the bursts what it may send at
	// once. A client that sends more is read from more slowly; nothing is lost.
	RateBytes    int `yaml:"rate_bytes" default:"20000"`
	BurstBytes   int `yaml:"burst_bytes" default:"262144" min:"1"`
	RateStanzas  int `yaml:"rate_stanzas" default:"20"`
	BurstStanzas int `yaml:"burst_stanzas" default:"100" min:"1"`
	// MaxInFlight is how many stanzas of one client may wait to be stored. Beyond that it is not read from.
	MaxInFlight int `yaml:"max_in_flight" default:"256" min:"1"`

	// QueueStanzas and QueueBytes bound the queue for one client, including unacknowledged stanzas. A client with a
	// full queue that accepts nothing for a second is cut off. One that accepts something may have a queue of four
	// times that size, and a hibernating session twice. A single stanza is always accepted. Bytes are estimated before
	// encoding.
	QueueStanzas int `yaml:"queue_stanzas" default:"1000" min:"1"`
	QueueBytes   int `yaml:"queue_bytes" default:"1048576" min:"1"`

	// ResumeTimeout is how long a lost stream can be resumed (XEP-0198 §5); negative: never.
	ResumeTimeout time.Duration `yaml:"resume_timeout" default:"5m"`
	// AckEvery is after how many stanzas the server asks the client for an acknowledgement.
	AckEvery int `yaml:"ack_every" default:"10" min:"1"`
	// AckTimeout ends a connection whose client has not answered <r/> for so long.
	AckTimeout time.Duration `yaml:"ack_timeout" default:"1m"`

	// Registration is "open" when anybody may make themselves an account (XEP-0077); anything else means closed.
	Registration string `yaml:"registration" enum:"open,closed"`

	// Codec returns a new decoder and the codec for a link, by what it says of itself (Protocol, Framed); required.
	Codec func(l link.Conn) (stream.Decoder, stream.Codec) `yaml:"-"`
	// TLS returns the configuration for STARTTLS as it is now; nil: STARTTLS is not offered.
	TLS func() *tls.Config `yaml:"-"`
	// TLSTimeout bounds a handshake after <proceed/>.
	TLSTimeout time.Duration `yaml:"-" default:"10s"`
	// Secure reports whether what is said on a link is confidential; nil: when the link itself is TLS. A proxy
	// that ends TLS in front of this node is what one would set it for.
	Secure func(l link.Conn) bool `yaml:"-"`

	// Auth, Sessions and Router are required.
	Auth     Auth     `yaml:"-"`
	Sessions Sessions `yaml:"-"`
	Router   Router   `yaml:"-"`
	// Marker and Returner may be nil: then nobody is told.
	Marker   Marker   `yaml:"-"`
	Returner Returner `yaml:"-"`
	// Authenticated is told once a client has logged in, for what counts unauthenticated connections; nil: nobody is.
	Authenticated func(l link.Conn) `yaml:"-"`
	// Revoked is told of a client that has changed its account's password, or removed the account: all sessions of the
	// account but one, which may be nil, are to end with the error. nil: Server.Disconnect.
	Revoked func(account uint64, but *session.Session, e *stream.Error) `yaml:"-"`
	// StanzaID turns a message's position in the log into the text of its stanza-id (XEP-0359); nil: none is shown.
	StanzaID func(id uint64) string `yaml:"-"`
	// Features are further stream features for a client that has logged in, such as the server's entity capabilities
	// (XEP-0115 §6.3). It is called once for each login; nil: none.
	Features func() []stanza.Element `yaml:"-"`

	// Metrics receives the counters; nil leaves them unregistered.
	Metrics prometheus.Registerer `yaml:"-"`
	// Log receives what an operator can act on; nil discards it.
	Log *slog.Logger `yaml:"-" default:"discard"`
}

// preAuthBytes and preAuthElements bound what an unauthenticated client can make the decoder hold.
const (
	preAuthBytes    = 10_000
	preAuthElements = 32
)

// How long things take that nobody has a reason to configure.
const (
	// returnTimeout bounds Returner.Return.
	returnTimeout = 10 * time.Second
	// sweepTime is how often the sweeper looks for what is due.
	sweepTime = time.Second
	// stallTime is how long a client with a full queue may make no progress.
	stallTime = time.Second
	// maxFailures is how often a client may fail to log in, to bind or to register on one stream (RFC 6120 §6.4.5).
	maxFailures = 5
	// maxEndedStreams is how many ended streams are remembered for the h of <failed/>.
	maxEndedStreams = 4096
)

// complete checks what is required, and fills in the defaults.
func (c *Config) complete() error {
	switch {
	case c.Domain == "":
		return errors.New("c2s: no domain is configured")
	case c.Codec == nil, c.Auth == nil, c.Sessions == nil, c.Router == nil:
		return errors.New("c2s: Codec, Auth, Sessions and Router are required")
	}
	if d, err := jid.PrepareDomain(c.Domain); err != nil || d != c.Domain {
		return errors.New("c2s: the domain is not in canonical form")
	}
	defaults.Fill(c)
	return nil
}
