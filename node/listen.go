package node

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/limit"
	"github.com/posthouse-im/posthouse/link"
	"github.com/posthouse-im/posthouse/public/api"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// webSocketPath is where WebSockets are opened (RFC 7395; the path is ours, and host-meta tells it).
const webSocketPath = "/xmpp-websocket"

// admissions connects the throttle's view of a connection with its login: unauthenticated connections are counted
// apart.
type admissions struct {
	connections     *auth.Connections
	unauthenticated sync.Map // netip.AddrPort of a connection that has not logged in → *auth.Admission
}

// admit is link.Config.Admit.
func (d *admissions) admit(client netip.AddrPort) (release func(), ok bool) {
	return d.hold(client, d.connections.Admit)
}

// admitRequest is link.Visitors.AdmitRequest.
func (d *admissions) admitRequest(client netip.AddrPort) (release func(), ok bool) {
	return d.hold(client, d.connections.AdmitRequest)
}

func (d *admissions) hold(client netip.AddrPort, admit func(netip.Addr) (*auth.Admission, bool)) (release func(),
	ok bool) {
	admission, ok := admit(client.Addr())
	if !ok {
		return nil, false
	}
	d.unauthenticated.Store(client, admission)
	return func() {
		d.unauthenticated.CompareAndDelete(client, admission)
		admission.Release()
	}, true
}

// authenticated is c2s.Config.Authenticated.
func (d *admissions) authenticated(l link.Conn) { d.authenticatedAddress(l.Remote()) }

// authenticatedAddress tells that the connection from there has logged in.
func (d *admissions) authenticatedAddress(client netip.AddrPort) {
	if admission, ok := d.unauthenticated.LoadAndDelete(client); ok {
		admission.(*auth.Admission).Authenticated()
	}
}

// addListeners opens all sockets. They are closed first when the node stops, and connections end with the clients part.
func (a *assembly) addListeners(ctx context.Context) error {
	a.admitted.connections = a.auth.Connections()
	gate := link.NewGate()
	listen := a.Config.Listen
	for _, kind := range []struct {
		name      string
		mode      link.Mode
		protocol  string
		addresses []string
		proxies   []Prefixed
	}{
		{"xmpp", link.ModePlain, "", listen.XMPP.Address, listen.XMPP.ProxyFrom},
		{"xmpp_tls", link.ModeTLS, "", listen.XMPPTLS.Address, listen.XMPPTLS.ProxyFrom},
		{"compact", link.ModePlain, link.ProtocolCompact, listen.Compact.Address, listen.Compact.ProxyFrom},
	} {
		for _, address := range kind.addresses {
			c := a.linkConfig(kind.name, address, kind.mode, gate)
			c.TLS = a.directTLS.Load
			c.Protocol = kind.protocol
			c.TrustedProxies = Networks(kind.proxies)
			a.Group.Add(a.streamPart(kind.name, c))
		}
	}
	return a.addWeb(gate)
}

// developmentHandshake is how long a handshake may take with the development certificate: clients ask people about it
// in the middle of the handshake.
const developmentHandshake = time.Minute

// handshakeTimeout is that of the setting or, when it was left alone and the certificate is the development one, the
// time for that.
func (a *assembly) handshakeTimeout() time.Duration {
	var unset link.Config
	defaults.Fill(&unset)
	configured := a.Config.Link.HandshakeTimeout
	if a.selfMade && (configured == 0 || configured == unset.HandshakeTimeout) {
		return developmentHandshake
	}
	return configured
}

// linkConfig is what all public listeners have in common.
func (a *assembly) linkConfig(kind, address string, mode link.Mode, gate *limit.Gate) link.Config {
	c := a.Config.Link
	c.Address = address
	c.Mode = mode
	c.Name = kind + " " + address
	c.HandshakeTimeout = a.handshakeTimeout()
	c.Gate = gate
	c.Admit = a.admitted.admit
	c.Registerer = a.Registry
	c.Log = a.Log
	return c
}

// codec chooses what is spoken on a link: what was agreed on by ALPN or as a WebSocket's sub-protocol, or what its
// listener is for. XML otherwise.
func codec(l link.Conn) (stream.Decoder, stream.Codec) {
	switch compact := l.Protocol() == link.ProtocolCompact; {
	case compact && l.Framed():
		return pbstream.NewFramedDecoder(stream.Limits{}), pbstream.Codec{}
	case compact:
		return pbstream.NewDecoder(stream.Limits{}), pbstream.Codec{}
	case l.Framed():
		return xmlstream.NewFramedDecoder(stream.Limits{}), xmlstream.Framed{}
	}
	return xmlstream.NewDecoder(stream.Limits{}), xmlstream.XML{}
}

