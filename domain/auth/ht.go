package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/store"
)

// The mechanisms that login tokens are used with (draft-schmaus-kitten-sasl-ht-09): the client shows an HMAC, made with
// the token, and the server another one. "UNIQ" is left out with tls-unique.
const (
	HTSHA256Expr = "HT-SHA-256-EXPR"
	HTSHA256Endp = "HT-SHA-256-ENDP"
	HTSHA256None = "HT-SHA-256-NONE"
)

// tokenMechanisms in order of preference. They are not among the mechanisms for passwords.
var tokenMechanisms = []*mechanism{
	{name: HTSHA256Expr, binding: tlsExporter},
	{name: HTSHA256Endp, binding: tlsServerEndPoint},
	{name: HTSHA256None},
}

func findTokenMechanism(name string) *mechanism {
	for _, m := range tokenMechanisms {
		if m.name == name {
			return m
		}
	}
	return nil
}

// TokenUse is what goes with a login by token (XEP-0484 §3.4, <fast/>).
type TokenUse struct {
	// Device is the client's, by its user agent's id.
	Device string
	// Count is the client's counter; 0 when it sends none.
	Count uint64
	// Invalidate ends all tokens of the device, this one included, when the login succeeds.
	Invalidate bool
}

// tokenLogin is a token that was right.
type tokenLogin struct {
	key         deviceKey
	state       deviceState
	generation  uint64
	expires     time.Time
	invalidated bool
}

// BeginToken checks a login with a token, which has one message and so is over when it returns: without a failure, the
// exchange is Done. What Begin says of its parameters goes for these too.
func (a *Authenticator) BeginToken(ctx context.Context, ch *Channel, mechanism string, message []byte,
	use TokenUse) (*Exchange, *Failure) {
	e := &Exchange{auth: a, channel: ch, mechanism: findTokenMechanism(mechanism), offer: a.offer(ch)}
	r := e.checkTokenMechanism()
	if r == nil {
		r = e.checkToken(ctx, message, use)
	}
	e.finish(r)
	if r != nil {
		return nil, &r.Failure
	}
	e.state = succeeded
	return e, nil
}

func (e *Exchange) checkTokenMechanism() *refusal {
	if e.mechanism != nil {
		for _, name := range e.auth.TokenMechanisms(e.channel) {
			if name == e.mechanism.name {
				return nil
			}
		}
	}
	return refuse(InvalidMechanism, "", reasonMechanism)
}

// parseHT reads the initiator's message: authcid NUL HMAC.
func parseHT(message []byte) (name string, mac []byte, ok bool) {
	authcid, mac, found := bytes.Cut(message, []byte{0})
	if !found || len(authcid) == 0 || len(authcid) > maxField || len(mac) != sha256.Size || !utf8.Valid(authcid) {
		return "", nil, false
	}
	return string(authcid), mac, true
}

func proveHT(token, who string, binding []byte) []byte {
	h := hmac.New(sha256.New, []byte(token))
	h.Write([]byte(who))
	h.Write(binding)
	return h.Sum(nil)
}

// checkToken looks for the token that the message was made with.
func (e *Exchange) checkToken(ctx context.Context, message []byte, use TokenUse) *refusal {
	a := e.auth
	name, mac, ok := parseHT(message)
	if !ok || use.Device == "" || len(use.Device) > MaxDeviceID || use.Count > 1<<62 {
		return refuse(MalformedRequest, "", reasonMalformed)
	}
	e.setName(name)
	var binding []byte
	if e.mechanism.binding != "" {
		if binding, ok = a.bindings.data(e.channel, e.mechanism.binding); !ok {
			return refuse(NotAuthorized, "", reasonBindingType)
		}
	}
	if r := e.checkThrottle(); r != nil {
		return r
	}
	account, state, r := a.current(ctx, e.name, use.Device)
	if r != nil {
		return r
	}
	e.account, e.basis = account, account.Basis
	t := &tokenLogin{key: deviceKey{account.ID, use.Device}, state: state}
	text, current := e.matching(t, mac, binding)
	switch {
	case t.state.generation == 0:
		return refuse(NotAuthorized, "", reasonUnknown)
	case text == "":
		return refuse(NotAuthorized, "", reasonProof)
	case !current || !a.now().Before(t.expires):
		return refuse(CredentialsExpired, "", reasonExpired)
	}
	if r := e.admit(ctx); r != nil {
		return r
	}
	if r := a.spend(ctx, t, use); r != nil {
		return r
	}
	e.token, e.additional = t, proveHT(text, "Responder", binding)
	return nil
}

