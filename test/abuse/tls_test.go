package abuse

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/script"
)

// tlsDialers returns the ways to begin TLS with a node that serves HTTPS. Each returns a connection on which the server
// waits for the ClientHello.
func (s *fixture) tlsDialers() map[string]func() net.Conn {
	return map[string]func() net.Conn{
		"direct": func() net.Conn { return dial(s.t, "", s.Endpoints().XMPPTLS) },
		"STARTTLS": func() net.Conn {
			v := s.visit(script.TCP)
			v.open()
			v.send(starttls)
			v.expect("<proceed", ">")
			return v.conn
		},
		"HTTPS": func() net.Conn { return dial(s.t, "", s.Endpoints().HTTP) },
	}
}

func handshake(conn net.Conn, c *tls.Config) (tls.ConnectionState, error) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	c.InsecureSkipVerify = true
	client := tls.Client(conn, c)
	err := client.Handshake()
	if err == nil { // in TLS 1.3 the server has not agreed yet
		_, err = io.WriteString(client, "GET / HTTP/1.0\r\n\r\n")
	}
	if err == nil {
		_, err = client.Read(make([]byte, 1))
	}
	return client.ConnectionState(), err
}

// A7: nothing older than TLS 1.2, and of that only what has forward secrecy and authenticated encryption.
func TestA7OldTLS(t *testing.T) {
	s := open(t, "listen.http.tls=true")
	weak := func(suites ...uint16) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS12, CipherSuites: suites}
	}
	for name, dial := range s.tlsDialers() {
		for about, c := range map[string]*tls.Config{
			"TLS 1.0": {MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10},
			"TLS 1.1": {MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11},
			"RC4": weak(tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA, tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA,
				tls.TLS_RSA_WITH_RC4_128_SHA),
			"3DES": weak(tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA),
			"CBC": weak(tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
				tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256),
			"no forward secrecy":    weak(tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384),
			"no forward secrecy, 1": weak(tls.TLS_RSA_WITH_AES_128_CBC_SHA),
		} {
			_, err := handshake(dial(), c)
			require.ErrorContains(t, err, "remote error: tls:", "%s, %s", name, about)
		}
		for _, hello := range []string{
			// SSL 2
			"\x80\x2e\x01\x03\x00\x00\x15\x00\x00\x00\x10\x01\x00\x80\x02\x00\x80\x03\x00\x80\x04" +
				"\x00\x80\x05\x00\x80\x06\x00\x40\x07\x00\xc0" + "0123456789abcdef",
			// SSL 3
			"\x16\x03\x00\x00\x2f\x01\x00\x00\x2b\x03\x00" + "01234567890123456789012345678901" +
				"\x00\x00\x04\x00\x05\x00\x0a\x01\x00",
		} {
			conn := dial()
			_, err := io.WriteString(conn, hello)
			require.NoError(t, err)
			for _, answer := range endings(t, map[string]net.Conn{name: conn}) {
				require.LessOrEqual(t, len(answer), 7, "%s: more than an alert: %q", name, answer)
			}
		}
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			state, err := handshake(dial(), &tls.Config{MinVersion: version, MaxVersion: version})
			require.NoError(t, err, name)
			require.Equal(t, version, state.Version)
		}
	}
}

// A10, and row 64: ALPN with unknown protocols is refused, and no ALPN is accepted.
func TestA10ALPN(t *testing.T) {
	s := open(t, "listen.http.tls=true")
	for _, row := range []struct {
		how   string
		offer []string
		want  string
		fails bool
	}{
		{"direct", []string{"h2"}, "", true},
		{"direct", []string{"http/1.1", "imap"}, "", true},
		{"direct", []string{"h2", "xmpp-client"}, "xmpp-client", false},
		{"direct", nil, "", false},
		{"HTTPS", []string{"xmpp-client"}, "", true},
		{"HTTPS", []string{"h2"}, "", true}, // RFC 6455 needs HTTP/1.1
		{"HTTPS", []string{"h2", "http/1.1"}, "http/1.1", false},
	} {
		state, err := handshake(s.tlsDialers()[row.how](), &tls.Config{NextProtos: row.offer})
		if row.fails {
			require.ErrorContains(t, err, "no application protocol", fmt.Sprint(row))
			continue
		}
		require.NoError(t, err, fmt.Sprint(row))
		require.Equal(t, row.want, state.NegotiatedProtocol)
	}
}

// A11: the certificate is that of the domain, whatever server name the client asks for; an unknown domain is refused by
// the stream.
func TestA11ServerName(t *testing.T) {
	s := open(t)
	for _, name := range []string{"", "example.org", "localhost", "127.0.0.1"} {
		conn := dial(t, "", s.Endpoints().XMPPTLS)
		client := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		require.NoError(t, client.Handshake())
		require.NoError(t, client.ConnectionState().PeerCertificates[0].VerifyHostname("localhost"))
		v := &visitor{t: t, conn: client, in: client}
		v.send(streamHeader("'localhost'", "'example.org'"))
		v.fails("host-unknown")
	}
}
