package link

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// Visitors finds out who sent a request: the peer of the connection, or whom a trusted proxy names. What comes through
// a proxy is admitted by that address, a request while it is served and a WebSocket while it is open: all connections
// of a proxy are the proxy's own, and say nothing of whom they are for.
type Visitors struct {
	// Proxies are the HTTP proxies whose X-Forwarded-For is believed. The header is required to be well formed. Other
	// headers that name clients are never read, such as Forwarded: a proxy passes on, as the client wrote it, the one
	// that it does not write itself.
	Proxies []netip.Prefix
	// Admit is asked about connections and about WebSockets that come through a proxy, and AdmitRequest about other
	// requests that do, many of which may belong to one connection of the client. See Config.Admit; nil admits all.
	Admit, AdmitRequest func(netip.AddrPort) (release func(), ok bool)
	// Refuse answers with a status, and a text for people.
	Refuse func(w http.ResponseWriter, r *http.Request, status int, text string)
}

// visitor is who sent a request.
type visitor struct {
	remote  netip.AddrPort
	relayed bool   // a trusted proxy sent it for somebody else
	release func() // gives back what it was admitted to; nil: there is nothing, or a WebSocket has taken it
}

type visitorKey struct{}

func visitorOf(r *http.Request) *visitor {
	if v, ok := r.Context().Value(visitorKey{}).(*visitor); ok {
		return v
	}
	return &visitor{remote: peerOf(r)}
}

// peerOf is the peer of the connection; not valid on a connection that is no TCP.
func peerOf(r *http.Request) netip.AddrPort {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	return netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
}

// Client returns who sent a request that came through Visitors.Handler; the peer of the connection otherwise.
func Client(r *http.Request) netip.AddrPort { return visitorOf(r).remote }

// Relayed reports whether a trusted proxy sent the request for somebody else.
func Relayed(r *http.Request) bool { return visitorOf(r).relayed }

// AdmitConnection is for Config.Admit of the listener: a proxy's connections are not counted.
func (v *Visitors) AdmitConnection(peer netip.AddrPort) (release func(), ok bool) {
	if v.Admit == nil || contains(v.Proxies, peer.Addr()) {
		return nil, true
	}
	return v.Admit(peer)
}

// Handler calls next with requests whose sender is known and admitted. It answers 400 when a trusted proxy's header is
// malformed, and 429 when the throttle refuses.
func (v *Visitors) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := &visitor{remote: peerOf(r)}
		if contains(v.Proxies, at.remote.Addr()) {
			at.relayed = true
			var err error
			if at.remote, err = forwarded(at.remote, r.Header, v.Proxies); err != nil {
				v.Refuse(w, r, http.StatusBadRequest, err.Error())
				return
			}
			admit := v.AdmitRequest
			if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
				admit = v.Admit
			}
			if admit != nil {
				var ok bool
				if at.release, ok = admit(at.remote); !ok {
					v.Refuse(w, r, http.StatusTooManyRequests, "too many connections")
					return
				}
			}
			defer func() {
				if at.release != nil {
					at.release()
				}
			}()
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), visitorKey{}, at)))
	})
}

// forwarded returns the address of the client behind the proxies that are trusted: in X-Forwarded-For every proxy has
// added, on the right, whom it was called by, so the last address that is not a trusted proxy's is the last that
// somebody trusted has seen. What stands left of it is the client's own, and is not looked at. Without the header, the
// proxy speaks for itself. The client's port is not told; that of the proxy's connection stands for it, so that two
// connections of one client have different addresses.
func forwarded(peer netip.AddrPort, h http.Header, trusted []netip.Prefix) (netip.AddrPort, error) {
	last := peer
	if len(h["X-Forwarded-For"]) == 0 {
		return last, nil
	}
	list := strings.Split(strings.Join(h["X-Forwarded-For"], ","), ",")
	for i := len(list) - 1; i >= 0; i-- {
		text := strings.TrimSpace(list[i])
		a, err := netip.ParseAddr(text)
		if err != nil { // some proxies add the port
			var with netip.AddrPort
			with, err = netip.ParseAddrPort(text)
			a = with.Addr()
		}
		if err != nil || a.Zone() != "" {
			return netip.AddrPort{}, fmt.Errorf("X-Forwarded-For: %.64q is not an IP address", text)
		}
		last = netip.AddrPortFrom(a.Unmap(), peer.Port())
		if !contains(trusted, last.Addr()) {
			break
		}
	}
	return last, nil
}
