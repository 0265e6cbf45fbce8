package c2s

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/link"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Namespaces of stream negotiation.
const (
	nsTLS         = "urn:ietf:params:xml:ns:xmpp-tls"     // RFC 6120 §5
	nsSASL        = "urn:ietf:params:xml:ns:xmpp-sasl"    // RFC 6120 §6
	nsBind        = "urn:ietf:params:xml:ns:xmpp-bind"    // RFC 6120 §7
	nsSession     = "urn:ietf:params:xml:ns:xmpp-session" // RFC 3921 §3
	nsSASLBinding = "urn:xmpp:sasl-cb:0"                  // XEP-0440
	nsRosterVer   = "urn:xmpp:features:rosterver"         // RFC 6121 §2.6.1
	nsPreApproval = "urn:xmpp:features:pre-approval"      // RFC 6121 §3.4
	nsLimits      = "urn:xmpp:stream-limits:0"            // XEP-0478
	nsRegFeature  = "http://jabber.org/features/iq-register"
	nsRegister    = "jabber:iq:register" // XEP-0077
)

// maxLang is the length of a language tag that RFC 5646 §4.4.1 has every implementation cope with.
const maxLang = 35

// negotiation is what a connection needs only until it has a resource.
type negotiation struct {
	ctx      context.Context // ends with the login timeout
	cancel   context.CancelFunc
	deadline time.Time
	channel  auth.Channel
	exchange *auth.Exchange
	wishes   *wishes       // of a login by SASL2 that is in progress
	early    []byte        // the answer to the header, held back; see holdOpen
	from     jid.JID       // bare, of the client's header; zero for none
	device   string        // after authentication by SASL2; "" for none
	account  store.Account // after authentication
	bare     jid.JID       // after authentication
	failures int           // to log in, bind, resume or register; see maxFailures
	tls      bool          // STARTTLS was done
}

// failure counts a failed try, and ends the stream when there were too many (RFC 6120 §6.4.5, §7.7). It reports whether
// it did.
func (c *conn) failure() bool {
	c.neg.failures++
	if c.neg.failures <= maxFailures {
		return false
	}
	c.fail(stream.Fail(stream.PolicyViolation, "Too many tries."))
	return true
}

// header answers the client's stream header (RFC 6120 §4.7).
func (c *conn) header(h *stream.Header) {
	if c.phase != phaseAwaitHeader { // again, without a restart (A33)
		c.fail(stream.Fail(stream.PolicyViolation, "The stream is open already."))
		return
	}
	failure := c.checkHeader(h)
	open := c.codec.AppendOpen(nil, c.answer(h))
	c.opened = true
	if failure != nil {
		c.failing(failure)
		c.send(open, c.codec.AppendError(nil, failure), c.codec.AppendClose(nil))
		c.closeWritten(failure)
		return
	}
	if c.neg.account.ID != 0 {
		c.phase = phaseAuthenticated
	} else {
		c.phase = phaseUnauthenticated
		c.neg.channel = c.channel()
	}
	c.lang = ""
	if len(h.Lang) <= maxLang {
		c.lang = strings.Clone(h.Lang)
	}
	if c.holdOpen() {
		c.neg.early = open
		return
	}
	features := c.features()
	c.send(open, c.codec.AppendElement(nil, &features))
}

// answer is the server's stream header. The stream's id cannot be guessed (RFC 6120 §4.7.3).
func (c *conn) answer(h *stream.Header) stream.Header {
	out := stream.Header{From: c.srv.config.Domain, ID: newStreamID().String(), Version: "1.0", HasVersion: true,
		Lang: "en"}
	if from, err := jid.Parse(h.From); err == nil && h.From != "" {
		out.To, out.HasTo = from.String(), true
	}
	return out
}

// checkHeader applies RFC 6120 §4.7.1, §4.7.2 and §4.7.5 and, after authentication, §6.4.6: the stream that follows is
// between the same two.
func (c *conn) checkHeader(h *stream.Header) *stream.Error {
	if !supported(h) {
		return stream.Fail(stream.UnsupportedVersion, "This server speaks version 1.0.")
	}
	if !h.HasTo || h.To == "" {
		return stream.Fail(stream.ImproperAddressing, "A stream needs the address of the server.")
	}
	to, err := jid.Parse(h.To)
	if err != nil || to.Local() != "" || to.IsFull() {
		return stream.Fail(stream.ImproperAddressing, "The address of the server is not a domain.")
	}
	if to.Domain() != c.srv.config.Domain {
		for _, gone := range c.srv.config.GoneDomains {
			if to.Domain() == gone {
				return stream.Fail(stream.HostGone, "")
			}
		}
		return stream.Fail(stream.HostUnknown, "")
	}
	if h.From == "" {
		return nil
	}
	from, err := jid.Parse(h.From)
	if err != nil || c.neg.account.ID != 0 && from.Bare() != c.neg.bare {
		return stream.Fail(stream.InvalidFrom, "")
	}
	c.neg.from = from.Bare().Clone()
	return nil
}

