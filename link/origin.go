package link

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// origins decides which web pages may open a WebSocket (RFC 6455 §10.2; a page of somebody else must not use what its
// visitor's browser may reach).
type origins struct {
	any     bool
	require bool
	list    map[string]struct{} // in the form of canonicalOrigin
}

func newOrigins(allowed []string, require bool) (*origins, error) {
	o := &origins{require: require, list: make(map[string]struct{}, len(allowed))}
	for _, s := range allowed {
		if s == "*" {
			o.any = true
			continue
		}
		c, ok := canonicalOrigin(s)
		if !ok {
			return nil, fmt.Errorf("allowed origin %q: want https://host or https://host:port", s)
		}
		o.list[c] = struct{}{}
	}
	return o, nil
}

// allow reports whether a request with these headers may go on.
func (o *origins) allow(h http.Header) bool {
	values := h["Origin"]
	switch len(values) {
	case 0:
		return !o.require
	case 1:
	default:
		return false
	}
	c, ok := canonicalOrigin(values[0])
	if !ok {
		return false // also "null", the origin of pages that have none
	}
	if o.any {
		return true
	}
	_, ok = o.list[c]
	return ok
}

// canonicalOrigin returns scheme, host and port of an origin in one spelling (RFC 6454 §6.2): lower case, without the
// port that the scheme implies.
func canonicalOrigin(s string) (string, bool) {
	u, err := url.Parse(s)
	if err != nil || u.Opaque != "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" ||
		strings.ContainsAny(s, "?#@\\") {
		return "", false
	}
	scheme, host, port := strings.ToLower(u.Scheme), strings.ToLower(u.Hostname()), u.Port()
	if host == "" || strings.HasSuffix(u.Host, ":") {
		return "", false
	}
	switch scheme {
	case "https":
		if port == "443" {
			port = ""
		}
	case "http":
		if port == "80" {
			port = ""
		}
	default:
		return "", false
	}
	if port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
			return "", false
		}
		port = ":" + port
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return scheme + "://" + host + port, true
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
