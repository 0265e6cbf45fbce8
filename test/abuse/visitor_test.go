package abuse

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/script"
)

const (
	nsSASL = "urn:ietf:params:xml:ns:xmpp-sasl"
	nsTLS  = "urn:ietf:params:xml:ns:xmpp-tls"

	nsSASL2 = "urn:xmpp:sasl:2"
	nsFAST  = "urn:xmpp:fast:0"

	header = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' " +
		"xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='localhost'>"
	opening  = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0'/>"
	starttls = "<starttls xmlns='" + nsTLS + "'/>"
)

// visitor is a raw connection for XML: it sends whatever text a test gives it, and keeps what comes as text.
type visitor struct {
	t      *testing.T
	conn   net.Conn
	framed bool
	in     io.Reader // what the socket, or the WebSocket's handshake, has for us
	unread string
	over   error         // why nothing more comes
	code   ws.StatusCode // of the WebSocket's close frame
}

// from is a dialer that comes from an address of this machine, "" for any.
func from(address string) *net.Dialer {
	d := &net.Dialer{Timeout: patience}
	if address != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(address)}
	}
	return d
}

// visit connects; no stream is opened. With StartTLS, the connection is in TLS already.
func (s *fixture) visit(how script.Transport) *visitor {
	s.t.Helper()
	return s.visitFrom("", how)
}

func (s *fixture) visitFrom(address string, how script.Transport) *visitor {
	s.t.Helper()
	v, err := s.tryVisit(address, how)
	require.NoError(s.t, err)
	return v
}

func (s *fixture) tryVisit(address string, how script.Transport) (v *visitor, err error) {
	v = &visitor{t: s.t, framed: how == script.WebSocket}
	place := map[script.Transport]string{script.TCP: s.Endpoints().XMPP, script.StartTLS: s.Endpoints().XMPP,
		script.DirectTLS: s.Endpoints().XMPPTLS}[how]
	if v.framed {
		d := ws.Dialer{Protocols: []string{"xmpp"}, NetDial: from(address).DialContext, Timeout: patience}
		conn, rest, _, err := d.Dial(s.t.Context(), "ws://"+s.Endpoints().HTTP+"/xmpp-websocket")
		if err != nil {
			return nil, err
		}
		v.conn, v.in = conn, conn
		if rest != nil {
			v.in = io.MultiReader(rest, conn)
		}
	} else {
		conn, err := from(address).DialContext(s.t.Context(), "tcp", place)
		if err != nil {
			return nil, err
		}
		v.conn, v.in = conn, conn
	}
	s.t.Cleanup(func() { v.conn.Close() })
	switch how {
	case script.StartTLS:
		v.open()
		v.send(starttls)
		v.expect("<proceed", ">")
		v.secure()
	case script.DirectTLS:
		v.secure()
	}
	return v, nil
}

// secure does a TLS handshake.
func (v *visitor) secure() {
	v.t.Helper()
	c := tls.Client(v.conn, &tls.Config{ServerName: "localhost", InsecureSkipVerify: true})
	c.SetDeadline(time.Now().Add(patience))
	require.NoError(v.t, c.Handshake())
	c.SetDeadline(time.Time{})
	v.conn, v.in = c, c
}

// tls is the state of a connection in TLS.
func (v *visitor) tls() tls.ConnectionState { return v.conn.(*tls.Conn).ConnectionState() }

// send writes text, on a WebSocket as one message. It ignores that the server has closed the connection meanwhile.
func (v *visitor) send(text string) {
	v.conn.SetWriteDeadline(time.Now().Add(patience))
	if v.framed {
		_ = wsutil.WriteClientText(v.conn, []byte(text))
		return
	}
	_, _ = io.WriteString(v.conn, text)
}

// sendStanza is send for a stanza without a namespace, which a WebSocket needs.
func (v *visitor) sendStanza(text string) {
	if v.framed {
		text = inNamespace.ReplaceAllString(text, "<$1 xmlns='jabber:client'$2")
	}
	v.send(text)
}

var inNamespace = regexp.MustCompile(`^<(message|presence|iq)([\s/>])`)

// read waits for more.
func (v *visitor) read() {
	if v.over != nil {
		return
	}
	v.conn.SetReadDeadline(time.Now().Add(patience))
	if !v.framed {
		p := make([]byte, 16<<10)
		n, err := v.in.Read(p)
		v.unread += string(p[:n])
		v.over = err
		return
	}
	f, err := ws.ReadFrame(v.in)
	switch {
	case err != nil:
		v.over = err
	case f.Header.OpCode == ws.OpText || f.Header.OpCode == ws.OpContinuation:
		v.unread += string(f.Payload)
	case f.Header.OpCode == ws.OpClose:
		v.code, _ = ws.ParseCloseFrameData(f.Payload)
		v.over = io.EOF
	}
}

