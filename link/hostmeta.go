package link

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// HostMetaConfig says what the documents of HostMeta point to. URLs come from here and never from a request, whose Host
// header anybody can choose.
type HostMetaConfig struct {
	// BaseURL is where clients reach this server's HTTP listener, "https://chat.example.com" or with a port; http only
	// makes sense on loopback.
	BaseURL string `yaml:"base_url"`
	// WebSocketPath is the path of the WebSocket there; "/xmpp-websocket" by default.
	WebSocketPath string `yaml:"websocket_path"`
}

// relWebSocket is the link relation of a WebSocket endpoint (XEP-0156 §3.1).
const relWebSocket = "urn:xmpp:alt-connections:websocket"

// HostMeta serves /.well-known/host-meta and /.well-known/host-meta.json: how to connect where there is no DNS to ask,
// as in a browser (XEP-0156 §3, RFC 6415). Every web page may read them (XEP-0156 §3.2 asks for the CORS header).
func HostMeta(cfg HostMetaConfig) (http.Handler, error) {
	href, err := cfg.webSocketURL()
	if err != nil {
		return nil, err
	}
	var attr bytes.Buffer
	if err := xml.EscapeText(&attr, []byte(href)); err != nil {
		return nil, fmt.Errorf("host-meta: %w", err)
	}
	xrd := fmt.Sprintf(
		"<?xml version='1.0' encoding='utf-8'?>\n<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\n"+
			"  <Link rel='%s' href='%s'/>\n</XRD>\n", relWebSocket, &attr)
	type link struct {
		Rel  string `json:"rel"`
		Href string `json:"href"`
	}
	jrd, err := json.Marshal(map[string][]link{"links": {{relWebSocket, href}}})
	if err != nil {
		return nil, fmt.Errorf("host-meta: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/.well-known/host-meta", document{"application/xrd+xml; charset=utf-8", []byte(xrd)})
	mux.Handle("/.well-known/host-meta.json", document{"application/json", jrd})
	return mux, nil
}

// webSocketURL is the base URL with the scheme of WebSockets and the path.
func (c HostMetaConfig) webSocketURL() (string, error) {
	u, err := url.Parse(c.BaseURL)
	if err != nil {
		return "", fmt.Errorf("host-meta: base URL: %w", err)
	}
	switch u.Scheme {
	case "https":
		u.Scheme = "wss"
	case "http":
		u.Scheme = "ws"
	default:
		return "", fmt.Errorf("host-meta: base URL %q: want https://host", c.BaseURL)
	}
	if u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("host-meta: base URL %q: want https://host", c.BaseURL)
	}
	path := c.WebSocketPath
	if path == "" {
		path = "/xmpp-websocket"
	}
	u.Path = strings.TrimRight(u.Path, "/") + "/" + strings.TrimLeft(path, "/")
	return u.String(), nil
}

// document is a page that never changes.
type document struct {
	kind string
	body []byte
}

func (d document) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		h.Set("Content-Type", d.kind)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "public, max-age=3600")
		_, _ = w.Write(d.body) // the client has gone; net/http leaves the body out for HEAD
	case http.MethodOptions:
		h.Set("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
		w.WriteHeader(http.StatusNoContent)
	default:
		h.Set("Allow", "GET, HEAD, OPTIONS")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
	}
}
