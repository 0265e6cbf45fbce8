package client

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/scram"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Namespaces of negotiation.
const (
	nsSASL      = "urn:ietf:params:xml:ns:xmpp-sasl"
	nsSASL2     = "urn:xmpp:sasl:2"
	nsBind      = "urn:ietf:params:xml:ns:xmpp-bind"
	nsBind2     = "urn:xmpp:bind:0"
	nsFast      = "urn:xmpp:fast:0"
	nsSM        = "urn:xmpp:sm:3"
	nsLimits    = "urn:xmpp:stream-limits:0"
	nsSASLCB    = "urn:xmpp:sasl-cb:0"
	bindFeature = "bind"
)

// Device is what a login is made from. The server lists it for its owner, who can sign it out.
type Device struct {
	// ID tells devices of an account apart: a random UUID in lower case, made once and kept (XEP-0388 §2.2). "" means
	// that no device is named, and no token can be had.
	ID string
	// Name and Software are for people, such as "Juliet's phone" and "Balcony 1.2".
	Name, Software string
}

// Token is what a device logs in with instead of a password (XEP-0484). Whoever has it can log in: keep it as well as a
// password.
type Token struct {
	Secret string
	// Mechanism is the only one that it is good for, such as HT-SHA-256-EXPR.
	Mechanism string
	Expires   time.Time
}

// Login is what Conn.Login does.
type Login struct {
	Domain, Username string
	// Password is used when there is no token, or it is refused.
	Password string
	Token    Token
	Device   Device
	// Resource is a wish; the server may give another one.
	Resource string
	// WantToken asks for a device token. It takes a Device.
	WantToken bool
	// Manage turns stream management on, so that the stream can be resumed (XEP-0198); Carbons asks for copies of what
	// the account's other devices send and receive (XEP-0280), and Confirms for confirmations
	// (docs/protocol/confirm.md), where the server can turn them on with the login.
	Manage, Carbons, Confirms bool
	// Previous and Handled name the stream that is to be resumed, and how many of its stanzas were taken; "" for none.
	Previous string
	Handled  uint32
	// Behind is said in the same flight as a token, so that the session is in use after one round trip; Session.Said
	// tells whether that was done. It is not when there is no token or a stream to resume. When the token is refused,
	// the server ends a stream on which something was said behind it.
	Behind []*stanza.Stanza
	// Keys saves the work of SCRAM at the next login; nil saves nothing.
	Keys *KeyCache
}

// Session is what a login made.
type Session struct {
	// JID is the full address; zero when the stream was resumed, which keeps its address.
	JID jid.JID
	// Resumed tells that the previous stream goes on, of which the server has handled so many stanzas.
	Resumed bool
	Handled uint32
	// Stream names the stream, to resume it; "" when it cannot be resumed.
	Stream string
	// Managed: stream management is on, and counts from zero unless resumed.
	Managed bool
	// Carbons and Confirms were turned on.
	Carbons, Confirms bool
	// Said: what was to be said behind the token was.
	Said bool
	// Token is a new token, of which Secret is "" when there is none.
	Token Token
	// Idle is after how long a silent connection is ended by the server (XEP-0478), 0 for never.
	Idle time.Duration
}

// AuthError says that the server refused a password or token.
type AuthError struct {
	// Condition is one of RFC 6120 §6.5, such as not-authorized or temporary-auth-failure.
	Condition string
	Text      string
}

func (e *AuthError) Error() string {
	if e.Text != "" {
		return "login refused: " + e.Condition + ": " + e.Text
	}
	return "login refused: " + e.Condition
}

// temporary reports whether the same may succeed later.
func (e *AuthError) temporary() bool {
	return slices.Contains([]string{"temporary-auth-failure", "aborted"}, e.Condition)
}

// negotiation is a login under way. It belongs to the goroutine of Login.
type negotiation struct {
	*Login
	c        *Conn
	features *stanza.Element
	session  Session
}