// findDevice returns the state of a device, the zero state when there is none.
func (a *Authenticator) findDevice(ctx context.Context, key deviceKey) (deviceState, *refusal) {
	s, err := a.devices.find(ctx, key)
	if err == nil || errors.Is(err, store.ErrNotFound) {
		return s, nil
	}
	return s, a.storeFailed(ctx, "device", err)
}

// matching finds the token that mac was made with: the newest one, the one that was used last, or one of the two before
// the newest, which are not good any more (current is false). It takes as long when there is no device.
func (e *Exchange) matching(t *tokenLogin, mac, binding []byte) (text string, current bool) {
	s := &t.state
	for i, generation := range [...]uint64{s.generation, s.used, s.generation - 1, s.generation - 2} {
		text := e.auth.token(t.key, generation, e.mechanism.name)
		if !hmac.Equal(mac, proveHT(text, "Initiator", binding)) || generation == 0 {
			continue
		}
		t.generation, t.expires = generation, time.UnixMilli(s.expires)
		if i > 0 {
			t.expires = time.UnixMilli(s.usedExpires)
		}
		return text, i < 2
	}
	return "", false
}

// spend notes the use of a token. The first use of the newest one ends the one before (XEP-0484 §3.5), and is stored
// before the client hears of it, as is the end of all tokens when the client wants that; other logins are stored later.
func (a *Authenticator) spend(ctx context.Context, t *tokenLogin, use TokenUse) *refusal {
	var err error
	first := t.generation != t.state.used
	if !first {
		login := store.DeviceLogin{Seen: a.now(), Generation: t.generation, Counter: use.Count}
		err = a.devices.note(ctx, t.key, t.state, login)
	}
	if err == nil && (first || use.Invalidate) {
		err = a.store(ctx, t, use)
		t.state.used, t.state.usedExpires, t.invalidated = t.generation, t.expires.UnixMilli(), use.Invalidate
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errReplayed):
		return refuse(NotAuthorized, "", reasonReplayed)
	case errors.Is(err, store.ErrNotFound):
		return refuse(NotAuthorized, "", reasonUnknown)
	case errors.Is(err, errSuperseded):
		return refuse(CredentialsExpired, "", reasonExpired)
	}
	a.log.Error("device store failed", "event", "auth.store_failed", "err", err)
	return refuse(TemporaryAuthFailure, "", reasonStore)
}

// store writes down that a token was used, and is the one to be used from now on.
func (a *Authenticator) store(ctx context.Context, t *tokenLogin, use TokenUse) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return a.Devices().ChangeDevice(ctx, t.key.account, t.key.id, store.AnyBasis, func(d *store.Device) error {
		switch {
		case d.Generation != t.generation && d.Used != t.generation:
			return errSuperseded
		case d.Used == t.generation && t.generation != t.state.used && use.Count != 0 && use.Count <= d.Counter:
			return errReplayed // somebody else was first
		case d.Used != t.generation:
			d.Used, d.UsedExpires, d.Counter = t.generation, d.LoginExpires, use.Count
		}
		d.Seen = a.now()
		if use.Invalidate {
			d.Generation, d.Used, d.Counter, d.LoginExpires, d.UsedExpires = 0, 0, 0, time.Time{}, time.Time{}
		}
		return nil
	})
}
