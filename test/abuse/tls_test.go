package abuse

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/node"
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

// Over HTTPS every answer tells browsers not to come without it any more (RFC 6797), but not with the development
// certificate, and not without TLS.
func TestStrictTransport(t *testing.T) {
	certificate, key, _, err := node.SelfSigned(t.TempDir(), "localhost", time.Now())
	require.NoError(t, err)
	for name, row := range map[string]struct {
		want      string
		overrides []string
	}{
		"TLS": {"max-age=31536000",
			[]string{"listen.http.tls=true", "tls.certificate=" + certificate, "tls.key=" + key}},
		"development": {"", []string{"listen.http.tls=true"}},
		"no TLS":      {"", []string{"tls.certificate=" + certificate, "tls.key=" + key}},
	} {
		s := open(t, row.overrides...)
		for _, path := range []string{"/v1/docs", "/v1/profile", "/v1/nothing", "/.well-known/host-meta", "/",
			"/xmpp-websocket"} {
			conn := dial(t, "", s.Endpoints().HTTP)
			if name != "no TLS" {
				conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
			}
			conn.SetDeadline(time.Now().Add(patience))
			_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path)
			require.NoError(t, err)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			require.Equal(t, row.want, response.Header.Get("Strict-Transport-Security"), "%s %s", name, path)
			conn.Close()
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
