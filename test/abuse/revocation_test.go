package abuse

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/node"
	"github.com/posthouse-im/posthouse/store/sqlite"
	"github.com/posthouse-im/posthouse/test/script"
)

const (
	// ended is within what a change of an account or a device ends what was begun under the old state.
	ended = 5 * time.Second
	// lenience is how many times longer a busy machine may take.
	lenience = 5

	newPassword = "parting-is-such-sweet-sorrow"
	thePhone    = "phone"
	htNone      = "HT-SHA-256-NONE"
)

// wayOfChange ends what an account, or its device, could do so far.
type wayOfChange struct {
	name   string
	device bool // it concerns the device only, so that the password stays good
	do     func(s *fixture, name string)
}

// elsewhere reports whether another process does it: the node notices within a second. Somebody may be let in before,
// and is ended then.
func (c wayOfChange) elsewhere() bool { return strings.HasSuffix(c.name, "by another process") }

// waysOfChange are all of them: by another process on the same database, by the API, and in band.
func waysOfChange() []wayOfChange {
	outside := func(change func(ctx context.Context, p *node.Accounts, name string) error) func(*fixture, string) {
		return func(s *fixture, name string) {
			p, err := node.OpenAccounts(s.t.Context(),
				node.Config{Data: s.Folder(), Domain: "localhost", Auth: auth.Config{Iterations: 4096}})
			require.NoError(s.t, err)
			defer p.Close()
			require.NoError(s.t, change(s.t.Context(), p, name))
		}
	}
	admin := func(method, path, body string) func(*fixture, string) {
		return func(s *fixture, name string) {
			bearer := s.loginAPI("bystander", password("bystander"), "desk")["access_token"].(string)
			code, text := s.api(bearer, method, "/v1/admin/users/"+name+path, "application/json", body)
			require.Equal(s.t, http.StatusNoContent, code, text)
		}
	}
	inBand := func(query string) func(*fixture, string) {
		return func(s *fixture, name string) {
			a := s.connect(script.TCP, name, "another")
			n := ask(s.t, a, "change", "<iq type='set' id='change'>"+
				strings.ReplaceAll(query, "NAME", name)+"</iq>")
			require.Equal(s.t, "result", n.Attr("type"), "%v", n)
		}
	}
	return []wayOfChange{
		{"passwd, by another process", false, outside(func(ctx context.Context, p *node.Accounts, name string) error {
			return p.SetPassword(ctx, name, newPassword)
		})},
		{"disable, by another process", false, outside(func(ctx context.Context, p *node.Accounts, name string) error {
			return p.SetDisabled(ctx, name, true)
		})},
		{"delete, by another process", false, outside(func(ctx context.Context, p *node.Accounts, name string) error {
			return p.Delete(ctx, name)
		})},
		{"sign-out, by another process", true, func(s *fixture, name string) {
			s.store(func(ctx context.Context, db *sqlite.Store) error {
				a, err := db.Account(ctx, name)
				require.NoError(s.t, err)
				return db.RemoveDevice(ctx, a.ID, thePhone)
			})
		}},
		{"password, by the API", false, admin("PUT", "/password", `{"password":"`+newPassword+`"}`)},
		{"disable, by the API", false, admin("PUT", "", `{"disabled":true}`)},
		{"delete, by the API", false, admin("DELETE", "", "")},
		{"sign-out, by the API", true, func(s *fixture, name string) {
			bearer := s.loginAPI(name, password(name), "tablet")["access_token"].(string)
			code, text := s.api(bearer, "DELETE", "/v1/devices/"+thePhone, "", "")
			require.Equal(s.t, http.StatusNoContent, code, text)
		}},
		{"password, in band", false, inBand("<query xmlns='jabber:iq:register'><username>NAME</username><password>" +
			newPassword + "</password></query>")},
		{"removal, in band", false, inBand("<query xmlns='jabber:iq:register'><remove/></query>")},
		{"sign-out, in band", true, inBand("<remove xmlns='urn:posthouse:device:1' id='" + thePhone + "'/>")},
		{"sign-out of all others, in band", true,
			inBand("<remove-others xmlns='urn:posthouse:device:1'/>")},
	}
}

// wayIn is how somebody gets in. begin goes as far as it can before the change, and returns how it goes on after it:
// that must fail, or be ended in time.
type wayIn struct {
	name   string
	device bool // it belongs to the device, so that signing that out ends it
	begin  func(s *fixture, name string) (enter func(change wayOfChange))
}

