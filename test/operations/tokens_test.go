package operations

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/node"
	"github.com/posthouse-im/posthouse/test/nodetest"
	"github.com/posthouse-im/posthouse/test/script"
	"github.com/posthouse-im/posthouse/token"
)

// soon is within what a revocation takes effect everywhere.
const soon = 5 * time.Second

// patient lets a test ask as often as it likes.
var patient = []string{"api.rate=1000", "api.burst=1000"}

// status asks the API something with a token, and returns the status of the answer.
func status(t *testing.T, at script.Endpoints, path, bearer string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+at.HTTP+path, nil)
	require.NoError(t, err)
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	require.NoError(t, err)
	return answer.StatusCode
}

// refusedSoon waits until a token that was good is refused.
func refusedSoon(t *testing.T, at script.Endpoints, path, bearer string) {
	t.Helper()
	require.Eventually(t, func() bool { return status(t, at, path, bearer) == http.StatusUnauthorized }, soon,
		50*time.Millisecond, "it is still good")
}

// TestTokensEndFromOutside (P20): what the command line issues is good in a node that runs, and whatever ends it takes
// effect there within seconds.
func TestTokensEndFromOutside(t *testing.T) {
	for name, end := range map[string]func(ctx context.Context, p *node.Accounts) error{
		"passwd":  func(ctx context.Context, p *node.Accounts) error { return p.SetPassword(ctx, "romeo", other) },
		"disable": func(ctx context.Context, p *node.Accounts) error { return p.SetDisabled(ctx, "romeo", true) },
		"delete":  func(ctx context.Context, p *node.Accounts) error { return p.Delete(ctx, "romeo") },
		"rotate":  func(ctx context.Context, p *node.Accounts) error { return p.RotateTokens(ctx, true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := nodetest.New(t, patient...)
			require.NoError(t, server.AddUser("romeo", secret))
			require.NoError(t, server.AddUser("juliet", secret))
			p := people(t, server)
			romeo, _, err := p.IssueToken(t.Context(), "romeo", "script")
			require.NoError(t, err)
			juliet, _, err := p.IssueToken(t.Context(), "juliet", "script")
			require.NoError(t, err)
			for _, access := range []string{romeo.Access, juliet.Access} {
				require.Equal(t, http.StatusOK, status(t, server.Endpoints(), "/v1/profile", access))
			}
			require.NoError(t, end(t.Context(), p))
			refusedSoon(t, server.Endpoints(), "/v1/profile", romeo.Access)
			if name == "rotate" { // which ends everybody's, and no refresh token
				juliet, _, err = p.IssueToken(t.Context(), "juliet", "script")
				require.NoError(t, err)
			}
			require.Equal(t, http.StatusOK, status(t, server.Endpoints(), "/v1/profile", juliet.Access))
		})
	}
}

// TestKeysEndFromOutside: the same of service keys.
func TestKeysEndFromOutside(t *testing.T) {
	server := nodetest.New(t, patient...)
	p := people(t, server)
	key, made, err := p.AddKey(t.Context(), "desk", []token.Scope{token.ScopeDirectory}, time.Time{})
	require.NoError(t, err)
	const path = "/v1/profiles?jid=juliet@localhost"
	require.NotContains(t, []int{http.StatusUnauthorized, http.StatusForbidden},
		status(t, server.Endpoints(), path, key))
	require.Equal(t, http.StatusForbidden, status(t, server.Endpoints(), "/v1/admin/users", key),
		"it has another scope")
	require.Equal(t, http.StatusUnauthorized, status(t, server.Endpoints(), path, strings.ToUpper(key)))
	all, err := p.Keys(t.Context())
	require.NoError(t, err)
	require.False(t, all[0].Used.IsZero())
	_, err = p.RevokeKey(t.Context(), made.ID)
	require.NoError(t, err)
	refusedSoon(t, server.Endpoints(), path, key)
}

// TestSignedOutByAnotherDevice: the token that one device got on its stream is dead at once when another signs it out,
// and so is its stream.
func TestSignedOutByAnotherDevice(t *testing.T) {
	server := nodetest.New(t, patient...)
	require.NoError(t, server.AddUser("romeo", secret))
	phone := device(t, server.Endpoints(), script.TCP, "romeo", secret, "phone")
	laptop := device(t, server.Endpoints(), script.TCP, "romeo", secret, "laptop")
	answer, _, err := phone.Request("token", "<iq type='get' id='token'><token xmlns='urn:posthouse:token:1'/></iq>")
	require.NoError(t, err)
	tokens := answer.Find("urn:posthouse:token:1", "token")
	require.NotNil(t, tokens)
	require.Equal(t, http.StatusOK, status(t, server.Endpoints(), "/v1/devices", tokens.Attr("access")))
	began := time.Now()
	answer, _, err = laptop.Request("out", "<iq type='set' id='out'><remove xmlns='urn:posthouse:device:1' id='"+
		tokens.Attr("device")+"'/></iq>")
	require.NoError(t, err)
	require.Equal(t, "result", answer.Attr("type"))
	require.Equal(t, http.StatusUnauthorized, status(t, server.Endpoints(), "/v1/devices", tokens.Attr("access")))
	mustEnd(t, phone, began)
}

// TestAdministrators: who is an administrator is said of an account, which must be there. A node that runs follows,
// with the tokens that there are, and the audit log has it.
func TestAdministrators(t *testing.T) {
	server := nodetest.New(t, append(patient, "registration=open")...)
	p := people(t, server)
	require.ErrorIs(t, p.SetAdmin(t.Context(), "romeo", true), auth.RefusedNoAccount)
	require.ErrorIs(t, p.SetAdmin(t.Context(), "a b", true), auth.RefusedNoAccount)
	require.NoError(t, server.AddUser("romeo", secret))
	romeo, _, err := p.IssueToken(t.Context(), "romeo", "script")
	require.NoError(t, err)
	const path = "/v1/admin/users"
	require.Equal(t, http.StatusForbidden, status(t, server.Endpoints(), path, romeo.Access),
		"what was said of the name before it had an account does not count")
	for on, want := range map[bool]int{true: http.StatusOK, false: http.StatusForbidden} {
		require.NoError(t, p.SetAdmin(t.Context(), "Romeo@localhost", on))
		require.Eventually(t, func() bool { return status(t, server.Endpoints(), path, romeo.Access) == want }, 5*soon,
			50*time.Millisecond)
	}
	entries, err := p.Audit(t.Context(), 0, 10)
	require.NoError(t, err)
	var noted []string
	for _, e := range entries {
		noted = append(noted, e.Action+" "+e.Target)
	}
	require.Contains(t, noted, "account.admin.on romeo@localhost")
	require.Contains(t, noted, "account.admin.off romeo@localhost")
	require.Contains(t, noted, "account.admin.on.failed romeo@localhost")
}