// confidential is c2s.Config.Secure: it is TLS, here or at the proxy in front. Whoever is named in proxy_from of a
// listener that has no TLS at all does it: that is what it was named for. On the listener with STARTTLS, TLS is between
// the client and us.
func confidential(l link.Conn) bool {
	relay, ok := l.(link.Relay)
	return l.TLS() != nil || ok && relay.Relayed() && (l.Framed() || l.Protocol() == link.ProtocolCompact)
}

// streamPart is one listener for streams, XML or compact.
func (a *assembly) streamPart(kind string, c link.Config) Part {
	var l *link.Listener
	ended := make(chan struct{})
	return Part{
		Name: kind + " listener",
		Start: func(ctx context.Context, fail func(error)) (err error) {
			if l, err = link.Listen(ctx, c); err != nil {
				return ListenError(c.Address, err)
			}
			a.listeners = append(a.listeners, l)
			a.Announce(Listening{Kind: kind, Address: l.Addr().String()})
			go func() { // ends with Close
				defer close(ended)
				if err := l.Serve(context.Background(),
					func(conn link.Conn) { a.clients.Serve(context.Background(), conn) }); err != nil {
					fail(err)
				}
			}()
			return nil
		},
		Stop: func(context.Context) error {
			_ = l.Close() // it may have failed before
			<-ended
			return nil
		},
	}
}

// addWeb adds the public HTTP listeners: WebSockets and host-meta.
func (a *assembly) addWeb(gate *limit.Gate) (err error) {
	h := a.Config.Listen.HTTP
	if len(h.Address) == 0 {
		return nil
	}
	a.web, err = link.NewWebSocket(link.WebSocketConfig{
		Origins: h.Origins, WriteTimeout: a.Config.Link.WriteTimeout, Registerer: a.Registry, Log: a.Log,
	}, func(conn link.Conn) { a.clients.Serve(context.Background(), conn) })
	if err != nil {
		return err
	}
	mode, scheme := link.ModePlain, "http"
	if h.TLS {
		mode, scheme = link.ModeTLS, "https"
	}
	base := h.BaseURL
	if base == "" {
		base = scheme + "://" + h.Address[0]
	}
	meta, err := link.HostMeta(link.HostMetaConfig{BaseURL: base, WebSocketPath: webSocketPath})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+webSocketPath, a.web)
	mux.Handle("/.well-known/", meta)
	visitors := link.Visitors{
		Proxies:      Networks(h.ProxyFrom),
		Admit:        a.admitted.admit,
		AdmitRequest: a.admitted.admitRequest,
		Refuse:       a.refuseVisitor,
	}
	for _, address := range h.Address {
		c := a.linkConfig("http", address, mode, gate)
		c.TLS = a.webTLS.Load
		c.Admit = visitors.AdmitConnection
		a.Group.Add(a.webPart(scheme, c, visitors.Handler(a.webHandler(mux))))
	}
	return nil
}

// webHandler gives the API's requests to the API, before a mux could change their paths. Over TLS, every answer tells
// browsers to come by TLS only (RFC 6797 §7.1), except with the development certificate: its name is most often
// localhost, where other programs listen too. A proxy that does TLS says it itself.
func (a *assembly) webHandler(rest http.Handler) http.Handler {
	strict := a.Config.Listen.HTTP.TLS && a.Config.TLS.Certificate != ""
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strict {
			w.Header().Set("Strict-Transport-Security", "max-age=31536000")
		}
		if api.Owns(r) {
			a.api.ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
}

// refuseVisitor is link.Visitors.Refuse.
func (a *assembly) refuseVisitor(w http.ResponseWriter, r *http.Request, status int, text string) {
	a.Log.Debug("request refused", "peer", r.RemoteAddr, "status", status, "reason", text)
	if api.Owns(r) {
		a.api.Refuse(w, r, status, text)
		return
	}
	http.Error(w, text, status)
}

// webPart is one listener for HTTP.
func (a *assembly) webPart(kind string, c link.Config, handler http.Handler) Part {
	server := NewHTTPServer(handler, a.Log)
	server.RegisterOnShutdown(a.api.Stop)
	var l *link.Listener
	return Part{
		Name: kind + " listener",
		Start: func(ctx context.Context, fail func(error)) (err error) {
			if l, err = link.Listen(ctx, c); err != nil {
				return ListenError(c.Address, err)
			}
			a.webListeners = append(a.webListeners, l)
			a.Announce(Listening{Kind: kind, Address: l.Addr().String()})
			go serve(server, l, fail) // ends with stopServer
			return nil
		},
		Stop:   func(ctx context.Context) error { return stopServer(ctx, server) },
		Within: webShutdown,
	}
}

// webShutdown bounds waiting for requests that are being answered; WebSockets have left net/http by then.
const webShutdown = 5 * time.Second
