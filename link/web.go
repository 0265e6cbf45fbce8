package link

import (
	"net/http"
	"net/netip"
)

// Client returns who sent a request: the peer of the connection or, behind proxies that are trusted, whom they name
// (X-Forwarded-For).
func Client(r *http.Request, trusted []netip.Prefix) netip.AddrPort {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr) // not valid on a connection that is no TCP
	return forwarded(netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()), r.Header, trusted)
}

// Origins decides which web pages may use what a browser can reach.
type Origins struct{ list *origins }

// NewOrigins returns a list of allowed origins, such as https://chat.example.org; "*" allows all.
func NewOrigins(allowed []string) (*Origins, error) {
	list, err := newOrigins(allowed, false)
	return &Origins{list}, err
}

// Allow reports whether a request comes from an allowed page, or from no page at all.
func (o *Origins) Allow(h http.Header) bool { return o.list.allow(h) }
