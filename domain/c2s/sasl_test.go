package c2s_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/xdg-go/scram"

	"github.com/posthouse-im/posthouse/domain/c2s"
	"github.com/posthouse-im/posthouse/link"
)

const nsSASL = "urn:ietf:params:xml:ns:xmpp-sasl"

// unauthenticated opens a stream and does not log in.
func (e *env) unauthenticated() *client {
	c := e.dial()
	c.send(header)
	c.expect("</stream:features>")
	return c
}

// A36, A37, A38, A40: a failed try is told in the words of RFC 6120 §6.5, and another may follow.
func TestLoginRefused(t *testing.T) {
	auth := func(mechanism, text string) string {
		return "<auth xmlns='" + nsSASL + "' mechanism='" + mechanism + "'>" + text + "</auth>"
	}
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for name, row := range map[string]struct{ sent, condition string }{
		"A36 not base64":            {auth("PLAIN", "###"), "incorrect-encoding"},
		"A36 white space in base64": {auth("PLAIN", plain("romeo")[:8]+"\n"+plain("romeo")[8:]), "incorrect-encoding"},
		"A36 no padding":            {auth("PLAIN", "AGFiYw"), "incorrect-encoding"},
		"A36 bits left over":        {auth("PLAIN", "AGFiYx=="), "incorrect-encoding"},
		"A37 no NUL":                {auth("PLAIN", b64("romeo")), "malformed-request"},
		"A37 three NULs":            {auth("PLAIN", b64("\x00romeo\x00a\x00b")), "malformed-request"},
		"A37 empty data":            {auth("PLAIN", "="), "malformed-request"},
		"A38 unknown mechanism":     {auth("ROT13", "="), "invalid-mechanism"},
		"A38 none":                  {"<auth xmlns='" + nsSASL + "'>=</auth>", "invalid-mechanism"},
		"A38 not offered here": {auth("SCRAM-SHA-256-PLUS", b64("p=tls-exporter,,n=romeo,r=abcdefgh")),
			"invalid-mechanism"},
		"A39 authzid": {auth("PLAIN", b64("juliet@localhost\x00romeo\x00secret of romeo")),
			"invalid-authzid"},
		"A40 wrong password":    {auth("PLAIN", b64("\x00romeo\x00wrong")), "not-authorized"},
		"A40 unknown user":      {auth("PLAIN", b64("\x00nobody\x00wrong")), "not-authorized"},
		"response without auth": {"<response xmlns='" + nsSASL + "'>=</response>", "malformed-request"},
		"abort":                 {"<abort xmlns='" + nsSASL + "'/>", "aborted"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, nil, func(t *testing.T, e *env) {
				c := e.unauthenticated()
				c.send(row.sent)
				c.expect("<failure xmlns='"+nsSASL+"'>", "<"+row.condition+"/>", "</failure>")
				c.send(auth("PLAIN", plain("romeo")))
				c.expect("<success", ">")
			})
		})
	}
}

// An initial response may come late: an empty challenge asks for it (RFC 6120 §6.4.2, §6.4.3).
func TestLoginWithoutInitialResponse(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c := e.unauthenticated()
		c.send("<auth xmlns='" + nsSASL + "' mechanism='PLAIN'/>")
		c.expect("<challenge xmlns='" + nsSASL + "'/>")
		c.sendf("<response xmlns='"+nsSASL+"'>%s</response>", plain("romeo"))
		c.expect("<success xmlns='" + nsSASL + "'/>") // without additional data
	})
}

// A44: the sixth failure on one stream ends it.
func TestTooManyTries(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c := e.unauthenticated()
		for range 5 {
			c.send("<auth xmlns='" + nsSASL + "' mechanism='ROT13'>=</auth>")
			c.expect("</failure>")
		}
		c.send("<auth xmlns='" + nsSASL + "' mechanism='PLAIN'>" + plain("romeo") + "</auth>" + "<auth xmlns='" +
			nsSASL + "' mechanism='ROT13'>=</auth>")
		require.NotContains(t, c.expect("</stream:error>"), "<failure")
	})
	run(t, nil, func(t *testing.T, e *env) {
		c := e.unauthenticated()
		for range 5 {
			c.send("<auth xmlns='" + nsSASL + "' mechanism='ROT13'>=</auth>")
			c.expect("</failure>")
		}
		c.send("<auth xmlns='" + nsSASL + "' mechanism='ROT13'>=</auth>")
		c.fails("policy-violation")
	})
}