// Login opens a stream, logs in and binds a resource, or resumes a stream. A returning device with a token takes one
// round trip. When it fails the connection is of no more use, and should be closed. The error is, or wraps, an
// *AuthError when password and token were refused.
func (c *Conn) Login(ctx context.Context, l Login) (Session, error) {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	n := &negotiation{Login: &l, c: c}
	err := n.run()
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return n.session, err
}

func (n *negotiation) run() error {
	if n.Token.Secret != "" && n.Device.ID != "" {
		done, err := n.withToken()
		if done || err != nil {
			return err
		}
	} else if err := n.open(nil); err != nil {
		return err
	}
	if n.Password == "" {
		return &AuthError{Condition: "credentials-expired", Text: "There is no good token, and no password."}
	}
	if n.features.Child(nsSASL2, "authentication") != nil && n.Device.ID != "" {
		return n.withSASL2()
	}
	return n.withSASL()
}

// open says the stream header, and whatever can be said with it, and reads the server's features.
func (n *negotiation) open(more []byte) error {
	h := stream.Header{To: n.Domain, HasTo: true, Version: "1.0", HasVersion: true}
	if n.Device.ID != "" { // XEP-0484 §5.1
		h.From = n.Username + "@" + n.Domain
	}
	if _, err := n.c.Write(append(n.c.codec.AppendOpen(nil, h), more...)); err != nil {
		return fmt.Errorf("opening a stream: %w", err)
	}
	n.c.decoder.Restart()
	item, err := n.c.Next()
	if err != nil {
		return fmt.Errorf("opening a stream: %w", err)
	}
	if item.Kind != stream.Open {
		return errors.New("opening a stream: the server did not say its header")
	}
	if more != nil { // the features are left out, or come before the answer (docs/protocol/login.md)
		return nil
	}
	return n.readFeatures()
}

func (n *negotiation) readFeatures() error {
	e, err := n.element(stanza.NSStream, "features")
	if err == nil {
		n.take(e)
	}
	return err
}

// take notes the features that the stream has now.
func (n *negotiation) take(e *stanza.Element) {
	n.features = e
	if l := e.Child(nsLimits, "limits"); l != nil {
		if s, err := strconv.Atoi(l.ChildText(nsLimits, "idle-seconds")); err == nil && s > 0 {
			n.session.Idle = time.Duration(s) * time.Second
		}
	}
}

// element returns the next element, which must be one of these names.
func (n *negotiation) element(space string, names ...string) (*stanza.Element, error) {
	item, err := n.c.Next()
	if err != nil {
		return nil, fmt.Errorf("waiting for <%s>: %w", names[0], err)
	}
	e := item.Element
	if item.Kind == stream.Element && e.Space == stanza.NSStream && space == nsSASL2 {
		n.take(e)
		return n.element(space, names...)
	}
	if item.Kind == stream.Element && e.Space == space && slices.Contains(names, e.Local) {
		return e, nil
	}
	return nil, fmt.Errorf("waiting for <%s>, the server said something else", names[0])
}

// exporter returns the data of tls-exporter (RFC 9266), nil when the connection has none.
func (n *negotiation) exporter() []byte {
	state := n.c.TLS()
	if state == nil {
		return nil
	}
	data, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	if err != nil {
		return nil
	}
	return data
}

// scram begins SCRAM-SHA-256, bound to the channel where both sides can.
func (n *negotiation) scram(offer *stanza.Element) (s *scram.Client, mechanism string, err error) {
	const plain, plus = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"
	with := func(binding []byte, could bool) *scram.Client {
		return &scram.Client{Hash: scram.SHA256, User: n.Username, Password: n.Password, Binding: binding, Could: could,
			Derive: n.Keys.Derive}
	}
	exporter := n.exporter()
	bindable := false
	if cb := n.features.Child(nsSASLCB, "sasl-channel-binding"); cb != nil {
		for e := range cb.Elements {
			bindable = bindable || e.Attr("type") == "tls-exporter"
		}
	}
	switch {
	case exporter != nil && bindable && offers(offer, plus):
		return with(exporter, false), plus, nil
	case offers(offer, plain):
		return with(nil, exporter != nil && !offers(offer, plus)), plain, nil
	}
	return nil, "", &AuthError{Condition: "invalid-mechanism", Text: "The server does not offer " + plain + "."}
}