// supported reports whether the client's version is one that 1.0 can answer: what is higher gets 1.0, what is lower or
// absent is from before XMPP (RFC 6120 §4.7.5).
func supported(h *stream.Header) bool {
	major, minor, ok := strings.Cut(h.Version, ".")
	n, err := strconv.ParseUint(major, 10, 16)
	if !h.HasVersion || !ok || err != nil || n < 1 {
		return false
	}
	_, err = strconv.ParseUint(minor, 10, 16)
	return err == nil
}

// channel describes the link to the authenticator.
func (c *conn) channel() auth.Channel {
	addr := c.link.Remote().Addr()
	state := c.link.TLS()
	secure := state != nil
	if f := c.srv.config.Secure; f != nil {
		secure = f(c.link)
	}
	return auth.Channel{
		Secure: secure, Loopback: addr.IsLoopback(), TLS: state, LocalCertificate: c.link.LocalCertificate(),
		Remote: addr, Domain: c.srv.config.Domain,
	}
}

// canStartTLS reports whether STARTTLS is on offer: not within TLS, nor on a WebSocket (RFC 7395 §3.9), nor where
// something else than plain RFC 6120 was agreed on.
func (c *conn) canStartTLS() bool {
	return c.srv.config.TLS != nil && !c.framed && c.link.TLS() == nil && c.link.Protocol() == ""
}

// mayLogIn reports whether the link is good enough for credentials: confidential, or within this machine.
func (c *conn) mayLogIn() bool { return c.neg.channel.Secure || c.neg.channel.Loopback }

// features is the list for where the stream is (RFC 6120 §4.3.2).
func (c *conn) features() stanza.Element {
	if c.phase == phaseAuthenticated {
		return c.featuresAuthenticated()
	}
	list := stanza.New(stanza.NSStream, "features")
	ch := &c.neg.channel
	var mechanisms []string
	if c.mayLogIn() {
		mechanisms = c.srv.config.Auth.Mechanisms(ch)
	}
	if c.canStartTLS() {
		tls := stanza.New(nsTLS, "starttls")
		if len(mechanisms) == 0 {
			tls = tls.With(stanza.New(nsTLS, "required"))
		}
		list = list.With(tls)
	}
	if len(mechanisms) > 0 {
		m := stanza.New(nsSASL, "mechanisms")
		for _, name := range mechanisms {
			m = m.With(stanza.New(nsSASL, "mechanism").WithText(name))
		}
		list = list.With(m, c.authentication(mechanisms))
		if bindings := c.srv.config.Auth.ChannelBindings(ch); len(bindings) > 0 {
			cb := stanza.New(nsSASLBinding, "sasl-channel-binding")
			for _, name := range bindings {
				cb = cb.With(stanza.New(nsSASLBinding, "channel-binding", "type", name))
			}
			list = list.With(cb)
		}
		if c.registrationOpen() {
			list = list.With(stanza.New(nsRegFeature, "register"))
		}
	}
	return list.With(c.limits(preAuthBytes))
}

func (c *conn) featuresAuthenticated() stanza.Element {
	list := stanza.New(stanza.NSStream, "features").With(
		stanza.New(nsBind, "bind"),
		stanza.New(nsSession, "session").With(stanza.New(nsSession, "optional")),
		stanza.New(nsSM, "sm"),
	)
	return list.With(c.sessionFeatures()...)
}

// sessionFeatures are those that are of use to a client with a resource.
func (c *conn) sessionFeatures() []stanza.Element {
	cfg := &c.srv.config
	list := []stanza.Element{
		stanza.New(nsRosterVer, "ver"),
		stanza.New(nsPreApproval, "sub"),
		stanza.New(nsStream, "keepalive"),
		c.limits(cfg.MaxStanzaBytes),
	}
	if cfg.Features != nil {
		list = append(list, cfg.Features()...)
	}
	return list
}

// limits announces what a client may send (XEP-0478 §3).
func (c *conn) limits(size int) stanza.Element {
	l := stanza.New(nsLimits, "limits").With(stanza.New(nsLimits, "max-bytes").WithText(strconv.Itoa(size)))
	if idle := c.srv.config.IdleTimeout; idle > 0 {
		l = l.With(stanza.New(nsLimits, "idle-seconds").WithText(strconv.Itoa(int(idle / time.Second))))
	}
	return l
}

