// Package node is the composition root. It reads the configuration, creates the parts of a node, passes them to each
// other, starts them in order and stops them in reverse order.
//
// It makes no decisions about messages. It owns what a process has once: the lock on the data folder, the certificate,
// the private listener with health and metrics, the log and the signals. Every goroutine here belongs to a [Part] of
// the [Group], which stops it.
package node

import (
	"time"

	"github.com/posthouse-im/posthouse/domain/archive"
	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/domain/c2s"
	"github.com/posthouse-im/posthouse/domain/conversation"
	"github.com/posthouse-im/posthouse/domain/device"
	"github.com/posthouse-im/posthouse/domain/local"
	"github.com/posthouse-im/posthouse/domain/roster"
	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/inbox"
	"github.com/posthouse-im/posthouse/link"
	"github.com/posthouse-im/posthouse/node/settings"
	"github.com/posthouse-im/posthouse/public/api"
	"github.com/posthouse-im/posthouse/public/uplink"
	"github.com/posthouse-im/posthouse/store/pebble"
	"github.com/posthouse-im/posthouse/token"
)

// Prefix begins the name of every environment variable that is a setting.
const Prefix = "POSTHOUSE_"

// Config is the whole configuration of a node. The zero value is not ready: [LoadConfig] fills in the defaults.
type Config struct {
	// Data is the data folder: accounts, messages, and the development certificate. It is made when it is missing,
	// readable by the owner only. One process can use it at a time. A relative path begins at the working directory.
	Data string `yaml:"data" default:"data"`
	// Domain is what stands after the @ in the addresses of this node.
	Domain string `yaml:"domain" default:"localhost"`
	// Durability says what an acknowledgement means. With full, a message was flushed to disk before its sender hears
	// of it, and survives a power cut. With relaxed it survives the end of the process, and a power cut may lose the
	// last messages; health and the log say so.
	Durability string `yaml:"durability" default:"full" enum:"full,relaxed"`
	// Registration lets clients make accounts for themselves (XEP-0077) when it is open.
	Registration string `yaml:"registration" default:"closed" enum:"closed,open"`
	// Listen says where the node listens.
	Listen ListenConfig `yaml:"listen"`
	// TLS is the certificate of the domain.
	TLS TLSConfig `yaml:"tls"`
	// Auth says who may log in, and how.
	Auth auth.Config `yaml:"auth"`
	// Tokens are what devices and other systems show to the API.
	Tokens token.Config `yaml:"tokens"`
	// Device bounds requests about devices and for tokens.
	Device device.Config `yaml:"device"`
	// C2S bounds what one client may do.
	C2S c2s.Config `yaml:"c2s" hide:"registration"`
	// Session bounds what is held for those who are connected.
	Session session.Config `yaml:"session"`
	// Roster bounds contact lists.
	Roster roster.Config `yaml:"roster"`
	// Local is how messages, presence and requests reach the accounts of the domain.
	Local local.Config `yaml:"local"`
	// Delivery bounds what was stored and waits to be delivered.
	Delivery router.Config `yaml:"delivery"`
	// Service is what the domain says of itself.
	Service service.Config `yaml:"service"`
	// Archive is how messages are stored and read.
	Archive archive.Config `yaml:"archive"`
	// Conversations bounds what accounts choose for their conversations and show of themselves.
	Conversations conversation.Config `yaml:"conversations"`
	// Inbox is how much a first sync tells.
	Inbox inbox.Config `yaml:"inbox"`
	// API bounds what one token or address may ask of the HTTP API.
	API api.Config `yaml:"api"`
	// Uplink is the way of the HTTP API into the domain.
	Uplink uplink.Config `yaml:"uplink"`
	// Messages is the engine of the message log.
	Messages pebble.Options `yaml:"messages" hide:"durability"`
	// Link bounds what one connection may cost before anything is known of it; it holds for every public listener.
	Link link.Config `yaml:"link" hide:"address,mode,trusted_proxies"`
	// Log says what is written to standard error, and how.
	Log LogConfig `yaml:"log"`
	// Shutdown bounds the orderly end of the node.
	Shutdown ShutdownConfig `yaml:"shutdown"`
}

// ListenConfig says where the node listens. Defaults are on the loopback interface only.
type ListenConfig struct {
	// XMPP is for clients that begin in the clear and switch to TLS (STARTTLS).
	XMPP XMPPListener `yaml:"xmpp"`
	// XMPPTLS is for clients that begin with TLS (XEP-0368); what they speak, XML or the compact stream, is agreed on
	// by ALPN.
	XMPPTLS XMPPTLSListener `yaml:"xmpp_tls"`
	// Compact is for clients of the compact stream, without TLS. With TLS they connect to listen.xmpp_tls, and by
	// WebSocket to listen.http.
	Compact CompactListener `yaml:"compact"`
	// HTTP is for the API, WebSocket clients and host-meta discovery.
	HTTP HTTPListener `yaml:"http"`
	// Metrics is the private listener: health, metrics, profiles. It has no passwords, so it belongs on the loopback
	// interface or a private network.
	Metrics MetricsListener `yaml:"metrics"`
}