// waysIn are all of them.
func waysIn() []wayIn {
	var all []wayIn
	for _, how := range script.Transports() {
		all = append(all, wayIn{"bind on " + string(how), false, func(s *fixture, name string) func(wayOfChange) {
			a, err := script.Connect(s.t.Context(), s.Endpoints(), how, name, password(name))
			require.NoError(s.t, err)
			s.t.Cleanup(a.Cut)
			return func(c wayOfChange) {
				require.NoError(s.t, a.Write("<iq xmlns='jabber:client' type='set' id='bind'><bind "+
					"xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>late</resource></bind></iq>"))
				for began := time.Now(); ; {
					n, err := a.Next()
					require.NoError(s.t, err, c.name)
					require.Less(s.t, time.Since(began), lenience*ended, c.name)
					if !c.elsewhere() {
						require.Nil(s.t, n.Find("urn:ietf:params:xml:ns:xmpp-bind", "jid"), c.name)
					}
					if n.Name.Local == "error" {
						require.NotNil(s.t, n.Find("urn:ietf:params:xml:ns:xmpp-streams", "not-authorized"), "%v", n)
						return
					}
				}
			}
		}})
	}
	sasl2 := func(s *fixture, name, more string) *visitor {
		v := s.visit(script.TCP)
		v.open()
		v.send(authenticate("PLAIN", plain("", name, password(name)), "<user-agent id='"+thePhone+"'/>"+more))
		return v
	}
	const bind = "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"
	all = append(all,
		wayIn{"SASL2, then bind", true, func(s *fixture, name string) func(wayOfChange) {
			v := sasl2(s, name, "")
			v.expect("</success>", "features>")
			return func(c wayOfChange) {
				v.send(bind)
				s.endedOrRefused(v, c)
			}
		}},
		wayIn{"SASL2, then resume", true, func(s *fixture, name string) func(wayOfChange) {
			first := sasl2(s, name,
				"<bind xmlns='urn:xmpp:bind:0'><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind>")
			enabled := first.expect("<enabled", "/>", "features>")
			id := between(s.t, enabled, " id='", "'")
			first.conn.Close()
			v := sasl2(s, name, "")
			v.expect("</success>", "features>")
			return func(c wayOfChange) {
				v.send("<resume xmlns='urn:xmpp:sm:3' previd='" + id + "' h='0'/>" + bind)
				s.endedOrRefused(v, c)
			}
		}},
		// These log in after the change, before another process's is noticed.
		wayIn{"Bind 2", false, func(s *fixture, name string) func(wayOfChange) {
			sasl2(s, name, "<bind xmlns='urn:xmpp:bind:0'/>").expect("</success>", "features>") // it is known now
			return func(c wayOfChange) {
				v := sasl2(s, name, "<bind xmlns='urn:xmpp:bind:0'/>")
				if !c.elsewhere() {
					v.expect("<failure")
					return
				}
				began := time.Now()
				for !strings.Contains(v.unread, "<failure") && !strings.Contains(v.unread, "<not-authorized") {
					require.NoError(s.t, v.over, v.unread)
					v.read()
				}
				require.Less(s.t, time.Since(began), lenience*ended)
			}
		}},
		wayIn{"FAST", true, func(s *fixture, name string) func(wayOfChange) {
			right := shown{mechanism: htNone, name: name, device: thePhone,
				token: s.token(script.TCP, name, thePhone, htNone)}
			require.Empty(s.t, right.attempt(s, script.TCP))
			return func(c wayOfChange) {
				if right.attempt(s, script.TCP) == "" {
					require.Fail(s.t, "the token is good", c.name)
				}
			}
		}},
		wayIn{"login by the API", false, func(s *fixture, name string) func(wayOfChange) {
			s.loginAPI(name, password(name), thePhone)
			return func(wayOfChange) {
				code, text := s.api("", "POST", "/v1/token", "application/json",
					loginBody(name, password(name), thePhone))
				require.Equal(s.t, http.StatusUnauthorized, code, text)
			}
		}},
		wayIn{"refresh", true, func(s *fixture, name string) func(wayOfChange) {
			pair := s.loginAPI(name, password(name), thePhone)
			return func(wayOfChange) {
				code, text := s.api("", "POST", "/v1/token", "application/json",
					fmt.Sprintf(`{"grant_type":"refresh_token","refresh_token":%q}`, pair["refresh_token"]))
				require.Equal(s.t, http.StatusUnauthorized, code, text)
			}
		}},
		wayIn{"a request to the API", true, func(s *fixture, name string) func(wayOfChange) {
			bearer := s.loginAPI(name, password(name), thePhone)["access_token"].(string)
			code, text := s.api(bearer, "GET", "/v1/profile", "", "")
			require.Equal(s.t, http.StatusOK, code, text)
			return func(wayOfChange) {
				require.Eventually(s.t, func() bool {
					code, _ := s.api(bearer, "GET", "/v1/profile", "", "")
					return code == http.StatusUnauthorized
				}, lenience*ended, 50*time.Millisecond)
			}
		}},
		wayIn{"a waiting sync", true, func(s *fixture, name string) func(wayOfChange) {
			bearer := s.loginAPI(name, password(name), thePhone)["access_token"].(string)
			code, text := s.api(bearer, "GET", "/v1/sync", "", "")
			require.Equal(s.t, http.StatusOK, code, text)
			var page struct{ Cursor string }
			require.NoError(s.t, json.Unmarshal([]byte(text), &page))
			var answer sync.WaitGroup
			before := s.metric("posthouse_api_waiting")
			answer.Go(func() {
				code, text = s.api(bearer, "GET", "/v1/sync?wait=50&cursor="+url.QueryEscape(page.Cursor), "", "")
			})
			require.Eventually(s.t, func() bool { return s.metric("posthouse_api_waiting") > before }, patience,
				10*time.Millisecond)
			return func(c wayOfChange) {
				began := time.Now()
				answer.Wait()
				require.Equal(s.t, http.StatusUnauthorized, code, text)
				require.Less(s.t, time.Since(began), lenience*ended, c.name)
			}
		}},
		wayIn{"a session", true, func(s *fixture, name string) func(wayOfChange) {
			v := sasl2(s, name, "<bind xmlns='urn:xmpp:bind:0'/>")
			v.expect("</success>", "features>")
			return func(wayOfChange) {
				began := time.Now()
				found := streamCondition.FindStringSubmatch(v.rest())
				require.NotNil(s.t, found)
				require.Contains(s.t, []string{"not-authorized", "reset"}, found[1])
				require.Less(s.t, time.Since(began), lenience*ended)
			}
		}},
	)
	return all
}

