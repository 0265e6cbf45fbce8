package link

import (
	"encoding/json"
	"encoding/xml"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHostMeta(t *testing.T) {
	h, err := HostMeta(HostMetaConfig{BaseURL: "https://chat.example.com:5443/"})
	require.NoError(t, err)
	const want = "wss://chat.example.com:5443/xmpp-websocket"
	get := func(method, path string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, nil)
		r.Host = "evil.example"
		r.Header.Set("X-Forwarded-Host", "evil.example") // reliability row A117
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
		require.NotContains(t, w.Body.String(), "evil")
		return w
	}
	var xrd struct {
		XMLName xml.Name `xml:"http://docs.oasis-open.org/ns/xri/xrd-1.0 XRD"`
		Link    []struct {
			Rel  string `xml:"rel,attr"`
			Href string `xml:"href,attr"`
		}
	}
	w := get("GET", "/.well-known/host-meta")
	require.Equal(t, 200, w.Code)
	require.Contains(t, w.Header().Get("Content-Type"), "application/xrd+xml")
	require.NoError(t, xml.Unmarshal(w.Body.Bytes(), &xrd))
	require.Len(t, xrd.Link, 1)
	require.Equal(t, "urn:xmpp:alt-connections:websocket", xrd.Link[0].Rel)
	require.Equal(t, want, xrd.Link[0].Href)

	var jrd struct {
		Links []struct{ Rel, Href string }
	}
	w = get("GET", "/.well-known/host-meta.json")
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &jrd))
	require.Len(t, jrd.Links, 1)
	require.Equal(t, "urn:xmpp:alt-connections:websocket", jrd.Links[0].Rel)
	require.Equal(t, want, jrd.Links[0].Href)

	require.Equal(t, 204, get("OPTIONS", "/.well-known/host-meta.json").Code)
	require.Equal(t, 405, get("POST", "/.well-known/host-meta").Code)
	require.Equal(t, 200, get("HEAD", "/.well-known/host-meta").Code)
}

func TestHostMetaURLs(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  HostMetaConfig
		want string // "" for an error
	}{
		"loopback": {HostMetaConfig{BaseURL: "http://localhost:5280", WebSocketPath: "ws"},
			"ws://localhost:5280/ws"},
		"path": {HostMetaConfig{BaseURL: "https://example.com/chat/", WebSocketPath: "/ws"},
			"wss://example.com/chat/ws"},
		"empty":       {HostMetaConfig{}, ""},
		"no scheme":   {HostMetaConfig{BaseURL: "example.com"}, ""},
		"ftp":         {HostMetaConfig{BaseURL: "ftp://example.com"}, ""},
		"no host":     {HostMetaConfig{BaseURL: "https:///x"}, ""},
		"user":        {HostMetaConfig{BaseURL: "https://a@example.com"}, ""},
		"query":       {HostMetaConfig{BaseURL: "https://example.com?x"}, ""},
		"unparseable": {HostMetaConfig{BaseURL: "https://exa mple.com\x7f"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.cfg.webSocketURL()
			if c.want == "" {
				require.Error(t, err)
				_, err = HostMeta(c.cfg)
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}