// XMPPListener is the plain TCP listener with STARTTLS.
type XMPPListener struct {
	// Address lists host:port pairs; an empty list turns the listener off.
	Address []string `yaml:"address" default:"127.0.0.1:5222"`
	// ProxyFrom lists networks of load balancers that put the PROXY protocol in front of each connection (version 1 or
	// 2). From there it is required; from anywhere else it is refused.
	ProxyFrom []Prefixed `yaml:"proxy_from"`
}

// CompactListener is the plain TCP listener for compact streams (docs/protocol/compact.md).
type CompactListener struct {
	// Address lists host:port pairs; an empty list turns the listener off. There is no TLS here, so it belongs on the
	// loopback interface, or behind a load balancer that does TLS.
	Address []string `yaml:"address" default:"127.0.0.1:5225"`
	// ProxyFrom lists networks of load balancers that do TLS and put the PROXY protocol in front of each connection
	// (version 1 or 2). From there it is required; from anywhere else it is refused, and from other machines nobody can
	// log in.
	ProxyFrom []Prefixed `yaml:"proxy_from"`
}

// XMPPTLSListener is the direct TLS listener: for XML and, where the client asks for it by ALPN, for compact streams.
type XMPPTLSListener struct {
	// Address lists host:port pairs; an empty list turns the listener off.
	Address []string `yaml:"address" default:"127.0.0.1:5223"`
	// ProxyFrom is as for listen.xmpp.
	ProxyFrom []Prefixed `yaml:"proxy_from"`
}

// HTTPListener is the public HTTP listener.
type HTTPListener struct {
	// Address lists host:port pairs; an empty list turns the listener off.
	Address []string `yaml:"address" default:"127.0.0.1:5280"`
	// TLS makes it an HTTPS listener with the node's certificate. Without it, it belongs behind a reverse proxy that
	// does HTTPS, or on the loopback interface.
	TLS bool `yaml:"tls"`
	// ProxyFrom lists networks of reverse proxies whose X-Forwarded-For header is believed, and from which requests
	// without TLS are taken. Limits and throttles then go by the last address in it that is not a proxy's. Other
	// headers, such as Forwarded, are not read.
	ProxyFrom []Prefixed `yaml:"proxy_from"`
	// Origins lists the web origins, such as https://chat.example.org, whose pages may open a WebSocket and use the
	// API. Clients that are not browsers send no origin and need no entry.
	Origins []string `yaml:"origins"`
	// BaseURL is where clients reach this listener, such as https://chat.example.org, when that is not its address:
	// behind a reverse proxy. Host-meta (XEP-0156) tells it to web clients.
	BaseURL string `yaml:"base_url"`
}

// MetricsListener is the private listener.
type MetricsListener struct {
	// Address lists host:port pairs; an empty list turns the listener off.
	Address []string `yaml:"address" default:"127.0.0.1:5290"`
	// Profiles also serves Go's profiles (/debug/pprof/), which show what is in memory to whoever can reach the
	// listener.
	Profiles bool `yaml:"profiles"`
}

// TLSConfig is the certificate of the domain.
type TLSConfig struct {
	// Certificate is a PEM file with the certificate of the domain and its chain, leaf first. Without it, and with all
	// listeners on loopback, the node makes itself one for development. The file is read again when it changes, and on
	// SIGHUP.
	Certificate string `yaml:"certificate"`
	// Key is the PEM file with the private key. Nobody but its owner, and a group for reading, may have access to it.
	Key string `yaml:"key" secret:"file"`
	// SelfSigned makes the development certificate also when a listener is not on loopback. Clients will warn, rightly.
	SelfSigned bool `yaml:"self_signed"`
}

// LogConfig says what is written to standard error.
type LogConfig struct {
	// Level is the least important kind of line that is written.
	Level string `yaml:"level" default:"info" enum:"debug,info,warn,error"`
	// Format is text for people or json for machines; auto takes text on a terminal.
	Format string `yaml:"format" default:"auto" enum:"auto,text,json"`
}

// ShutdownConfig bounds the orderly end.
type ShutdownConfig struct {
	// Timeout is how long the node takes at most from SIGTERM to its end: to finish what was accepted, tell clients and
	// close.
	Timeout time.Duration `yaml:"timeout" default:"25s" min:"1s" max:"10m"`
}

// LoadConfig reads the configuration from defaults, file, environment and flags, in rising precedence.
// file may be "". config must not be used when there are problems.
func LoadConfig(file string, environ []string, flags []settings.Assignment) (config Config, loaded *settings.Loaded,
	problems settings.Problems) {
	loaded, problems = settings.Load(&config, settings.Sources{
		File: file, Prefix: Prefix, Environ: environ, Reserved: []string{Prefix + "CONFIG"}, Flags: flags,
		Removed: map[string]string{
			"auth.admins": "make accounts administrators with: posthouse user admin NAME on; and remove the setting",
		},
	})
	return config, loaded, problems
}
