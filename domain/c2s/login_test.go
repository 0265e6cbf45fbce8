package c2s_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/xdg-go/scram"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/domain/c2s"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/link"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// peer is the other end of a stream in either codec: it says and hears what a stream can say, and counts the bytes.
type peer struct {
	t         testing.TB
	conn      net.Conn
	dec       stream.Decoder
	codec     stream.Codec
	flight    []byte // said and not sent yet
	sent, got int
}

// inBoth runs a test on both codecs.
func inBoth(t *testing.T, f func(t *testing.T, e *env, protocol string)) {
	for name, protocol := range map[string]string{"XML": "", "compact": link.ProtocolCompact} {
		t.Run(name, func(t *testing.T) {
			run(t, nil, func(t *testing.T, e *env) { f(t, e, protocol) })
		})
	}
}

func (e *env) peer(protocol string) *peer { return e.peerOf(e.t, protocol) }

func (e *env) peerOf(t testing.TB, protocol string) *peer {
	near, far := link.Pipe()
	e.serve(named{near, protocol})
	p := &peer{t: t, conn: far}
	if protocol == "" {
		p.dec, p.codec = xmlstream.NewDecoder(stream.Limits{}), xmlstream.XML{}
	} else {
		p.dec, p.codec = pbstream.NewDecoder(stream.Limits{}), pbstream.Codec{}
	}
	return p
}

// say puts elements into the flight.
func (p *peer) say(all ...stanza.Element) *peer {
	for i := range all {
		p.flight = p.codec.AppendElement(p.flight, &all[i])
	}
	return p
}

func (p *peer) sayStanza(s *stanza.Stanza) *peer {
	p.flight = p.codec.AppendStanza(p.flight, s)
	return p
}

func (p *peer) open(from string) *peer {
	p.flight = p.codec.AppendOpen(p.flight,
		stream.Header{To: "localhost", HasTo: true, From: from, Version: "1.0", HasVersion: true})
	return p
}

// send sends the flight.
func (p *peer) send() {
	p.t.Helper()
	p.sent += len(p.flight)
	_, err := p.conn.Write(p.flight)
	require.NoError(p.t, err)
	p.flight = nil
}

// next is the next thing that the server says.
func (p *peer) next() stream.Item {
	p.t.Helper()
	for {
		item, err := p.dec.Next()
		if err == nil {
			return item
		}
		require.ErrorIs(p.t, err, stream.ErrMore)
		b := make([]byte, 4096)
		_ = p.conn.SetReadDeadline(time.Now().Add(time.Minute))
		n, err := p.conn.Read(b)
		require.NoError(p.t, err)
		p.got += n
		p.dec.Feed(b[:n])
	}
}

// hears waits for an element of that name.
func (p *peer) hears(space, local string) *stanza.Element {
	p.t.Helper()
	item := p.next()
	require.Equal(p.t, stream.Element, item.Kind, "waiting for %s", local)
	require.Equal(p.t, space+" "+local, item.Element.Space+" "+item.Element.Local, "%+v", item.Element)
	return item.Element
}

func (p *peer) opened() *peer {
	p.t.Helper()
	require.Equal(p.t, stream.Open, p.next().Kind)
	return p
}

// failsWith waits for a stream error. Nothing comes before it but a last acknowledgement.
func (p *peer) failsWith(condition string) {
	p.t.Helper()
	e := p.next().Element
	if e.Space == nsSM && e.Local == "a" {
		e = p.next().Element
	}
	require.Equal(p.t, "error", e.Local)
	require.NotNil(p.t, e.Child("urn:ietf:params:xml:ns:xmpp-streams", condition), "%+v", e)
}

const (
	nsSASL2   = "urn:xmpp:sasl:2"
	nsBind2   = "urn:xmpp:bind:0"
	nsFAST    = "urn:xmpp:fast:0"
	nsSM      = "urn:xmpp:sm:3"
	deviceID  = "d4565fa7-4d72-4749-b3d3-740edbf87770"
	otherID   = "f3a8c1de-0000-4749-b3d3-740edbf87770"
	tokenKind = "HT-SHA-256-NONE"
)

func elem(space, local string, attrs ...string) stanza.Element {
	return stanza.New(space, local, attrs...)
}

// authenticate is <authenticate/> with a first message and a device.
func authenticate(mechanism, initial, device string, more ...stanza.Element) stanza.Element {
	e := elem(nsSASL2, "authenticate", "mechanism", mechanism).With(
		elem(nsSASL2, "initial-response").WithText(base64.StdEncoding.EncodeToString([]byte(initial))))
	if device != "" {
		e = e.With(elem(nsSASL2, "user-agent", "id", device))
	}
	return e.With(more...)
}

