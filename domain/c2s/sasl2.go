package c2s

import (
	"strconv"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/link"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Namespaces of the login that takes one round trip.
const (
	nsSASL2 = "urn:xmpp:sasl:2" // XEP-0388
	nsBind2 = "urn:xmpp:bind:0" // XEP-0386
	nsFAST  = "urn:xmpp:fast:0" // XEP-0484
)

// wishes is what a client asks for in one <authenticate/> (XEP-0388 §2.3).
type wishes struct {
	exchange *auth.Exchange
	agent    auth.Agent
	bind     *stanza.Element // XEP-0386 §3.2; nil: no resource yet
	resume   *stanza.Element // XEP-0198 §9.2; nil: no stream to resume
	token    string          // the mechanism of <request-token/> (XEP-0484 §3.2); "" for none
	use      *auth.TokenUse  // <fast/> (XEP-0484 §3.4); nil: it logs in with a password
}

// authentication is the stream feature of SASL2, with what can be done inline.
func (c *conn) authentication(mechanisms []string) stanza.Element {
	f := stanza.New(nsSASL2, "authentication")
	for _, name := range mechanisms {
		f = f.With(stanza.New(nsSASL2, "mechanism").WithText(name))
	}
	inline := stanza.New(nsSASL2, "inline").With(
		stanza.New(nsBind2, "bind").With(stanza.New(nsBind2, "inline").With(
			stanza.New(nsBind2, "feature", "var", nsSM),
			stanza.New(nsBind2, "feature", "var", payload.NSCarbons),
			stanza.New(nsBind2, "feature", "var", nsConfirm),
		)),
		stanza.New(nsSM, "sm"),
	)
	if tokens := c.srv.config.Auth.TokenMechanisms(&c.neg.channel); len(tokens) > 0 {
		fast := stanza.New(nsFAST, "fast")
		for _, name := range tokens {
			fast = fast.With(stanza.New(nsFAST, "mechanism").WithText(name))
		}
		inline = inline.With(fast)
	}
	return f.With(inline)
}

// sasl2 handles an element of SASL2.
func (c *conn) sasl2(e *stanza.Element) {
	if !c.mayLogIn() || len(c.srv.config.Auth.Mechanisms(&c.neg.channel)) == 0 {
		c.refuseLogin2(&auth.Failure{Condition: auth.EncryptionRequired}, false)
		return
	}
	switch {
	case e.Local == "authenticate" && c.neg.wishes == nil:
		c.authenticate(e)
	case e.Local == "response" && c.neg.wishes != nil:
		c.respond(e)
	case e.Local == "abort":
		c.refuseLogin2(&auth.Failure{Condition: auth.Aborted}, false)
	default: // §2.4: nothing else may come while it is in progress
		c.fail(stream.Fail(stream.PolicyViolation, "That is not what is due in the login."))
	}
}

func (c *conn) authenticate(e *stanza.Element) {
	c.neg.exchange = nil // of the older SASL, which is given up
	w, initial, f := readWishes(e)
	if f != nil {
		c.refuseLogin2(f, true)
		return
	}
	mechanism, hasInitial := e.Attr("mechanism"), initial != nil
	a, ch := c.srv.config.Auth, &c.neg.channel
	var challenge []byte
	if w.use != nil {
		w.exchange, f = a.BeginToken(c.neg.ctx, ch, mechanism, initial, *w.use)
	} else {
		w.exchange, challenge, f = a.Begin(c.neg.ctx, ch, mechanism, initial, hasInitial)
	}
	switch {
	case f != nil:
		c.refuseLogin2(f, true)
	case w.exchange.Done():
		c.loggedIn2(w)
	default:
		c.neg.wishes = w
		c.challenge2(challenge)
	}
}

// readWishes reads the children of <authenticate/>. initial is nil without an <initial-response/>. What is not known is
// not asked for.
func readWishes(e *stanza.Element) (w *wishes, initial []byte, f *auth.Failure) {
	w = &wishes{bind: e.Child(nsBind2, "bind"), resume: e.Child(nsSM, "resume")}
	malformed := func(text string) (*wishes, []byte, *auth.Failure) {
		return nil, nil, &auth.Failure{Condition: auth.MalformedRequest, Text: text}
	}
	if agent := e.Child(nsSASL2, "user-agent"); agent != nil {
		w.agent = auth.Agent{
			ID: strings.Clone(agent.Attr("id")), Name: agent.ChildText(nsSASL2, "device"),
			Software: agent.ChildText(nsSASL2, "software"),
		}
		if len(w.agent.ID) > auth.MaxDeviceID {
			return malformed("The id of the user agent is too long.")
		}
	}
	if request := e.Child(nsFAST, "request-token"); request != nil {
		w.token = request.Attr("mechanism")
	}
	if fast := e.Child(nsFAST, "fast"); fast != nil && strings.HasPrefix(e.Attr("mechanism"), "HT-") {
		w.use = &auth.TokenUse{Device: w.agent.ID, Invalidate: isTrue(fast.Attr("invalidate"))}
		if count := fast.Attr("count"); count != "" {
			n, err := strconv.ParseUint(count, 10, 62)
			if err != nil || n == 0 { // "a positive integer"
				return malformed("The count is not a number.")
			}
			w.use.Count = n
		}
	}
	if r := e.Child(nsSASL2, "initial-response"); r != nil {
		if initial, f = decode2(r); f != nil {
			return nil, nil, f
		}
	}
	return w, initial, nil
}

func isTrue(s string) bool { return s == "true" || s == "1" }

// decode2 decodes SASL data. Unlike in the older SASL, no data is an element that is not there, and "=" has no meaning
// (XEP-0388 §2.2).
func decode2(e *stanza.Element) ([]byte, *auth.Failure) {
	text := e.Text()
	if text == "=" {
		return nil, &auth.Failure{Condition: auth.IncorrectEncoding}
	}
	return auth.Decode(text)
}

func (c *conn) respond(e *stanza.Element) {
	w := c.neg.wishes
	response, f := decode2(e)
	if f != nil {
		c.refuseLogin2(f, true)
		return
	}
	challenge, done, f := w.exchange.Step(c.neg.ctx, response)
	switch {
	case f != nil:
		c.refuseLogin2(f, true)
	case done:
		c.loggedIn2(w)
	default:
		c.challenge2(challenge)
	}
}

func (c *conn) challenge2(data []byte) {
	c.say(stanza.New(nsSASL2, "challenge").WithText(encode2(data)))
}

// refuseLogin2 is refuseLogin in the words of XEP-0388 §2.6.2.
func (c *conn) refuseLogin2(f *auth.Failure, tried bool) {
	c.neg.wishes = nil
	e := stanza.New(nsSASL2, "failure").With(stanza.New(nsSASL, string(f.Condition)))
	if f.Text != "" {
		e = e.With(stanza.New(nsSASL2, "text").WithText(f.Text))
	}
	c.tellRefusal(e, f, tried)
}

// loggedIn2 tells of success, together with what became of the client's wishes. The stream goes on without a restart
// (XEP-0388 §2.6.1).
func (c *conn) loggedIn2(w *wishes) {
	x := w.exchange
	bare, ok := c.address(x)
	if !ok {
		c.refuseLogin2(&auth.Failure{Condition: auth.TemporaryAuthFailure}, true)
		return
	}
	if from := c.neg.from; !from.IsZero() && from != bare { // §2.3
		c.refuseLogin2(&auth.Failure{Condition: auth.InvalidAuthzid, Text: "The stream was opened for somebody else."},
			true)
		return
	}
	c.identify(x, bare)
	c.neg.wishes, c.neg.device = nil, w.agent.ID
	c.phase = phaseAuthenticated
	c.limit(c.srv.config.MaxStanzaBytes, c.srv.config.MaxElements) // before the client knows that it may send more

	s := success{data: x.Additional()}
	token, ok, err := c.srv.config.Auth.IssueToken(c.neg.ctx, x, w.agent, w.token)
	switch {
	case err != nil:
		c.srv.config.Log.Error("a device gets no login token", "account", x.Account().ID, "error", err)
	case ok:
		s.token = stanza.New(nsFAST, "token", "expiry", token.Expires.UTC().Format(time.RFC3339), "token", token.Text)
	}
	if w.resume != nil && c.resumeInline(w.resume, &s) || w.bind != nil && c.phase == phaseAuthenticated &&
		c.bindInline(w.bind, &s) {
		return
	}
	if c.phase == phaseAuthenticated {
		c.send(c.opening(s.element(c.neg.bare), c.featuresAuthenticated())...)
	}
}

// success is what a login comes to.
type success struct {
	data  []byte           // of the mechanism; nil for none
	parts []stanza.Element // <bound/>, <resumed/>, <failed/>
	token stanza.Element   // without a name: none
}

// element is <success/> for the address that the client has now.
func (s *success) element(address jid.JID) stanza.Element {
	e := stanza.New(nsSASL2, "success")
	if s.data != nil {
		e = e.With(stanza.New(nsSASL2, "additional-data").WithText(encode2(s.data)))
	}
	e = e.With(stanza.New(nsSASL2, "authorization-identifier").WithText(address.String())).With(s.parts...)
	if s.token.Local != "" {
		e = e.With(s.token)
	}
	return e
}

// opening encodes elements, after the answer to the client's header when that was held back.
func (c *conn) opening(elements ...stanza.Element) [][]byte {
	bufs := make([][]byte, 0, 1+len(elements))
	if open := c.neg.early; open != nil {
		c.neg.early = nil
		bufs = append(bufs, open)
	}
	for i := range elements {
		bufs = append(bufs, c.codec.AppendElement(nil, &elements[i]))
	}
	return bufs
}

// holdOpen reports whether the answer to the client's header may wait for what the client has sent together with it. In
// the compact stream, a client that sends <authenticate/> at once knows the features, and is spared them
// (docs/protocol/login.md).
func (c *conn) holdOpen() bool {
	return c.phase == phaseUnauthenticated && c.link.Protocol() == link.ProtocolCompact && c.dec.Buffered() > 0
}

// openNow sends what holdOpen has held back, with the features.
func (c *conn) openNow() {
	if c.neg != nil && c.neg.early != nil {
		c.send()
	}
}