// takeUnauthenticated handles what comes before authentication.
func (c *conn) takeUnauthenticated(item *stream.Item) {
	if item.Kind == stream.Stanza {
		if c.registrationOpen() && c.registerUnauthenticated(item) {
			return
		}
		c.fail(stream.Fail(stream.NotAuthorized, "Log in first."))
		return
	}
	e := item.Element
	switch {
	case e.Space == nsSASL2:
		c.sasl2(e)
	case c.neg.wishes != nil: // XEP-0388 §2.4
		c.fail(stream.Fail(stream.PolicyViolation, "A login is in progress."))
	case e.Space == nsTLS && e.Local == "starttls":
		c.starttls()
	case e.Space == nsSASL:
		c.sasl(e)
	case e.Space == nsSM:
		c.say(failed(stanza.UnexpectedRequest))
		c.failure()
	default:
		c.fail(stream.Fail(stream.UnsupportedStanzaType, ""))
	}
}

// takeAuthenticated handles what comes between authentication and binding.
func (c *conn) takeAuthenticated(item *stream.Item) {
	if item.Kind == stream.Stanza {
		if s := item.Stanza; s.Kind == stanza.IQ && s.Type == stanza.TypeSet && s.Child(nsBind, "bind") != nil {
			c.bind(item)
			return
		}
		c.fail(stream.Fail(stream.NotAuthorized, "Bind a resource first."))
		return
	}
	e := item.Element
	switch {
	case e.Space == nsSM && e.Local == "resume":
		c.resume(c.neg.ctx, e)
	case e.Space == nsSM:
		c.say(failed(stanza.UnexpectedRequest))
		c.failure()
	case e.Space == nsTLS || e.Space == nsSASL || e.Space == nsSASL2:
		c.fail(stream.Fail(stream.PolicyViolation, "You are logged in already."))
	default:
		c.fail(stream.Fail(stream.UnsupportedStanzaType, ""))
	}
}

// starttls answers <starttls/> (RFC 6120 §5.4.2). Bytes that follow it were not protected and must not get into the
// protected stream: who sends any, beyond the end of a line, does not get <proceed/> (A9).
func (c *conn) starttls() {
	if !c.canStartTLS() || c.neg.tls {
		failure := stanza.New(nsTLS, "failure")
		c.phase, c.fatal, c.reason = phaseClosed, true, endedByError
		c.send(c.codec.AppendElement(nil, &failure), c.codec.AppendClose(nil)) // §5.4.2.2: the stream is closed
		c.closeWritten(stream.Fail(stream.PolicyViolation, ""))
		return
	}
	if !c.lineEnds() || c.unread() {
		c.fail(stream.Fail(stream.PolicyViolation, "Nothing may follow <starttls/> in the clear."))
		return
	}
	c.startTLS = true
}

// lineEnds reports whether nothing follows what was read but the end of a line. RFC 6120 §5.3.3 forbids that too, but
// there are clients that end <starttls/> with one (go-xmpp). It says nothing, and is dropped here.
func (c *conn) lineEnds() bool {
	if c.dec.Buffered() == 0 {
		return true
	}
	item, err := c.dec.Next()
	return err == nil && item.Kind == stream.Keepalive && item.Size <= len("\r\n") && c.dec.Buffered() == 0
}

// unread reports whether bytes wait that the decoder has not been given.
func (c *conn) unread() bool {
	p, ok := c.link.(link.Peeker)
	if !ok {
		return false
	}
	pending, err := p.Pending()
	return pending || err != nil
}

// upgrade makes the link a TLS link. It runs outside Receive, on the stack that stays under the connection while it is
// idle, so what needs more than a little of that is done elsewhere.
func (c *conn) upgrade() {
	u := &tlsUpgrade{c: c}
	link.Deep(c.link, u.begin)
	if c.phase == phaseClosed {
		return
	}
	u.err = c.link.StartTLS(u.ctx, u.config)
	link.Deep(c.link, u.end)
}

// tlsUpgrade is one upgrade in progress.
type tlsUpgrade struct {
	c      *conn
	ctx    context.Context
	cancel context.CancelFunc
	config *tls.Config
	err    error
}

func (u *tlsUpgrade) begin() {
	c := u.c
	proceed := stanza.New(nsTLS, "proceed")
	c.send(c.codec.AppendElement(nil, &proceed))
	if c.phase == phaseClosed {
		return
	}
	u.ctx, u.cancel = context.WithTimeout(c.neg.ctx, c.srv.config.TLSTimeout)
	u.config = c.srv.config.TLS()
}

// end begins the stream anew, with a decoder that has seen nothing.
func (u *tlsUpgrade) end() {
	c := u.c
	u.cancel()
	if u.err != nil {
		if errors.Is(u.err, context.DeadlineExceeded) || errors.Is(u.err, os.ErrDeadlineExceeded) {
			c.srv.config.Log.Info("a TLS handshake was not finished in time: the client may have asked somebody about "+
				"the certificate", "remote", c.link.Remote().Addr().String())
		}
		c.phase = phaseClosed
		c.abort()
		return
	}
	c.newStream()
	c.limit(preAuthBytes, preAuthElements)
	c.transport, c.neg.tls = overTLS, true
	c.phase, c.opened = phaseAwaitHeader, false
}