// scramLogin logs in as RFC 5802 says, checking the server's signature.
func (c *client) scramLogin(mechanism, user string) {
	hash := scram.SHA256
	if mechanism == "SCRAM-SHA-1" {
		hash = scram.SHA1
	}
	s, err := hash.NewClient(user, "secret of "+user, "")
	require.NoError(c.t, err)
	talk := s.NewConversation()
	first, err := talk.Step("")
	require.NoError(c.t, err)
	b64 := base64.StdEncoding
	c.sendf("<auth xmlns='"+nsSASL+"' mechanism='%s'>%s</auth>", mechanism, b64.EncodeToString([]byte(first)))
	challenge, err := b64.DecodeString(each(c.expect("</challenge>"), "<challenge xmlns='"+nsSASL+"'>", "<")[0])
	require.NoError(c.t, err)
	final, err := talk.Step(string(challenge))
	require.NoError(c.t, err)
	c.sendf("<response xmlns='"+nsSASL+"'>%s</response>", b64.EncodeToString([]byte(final)))
	signature, err := b64.DecodeString(each(c.expect("</success>"), "<success xmlns='"+nsSASL+"'>", "<")[0])
	require.NoError(c.t, err)
	_, err = talk.Step(string(signature))
	require.NoError(c.t, err)
	require.True(c.t, talk.Valid())
}

// Additional data goes with success (RFC 6120 §6.4.6).
func TestSCRAM(t *testing.T) {
	for _, mechanism := range []string{"SCRAM-SHA-1", "SCRAM-SHA-256"} {
		run(t, nil, func(t *testing.T, e *env) {
			c := e.unauthenticated()
			c.scramLogin(mechanism, "romeo")
			c.send(header)
			c.expect("</stream:features>")
			c.bind("phone")
		})
	}
}

// A second <auth/> gives up the exchange that the first one began.
func TestAuthAgain(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c := e.unauthenticated()
		c.send("<auth xmlns='" + nsSASL + "' mechanism='SCRAM-SHA-256'>" +
			base64.StdEncoding.EncodeToString([]byte("n,,n=romeo,r=abcdefgh")) + "</auth>")
		c.expect("</challenge>")
		c.send("<abort xmlns='" + nsSASL + "'/>")
		c.expect("<aborted/>")
		c.send("<response xmlns='" + nsSASL + "'>biws</response>")
		c.expect("<malformed-request/>")
		c.scramLogin("SCRAM-SHA-256", "juliet")
	})
}

// The whole negotiation may be sent at once, as clients in a hurry do.
func TestPipelinedNegotiation(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c := e.dial()
		c.send(header + "<auth xmlns='" + nsSASL + "' mechanism='PLAIN'>" + plain("romeo") + "</auth>" + header +
			"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>phone</resource>" +
			"</bind></iq>" +
			"<message to='juliet@localhost'><body>at once</body></message>")
		c.expect("</stream:features>", "<success", "</stream:features>", "<jid>romeo@localhost/phone</jid>")
		synctest.Wait()
		require.Equal(t, []string{"at once"}, e.archive.storedBodies())
	})
}

// from is a link whose peer is elsewhere.
type from struct {
	link.Conn
	addr netip.AddrPort
}

func (f from) Remote() netip.AddrPort { return f.addr }

func (f from) Pending() (bool, error) { return f.Conn.(link.Peeker).Pending() }

func (e *env) dialFrom(addr string) *client {
	near, far := link.Pipe()
	e.serve(from{near, netip.MustParseAddrPort(addr)})
	return &client{t: e.t, conn: far}
}