func withPassword(user, device string, more ...stanza.Element) stanza.Element {
	return authenticate("PLAIN", "\x00"+user+"\x00secret of "+user, device, more...)
}

func withToken(user, token, device string, more ...stanza.Element) stanza.Element {
	m := hmac.New(sha256.New, []byte(token))
	m.Write([]byte("Initiator"))
	return authenticate(tokenKind, user+"\x00"+string(m.Sum(nil)), device,
		append([]stanza.Element{elem(nsFAST, "fast")}, more...)...)
}

// binding is what a client asks for that wants a resource with everything.
func binding() stanza.Element {
	return elem(nsBind2, "bind").With(
		elem(nsBind2, "tag").WithText("App"),
		elem(nsSM, "enable", "resume", "true"),
		elem("urn:xmpp:carbons:2", "enable"),
		elem("urn:posthouse:confirm:1", "enable"),
	)
}

var askToken = elem(nsFAST, "request-token", "mechanism", tokenKind)

// success waits for <success/> and the features.
func (p *peer) success() *stanza.Element {
	p.t.Helper()
	s := p.hears(nsSASL2, "success")
	p.hears(stanza.NSStream, "features")
	return s
}

// firstLogin logs in with the password, binds, and returns the address, the stream's id and a token.
func (e *env) firstLogin(protocol, device string) (p *peer, address, id, token string) {
	p = e.peer(protocol)
	p.open("").send()
	features := p.opened().hears(stanza.NSStream, "features")
	inline := features.Child(nsSASL2, "authentication").Child(nsSASL2, "inline")
	require.NotNil(e.t, inline.Child(nsBind2, "bind"))
	require.NotNil(e.t, inline.Child(nsSM, "sm"))
	require.Equal(e.t, tokenKind, inline.Child(nsFAST, "fast").ChildText(nsFAST, "mechanism"))
	p.say(withPassword("romeo", device, binding(), askToken)).send()
	s := p.success()
	address = s.ChildText(nsSASL2, "authorization-identifier")
	require.True(e.t, strings.HasPrefix(address, "romeo@localhost/App~"), address)
	enabled := s.Child(nsBind2, "bound").Child(nsSM, "enabled")
	require.NotNil(e.t, enabled)
	return p, address, enabled.Attr("id"), s.Child(nsFAST, "token").Attr("token")
}

// TestLoginInOneRoundTrip: a returning client says everything at once, and is heard at once; what it has asked for
// holds.
func TestLoginInOneRoundTrip(t *testing.T) {
	inBoth(t, func(t *testing.T, e *env, protocol string) {
		old, before, _, token := e.firstLogin(protocol, deviceID)
		p := e.peer(protocol)
		p.open("romeo@localhost").say(withToken("romeo", token, deviceID, binding()))
		p.sayStanza(&stanza.Stanza{Kind: stanza.Message, Type: stanza.TypeChat, ID: "m1",
			To: jid.MustParse("juliet@localhost"), Payload: []stanza.Element{
				elem(stanza.NSClient, "body").WithText("in the same flight"),
			}}).send()
		p.opened()
		if protocol == "" {
			p.hears(stanza.NSStream, "features")
		}
		s := p.success()
		address := s.ChildText(nsSASL2, "authorization-identifier")
		require.NotEqual(t, before, address)
		require.Nil(t, s.Child(nsFAST, "token"))
		confirmed := p.next()
		require.NotNil(t, confirmed.Stanza.Child("urn:posthouse:confirm:1", "confirmed"), "confirmations are on")
		require.Equal(t, []string{"in the same flight"}, e.archive.storedBodies())
		p.say(elem(nsSM, "r")).send()
		require.Equal(t, "1", p.hears(nsSM, "a").Attr("h"), "stream management counts from the start")
		old.failsWith("conflict") // the device has lost that session, or it would not have come anew
		devices := map[string]bool{}
		for info := range e.sessions.Sessions {
			require.True(t, info.Carbons)
			devices[info.JID.String()+" "+info.Device] = true
		}
		synctest.Wait()
		require.True(t, devices[address+" "+deviceID])
	})
}

