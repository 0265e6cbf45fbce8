package auth

import (
	"context"
	"log/slog"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// Exchange is one authentication on one stream (RFC 6120 §6.4). It belongs to one goroutine.
type Exchange struct {
	auth      *Authenticator
	channel   *Channel
	mechanism *mechanism
	offer     *offer
	state     exchangeState

	claimed string        // the name as prepared, or as it came when it cannot be prepared
	name    string        // prepared; "" when it cannot be
	account store.Account // the zero account until one is found

	// SCRAM, between the first and the final message.
	key         *store.Credential // nil when no account has that name
	header      string            // gs2-header
	binding     []byte            // channel binding data
	nonce       string            // both parts
	authMessage []byte

	token *tokenLogin // a login with a token that has succeeded
	basis store.Basis // of the first that was read of the account and, for a login with a token, of the device

	additional []byte
}

type exchangeState uint8

const (
	awaitInitial exchangeState = iota // no message from the client yet
	awaitFinal                        // SCRAM: the client-final-message
	succeeded
	failed
)

// Begin starts an authentication with the mechanism of <auth/>. initial is the initial response, decoded (see Decode);
// hasInitial tells an empty one from none (RFC 6120 §6.4.2). Without a failure, either Done is true and the client gets
// <success/> with Additional, or it gets the challenge, which may be empty. ch must stay as it is until the exchange
// has ended.
func (a *Authenticator) Begin(ctx context.Context, ch *Channel, mechanism string, initial []byte,
	hasInitial bool) (*Exchange, []byte, *Failure) {
	e := &Exchange{auth: a, channel: ch, mechanism: findMechanism(mechanism), offer: a.offer(ch)}
	if r := e.checkMechanism(); r != nil {
		e.finish(r)
		return nil, nil, &r.Failure
	}
	if !hasInitial {
		return e, []byte{}, nil
	}
	challenge, _, f := e.Step(ctx, initial)
	if f != nil {
		return nil, nil, f
	}
	return e, challenge, nil
}

// checkMechanism refuses what is not on offer here.
func (e *Exchange) checkMechanism() *refusal {
	m := e.mechanism
	if m != nil {
		for _, name := range e.offer.mechanisms {
			if name == m.name {
				return nil
			}
		}
		if m.needsTLS() && !m.plus && e.auth.enabled(m.name) {
			return refuse(EncryptionRequired, "", reasonMechanism)
		}
	}
	return refuse(InvalidMechanism, "", reasonMechanism)
}

// Step takes the client's next message, decoded. With done, the client is authenticated: <success/> with Additional.
// Otherwise the challenge is to be sent. After a failure the exchange is over and the client may begin another.
func (e *Exchange) Step(ctx context.Context, response []byte) (challenge []byte, done bool, f *Failure) {
	var r *refusal
	switch {
	case e.state == awaitInitial && e.mechanism.hash == nil:
		if r = e.plain(ctx, response); r == nil {
			e.state = succeeded
		}
	case e.state == awaitInitial:
		if challenge, r = e.scramFirst(ctx, response); r == nil {
			e.state = awaitFinal
			return challenge, false, nil
		}
	case e.state == awaitFinal:
		if e.additional, r = e.scramFinal(ctx, response); r == nil {
			e.state = succeeded
		}
	default:
		return nil, false, &Failure{Condition: MalformedRequest, Text: "the exchange is over"}
	}
	e.authMessage, e.binding, e.header, e.nonce = nil, nil, "", ""
	e.finish(r)
	if r != nil {
		e.state, e.account = failed, store.Account{}
		return nil, false, &r.Failure
	}
	return nil, true, nil
}

// Done reports whether the client is authenticated.
func (e *Exchange) Done() bool { return e.state == succeeded }

// Account returns who logged in, the zero account before Done. Its Basis is what the login relies on: whoever lets the
// client in compares it with what has changed since.
func (e *Exchange) Account() store.Account {
	if !e.Done() {
		return store.Account{}
	}
	return e.account
}

// Additional returns the data that goes with <success/>, nil for none (RFC 6120 §6.4.6).
func (e *Exchange) Additional() []byte { return e.additional }

// Mechanism returns the mechanism's name.
func (e *Exchange) Mechanism() string { return e.mechanism.name }

// setName prepares the name that the client claims. One that cannot be prepared is treated as one without an account.
func (e *Exchange) setName(name string) {
	e.claimed = name
	if prepared, err := jid.PrepareLocal(name); err == nil {
		e.claimed, e.name = prepared, prepared
	}
}

// checkThrottle refuses when the address has failed too often lately.
func (e *Exchange) checkThrottle() *refusal {
	if e.auth.failures.allowed(e.channel.Remote, e.claimed) {
		return nil
	}
	r := refuse(TemporaryAuthFailure, "too many failed logins, wait a while", reasonThrottled)
	r.Exhausted = true
	return r
}

// finish counts and logs the end of an authentication, and tells the throttle. Refused tries are not logged one by one
// while the throttle holds: it said so when it began to.
func (e *Exchange) finish(r *refusal) {
	a := e.auth
	name := "none"
	if e.mechanism != nil {
		name = e.mechanism.name
	}
	if r == nil {
		a.failures.succeeded(e.channel.Remote, e.claimed)
		a.metrics.succeeded(name)
		if !a.log.Enabled(context.Background(), slog.LevelInfo) {
			return
		}
	}
	attributes := []slog.Attr{
		slog.String("mechanism", name),
		slog.String("account", clip(e.claimed)),
		slog.String("remote", e.channel.Remote.String()),
		slog.Bool("tls", e.channel.Secure),
	}
	if r == nil {
		a.log.LogAttrs(context.Background(), slog.LevelInfo, "login",
			append(attributes, slog.String("event", "auth.login_ok"))...)
		return
	}
	a.metrics.failed(r.reason)
	attributes = append(attributes, slog.String("event", "auth.login_failed"), slog.String("reason", string(r.reason)))
	switch r.reason {
	case reasonUnknown, reasonProof, reasonReplayed, reasonDisabled, reasonBinding, reasonAuthzid:
		if a.failures.failed(e.channel.Remote, e.claimed) {
			r.Exhausted = true
			a.metrics.throttled.Inc()
			a.log.LogAttrs(context.Background(), slog.LevelWarn, "logins throttled after failures",
				append(attributes[:4:4], slog.String("event", "auth.throttled"))...)
		}
	case reasonThrottled:
		return
	}
	a.log.LogAttrs(context.Background(), slog.LevelInfo, "login failed", attributes...)
}

// clip shortens a claimed name for the log.
func clip(name string) string {
	if len(name) > 128 {
		return name[:128] + "…"
	}
	return name
}