func certificate(t testing.TB) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotAfter: time.Now().Add(1000 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func withTLS(t *testing.T) func(*c2s.Config) {
	return func(c *c2s.Config) {
		config := certificate(t)
		c.TLS = func() *tls.Config { return config }
		c.Registration = "open"
	}
}

const starttls = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"

// A8: without TLS from another machine nothing but STARTTLS is on offer, and nothing but it is done.
func TestEncryptionIsRequired(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {})
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, withTLS(t))
		defer e.close()
		c := e.dialFrom("192.0.2.7:1234")
		c.send(header)
		features := c.expect("<stream:features", "</stream:features>")
		require.Contains(t, features, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>")
		require.NotContains(t, features, "mechanism")
		require.NotContains(t, features, "register")
		for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "NONE"} {
			c.sendf("<auth xmlns='"+nsSASL+"' mechanism='%s'>%s</auth>", mechanism, plain("romeo"))
			c.expect("<encryption-required/>", "</failure>")
		}
		c.send("<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>")
		c.fails("not-authorized")
	})
}

func TestStartTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, withTLS(t))
		defer e.close()
		c := e.dialFrom("192.0.2.7:1234")
		c.send(header)
		c.expect("</stream:features>")
		c.send(starttls)
		c.expect("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
		secure := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
		require.NoError(t, secure.HandshakeContext(context.Background()))
		c.conn = secure
		c.send(header)
		features := c.expect("<stream:features", "</stream:features>")
		require.NotContains(t, features, "starttls")
		for _, want := range []string{"<mechanism>PLAIN</mechanism>", "<mechanism>SCRAM-SHA-256-PLUS</mechanism>",
			"<channel-binding type='tls-exporter'/>", "<channel-binding type='tls-server-end-point'/>"} {
			require.Contains(t, features, want)
		}
		c.scramLogin("SCRAM-SHA-256", "romeo")
		c.send(header)
		c.expect("</stream:features>")
		c.bind("phone")

		// A14: once is enough.
		c.send(starttls)
		c.fails("policy-violation")
	})
}

// A14: within TLS there is no STARTTLS, and where there is none configured neither.
func TestStartTLSRefused(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c := e.unauthenticated()
		c.send(starttls)
		c.expect("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "</stream:stream>")
		require.Empty(t, c.rest())
	})
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, withTLS(t))
		defer e.close()
		c := e.unauthenticated()
		c.send(starttls)
		c.expect("<proceed")
		secure := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
		require.NoError(t, secure.HandshakeContext(context.Background()))
		c = &client{t: t, conn: secure}
		c.send(header)
		c.expect("</stream:features>")
		c.send(starttls)
		c.expect("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "</stream:stream>")
	})
}

// A9: what is sent in the clear after <starttls/> does not get into the protected stream, and there is none.
func TestStartTLSInjection(t *testing.T) {
	for _, after := range []string{
		"\n\n\n", "\n<", "<", header, "<auth xmlns='" + nsSASL + "' mechanism='PLAIN'>" + plain("romeo") + "</auth>",
		strings.Repeat(" ", 20_000), // more than one buffer of the link
	} {
		synctest.Test(t, func(t *testing.T) {
			e := newEnv(t, withTLS(t))
			defer e.close()
			c := e.unauthenticated()
			c.send(starttls + after)
			require.NotContains(t, c.fails("policy-violation"), "proceed")
		})
	}
}

// TestStartTLSWithLineEnd: clients that end the element with the end of a line are let in; what they sent is dropped.
func TestStartTLSWithLineEnd(t *testing.T) {
	for _, after := range []string{"\n", "\r\n", " "} {
		synctest.Test(t, func(t *testing.T) {
			e := newEnv(t, withTLS(t))
			defer e.close()
			c := e.unauthenticated()
			c.send(starttls + after)
			c.expect("<proceed", ">")
			secure := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
			require.NoError(t, secure.HandshakeContext(context.Background()))
			c = &client{t: t, conn: secure}
			c.send(header)
			c.expect("</stream:features>")
		})
	}
}

// The handshake has a deadline of its own (A2: slow TLS hello).
func TestSlowHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, withTLS(t))
		defer e.close()
		c := e.unauthenticated()
		c.send(starttls)
		c.expect("<proceed", ">")
		start := time.Now()
		require.Empty(t, c.rest())
		require.LessOrEqual(t, time.Since(start), 10*time.Second)
	})
}
