package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gobwas/ws"
	"github.com/prometheus/client_golang/prometheus"
)

// subprotocol is a protocol inside WebSocket messages, and the frames it uses: a message of the other kind is refused.
type subprotocol struct {
	name  string
	op    ws.OpCode
	extra int64 // bytes that a message may have beyond what SetMaxMessage says: what the protocol puts in front
}

// subprotocols are those that are spoken. A client that offers several gets the first of its own list.
var subprotocols = [...]subprotocol{
	{name: "xmpp", op: ws.OpText},                      // RFC 7395: one element in each message
	{name: ProtocolCompact, op: ws.OpBinary, extra: 5}, // one frame in each message, its length in front
}

// spoken returns the sub-protocol of that name, nil when there is none.
func spoken(name string) *subprotocol {
	for i := range subprotocols {
		if subprotocols[i].name == name {
			return &subprotocols[i]
		}
	}
	return nil
}

// WebSocketConfig is what a WebSocket is made of. The zero value is usable: it takes clients that are not browsers.
type WebSocketConfig struct {
	// Origins are the web sites whose pages may connect, as "https://chat.example.com"; "*" stands for all. None by
	// default.
	Origins []string `yaml:"origins"`
	// RequireOrigin refuses requests without an Origin header, which browsers always send and other clients do not.
	RequireOrigin bool `yaml:"require_origin"`
	// MaxMessage bounds the bytes of one message until SetMaxMessage is called; 0 means 256 KiB.
	MaxMessage int `yaml:"max_message"`
	// WriteTimeout bounds one Send; 0 means what it means for a Listener.
	WriteTimeout time.Duration `yaml:"write_timeout"`

	// Name is the label of the metrics; "websocket" by default.
	Name string `yaml:"-"`
	// Registerer takes the metrics; nil leaves them unregistered.
	Registerer prometheus.Registerer `yaml:"-"`
	// Log; nil discards.
	Log *slog.Logger `yaml:"-"`
}

// WebSocket is the HTTP handler that makes WebSockets of requests (RFC 6455 §4.2, RFC 7395 §3.1) and hands them on as
// Conn. It works behind HTTP/1.1, plain or TLS. Under a Listener of this package, and under plain TCP of any other, an
// idle WebSocket holds no buffer; TLS of another listener works but keeps one for each connection.
type WebSocket struct {
	cfg     WebSocketConfig
	owner   *owner
	origins *origins
}

// NewWebSocket returns a handler that calls handler for each connection, on a goroutine of its own, as Listener.Serve
// does.
func NewWebSocket(cfg WebSocketConfig, handler func(Conn)) (*WebSocket, error) {
	o, err := newOrigins(cfg.Origins, cfg.RequireOrigin)
	if err != nil {
		return nil, err
	}
	if cfg.Name == "" {
		cfg.Name = "websocket"
	}
	m, err := newMetrics(cfg.Registerer, cfg.Name)
	if err != nil {
		return nil, err
	}
	w := &WebSocket{cfg: cfg, owner: newOwner(m, Config{Log: cfg.Log, WriteTimeout: cfg.WriteTimeout}), origins: o}
	w.owner.handler = handler
	return w, nil
}

// Shutdown refuses new connections and waits for the handlers, as Listener.Shutdown does.
func (w *WebSocket) Shutdown(ctx context.Context) error { return w.owner.wait(ctx) }

// ServeHTTP answers 403 to an origin that is not allowed, 400 to a request that offers neither the sub-protocol "xmpp"
// nor ProtocolCompact, 503 after Shutdown, and otherwise 101. The connection leaves
// net/http at once: the goroutine of the request ends and its buffers are free.
func (w *WebSocket) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	switch {
	case w.owner.isStopping():
		w.refuse(rw, http.StatusServiceUnavailable, "stopping", "the server is stopping")
		return
	case r.ProtoMajor != 1:
		w.refuse(rw, http.StatusHTTPVersionNotSupported, "protocol", "WebSocket needs HTTP/1.1")
		return
	case !w.origins.allow(r.Header):
		w.refuse(rw, http.StatusForbidden, "origin", "origin not allowed")
		return
	case !offersSpoken(r.Header):
		w.refuse(rw, http.StatusBadRequest, "protocol", `the WebSocket sub-protocol "xmpp" or "`+ProtocolCompact+
			`" is required`)
		return
	}
	if c, ok := w.upgrade(rw, r); ok {
		go w.owner.serve(c)
	}
}

