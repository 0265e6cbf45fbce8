package abuse

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/script"
	"github.com/posthouse-im/posthouse/wire/scram"
)

// mechanisms are all that there are, and the type of channel binding that each is tried with.
var mechanisms = []struct{ name, binding string }{
	{"PLAIN", ""}, {"SCRAM-SHA-1", ""}, {"SCRAM-SHA-256", ""},
	{"SCRAM-SHA-1-PLUS", "tls-exporter"}, {"SCRAM-SHA-256-PLUS", "tls-exporter"},
	{"SCRAM-SHA-1-PLUS", "tls-server-end-point"}, {"SCRAM-SHA-256-PLUS", "tls-server-end-point"},
}

// encrypted reports whether a transport has TLS, and so channel binding.
func encrypted(how script.Transport) bool { return how == script.StartTLS || how == script.DirectTLS }

// claim is the content of a login; a test may make every part of it wrong.
type claim struct {
	two                     bool // by SASL2 (XEP-0388)
	mechanism, binding      string
	authzid, name, password string

	flag        string              // in place of n, y or p=…
	reserved    string              // before the name
	nonce       string              // in place of a good one
	data        []byte              // channel binding data, in place of the channel's
	final       func(string) string // changes the client-final-message before the proof
	proof       func([]byte) []byte
	noProof     bool
	bindElsehow string // in place of the gs2-header in c=
}

func b64(p []byte) string { return base64.StdEncoding.EncodeToString(p) }

// attempt tries to log in on an open stream and returns the condition and the text of the refusal, "" and "" for
// success.
func (c claim) attempt(v *visitor) (condition, text string) {
	v.t.Helper()
	if c.mechanism == "PLAIN" {
		v.send(c.begin(plain(c.authzid, c.name, c.password)))
		return v.outcome()
	}
	first, bare := c.first()
	v.send(c.begin(b64([]byte(first))))
	challenge, condition, text := v.challenge()
	if condition != "" {
		return condition, text
	}
	space := nsSASL
	if c.two {
		space = nsSASL2
	}
	v.send("<response xmlns='" + space + "'>" + b64([]byte(c.second(v, first, bare, challenge))) + "</response>")
	return v.outcome()
}

// begin is the first element of a login, with data.
func (c claim) begin(data string) string {
	if c.two {
		return authenticate(c.mechanism, data, "")
	}
	return saslAuth(c.mechanism, data)
}

func (c claim) first() (first, bare string) {
	flag := c.flag
	switch {
	case flag != "":
	case c.binding != "":
		flag = "p=" + c.binding
	default:
		flag = "n"
	}
	nonce := c.nonce
	if nonce == "" {
		nonce = "fyko+d2lbbFgONRv9qkxdawL"
	}
	escape := strings.NewReplacer("=", "=3D", ",", "=2C").Replace
	authzid := ""
	if c.authzid != "" {
		authzid = "a=" + escape(c.authzid)
	}
	bare = c.reserved + "n=" + escape(c.name) + ",r=" + nonce
	return flag + "," + authzid + "," + bare, bare
}

// second is the client-final-message (RFC 5802 §3, §7).
func (c claim) second(v *visitor, first, bare, challenge string) string {
	v.t.Helper()
	fields := scram.Fields([]byte(challenge))
	salt, err := base64.StdEncoding.DecodeString(fields['s'])
	require.NoError(v.t, err)
	count, err := strconv.Atoi(fields['i'])
	require.NoError(v.t, err)
	h := scram.HashOf(c.mechanism)
	keys, err := h.Derive(c.password, salt, count)
	require.NoError(v.t, err)
	header := strings.TrimSuffix(first, bare)
	if c.bindElsehow != "" {
		header = c.bindElsehow
	}
	final := "c=" + b64(append([]byte(header), c.bindingData(v)...)) + ",r=" + fields['r']
	if c.final != nil {
		final = c.final(final)
	}
	if c.noProof {
		return final
	}
	proof := h.Proof(keys, []byte(bare+","+challenge+","+final))
	if c.proof != nil {
		proof = c.proof(proof)
	}
	return final + ",p=" + b64(proof)
}

// bindingData returns the channel binding data (RFC 9266, RFC 5929 §4).
func (c claim) bindingData(v *visitor) []byte {
	switch {
	case c.data != nil:
		return c.data
	case c.binding == "tls-exporter":
		state := v.tls()
		data, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
		require.NoError(v.t, err)
		return data
	case c.binding == "tls-server-end-point":
		sum := sha256.Sum256(v.tls().PeerCertificates[0].Raw)
		return sum[:]
	}
	return nil
}

// challenge waits for the server's challenge, or its refusal.
func (v *visitor) challenge() (challenge, condition, text string) {
	v.t.Helper()
	got := v.expect("<", ">")
	if strings.HasPrefix(got, "<challenge") {
		got = v.expect("</challenge>")
		decoded, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(got, "</challenge>"))
		require.NoError(v.t, err)
		return string(decoded), "", ""
	}
	v.unread = got + v.unread
	condition, text = v.failure()
	return "", condition, text
}

// outcome waits for the end of an exchange: the refusal's condition and text, or nothing.
func (v *visitor) outcome() (condition, text string) {
	v.t.Helper()
	got := v.expect("<", ">")
	if strings.HasPrefix(got, "<success") {
		if !strings.HasSuffix(got, "/>") {
			v.expect("</success>")
		}
		return "", ""
	}
	v.unread = got + v.unread
	return v.failure()
}

// String tells a claim apart in a failure.
func (c claim) String() string {
	return fmt.Sprintf("two=%t %s %s authzid=%q name=%q", c.two, c.mechanism, c.binding, c.authzid, c.name)
}
