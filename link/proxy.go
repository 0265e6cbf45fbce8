package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The PROXY protocol, versions 1 and 2 (haproxy.org, doc/proxy-protocol.txt, §2): a header before all other bytes, in
// which a balancer says for whom it connects.

const (
	proxyV1Max = 107 // longest line of version 1 with its CRLF
	// longest header of version 2 that we read; addresses take 52, the rest are extensions that we skip
	proxyV2Max = 16 + (2 << 10)
	proxyV1    = "PROXY "                 // what a line begins with
	proxyV2    = "\r\n\r\n\x00\r\nQUIT\n" // what a binary header begins with
)

var (
	errForged      = errors.New("PROXY protocol header from a peer that is not a trusted proxy")
	errShortHeader = errors.New("PROXY protocol header is not complete")
	errBadHeader   = errors.New("malformed PROXY protocol header")
	errNotAdmitted = errors.New("connection refused by the throttle")
)

// beginsProxyHeader reports whether p, the first bytes of a connection, begins with a header of either version.
func beginsProxyHeader(p []byte) bool {
	return bytes.HasPrefix(p, []byte(proxyV1)) || bytes.HasPrefix(p, []byte(proxyV2))
}

// parseProxyHeader reads the header that b begins with and returns the source address in it and the header's length.
// The address is not valid when the header does not name one; then the peer speaks for itself. It returns
// errShortHeader when b may be the beginning of a header.
func parseProxyHeader(b []byte) (netip.AddrPort, int, error) {
	switch {
	case len(b) > 0 && b[0] == proxyV2[0]:
		return parseProxyV2(b)
	case strings.HasPrefix(proxyV1, string(b[:min(len(b), len(proxyV1))])):
		return parseProxyV1(b)
	}
	return netip.AddrPort{}, 0, errBadHeader
}

func parseProxyV1(b []byte) (src netip.AddrPort, n int, err error) {
	line, _, whole := bytes.Cut(b[:min(len(b), proxyV1Max)], []byte("\r\n"))
	if !whole {
		if len(b) >= proxyV1Max {
			return src, 0, errBadHeader
		}
		return src, 0, errShortHeader
	}
	n = len(line) + 2
	if bytes.ContainsAny(line, "\r\n\x00") {
		return src, 0, errBadHeader
	}
	f := strings.Split(string(line), " ")
	if len(f) >= 2 && f[1] == "UNKNOWN" {
		return src, n, nil
	}
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return src, 0, errBadHeader
	}
	src, err = parseProxyAddr(f[1], f[2], f[4])
	if err == nil {
		_, err = parseProxyAddr(f[1], f[3], f[5])
	}
	if err != nil {
		return netip.AddrPort{}, 0, err
	}
	return src, n, nil
}

func parseProxyAddr(family, addr, port string) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(addr)
	if err != nil || a.Zone() != "" || a.Is4() != (family == "TCP4") {
		return netip.AddrPort{}, errBadHeader
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(p, 10) != port { // no sign, no leading zeros
		return netip.AddrPort{}, errBadHeader
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), nil
}

func parseProxyV2(b []byte) (src netip.AddrPort, n int, err error) {
	if !strings.HasPrefix(proxyV2, string(b[:min(len(b), len(proxyV2))])) {
		return src, 0, errBadHeader
	}
	if len(b) < 16 {
		return src, 0, errShortHeader
	}
	command, family := b[12], b[13]
	if command != 0x20 && command != 0x21 || family>>4 > 3 || family&0xf > 2 {
		return src, 0, errBadHeader
	}
	n = 16 + int(binary.BigEndian.Uint16(b[14:]))
	switch {
	case n > proxyV2Max:
		return src, 0, fmt.Errorf("%w: %d bytes", errBadHeader, n)
	case len(b) < n:
		return src, 0, errShortHeader
	case command == 0x20: // LOCAL: the proxy's own connection, such as a health check
		return src, n, nil
	}
	a := b[16:n]
	switch family {
	case 0x11: // TCP over IPv4
		if len(a) < 12 {
			return src, 0, errBadHeader
		}
		src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[:4])), binary.BigEndian.Uint16(a[8:]))
	case 0x21: // TCP over IPv6
		if len(a) < 36 {
			return src, 0, errBadHeader
		}
		src = netip.AddrPortFrom(netip.AddrFrom16([16]byte(a[:16])).Unmap(), binary.BigEndian.Uint16(a[32:]))
	}
	return src, n, nil
}

// readProxyHeader reads the header that must come first on c, within the handshake timeout. What came after it stays
// for Receive.
func (c *conn) readProxyHeader() error {
	if err := c.beginHandshake(); err != nil {
		return err
	}
	var seen []byte
	for {
		b, p, err := c.fill()
		if err != nil {
			return fmt.Errorf("read the PROXY protocol header: %w", err)
		}
		seen = append(seen, p...)
		c.owner.pools.put(b)
		src, n, err := parseProxyHeader(seen)
		if err == errShortHeader {
			continue
		}
		if err != nil {
			return err
		}
		if src.IsValid() {
			c.remote, c.relayed = src, true
		}
		if n < len(seen) {
			rest := seen[n:]
			c.early = &rest
		}
		return c.setBound(time.Time{})
	}
}

// lazyHeader reads the PROXY header of a connection that net/http serves, on the goroutine of that connection: Accept
// must not wait for one peer. The nil lazyHeader has nothing to read.
type lazyHeader struct {
	once sync.Once
	read func() error
	err  error
}

func (h *lazyHeader) do() error {
	if h == nil {
		return nil
	}
	h.once.Do(func() { h.err = h.read() })
	return h.err
}

// contains reports whether one of the prefixes holds a.
func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