// offers reports whether a list of mechanisms has one of that name.
func offers(list *stanza.Element, name string) bool {
	if list == nil {
		return false
	}
	for e := range list.Elements {
		if e.Local == "mechanism" && e.Text() == name {
			return true
		}
	}
	return false
}

func encoded(data []byte) string {
	if len(data) == 0 {
		return "="
	}
	return base64.StdEncoding.EncodeToString(data)
}

func decoded(text string) ([]byte, error) {
	if text == "=" {
		return nil, nil
	}
	return base64.StdEncoding.DecodeString(text)
}

// refusal reads <failure/> (RFC 6120 §6.5, XEP-0388 §2.6).
func refusal(e *stanza.Element) error {
	out := &AuthError{Condition: "not-authorized"}
	for child := range e.Elements {
		switch {
		case child.Local == "text":
			out.Text = child.Text()
		case child.Space == nsSASL:
			out.Condition = child.Local
		}
	}
	return out
}

// withSASL logs in as RFC 6120 §6 has it, and binds a resource.
func (n *negotiation) withSASL() error {
	s, mechanism, err := n.scram(n.features.Child(nsSASL, "mechanisms"))
	if err != nil {
		return err
	}
	if err := n.c.Say(stanza.New(nsSASL, "auth", "mechanism", mechanism).WithText(encoded(s.First()))); err != nil {
		return err
	}
	proof, err := n.exchange(s, nsSASL)
	if err != nil {
		return err
	}
	data, err := decoded(proof.Text())
	if err != nil {
		return fmt.Errorf("the server's last word on the password: %w", err)
	}
	if err := s.Verify(data); err != nil {
		return err
	}
	if err := n.open(nil); err != nil {
		return err
	}
	if n.Previous != "" {
		if done, err := n.resume(); done || err != nil {
			return err
		}
	}
	return n.bind()
}

// exchange answers the challenge of SCRAM and returns <success/>.
func (n *negotiation) exchange(s *scram.Client, space string) (*stanza.Element, error) {
	e, err := n.element(space, "challenge", "failure")
	if err != nil {
		return nil, err
	}
	if e.Local == "failure" {
		return nil, refusal(e)
	}
	challenge, err := decoded(e.Text())
	if err != nil {
		return nil, fmt.Errorf("the server's challenge: %w", err)
	}
	final, err := s.Final(challenge)
	if err != nil {
		return nil, err
	}
	if err := n.c.Say(stanza.New(space, "response").WithText(encoded(final))); err != nil {
		return nil, err
	}
	if e, err = n.element(space, "success", "failure"); err != nil {
		return nil, err
	}
	if e.Local == "failure" {
		return nil, refusal(e)
	}
	return e, nil
}

// resume asks for the previous stream (XEP-0198 §5). It reports whether it goes on.
func (n *negotiation) resume() (bool, error) {
	if err := n.c.Say(n.resumption()); err != nil {
		return false, err
	}
	e, err := n.element(nsSM, "resumed", "failed")
	if err != nil {
		return false, err
	}
	return n.resumed(e)
}

func (n *negotiation) resumption() stanza.Element {
	return stanza.New(nsSM, "resume", "previd", n.Previous, "h", strconv.FormatUint(uint64(n.Handled), 10))
}

// resumed reads the answer to <resume/>.
func (n *negotiation) resumed(e *stanza.Element) (bool, error) {
	if e.Local != "resumed" {
		return false, nil
	}
	h, err := strconv.ParseUint(e.Attr("h"), 10, 32)
	if err != nil {
		return false, errors.New("the server resumed a stream without saying what it has handled")
	}
	n.session.Resumed, n.session.Handled, n.session.Stream, n.session.Managed = true, uint32(h), n.Previous, true
	return true, nil
}