// TestResumeInOneRoundTrip (XEP-0198 §9.2): the login resumes the stream, or binds when it cannot.
func TestResumeInOneRoundTrip(t *testing.T) {
	inBoth(t, func(t *testing.T, e *env, protocol string) {
		lost, address, id, token := e.firstLogin(protocol, deviceID)
		lost.conn.Close()
		synctest.Wait()
		resume := elem(nsSM, "resume", "previd", id, "h", "0")
		p := e.peer(protocol)
		p.open("").say(withToken("romeo", token, deviceID, resume, binding())).send()
		p.opened()
		if protocol == "" {
			p.hears(stanza.NSStream, "features")
		}
		s := p.success()
		require.Equal(t, address, s.ChildText(nsSASL2, "authorization-identifier"))
		require.Equal(t, id, s.Child(nsSM, "resumed").Attr("previd"))
		require.Nil(t, s.Child(nsBind2, "bound"))
		p.conn.Close()
		synctest.Wait()

		// Another device of the account does not get it, nor does anybody after that.
		unauthenticated := e.peer(protocol)
		unauthenticated.open("").send()
		unauthenticated.opened().hears(stanza.NSStream, "features")
		unauthenticated.say(withPassword("romeo", otherID, resume, binding())).send()
		s = unauthenticated.success()
		require.NotNil(t, s.Child(nsSM, "failed").Child("urn:ietf:params:xml:ns:xmpp-stanzas", "item-not-found"))
		require.NotNil(t, s.Child(nsBind2, "bound"))
		elapse(10 * time.Minute)
		again := e.peer(protocol)
		again.open("").say(withToken("romeo", token, deviceID, resume)).send()
		again.opened()
		if protocol == "" {
			again.hears(stanza.NSStream, "features")
		}
		s = again.hears(nsSASL2, "success")
		require.Equal(t, "0", s.Child(nsSM, "failed").Attr("h"), "what was handled is still known")
		require.Equal(t, "romeo@localhost", s.ChildText(nsSASL2, "authorization-identifier"))
		features := again.hears(stanza.NSStream, "features")
		require.NotNil(t, features.Child("urn:ietf:params:xml:ns:xmpp-bind", "bind"), "it may bind as in RFC 6120")
	})
}

// TestScramBySASL2: challenge and response, success with the server's signature, without a restart (XEP-0388 §2.4 to
// §2.6).
func TestScramBySASL2(t *testing.T) {
	inBoth(t, func(t *testing.T, e *env, protocol string) {
		p := e.peer(protocol)
		p.open("").send()
		p.opened().hears(stanza.NSStream, "features")
		s, err := scram.SHA256.NewClient("romeo", "secret of romeo", "")
		require.NoError(t, err)
		talk := s.NewConversation()
		first, err := talk.Step("")
		require.NoError(t, err)
		p.say(authenticate("SCRAM-SHA-256", first, "")).send()
		challenge, err := base64.StdEncoding.DecodeString(p.hears(nsSASL2, "challenge").Text())
		require.NoError(t, err)
		final, err := talk.Step(string(challenge))
		require.NoError(t, err)
		p.say(elem(nsSASL2, "response").WithText(base64.StdEncoding.EncodeToString([]byte(final)))).send()
		done := p.success()
		signature, err := base64.StdEncoding.DecodeString(done.ChildText(nsSASL2, "additional-data"))
		require.NoError(t, err)
		_, err = talk.Step(string(signature))
		require.NoError(t, err)
		require.True(t, talk.Valid())
		p.sayStanza(&stanza.Stanza{Kind: stanza.IQ, Type: stanza.TypeSet, ID: "b", Payload: []stanza.Element{
			elem("urn:ietf:params:xml:ns:xmpp-bind",
				"bind").With(elem("urn:ietf:params:xml:ns:xmpp-bind", "resource").WithText("phone")),
		}}).send()
		require.Equal(t, "romeo@localhost/phone",
			p.next().Stanza.Payload[0].ChildText("urn:ietf:params:xml:ns:xmpp-bind", "jid"))
	})
}