// expect waits for texts, one after the other, and returns all that came until the last of them.
func (v *visitor) expect(texts ...string) string {
	v.t.Helper()
	at := 0
	for _, text := range texts {
		i := strings.Index(v.unread[at:], text)
		for ; i < 0; i = strings.Index(v.unread[at:], text) {
			require.NoError(v.t, v.over, "waiting for %q, got %.2000q", text, v.unread)
			v.read()
		}
		at += i + len(text)
	}
	got := v.unread[:at]
	v.unread = v.unread[at:]
	return got
}

// rest returns all that comes until the server closes the connection, which it must.
func (v *visitor) rest() string {
	v.t.Helper()
	for v.over == nil {
		v.read()
	}
	var late net.Error
	require.False(v.t, errors.As(v.over, &late) && late.Timeout(),
		"the server does not end the connection; it said %.2000q", v.unread)
	got := v.unread
	v.unread = ""
	return got
}

var streamCondition = regexp.MustCompile(`<([a-z-]+) xmlns='urn:ietf:params:xml:ns:xmpp-streams'/?>`)

// fails requires that the stream ends with a stream error of that condition and is closed in order. It returns what was
// received until then.
func (v *visitor) fails(condition string) string {
	v.t.Helper()
	rest := v.rest()
	found := streamCondition.FindStringSubmatch(rest)
	require.NotNil(v.t, found, "want %s; the stream ended with %.2000q and %v", condition, rest, v.over)
	require.Equal(v.t, condition, found[1], "%.2000q", rest)
	if v.framed {
		require.Contains(v.t, rest, "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'")
		require.Equal(v.t, ws.StatusPolicyViolation, v.code)
	} else {
		require.True(v.t, strings.HasSuffix(rest, "</stream:error></stream:stream>"), "%.2000q", rest)
	}
	return rest
}

// open opens a stream and returns its features.
func (v *visitor) open() string {
	v.t.Helper()
	if v.framed {
		v.send(opening)
		v.expect("<open", ">")
	} else {
		v.send(header)
		v.expect("<stream:stream", ">")
	}
	return v.expect("features", "features>")
}

// plain is the text of PLAIN.
func plain(authzid, name, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(authzid + "\x00" + name + "\x00" + password))
}

// saslAuth is <auth/>.
func saslAuth(mechanism, text string) string {
	return "<auth xmlns='" + nsSASL + "' mechanism='" + mechanism + "'>" + text + "</auth>"
}

// authenticate is <authenticate/> of SASL2, with whatever else is asked for.
func authenticate(mechanism, text, more string) string {
	return "<authenticate xmlns='" + nsSASL2 + "' mechanism='" + mechanism + "'><initial-response>" + text +
		"</initial-response>" + more + "</authenticate>"
}

// login opens a stream, logs in, and opens the next one.
func (v *visitor) login(name string) *visitor {
	v.t.Helper()
	v.open()
	v.send(saslAuth("PLAIN", plain("", name, password(name))))
	v.expect("<success", ">")
	v.open()
	return v
}

// bind binds a resource and returns the address.
func (v *visitor) bind(resource string) string {
	v.t.Helper()
	v.sendStanza("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>" + resource +
		"</resource></bind></iq>")
	got := v.expect("id='bind'", "<jid>", "</jid>", "</iq>")
	return got[strings.Index(got, "<jid>")+len("<jid>") : strings.Index(got, "</jid>")]
}

// failure waits for SASL's refusal and returns its condition and its text.
func (v *visitor) failure() (condition, text string) {
	v.t.Helper()
	got := v.expect("<failure", "</failure>")
	found := saslFailure.FindStringSubmatch(got)
	require.NotNil(v.t, found, got)
	return found[1], found[2]
}

var saslFailure = regexp.MustCompile(`<failure[^>]*><([a-z-]+)[^>]*/>(.*)</failure>`)

// on runs a test on each of the given transports, on one node.
func on(t *testing.T, s *fixture, hows []script.Transport, run func(t *testing.T, s *fixture, how script.Transport)) {
	for _, how := range hows {
		t.Run(string(how), func(t *testing.T) {
			inner := *s
			inner.t = t
			run(t, &inner, how)
		})
	}
}
