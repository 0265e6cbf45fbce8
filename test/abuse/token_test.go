package abuse

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/node"
	"github.com/posthouse-im/posthouse/store/sqlite"
	"github.com/posthouse-im/posthouse/test/script"
)

// shown is the content of a login with a token; a test may make every part of it wrong.
type shown struct {
	mechanism, name, token, device, fast string
	data                                 []byte // channel binding data
}

// attempt logs in with it on a new stream, and returns the condition of the refusal, "" for success.
func (w shown) attempt(s *fixture, how script.Transport) string {
	s.t.Helper()
	v := s.visit(how)
	defer v.conn.Close()
	v.open()
	if w.mechanism == "HT-SHA-256-EXPR" && w.data == nil {
		state := v.tls()
		data, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
		require.NoError(s.t, err)
		w.data = data
	}
	m := hmac.New(sha256.New, []byte(w.token))
	m.Write(append([]byte("Initiator"), w.data...))
	v.send(authenticate(w.mechanism, b64([]byte(w.name+"\x00"+string(m.Sum(nil)))),
		"<user-agent id='"+w.device+"'/><fast xmlns='"+nsFAST+"' "+w.fast+"/><bind xmlns='urn:xmpp:bind:0'/>"))
	condition, _ := v.outcome()
	return condition
}

var tokenText = regexp.MustCompile(` token='([^']+)'`)

// token logs in with the password and returns a token.
func (s *fixture) token(how script.Transport, name, device, mechanism string) string {
	s.t.Helper()
	v := s.visit(how)
	defer v.conn.Close()
	v.open()
	v.send(authenticate("PLAIN", plain("", name, password(name)), "<user-agent id='"+device+"'/><request-token xmlns='"+
		nsFAST+"' mechanism='"+mechanism+"'/>"))
	found := tokenText.FindStringSubmatch(v.expect("<success", "</success>"))
	require.NotNil(s.t, found)
	return found[1]
}

// A50: a token is valid for one account, device and mechanism, and each counter once. All refusals look alike.
func TestA50Tokens(t *testing.T) {
	s := open(t, "auth.failures.per_user=-1", "auth.failures.per_address=-1", "auth.failures.known_per_user=-1")
	on(t, s, everywhere, func(t *testing.T, s *fixture, how script.Transport) {
		device := fmt.Sprint("phone on ", how)
		right := shown{mechanism: "HT-SHA-256-NONE", name: "romeo", device: device,
			token: s.token(how, "romeo", device, "HT-SHA-256-NONE")}
		s.token(how, "juliet", device, "HT-SHA-256-NONE")
		s.token(how, "romeo", "tablet", "HT-SHA-256-NONE")
		require.Empty(t, right.attempt(s, how))
		for about, bend := range map[string]func(*shown){
			"another account": func(w *shown) { w.name = "juliet" },
			"no account":      func(w *shown) { w.name = "nobody" },
			"another device":  func(w *shown) { w.device = "tablet" },
			"no such device":  func(w *shown) { w.device = "none" },
			"wrong token":     func(w *shown) { w.token += "x" },
			"binding":         func(w *shown) { w.data = []byte("x") },
		} {
			w := right
			bend(&w)
			require.Equal(t, "not-authorized", w.attempt(s, how), about)
		}
		if encrypted(how) {
			w := right
			w.mechanism = "HT-SHA-256-EXPR"
			require.Equal(t, "not-authorized", w.attempt(s, how), "another mechanism")
			w.device = device + ", bound"
			w.token = s.token(how, "romeo", w.device, w.mechanism)
			require.Empty(t, w.attempt(s, how))
			w.mechanism = "HT-SHA-256-NONE"
			require.Equal(t, "not-authorized", w.attempt(s, how), "a bound token without its binding")
		}
		right.fast = "count='7'"
		require.Empty(t, right.attempt(s, how))
		require.Equal(t, "not-authorized", right.attempt(s, how), "the same count")
		right.fast = "count='6'"
		require.Equal(t, "not-authorized", right.attempt(s, how), "a lower count")
		right.fast = "count='8' invalidate='true'"
		require.Empty(t, right.attempt(s, how))
		right.fast = "count='9'"
		require.Equal(t, "not-authorized", right.attempt(s, how), "invalidated")
		// As in A39: a token is valid for its own account only.
		for _, name := range []string{"romeo@localhost", "juliet@localhost", "romeo/x", ""} {
			w := right
			w.name = name
			require.Contains(t, []string{"not-authorized", "malformed-request"}, w.attempt(s, how), name)
		}
	})
}

// A50: another process changes the password, or signs a device out: the sessions end and their tokens do not log in any
// more.
func TestA50TokensEnd(t *testing.T) {
	ctx := context.Background()
	for name, end := range map[string]func(s *sqlite.Store) error{
		"password": func(s *sqlite.Store) error {
			credentials, err := auth.MakeCredentials("another good password", 4096)
			require.NoError(t, err)
			return s.SetCredentials(ctx, "romeo", credentials)
		},
		"sign-out": func(s *sqlite.Store) error {
			romeo, err := s.Account(ctx, "romeo")
			require.NoError(t, err)
			return s.RemoveDevice(ctx, romeo.ID, "phone")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			right := shown{mechanism: "HT-SHA-256-NONE", name: "romeo", device: "phone",
				token: s.token(script.TCP, "romeo", "phone", "HT-SHA-256-NONE")}
			require.Empty(t, right.attempt(s, script.TCP))
			v := s.visit(script.TCP)
			v.open()
			v.send(authenticate("PLAIN", plain("", "romeo", password("romeo")),
				"<user-agent id='phone'/><bind xmlns='urn:xmpp:bind:0'/>"))
			v.expect("<bound", "</success>", "</stream:features>")
			other, err := sqlite.Open(ctx, filepath.Join(s.Folder(), node.Database), sqlite.Options{})
			require.NoError(t, err)
			require.NoError(t, end(other))
			require.NoError(t, other.Close())
			v.fails("not-authorized")
			require.Equal(t, "not-authorized", right.attempt(s, script.TCP))
		})
	}
}