// TestRefusedBySASL2: A36 to A40 and A50, as far as they are about elements and not about mechanisms.
func TestRefusedBySASL2(t *testing.T) {
	ht := authenticate(tokenKind, "romeo\x00"+strings.Repeat("x", 32), deviceID)
	raw := func(text string) stanza.Element {
		return elem(nsSASL2, "authenticate", "mechanism",
			"PLAIN").With(elem(nsSASL2, "initial-response").WithText(text))
	}
	for name, row := range map[string]struct {
		sent      stanza.Element
		condition string
	}{
		"not base64":   {raw("###"), "incorrect-encoding"},
		"= is no data": {raw("="), "incorrect-encoding"},
		"no NUL":       {authenticate("PLAIN", "romeo", ""), "malformed-request"},
		"mechanism":    {authenticate("ROT13", "x", ""), "invalid-mechanism"},
		"not offered": {authenticate("SCRAM-SHA-256-PLUS", "p=tls-exporter,,n=romeo,r=abcdefgh", ""),
			"invalid-mechanism"},
		"authzid": {authenticate("PLAIN", "juliet@localhost\x00romeo\x00secret of romeo", ""),
			"invalid-authzid"},
		"password":           {authenticate("PLAIN", "\x00romeo\x00wrong", ""), "not-authorized"},
		"no such user":       {authenticate("PLAIN", "\x00nobody\x00wrong", ""), "not-authorized"},
		"id too long":        {withPassword("romeo", strings.Repeat("x", 65)), "malformed-request"},
		"token without fast": {ht, "invalid-mechanism"},
		"wrong token":        {withToken("romeo", "guess", deviceID), "not-authorized"},
		"no device":          {withToken("romeo", "guess", ""), "malformed-request"},
		"count":              {ht.With(elem(nsFAST, "fast", "count", "0")), "malformed-request"},
		"count no number":    {ht.With(elem(nsFAST, "fast", "count", "-1")), "malformed-request"},
		"bound token": {authenticate("HT-SHA-256-EXPR", "romeo\x00"+strings.Repeat("x", 32), deviceID,
			elem(nsFAST, "fast")), "invalid-mechanism"},
		"abort": {elem(nsSASL2, "abort"), "aborted"},
	} {
		t.Run(name, func(t *testing.T) {
			inBoth(t, func(t *testing.T, e *env, protocol string) {
				p := e.peer(protocol)
				p.open("").send()
				p.opened().hears(stanza.NSStream, "features")
				p.say(row.sent).send()
				f := p.hears(nsSASL2, "failure")
				require.NotNil(t, f.Child(nsSASL, row.condition), "%+v", f)
				p.say(withPassword("romeo", "")).send()
				require.Equal(t, "romeo@localhost", p.success().ChildText(nsSASL2, "authorization-identifier"))
			})
		})
	}
}

// TestOutOfTurnBySASL2: nothing else may come while a login is in progress, nor a second login after it (XEP-0388 §2.4,
// §3.8).
func TestOutOfTurnBySASL2(t *testing.T) {
	begin := authenticate("SCRAM-SHA-256", "n,,n=romeo,r=abcdefgh", "")
	for name, row := range map[string]struct {
		first, second stanza.Element
		hears         string
	}{
		"another login":      {begin, withPassword("romeo", ""), "challenge"},
		"the older SASL":     {begin, elem(nsSASL, "response").WithText("biws"), "challenge"},
		"stream management":  {begin, elem(nsSM, "resume", "previd", "x", "h", "0"), "challenge"},
		"after success":      {withPassword("romeo", ""), withPassword("romeo", ""), "success"},
		"after binding":      {withPassword("romeo", "", binding()), withPassword("romeo", ""), "success"},
		"unknown element":    {begin, elem(nsSASL2, "next"), "challenge"},
		"response to nobody": {begin, elem(nsSASL2, "authenticate"), "challenge"},
	} {
		t.Run(name, func(t *testing.T) {
			inBoth(t, func(t *testing.T, e *env, protocol string) {
				p := e.peer(protocol)
				p.open("").send()
				p.opened().hears(stanza.NSStream, "features")
				p.say(row.first).send()
				p.hears(nsSASL2, row.hears)
				if row.hears == "success" {
					p.hears(stanza.NSStream, "features")
				}
				p.say(row.second).send()
				p.failsWith("policy-violation")
			})
		})
	}
}

// TestWrongFrom: the stream was opened for somebody else than who logs in (XEP-0388 §2.3).
func TestWrongFrom(t *testing.T) {
	inBoth(t, func(t *testing.T, e *env, protocol string) {
		p := e.peer(protocol)
		p.open("juliet@localhost").send()
		p.opened().hears(stanza.NSStream, "features")
		p.say(withPassword("romeo", "")).send()
		require.NotNil(t, p.hears(nsSASL2, "failure").Child(nsSASL, "invalid-authzid"))
	})
}

