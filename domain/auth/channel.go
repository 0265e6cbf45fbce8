package auth

import (
	"crypto"
	"crypto/sha256"
	_ "crypto/sha512" // for tls-server-end-point of certificates signed with SHA-384 and SHA-512
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net/netip"
	"slices"
	"strings"

	"github.com/posthouse-im/posthouse/cache"
	"github.com/posthouse-im/posthouse/wire/scram"
)

// Channel is what authentication needs to know of a connection. It must not change during an exchange.
type Channel struct {
	// Secure: protected by TLS, which need not end here.
	Secure bool
	// Loopback: the peer is on this machine, and the server knows it from the socket.
	Loopback bool
	// TLS is the state of a TLS connection that ends in this process, else nil. Channel binding needs it.
	TLS *tls.ConnectionState
	// LocalCertificate is the leaf certificate that this side presented, in DER.
	LocalCertificate []byte
	// Remote is the peer's address, for throttling. The zero address is an address like any other.
	Remote netip.Addr
	// Domain is the prepared domainpart that the client wants to log in to.
	Domain string
}

// The names of the mechanisms: RFC 7677, RFC 4616, RFC 5802.
const (
	ScramSHA256Plus = "SCRAM-SHA-256-PLUS"
	ScramSHA256     = "SCRAM-SHA-256"
	Plain           = "PLAIN"
	ScramSHA1Plus   = "SCRAM-SHA-1-PLUS"
	ScramSHA1       = "SCRAM-SHA-1"
)

// mechanism is how one of them works.
type mechanism struct {
	name string
	hash *scram.Hash // nil: PLAIN
	plus bool        // with channel binding
	// binding is what a token mechanism binds to; "" for none.
	binding string
}

// mechanisms in order of preference (RFC 6120 §6.3.3). SHA-1 is for old clients that know nothing better, and comes
// last.
var mechanisms = []*mechanism{
	{name: ScramSHA256Plus, hash: scram.SHA256, plus: true},
	{name: ScramSHA256, hash: scram.SHA256},
	{name: Plain},
	{name: ScramSHA1Plus, hash: scram.SHA1, plus: true},
	{name: ScramSHA1, hash: scram.SHA1},
}

// needsTLS reports whether it is offered only where nobody can listen: what is heard of the others helps nobody to
// guess passwords faster than SHA-256 allows.
func (m *mechanism) needsTLS() bool { return m.hash != scram.SHA256 }

func findMechanism(name string) *mechanism {
	for _, m := range mechanisms {
		if m.name == name {
			return m
		}
	}
	return nil
}

// The channel binding types that there are. tls-unique is never offered: it is broken before TLS 1.3 without the
// extended master secret and does not exist since.
const (
	tlsExporter       = "tls-exporter"         // RFC 9266, on TLS 1.3
	tlsServerEndPoint = "tls-server-end-point" // RFC 5929 §4, a MUST for servers in XEP-0440
)

// offer is what a kind of channel is told at the beginning. There are few kinds, so that offers are made once.
type offer struct {
	mechanisms []string
	tokens     []string // mechanisms for login tokens
	bindings   []string // in order of preference
	plus       bool     // a mechanism with channel binding is among them
	sha256     string   // XEP-0474 hashes, in base64
	sha1       string
}

// offerKey is a kind of channel.
type offerKey struct{ exporter, endPoint, encrypted bool }

func newOffers(enabled func(name string) bool) map[offerKey]*offer {
	offers := make(map[offerKey]*offer)
	for kind := range 8 {
		key := offerKey{kind&1 != 0, kind&2 != 0, kind&4 != 0}
		o := &offer{}
		if key.exporter {
			o.bindings = append(o.bindings, tlsExporter)
		}
		if key.endPoint {
			o.bindings = append(o.bindings, tlsServerEndPoint)
		}
		for _, m := range tokenMechanisms {
			if m.binding == "" || slices.Contains(o.bindings, m.binding) {
				o.tokens = append(o.tokens, m.name)
			}
		}
		for _, m := range mechanisms {
			if !enabled(m.name) || m.plus && len(o.bindings) == 0 || m.needsTLS() && !key.encrypted {
				continue
			}
			o.mechanisms = append(o.mechanisms, m.name)
			o.plus = o.plus || m.plus
		}
		if !o.plus {
			o.bindings = nil // nothing to bind with
		}
		o.sha256, o.sha1 = o.hashWith(scram.SHA256), o.hashWith(scram.SHA1)
		offers[key] = o
	}
	return offers
}

// hashWith computes the attribute h of XEP-0474 §5.1 (version 0.5) for what the offer advertises.
func (o *offer) hashWith(h *scram.Hash) string {
	text := strings.Join(slices.Sorted(slices.Values(o.mechanisms)), "\x1e")
	if len(o.bindings) > 0 {
		text += "\x1f" + strings.Join(slices.Sorted(slices.Values(o.bindings)), "\x1e")
	}
	return base64.StdEncoding.EncodeToString(h.Sum([]byte(text)))
}

func (o *offer) downgradeHash(h *scram.Hash) string {
	if h == scram.SHA1 {
		return o.sha1
	}
	return o.sha256
}

// offer returns what is offered on a channel.
func (a *Authenticator) offer(ch *Channel) *offer {
	return a.offers[offerKey{
		exporter:  hasExporter(ch),
		endPoint:  ch.TLS != nil && a.bindings.endPoint(ch.LocalCertificate) != nil,
		encrypted: ch.Secure || a.config.PlainWithoutTLS && ch.Loopback,
	}]
}

func hasExporter(ch *Channel) bool { return ch.TLS != nil && ch.TLS.Version >= tls.VersionTLS13 }

// bindings finds channel binding data. It remembers the hashes of the few certificates that a server has.
type bindings struct {
	endPoints *cache.Cache[[sha256.Size]byte, []byte] // nil value: the certificate has no such binding
}

// maxCertificates bounds endPoints; certificates are replaced every few weeks.
const maxCertificates = 64

func newBindings() bindings {
	return bindings{cache.New(cache.Config[[sha256.Size]byte, []byte]{Limit: maxCertificates})}
}

// data returns the channel's data for a binding type, ok false when the channel has none of that type.
func (b *bindings) data(ch *Channel, binding string) (data []byte, ok bool) {
	switch {
	case binding == tlsExporter && hasExporter(ch):
		// RFC 9266 §2: an empty context, 32 bytes.
		data, err := ch.TLS.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
		return data, err == nil
	case binding == tlsServerEndPoint && ch.TLS != nil:
		data = b.endPoint(ch.LocalCertificate)
		return data, data != nil
	}
	return nil, false
}

// endPoint returns the hash of the server's certificate with the hash function of its signature (RFC 5929 §4.1), nil
// for a signature that has none or several, such as Ed25519, and for no certificate.
func (b *bindings) endPoint(der []byte) []byte {
	if len(der) == 0 {
		return nil
	}
	key := sha256.Sum256(der)
	data, ok := b.endPoints.Get(key)
	if !ok {
		data = hashCertificate(der)
		b.endPoints.Set(key, data, cache.Forever)
	}
	return data
}

func hashCertificate(der []byte) []byte {
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	var h crypto.Hash
	switch certificate.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, // RFC 5929: SHA-256 in place of MD5 and SHA-1
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256:
		h = crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		h = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		h = crypto.SHA512
	default:
		return nil
	}
	d := h.New()
	d.Write(der)
	return d.Sum(nil)
}
