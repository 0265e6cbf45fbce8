package c2s

import (
	"context"
	"encoding/base64"
	"net/netip"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Auth checks who logs in and keeps accounts. *auth.Authenticator is one.
type Auth interface {
	Mechanisms(ch *auth.Channel) []string
	ChannelBindings(ch *auth.Channel) []string
	Begin(ctx context.Context, ch *auth.Channel, mechanism string, initial []byte, hasInitial bool) (*auth.Exchange,
		[]byte, *auth.Failure)
	TokenMechanisms(ch *auth.Channel) []string
	BeginToken(ctx context.Context, ch *auth.Channel, mechanism string, message []byte,
		use auth.TokenUse) (*auth.Exchange, *auth.Failure)
	IssueToken(ctx context.Context, x *auth.Exchange, agent auth.Agent, mechanism string) (t auth.LoginToken, ok bool,
		err error)
	AllowRegistration(remote netip.Addr) bool
	Register(ctx context.Context, name, password string) (store.Account, error)
	SetPassword(ctx context.Context, name, password string) error
	Delete(ctx context.Context, name string) error
}

// sasl handles an element of SASL negotiation (RFC 6120 §6.4).
func (c *conn) sasl(e *stanza.Element) {
	if !c.mayLogIn() || len(c.srv.config.Auth.Mechanisms(&c.neg.channel)) == 0 {
		c.refuseLogin(&auth.Failure{Condition: auth.EncryptionRequired}, false) // §6.5.4
		return
	}
	switch e.Local {
	case "auth":
		c.beginAuth(e)
	case "response":
		c.stepAuth(e)
	case "abort":
		c.neg.exchange = nil
		c.refuseLogin(&auth.Failure{Condition: auth.Aborted}, false)
	default:
		c.fail(stream.Fail(stream.UnsupportedStanzaType, ""))
	}
}

func (c *conn) beginAuth(e *stanza.Element) {
	c.neg.exchange = nil // a second <auth/> gives the first one up
	text := e.Text()
	initial, f := auth.Decode(text)
	if f != nil {
		c.refuseLogin(f, true)
		return
	}
	x, challenge, f := c.srv.config.Auth.Begin(c.neg.ctx, &c.neg.channel, e.Attr("mechanism"), initial, text != "")
	if f != nil {
		c.refuseLogin(f, true)
		return
	}
	c.neg.exchange = x
	if x.Done() {
		c.loggedIn()
		return
	}
	c.challenge(challenge)
}

func (c *conn) stepAuth(e *stanza.Element) {
	x := c.neg.exchange
	if x == nil {
		c.refuseLogin(&auth.Failure{Condition: auth.MalformedRequest}, true)
		return
	}
	response, f := auth.Decode(e.Text())
	if f != nil {
		c.refuseLogin(f, true)
		return
	}
	challenge, done, f := x.Step(c.neg.ctx, response)
	switch {
	case f != nil:
		c.refuseLogin(f, true)
	case done:
		c.loggedIn()
	default:
		c.challenge(challenge)
	}
}

// encode is the text of SASL data: "=" stands for data of no bytes, "" for no data (RFC 6120 §6.4.2).
func encode(data []byte) string {
	if data != nil && len(data) == 0 {
		return "="
	}
	return encode2(data)
}

// encode2 is the text of SASL2's data.
func encode2(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

func (c *conn) challenge(data []byte) {
	e := stanza.New(nsSASL, "challenge")
	if len(data) > 0 { // an empty challenge is an empty element (§6.4.3)
		e = e.WithText(encode(data))
	}
	c.say(e)
}

// refuseLogin tells of a failure. tried says whether it was a login that failed, which is counted.
func (c *conn) refuseLogin(f *auth.Failure, tried bool) {
	c.neg.exchange = nil
	e := stanza.New(nsSASL, "failure").With(stanza.New(nsSASL, string(f.Condition)))
	if f.Text != "" {
		text := stanza.New(nsSASL, "text").WithText(f.Text)
		text.Attrs = []stanza.Attr{{Space: stanza.NSXML, Local: "lang", Value: "en"}}
		e = e.With(text)
	}
	c.tellRefusal(e, f, tried)
}

// tellRefusal sends the element that tells of a failure, and ends the stream after too many.
func (c *conn) tellRefusal(e stanza.Element, f *auth.Failure, tried bool) {
	if tried {
		c.srv.metrics.loginFail.Inc()
	}
	c.neg.failures++
	if c.neg.failures > maxFailures {
		c.fail(stream.Fail(stream.PolicyViolation, "Too many tries to log in."))
		return
	}
	c.say(e)
	if f.Exhausted {
		c.fail(stream.Fail(stream.PolicyViolation, "Too many failed logins; wait before the next one."))
	}
}

// loggedIn tells of success; the client opens a new stream over the same link (RFC 6120 §6.4.6).
func (c *conn) loggedIn() {
	x := c.neg.exchange
	bare, ok := c.address(x)
	if !ok {
		c.refuseLogin(&auth.Failure{Condition: auth.TemporaryAuthFailure}, true)
		return
	}
	c.identify(x, bare)
	success := stanza.New(nsSASL, "success")
	if data := x.Additional(); data != nil {
		success = success.WithText(encode(data))
	}
	c.phase, c.opened = phaseAwaitHeader, false
	c.dec.Restart()
	c.limit(c.srv.config.MaxStanzaBytes, c.srv.config.MaxElements) // before the client knows that it may send more
	c.say(success)
}

// address is the bare address of whoever has logged in; ok is false when the account's name is none.
func (c *conn) address(x *auth.Exchange) (bare jid.JID, ok bool) {
	account := x.Account()
	bare, err := jid.New(account.Name, c.srv.config.Domain, "")
	if err != nil { // a name in the store that is not prepared
		c.srv.config.Log.Error("an account's name is not an address", "account", account.ID)
	}
	return bare, err == nil
}

// identify notes who has logged in.
func (c *conn) identify(x *auth.Exchange, bare jid.JID) {
	account := x.Account()
	account.Credentials = nil
	c.neg.account, c.neg.bare, c.neg.exchange, c.neg.failures = account, bare, nil, 0
	c.srv.metrics.loginOK.Inc()
	if f := c.srv.config.Authenticated; f != nil {
		f(c.link)
	}
}