// TestRefusedInOneFlight: who says everything at once and is refused sees the features after all, and may go on with a
// password.
func TestRefusedInOneFlight(t *testing.T) {
	inBoth(t, func(t *testing.T, e *env, protocol string) {
		p := e.peer(protocol)
		p.open("").say(withToken("romeo", "guess", deviceID, binding())).send()
		p.opened().hears(stanza.NSStream, "features")
		require.NotNil(t, p.hears(nsSASL2, "failure").Child(nsSASL, "not-authorized"))
		p.say(withPassword("romeo", deviceID, binding(), askToken)).send()
		require.NotNil(t, p.success().Child(nsFAST, "token"))
	})
}

// TestHalfAFlight: when the rest of a flight is late, the features come meanwhile, as if nothing had followed.
func TestHalfAFlight(t *testing.T) {
	inBoth(t, func(t *testing.T, e *env, protocol string) {
		p := e.peer(protocol)
		p.open("").say(withPassword("romeo", ""))
		half := p.flight[len(p.flight)-10:]
		p.flight = p.flight[:len(p.flight)-10]
		p.send()
		p.opened().hears(stanza.NSStream, "features")
		p.flight = half
		p.send()
		p.success()
	})
}

// TestSignOut: the sessions of a device that is signed out end, and its token with them; other devices stay.
func TestSignOut(t *testing.T) {
	inBoth(t, func(t *testing.T, e *env, protocol string) {
		phone, _, _, token := e.firstLogin(protocol, deviceID)
		tablet, _, _, _ := e.firstLogin(protocol, otherID)
		require.NoError(t, e.auth.Devices().RemoveDevice(t.Context(), 1, deviceID))
		require.Equal(t, 1, e.server.DisconnectDevice(1, deviceID, stream.Fail(stream.NotAuthorized, "")))
		phone.failsWith("not-authorized")
		p := e.peer(protocol)
		p.open("").say(withToken("romeo", token, deviceID)).send()
		p.opened().hears(stanza.NSStream, "features")
		require.NotNil(t, p.hears(nsSASL2, "failure").Child(nsSASL, "not-authorized"))
		tablet.say(elem(nsSM, "r")).send()
		tablet.hears(nsSM, "a")
	})
}

// TestInvalidate: a client ends its own token while it logs in, and binds all the same (XEP-0484 §3.6).
func TestInvalidate(t *testing.T) {
	inBoth(t, func(t *testing.T, e *env, protocol string) {
		_, _, _, token := e.firstLogin(protocol, deviceID)
		for _, good := range []bool{true, false} {
			p := e.peer(protocol)
			login := withToken("romeo", token, deviceID, binding())
			for i := range login.Nodes {
				if n := login.Nodes[i].Element; n != nil && n.Local == "fast" {
					n.Attrs = []stanza.Attr{{Local: "invalidate", Value: "true"}}
				}
			}
			p.open("").send()
			p.opened().hears(stanza.NSStream, "features")
			p.say(login).send()
			if !good {
				require.NotNil(t, p.hears(nsSASL2, "failure").Child(nsSASL, "not-authorized"))
				continue
			}
			s := p.success()
			require.NotNil(t, s.Child(nsBind2, "bound"))
			require.Nil(t, s.Child(nsFAST, "token"))
		}
	})
}

// TestTooManyResourcesInline: who has as many resources as it may is logged in without one, and told so by RFC 6120
// when it binds.
func TestTooManyResourcesInline(t *testing.T) {
	inBoth(t, func(t *testing.T, e *env, protocol string) {
		for range 10 {
			p := e.peer(protocol)
			p.open("").send()
			p.opened().hears(stanza.NSStream, "features")
			p.say(withPassword("romeo", "", elem(nsBind2, "bind"))).send()
			require.NotNil(t, p.success().Child(nsBind2, "bound"))
		}
		p := e.peer(protocol)
		p.open("").send()
		p.opened().hears(stanza.NSStream, "features")
		p.say(withPassword("romeo", "", elem(nsBind2, "bind"))).send()
		s := p.success()
		require.Nil(t, s.Child(nsBind2, "bound"))
		require.Equal(t, "romeo@localhost", s.ChildText(nsSASL2, "authorization-identifier"))
	})
}