// bind binds a resource (RFC 6120 §7) and turns stream management on.
func (n *negotiation) bind() error {
	request := stanza.New(nsBind, "bind")
	if n.Resource != "" {
		request = request.With(stanza.New(nsBind, "resource").WithText(n.Resource))
	}
	out := n.c.codec.AppendStanza(nil,
		&stanza.Stanza{Kind: stanza.IQ, Type: stanza.TypeSet, ID: bindFeature, Payload: []stanza.Element{request}})
	if n.Manage {
		enable := stanza.New(nsSM, "enable", "resume", "true")
		out = n.c.codec.AppendElement(out, &enable)
	}
	if _, err := n.c.Write(out); err != nil {
		return err
	}
	item, err := n.c.Next()
	if err != nil {
		return fmt.Errorf("binding a resource: %w", err)
	}
	answer := item.Stanza
	if item.Kind != stream.Stanza || answer.Kind != stanza.IQ || answer.ID != bindFeature {
		return errors.New("binding a resource: the server said something else")
	}
	bound := answer.Child(nsBind, "bind")
	if answer.Type != stanza.TypeResult || bound == nil {
		return fmt.Errorf("binding a resource: %w", answer.Refusal())
	}
	if n.session.JID, err = jid.Parse(bound.ChildText(nsBind, "jid")); err != nil {
		return fmt.Errorf("binding a resource: %w", err)
	}
	if !n.Manage {
		return nil
	}
	e, err := n.element(nsSM, "enabled", "failed")
	if err != nil {
		return err
	}
	n.enabled(e)
	return nil
}

// enabled reads the answer to <enable/> (XEP-0198 §3).
func (n *negotiation) enabled(e *stanza.Element) {
	if e.Local != "enabled" {
		return
	}
	n.session.Managed = true
	if r := e.Attr("resume"); r == "true" || r == "1" {
		n.session.Stream = e.Attr("id")
	}
}

// authenticate returns <authenticate/> of XEP-0388 §2.3 with everything that is done along with it.
func (n *negotiation) authenticate(mechanism string, first []byte) stanza.Element {
	agent := stanza.New(nsSASL2, "user-agent", "id", n.Device.ID)
	if n.Device.Software != "" {
		agent = agent.With(stanza.New(nsSASL2, "software").WithText(n.Device.Software))
	}
	if n.Device.Name != "" {
		agent = agent.With(stanza.New(nsSASL2, "device").WithText(n.Device.Name))
	}
	out := stanza.New(nsSASL2, "authenticate", "mechanism", mechanism).With(
		stanza.New(nsSASL2, "initial-response").WithText(encoded(first)), agent)
	bind := stanza.New(nsBind2, "bind") // XEP-0386 §3.2
	if n.Resource != "" {
		bind = bind.With(stanza.New(nsBind2, "tag").WithText(n.Resource))
	}
	if n.Carbons {
		bind = bind.With(stanza.New(payload.NSCarbons, "enable"))
	}
	if n.Confirms {
		bind = bind.With(stanza.New(nsConfirm, "enable"))
	}
	if n.Manage {
		bind = bind.With(stanza.New(nsSM, "enable", "resume", "true"))
	}
	if n.Previous != "" {
		out = out.With(n.resumption())
	}
	return out.With(bind)
}

