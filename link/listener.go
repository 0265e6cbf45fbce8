package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/limit"
)

// Mode says how connections of a listener begin.
type Mode string

const (
	// ModePlain begins without encryption; StartTLS may follow. The zero value means the same.
	ModePlain Mode = "plain"
	// ModeTLS begins with a TLS handshake (XEP-0368), which is over when the handler is called.
	ModeTLS Mode = "tls"
)

// Config is what a Listener is made of. Only Address, and TLS in ModeTLS, have no usable zero value.
type Config struct {
	// Address to listen on, host:port; port 0 takes a free one.
	Address string `yaml:"address"`
	// Mode; plain by default.
	Mode Mode `yaml:"mode"`
	// WriteTimeout bounds one Send.
	WriteTimeout time.Duration `yaml:"write_timeout" default:"30s" min:"1ms"`
	// HandshakeTimeout bounds a TLS handshake, and the wait for a PROXY header. With the development certificate the
	// default is 60s, because people are asked about it in the middle of the handshake.
	HandshakeTimeout time.Duration `yaml:"handshake_timeout" default:"10s" min:"1ms"`
	// KeepAlive is how long a connection may be silent before the operating system probes whether the peer is still
	// there; negative: never. Four unanswered probes, 15 s apart, end it.
	KeepAlive time.Duration `yaml:"keep_alive" default:"2m"`
	// TrustedProxies are the balancers in front. Connections from them must begin with a PROXY protocol header, v1 or
	// v2, and are closed without one; connections from elsewhere are closed when they begin with one.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`
	// ReserveFiles is how many file descriptors of the process are kept for the store and the log: connections that
	// would take one of the last so many are refused. 0 means 128, or an eighth of the limit if that is less.
	ReserveFiles int `yaml:"reserve_files" min:"0"`

	// Protocol is the name of what is spoken on connections that do not agree on something else by ALPN; see
	// Conn.Protocol. None by default.
	Protocol string `yaml:"-"`
	// Name is the label of the metrics and of log lines; Address by default.
	Name string `yaml:"-"`
	// TLS returns the configuration for the next handshake of ModeTLS, made by TLSConfig; it is called for each, so
	// that certificates can be changed.
	TLS func() *tls.Config `yaml:"-"`
	// Gate bounds the handshakes computed at a time; nil means one of this listener's own, made by NewGate.
	Gate *limit.Gate `yaml:"-"`
	// Admit is asked before anything is spent on a connection; ok false refuses it with a reset. release, unless nil,
	// is called when the connection has ended. The address and port are the client's, as Conn.Remote tells them, also
	// behind a trusted proxy. It must be quick: accepting waits for it. nil admits all.
	Admit func(netip.AddrPort) (release func(), ok bool) `yaml:"-"`
	// Registerer takes the metrics; nil leaves them unregistered.
	Registerer prometheus.Registerer `yaml:"-"`
	// Log; nil discards.
	Log *slog.Logger `yaml:"-" default:"discard"`
}

// Listener accepts TCP connections. Serve hands them to a handler as Conn; or net/http is given the Listener itself,
// which is a net.Listener, and then everything in Config holds for HTTP connections as well, and a WebSocket that comes
// out of them is parked without buffers. Use it one way or the other.
type Listener struct {
	cfg     Config
	owner   *owner
	tcp     *net.TCPListener
	files   *fileLimit
	gone    func()        // lowers the gauge of open connections
	done    chan struct{} // closed by Close
	closing sync.Once
}

// Listen opens the socket. ctx bounds only that.
func Listen(ctx context.Context, cfg Config) (*Listener, error) {
	defaults.Fill(&cfg)
	switch {
	case cfg.Mode != "" && cfg.Mode != ModePlain && cfg.Mode != ModeTLS:
		return nil, fmt.Errorf("listen on %s: unknown mode %q", cfg.Address, cfg.Mode)
	case cfg.Mode == ModeTLS && cfg.TLS == nil:
		return nil, fmt.Errorf("listen on %s: mode tls without certificates", cfg.Address)
	}
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{
		Enable: cfg.KeepAlive >= 0, Idle: cfg.KeepAlive, Interval: 15 * time.Second, Count: 4,
	}}
	if cfg.KeepAlive < 0 {
		lc.KeepAlive = -1
	}
	if cfg.Name == "" {
		cfg.Name = cfg.Address
	}
	files, err := newFileLimit(cfg.ReserveFiles)
	if err != nil {
		return nil, err
	}
	ln, err := lc.Listen(ctx, "tcp", cfg.Address)
	if err != nil {
		files.close()
		return nil, fmt.Errorf("listen: %w", err)
	}
	m, err := newMetrics(cfg.Registerer, cfg.Name)
	if err != nil {
		files.close()
		_ = ln.Close() // nobody has used it
		return nil, err
	}
	l := &Listener{
		cfg:   cfg,
		owner: newOwner(m, cfg),
		tcp:   ln.(*net.TCPListener), files: files, done: make(chan struct{}),
	}
	l.owner.prepare, l.gone, l.owner.protocol = l.prepare, m.open.Dec, cfg.Protocol
	return l, nil
}