// TestTags: what a client calls itself stands in its resource, unless it cannot.
func TestTags(t *testing.T) {
	for tag, prefix := range map[string]string{"App": "App~", "": "", "ünï": "ünï~", strings.Repeat("x", 1020): "",
		"a\u0007b": ""} {
		run(t, nil, func(t *testing.T, e *env) {
			p := e.peer(link.ProtocolCompact)
			p.open("").send()
			p.opened().hears(stanza.NSStream, "features")
			bind := elem(nsBind2, "bind")
			if !strings.Contains(tag, "\u0007") { // which no codec carries
				bind = bind.With(elem(nsBind2, "tag").WithText(tag))
			}
			p.say(withPassword("romeo", "", bind)).send()
			_, resource, _ := strings.Cut(p.success().ChildText(nsSASL2, "authorization-identifier"), "/")
			require.Len(t, strings.TrimPrefix(resource, prefix), 16)
			require.True(t, strings.HasPrefix(resource, prefix))
		})
	}
}

// changer changes something after a login was found right, and before its session can be found.
type changer struct {
	*auth.Authenticator
	change func(ctx context.Context) error // nil: nothing
}

func (s *changer) IssueToken(ctx context.Context, x *auth.Exchange, agent auth.Agent,
	mechanism string) (auth.LoginToken, bool, error) {
	t, ok, err := s.Authenticator.IssueToken(ctx, x, agent, mechanism)
	if s.change != nil && err == nil {
		err = s.change(ctx)
	}
	return t, ok, err
}

// TestChangedDuringLogin: when the account is changed or the device signed out in the very moment of a login, its
// session ends, whatever way it came in.
func TestChangedDuringLogin(t *testing.T) {
	for way, login := range map[string]func(token, id string) stanza.Element{
		"password, bind":   func(_, _ string) stanza.Element { return withPassword("romeo", deviceID) },
		"password, Bind 2": func(_, _ string) stanza.Element { return withPassword("romeo", deviceID, binding()) },
		"password, resume": func(_, id string) stanza.Element {
			return withPassword("romeo", deviceID, elem(nsSM, "resume", "previd", id, "h", "0"))
		},
		"token, Bind 2": func(token, _ string) stanza.Element {
			return withToken("romeo", token, deviceID, binding())
		},
		"token, resume": func(token, id string) stanza.Element {
			return withToken("romeo", token, deviceID, elem(nsSM, "resume", "previd", id, "h", "0"))
		},
	} {
		for kind, change := range map[string]func(context.Context, store.Devices) error{
			"device": func(ctx context.Context, d store.Devices) error { return d.RemoveDevice(ctx, 1, deviceID) },
			"account": func(ctx context.Context, d store.Devices) error {
				_, err := d.RemoveDevices(ctx, 1, "")
				return err
			},
		} {
			t.Run(way+", "+kind, func(t *testing.T) {
				s := &changer{}
				wrap := func(c *c2s.Config) {
					s.Authenticator = c.Auth.(*auth.Authenticator)
					c.Auth = s
				}
				run(t, wrap, func(t *testing.T, e *env) {
					before, _, id, token := e.firstLogin(link.ProtocolCompact, deviceID)
					before.conn.Close()
					s.change = func(ctx context.Context) error { return change(ctx, s.Devices()) }
					p := e.peer(link.ProtocolCompact)
					p.open("").send()
					p.opened().hears(stanza.NSStream, "features")
					p.say(login(token, id)).send()
					if way == "password, bind" {
						p.success()
						p.sayStanza(&stanza.Stanza{Kind: stanza.IQ, Type: stanza.TypeSet, ID: "b",
							Payload: []stanza.Element{elem("urn:ietf:params:xml:ns:xmpp-bind", "bind")}}).send()
					}
					for item := p.next(); ; item = p.next() {
						require.Equal(t, stream.Element, item.Kind)
						if item.Element.Local == "error" {
							why := item.Element.Child("urn:ietf:params:xml:ns:xmpp-streams", "not-authorized")
							require.NotNil(t, why, "%+v", item.Element)
							break
						}
					}
				})
			})
		}
	}
}

// ender ends a session that was bound and has no connection yet.
type ender struct{ c2s.Sessions }

func (e ender) SetCarbons(s *session.Session, on bool) bool {
	defer s.End(stream.Fail(stream.NotAuthorized, ""))
	return e.Sessions.SetCarbons(s, on)
}

// TestEndedBeforeAttached: whose session is ended while its answer is on the way is told why.
func TestEndedBeforeAttached(t *testing.T) {
	wrap := func(c *c2s.Config) { c.Sessions = ender{c.Sessions} }
	run(t, wrap, func(t *testing.T, e *env) {
		p := e.peer(link.ProtocolCompact)
		p.open("").send()
		p.opened().hears(stanza.NSStream, "features")
		p.say(withPassword("romeo", deviceID, binding())).send()
		p.failsWith("not-authorized")
	})
}