// withSASL2 logs in with a password and everything else in one exchange (XEP-0388).
func (n *negotiation) withSASL2() error {
	offer := n.features.Child(nsSASL2, "authentication")
	s, mechanism, err := n.scram(offer)
	if err != nil {
		return err
	}
	e := n.authenticate(mechanism, s.First())
	token := ""
	if inline := offer.Child(nsSASL2, "inline"); inline != nil && n.WantToken {
		if token = n.tokenMechanism(inline.Child(nsFast, "fast")); token != "" {
			e = e.With(stanza.New(nsFast, "request-token", "mechanism", token))
		}
	}
	if err := n.c.Say(e); err != nil {
		return err
	}
	success, err := n.exchange(s, nsSASL2)
	if err != nil {
		return err
	}
	data, err := decoded(success.ChildText(nsSASL2, "additional-data"))
	if err != nil {
		return fmt.Errorf("the server's last word on the password: %w", err)
	}
	if err := s.Verify(data); err != nil {
		return err
	}
	return n.succeeded(success, token)
}

// Mechanisms of tokens (draft-schmaus-kitten-sasl-ht), of which the first is bound to the channel.
const (
	tokenBound = "HT-SHA-256-EXPR" //nolint:gosec // a name, not a secret
	tokenPlain = "HT-SHA-256-NONE" //nolint:gosec // a name, not a secret
)

// tokenMechanism returns the best mechanism for tokens, "" when there is none.
func (n *negotiation) tokenMechanism(offer *stanza.Element) string {
	switch {
	case offers(offer, tokenBound) && n.exporter() != nil:
		return tokenBound
	case offers(offer, tokenPlain):
		return tokenPlain
	}
	return ""
}

// withToken says everything at once: header and token, and the session that is wanted (XEP-0484 §3.4). It reports
// whether the login is done; when it is not, the stream is open for another way.
func (n *negotiation) withToken() (bool, error) {
	var binding []byte
	if n.Token.Mechanism == tokenBound {
		if binding = n.exporter(); binding == nil {
			return false, n.open(nil) // the token is of no use here
		}
	}
	first := append([]byte(n.Username+"\x00"),
		scram.SHA256.HMAC([]byte(n.Token.Secret), append([]byte("Initiator"), binding...))...)
	e := n.authenticate(n.Token.Mechanism, first).With(stanza.New(nsFast, "fast"))
	flight := n.c.codec.AppendElement(nil, &e)
	if n.Previous == "" {
		for _, s := range n.Behind {
			flight = n.c.codec.AppendStanza(flight, s)
		}
		n.session.Said = len(n.Behind) > 0
	}
	if err := n.open(flight); err != nil {
		return false, err
	}
	answer, err := n.element(nsSASL2, "success", "failure")
	if err != nil {
		return false, err
	}
	if answer.Local == "failure" {
		if n.Password == "" || n.features == nil || n.session.Said {
			return false, refusal(answer)
		}
		return false, nil
	}
	data, err := decoded(answer.ChildText(nsSASL2, "additional-data"))
	if err != nil || !hmac.Equal(data,
		scram.SHA256.HMAC([]byte(n.Token.Secret), append([]byte("Responder"), binding...))) {
		return false, errors.New("the server did not prove that it knows the token")
	}
	return true, n.succeeded(answer, n.Token.Mechanism)
}

// succeeded reads <success/> with all that was asked for; the features of the session follow.
func (n *negotiation) succeeded(e *stanza.Element, mechanism string) error {
	for child := range e.Elements {
		switch {
		case child.Space == nsSM:
			if _, err := n.resumed(child); err != nil {
				return err
			}
		case child.Space == nsFast && child.Local == "token":
			n.session.Token = Token{Secret: child.Attr("token"), Mechanism: mechanism}
			if t, err := time.Parse(time.RFC3339, child.Attr("expiry")); err == nil {
				n.session.Token.Expires = t
			}
		case child.Space == nsBind2 && child.Local == "bound":
			n.session.Carbons, n.session.Confirms = n.Carbons, n.Confirms
			for f := range child.Elements {
				if f.Space == nsSM {
					n.enabled(f)
				}
			}
		}
	}
	if !n.session.Resumed {
		var err error
		if n.session.JID, err = jid.Parse(e.ChildText(nsSASL2, "authorization-identifier")); err != nil ||
			!n.session.JID.IsFull() {
			return errors.New("the server bound no address")
		}
	}
	return n.readFeatures()
}