func (w *WebSocket) refuse(rw http.ResponseWriter, status int, reason, text string) {
	w.owner.metrics.refused(reason)
	http.Error(rw, text, status)
}

// offersSpoken reports whether the client names a sub-protocol that is spoken (RFC 6455 §11.3.4: a list, possibly over
// several headers).
func offersSpoken(h http.Header) bool {
	for _, line := range h["Sec-Websocket-Protocol"] {
		if slices.ContainsFunc(strings.Split(line, ","),
			func(s string) bool { return spoken(strings.TrimSpace(s)) != nil }) {
			return true
		}
	}
	return false
}

// upgrade answers 101, or what the request deserves, and takes the connection from net/http. The answer bears no
// extension: none is supported, compression least of all.
func (w *WebSocket) upgrade(rw http.ResponseWriter, r *http.Request) (*conn, bool) {
	v := visitorOf(r)
	u := ws.HTTPUpgrader{Timeout: w.owner.writeTimeout, Protocol: func(s string) bool { return spoken(s) != nil }}
	nc, buf, agreed, err := u.Upgrade(r, rw)
	var c *conn
	if err == nil {
		c, err = w.takeOver(nc, buf.Reader, spoken(agreed.Protocol), v)
	}
	if err == nil {
		return c, true
	}
	w.owner.log.Debug("no WebSocket", "remote", v.remote.Addr(), "err", err)
	w.owner.metrics.refused("protocol")
	if nc != nil {
		_ = nc.Close() // whether refused or not usable
	}
	return nil, false
}

// takeOver makes a connection of one that net/http has let go; what it has read too much is in rest. What the visitor
// was admitted to is the connection's then.
func (w *WebSocket) takeOver(nc net.Conn, rest *bufio.Reader, p *subprotocol, v *visitor) (*conn, error) {
	c, t, err := w.unwrap(nc)
	if err != nil {
		return nil, err
	}
	l := newWSLayer(p, w.cfg.MaxMessage)
	if n := rest.Buffered(); n > 0 {
		p, _ := rest.Peek(n) // cannot fail
		l.early = slices.Clone(p)
	}
	c.owner, c.ws, c.remote, c.relayed, c.fresh = w.owner, l, v.remote, v.relayed, false
	if t != nil {
		c.tls.Store(t)
	}
	if !w.owner.adopt(c) {
		return nil, net.ErrClosed
	}
	c.mu.Lock()
	c.release = joinRelease(v.release, c.release)
	c.mu.Unlock()
	v.release = nil
	return c, nil
}

// unwrap finds the socket below what net/http has had.
func (w *WebSocket) unwrap(nc net.Conn) (*conn, *tlsLayer, error) {
	switch v := nc.(type) {
	case *shim:
		c := v.c
		if len(v.in) > 0 {
			rest := slices.Clone(v.in)
			c.early = &rest
		}
		v.drop()
		return c, nil, nil
	case *net.TCPConn:
		src, err := newTCPSource(v, w.owner.pools)
		if err != nil {
			return nil, nil, err
		}
		return newConn(w.owner, src, netip.AddrPort{}), nil, nil
	case *tls.Conn:
		if s, ok := v.NetConn().(*shim); ok {
			s.mode = shimFed
			return s.c, &tlsLayer{conn: v, shim: s, local: s.local}, nil
		}
	}
	return newConn(w.owner, &anySource{conn: nc}, netip.AddrPort{}), nil, nil
}
