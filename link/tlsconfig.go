package link

import (
	"crypto/tls"
	"errors"
)

// ALPNClient is the name of the XMPP client protocol in the ALPN extension (XEP-0368 §3).
const ALPNClient = "xmpp-client"

// ProtocolCompact names the compact stream, in the ALPN extension and as a WebSocket sub-protocol, and on listeners
// that speak nothing else.
const ProtocolCompact = "posthouse-compact-1"

// TLSConfig returns the settings of a TLS server: version 1.2 or later, for 1.2 only ephemeral key exchange with
// authenticated encryption, no renegotiation, no early data (crypto/tls has none over TCP). getCertificate chooses the
// certificate for a client; what it returns is what LocalCertificate tells. It is called up to twice a handshake and
// must return the same for the same hello as long as this Config is in use.
//
// With alpn, a client that offers protocols but none of these is refused with the alert no_application_protocol (RFC
// 7301 §3.2); one that offers none is accepted. The protocol chosen is in Conn.TLS().NegotiatedProtocol.
//
// The keys of session tickets are made by crypto/tls, changed daily and belong to this one Config. Whenever a
// certificate, or what clients are trusted by, changes, make a new Config instead of cloning this one: tickets of
// before are then worth nothing.
func TLSConfig(getCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error), alpn ...string) *tls.Config {
	choose := func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := getCertificate(hello)
		if err != nil {
			return nil, err
		}
		if cert == nil || len(cert.Certificate) == 0 {
			return nil, errors.New("no certificate for this client")
		}
		if s, ok := hello.Conn.(*shim); ok {
			s.local = cert.Certificate[0]
		}
		return cert, nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256},
		NextProtos:       alpn,
		GetCertificate:   choose,
		// A resumed session presents no certificate, but its channel binding is still that of the certificate (RFC 5929
		// §4.1), so it is chosen as if it were to be presented.
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			_, _ = choose(hello) // without a certificate the handshake fails by itself, and with the right alert
			return nil, nil
		},
		// Stanzas come one at a time: many small records would only cost more system calls.
		DynamicRecordSizingDisabled: true,
	}
}