// Addr returns the address listened on.
func (l *Listener) Addr() net.Addr { return l.tcp.Addr() }

// Close stops accepting; connections stay.
func (l *Listener) Close() error {
	err := net.ErrClosed
	l.closing.Do(func() {
		close(l.done)
		err = l.tcp.Close()
		l.files.close()
	})
	return err
}

// Serve accepts connections and calls handler for each, on a goroutine of the connection's own, until ctx ends or Close
// or Shutdown is called; then it returns nil. The connections go on: Shutdown waits for them. A connection is closed
// when its handler returns. A panic of the handler ends its connection only.
func (l *Listener) Serve(ctx context.Context, handler func(Conn)) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // it may be closed already
	defer stop()
	l.owner.handler = handler
	for {
		c, err := l.accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept on %s: %w", l.cfg.Name, err)
		}
		if !l.owner.adopt(c) {
			l.owner.metrics.refused("stopping")
			_ = c.Abort() // it was never ours
			continue
		}
		go l.owner.serve(c)
	}
}

// Shutdown stops accepting and waits until all handlers have returned. It does not tell them to: that is for those who
// know what to say to the clients. When ctx ends first, it aborts what is left, waits for the handlers to notice, and
// returns ctx's error.
func (l *Listener) Shutdown(ctx context.Context) error {
	_ = l.Close() // it may be closed already
	return l.owner.wait(ctx)
}

// Exhausted reports whether accepting waits for file descriptors at this moment.
func (l *Listener) Exhausted() bool { return l.files.low.Load() }

// prepare does what comes before the handler, and reports whether that may be called. It needs little stack itself.
func (l *Listener) prepare(c *conn) bool {
	if l.cfg.Mode != ModeTLS && !contains(l.cfg.TrustedProxies, c.remote.Addr()) {
		return true
	}
	var ok bool
	c.afterWait(func() {}, func() { ok = l.begin(c) })
	return ok
}

// begin reads a PROXY header and does a TLS handshake, if they are expected.
func (l *Listener) begin(c *conn) bool {
	err := l.introduce(c)
	if err == nil && l.cfg.Mode == ModeTLS {
		err = c.startTLS(context.Background(), l.cfg.TLS())
	}
	switch {
	case err == nil:
	case l.cfg.Mode == ModeTLS && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)):
		l.owner.log.Info("a TLS handshake was not finished in time: the client may have asked somebody about the "+
			"certificate", "listener", l.cfg.Name, "remote", c.remote.Addr(), "timeout", l.cfg.HandshakeTimeout)
	default:
		l.owner.log.Debug("connection refused", "listener", l.cfg.Name, "remote", c.remote.Addr(), "err", err)
	}
	return err == nil
}

// introduce finds out who the client is behind a trusted proxy, and whether it is admitted.
func (l *Listener) introduce(c *conn) error {
	if !contains(l.cfg.TrustedProxies, c.remote.Addr()) {
		return nil // done by accept
	}
	if err := c.readProxyHeader(); err != nil {
		l.owner.metrics.refused("proxy_header")
		_ = c.Abort() // err says more
		return err
	}
	release, ok := l.admit(c.remote)
	if !ok {
		_ = c.Abort()
		return errNotAdmitted
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		if release != nil {
			release()
		}
		return net.ErrClosed
	}
	c.release = joinRelease(release, c.release)
	return nil
}

func (l *Listener) admit(a netip.AddrPort) (release func(), ok bool) {
	if l.cfg.Admit == nil {
		return nil, true
	}
	if release, ok = l.cfg.Admit(a); !ok {
		l.owner.metrics.refused("throttle")
	}
	return release, ok
}

// joinRelease returns a function that calls both; nil ones are left out.
func joinRelease(a, b func()) func() {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func() { a(); b() }
}

// Accept returns the next connection for net/http: a TLS connection in ModeTLS, whose handshake is still to come.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.accept()
	if err != nil {
		return nil, err
	}
	s := &shim{c: c, mode: shimHTTP}
	if contains(l.cfg.TrustedProxies, c.remote.Addr()) {
		s.lazy = &lazyHeader{read: func() error { return l.introduce(c) }}
	}
	if l.cfg.Mode == ModeTLS {
		s.gated = true
		return tls.Server(s, l.cfg.TLS()), nil
	}
	return s, nil
}