// endedOrRefused requires that somebody who has asked to bind is refused, or, where the change is noticed later, ended.
func (s *fixture) endedOrRefused(v *visitor, c wayOfChange) {
	s.t.Helper()
	began := time.Now()
	rest := v.fails("not-authorized")
	require.Less(s.t, time.Since(began), lenience*ended)
	if !c.elsewhere() {
		require.NotContains(s.t, rest, "<jid>")
	}
}

// between returns what stands between two texts.
func between(t *testing.T, text, before, after string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, before)
	require.True(t, ok, text)
	found, _, ok := strings.Cut(rest, after)
	require.True(t, ok, text)
	return found
}

func loginBody(name, password, device string) string {
	return fmt.Sprintf(`{"grant_type":"password","username":%q,"password":%q,"device":%q}`, name, password, device)
}

// loginAPI gets tokens for a device.
func (s *fixture) loginAPI(name, password, device string) (pair map[string]any) {
	s.t.Helper()
	code, text := s.api("", "POST", "/v1/token", "application/json", loginBody(name, password, device))
	require.Equal(s.t, http.StatusOK, code, text)
	require.NoError(s.t, json.Unmarshal([]byte(text), &pair))
	return pair
}

// api makes a request.
func (s *fixture) api(bearer, method, path, mediaType, body string) (code int, text string) {
	r, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.Endpoints().HTTP+path,
		bytes.NewReader([]byte(body)))
	if err == nil {
		if bearer != "" {
			r.Header.Set("Authorization", "Bearer "+bearer)
		}
		if mediaType != "" {
			r.Header.Set("Content-Type", mediaType)
		}
		var answer *http.Response
		if answer, err = http.DefaultClient.Do(r); err == nil {
			defer answer.Body.Close()
			var all []byte
			all, err = io.ReadAll(answer.Body)
			code, text = answer.StatusCode, string(all)
		}
	}
	if err != nil {
		text = err.Error()
	}
	return code, text
}

// TestRevocation: whoever has begun to get in, and is in when the account is changed or the device signed out, is ended
// or refused, whatever the way in and whatever the way of the change.
func TestRevocation(t *testing.T) {
	s := open(t, "api.rate=-1", "api.address_rate=-1", "api.login_rate=-1",
		"registration=open", "device.burst=1000")
	s.store(func(ctx context.Context, db *sqlite.Store) error { return db.SetAdmin(ctx, "bystander", true) })
	for i, change := range waysOfChange() {
		for j, way := range waysIn() {
			if change.device && !way.device {
				continue
			}
			t.Run(change.name+"/"+way.name, func(t *testing.T) {
				inner := *s
				inner.t = t
				name := fmt.Sprintf("romeo-%d-%d", i, j)
				inner.people(name)
				inner.token(script.TCP, name, thePhone, htNone) // so that the device is known
				enter := way.begin(&inner, name)
				change.do(&inner, name)
				enter(change)
			})
		}
	}
}
