package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/posthouse-im/posthouse/node/settings"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// Prefixed is a network in CIDR form, such as 10.0.0.0/8. A single address stands for itself.
type Prefixed struct{ netip.Prefix }

// UnmarshalText reads a network or an address. IPv4 mapped into IPv6 is unmapped, so that it is compared as what it is.
func (p *Prefixed) UnmarshalText(text []byte) error {
	s := string(text)
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		p.Prefix = netip.PrefixFrom(addr, addr.BitLen())
		return nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return errors.New("it is neither a network such as 10.0.0.0/8 nor an address")
	}
	if prefix.Addr().Is4In6() {
		return errors.New("write the IPv4 network as such, and not mapped into IPv6")
	}
	if prefix != prefix.Masked() {
		return fmt.Errorf("it has bits beyond its length; %s is meant, perhaps", prefix.Masked())
	}
	p.Prefix = prefix
	return nil
}

// SettingType names the type for people.
func (Prefixed) SettingType() string { return "network" }

// Networks returns the plain prefixes.
func Networks(list []Prefixed) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, p := range list {
		out[i] = p.Prefix
	}
	return out
}

// Validate checks what no single setting can show. It is called by the loader.
func (c *Config) Validate() error {
	return errors.Join(c.validateDomain(), c.validateListeners(), c.validateTLS(),
		c.validateCompact(), c.validateHTTP())
}

func (c *Config) validateDomain() error {
	address, err := jid.Parse(c.Domain)
	if err != nil || address.Local() != "" || address.Resource() != "" {
		return invalid("domain", fmt.Sprintf("%q is not a domain name", c.Domain),
			"give the part that stands after the @, such as example.org")
	}
	if address.String() != c.Domain {
		return invalid("domain", fmt.Sprintf("%q is not in canonical form", c.Domain), "write it as "+address.String())
	}
	if c.Data == "" {
		return invalid("data", "the data folder is empty", "name a folder, such as /var/lib/posthouse")
	}
	return nil
}

// listeners returns every listener's setting with its addresses.
func (c *Config) listeners() []listenerSetting {
	return []listenerSetting{
		{"listen.xmpp.address", c.Listen.XMPP.Address},
		{"listen.xmpp_tls.address", c.Listen.XMPPTLS.Address},
		{"listen.compact.address", c.Listen.Compact.Address},
		{"listen.http.address", c.Listen.HTTP.Address},
		{"listen.metrics.address", c.Listen.Metrics.Address},
	}
}

type listenerSetting struct {
	setting   string
	addresses []string
}

func (c *Config) validateListeners() error {
	var all []error
	taken := make(map[string]string)
	for _, l := range c.listeners() {
		for _, address := range l.addresses {
			host, port, err := net.SplitHostPort(address)
			if err == nil && host != "" && host != "localhost" {
				_, err = netip.ParseAddr(host)
			}
			if err == nil && strings.Trim(port, "0123456789") != "" || err == nil && port == "" {
				err = errors.New("bad port")
			}
			if err != nil {
				all = append(all, invalid(l.setting, fmt.Sprintf("%q is not an address to listen on", address),
					"write an IP address and a port, such as 127.0.0.1:5222, [::]:5222, or :5222 for all interfaces"))
				continue
			}
			if other, ok := taken[address]; ok && port != "0" {
				all = append(all, invalid(l.setting, fmt.Sprintf("%s is taken already by %s", address, other),
					"give each listener a port of its own"))
			}
			taken[address] = l.setting
		}
	}
	return errors.Join(all...)
}

func (c *Config) validateTLS() error {
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		missing := "tls.key"
		if c.TLS.Certificate == "" {
			missing = "tls.certificate"
		}
		return invalid(missing, "a certificate and its key belong together, and one is missing",
			"set tls.certificate and tls.key, or neither")
	}
	if c.TLS.Certificate != "" || c.TLS.SelfSigned {
		return nil
	}
	for _, l := range c.listeners()[:2] {
		for _, address := range l.addresses {
			if !Loopback(address) {
				return invalid(
					l.setting, fmt.Sprintf("%s can be reached from other machines, and there is no certificate",
						address),
					"set tls.certificate and tls.key; or, to try things out, tls.self_signed: true")
			}
		}
	}
	return nil
}

// validateCompact keeps the listener that has no TLS from other machines, unless there is something in between that
// has.
func (c *Config) validateCompact() error {
	if len(c.Listen.Compact.ProxyFrom) > 0 {
		return nil
	}
	for _, address := range c.Listen.Compact.Address {
		if !Loopback(address) {
			return invalid("listen.compact.address", address+" can be reached from other machines, and has no TLS",
				"let clients connect to listen.xmpp_tls, which speaks the compact stream too; or, behind a load "+
					"balancer that does TLS, set listen.compact.proxy_from")
		}
	}
	return nil
}

// web reports whether text is the address of a web site and nothing more.
func web(text string, path bool) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil &&
		(path || u.Path == "") && u.RawQuery == "" && u.Fragment == ""
}

func (c *Config) validateHTTP() error {
	for _, origin := range c.Listen.HTTP.Origins {
		if origin != "*" && !web(origin, false) {
			return invalid("listen.http.origins", fmt.Sprintf("%q is not a web origin", origin),
				"write scheme and host only, such as https://chat.example.org")
		}
	}
	if base := c.Listen.HTTP.BaseURL; base != "" && !web(base, true) {
		return invalid("listen.http.base_url", fmt.Sprintf("%q is not the address of a web site", base),
			"write it as https://chat.example.org")
	}
	if c.Listen.HTTP.TLS || len(c.Listen.HTTP.ProxyFrom) > 0 {
		return nil
	}
	for _, address := range c.Listen.HTTP.Address {
		if !Loopback(address) {
			return invalid("listen.http.address", address+" can be reached from other machines without TLS",
				"set listen.http.tls: true; or, behind a reverse proxy that does HTTPS, its addresses in "+
					"listen.http.proxy_from")
		}
	}
	return nil
}

// Loopback reports whether a listening address can be reached from this machine only.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func invalid(path, what, advice string) error {
	return &settings.Invalid{Path: path, What: what, Advice: advice}
}
