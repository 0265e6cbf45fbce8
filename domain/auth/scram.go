package auth

import (
	"context"
	"crypto/hmac"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"io"
	"slices"
	"strconv"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// SCRAM is our own, because github.com/xdg-go/scram v1.4.0 cannot do what is asked of a server here: its
// server-first-message has no place for the attribute of XEP-0474, it takes an empty client nonce, ignores what stands
// between nonce and proof, knows one channel binding type for a conversation, and fails unknown users at the first
// step. The tests use its client as the other side. A login costs some 4 µs with either, see BenchmarkSCRAM and
// BenchmarkSCRAMOfLibrary.

// nonceSize is the server's part of the nonce, in random bytes.
const nonceSize = 18

// scramFirst answers the client-first-message with the server-first-message.
func (e *Exchange) scramFirst(ctx context.Context, message []byte) ([]byte, *refusal) {
	first, value := parseClientFirst(string(message))
	switch {
	case value == "extensions-not-supported":
		return nil, refuse(NotAuthorized, value, reasonMalformed)
	case value != "":
		return nil, refuse(MalformedRequest, value, reasonMalformed)
	}
	e.setName(first.name)
	if r := e.checkBinding(first); r != nil {
		return nil, r
	}
	if r := e.checkAuthzid(first.authzid); r != nil {
		return nil, r
	}
	if r := e.checkThrottle(); r != nil {
		return nil, r
	}
	credential, r := e.credential(ctx)
	if r != nil {
		return nil, r
	}
	e.header = first.header
	nonce := make([]byte, nonceSize)
	if _, err := io.ReadFull(e.auth.random, nonce); err != nil {
		return nil, refuse(TemporaryAuthFailure, "", reasonStore)
	}
	e.nonce = first.nonce + base64.StdEncoding.EncodeToString(nonce)

	// AuthMessage (RFC 5802 §3) grows in one buffer: client-first-message-bare, server-first-message, and
	// at the last step the client-final-message-without-proof.
	b := make([]byte, 0, 2*len(message)+256+len(e.header)*2)
	b = append(append(b, first.bare...), ',')
	start := len(b)
	b = append(append(b, "r="...), e.nonce...)
	b = base64.StdEncoding.AppendEncode(append(b, ",s="...), credential.Salt)
	b = strconv.AppendInt(append(b, ",i="...), int64(credential.Iterations), 10)
	if !e.auth.config.DowngradeProtectionOff {
		// XEP-0474 §5.1
		b = append(append(b, ",h="...), e.offer.downgradeHash(e.mechanism.hash)...)
	}
	e.authMessage = b
	return b[start:len(b):len(b)], nil
}

// checkBinding checks the gs2-cbind-flag against the mechanism and against what was offered (RFC 5802 §6), and finds
// the channel's data.
func (e *Exchange) checkBinding(first clientFirst) *refusal {
	switch {
	case e.mechanism.plus != (first.flag == 'p'):
		return refuse(MalformedRequest, "other-error", reasonBindingType)
	case first.flag == 'y' && e.offer.plus:
		// The client would have taken a -PLUS mechanism, had it seen the one that was offered.
		return refuse(NotAuthorized, "server-does-support-channel-binding", reasonBindingType)
	case first.flag != 'p':
		return nil
	}
	data, ok := e.auth.bindings.data(e.channel, first.binding)
	if !ok {
		return refuse(NotAuthorized, "unsupported-channel-binding-type", reasonBindingType)
	}
	e.binding = data
	return nil
}

// credential finds the keys to check against. For a name without an account, or without keys for this hash, they are
// made up from the name: the same at every try, and no proof fits them.
func (e *Exchange) credential(ctx context.Context) (*store.Credential, *refusal) {
	a, _, r := e.auth.current(ctx, e.name, "")
	if r != nil {
		return nil, r
	}
	for i := range a.Credentials {
		if a.Credentials[i].Hash == e.mechanism.hash.Name {
			e.account, e.basis, e.key = a, a.Basis, &a.Credentials[i]
			return e.key, nil
		}
	}
	fake := e.auth.fakeCredential(ctx, e.mechanism.hash, e.claimed)
	return &fake, nil
}

// scramFinal checks the client-final-message and answers with the server-final-message.
func (e *Exchange) scramFinal(ctx context.Context, message []byte) ([]byte, *refusal) {
	final, value := parseClientFinal(string(message))
	if value != "" {
		if len(message) > maxMessage {
			return nil, refuse(MalformedRequest, value, reasonMalformed)
		}
		return nil, refuse(NotAuthorized, value, reasonMalformed)
	}
	if final.nonce != e.nonce {
		return nil, refuse(NotAuthorized, "other-error", reasonMalformed)
	}
	expected := append([]byte(e.header), e.binding...)
	if subtle.ConstantTimeCompare(final.binding, expected) != 1 {
		return nil, refuse(NotAuthorized, "channel-bindings-dont-match", reasonBinding)
	}
	// Again, because many exchanges can have passed the first step together.
	if r := e.checkThrottle(); r != nil {
		return nil, r
	}
	hash := e.mechanism.hash
	message = append(append(e.authMessage, ','), final.withoutProof...)
	key := e.key
	if key == nil {
		fake := e.auth.fakeCredential(ctx, hash, e.claimed)
		key = &fake
	}
	right := hash.Proves(key.StoredKey, message, final.proof)
	if e.key == nil {
		return nil, refuse(NotAuthorized, "", reasonUnknown)
	}
	if !right {
		return nil, refuse(NotAuthorized, "", reasonProof)
	}
	if r := e.admit(ctx); r != nil {
		return nil, r
	}
	signature := hash.HMAC(key.ServerKey, message)
	return base64.StdEncoding.AppendEncode([]byte("v="), signature), nil
}

// admit has the last word after a right proof: the account must still be what it was when the exchange began,
// and not be disabled.
func (e *Exchange) admit(ctx context.Context) *refusal {
	a, r := e.auth.account(ctx, e.name)
	if r != nil {
		return r
	}
	same := a.ID != 0 && a.ID == e.account.ID
	if same && e.key != nil && !hasKey(&a, e.key) {
		same, r = e.renewed(ctx)
	}
	if r != nil {
		return r
	}
	if !same {
		return refuse(NotAuthorized, "", reasonProof)
	}
	e.account = a
	e.account.Basis = e.basis // as of the proof
	if a.Disabled {
		return refuse(AccountDisabled, "", reasonDisabled)
	}
	return nil
}

// renewed reports whether the account has other keys than the exchange began with because they were made anew of the
// same password.
func (e *Exchange) renewed(ctx context.Context) (bool, *refusal) {
	if e.auth.config.Changes == nil {
		return false, nil
	}
	began := e.account
	began.Basis = e.basis
	changed, _, err := e.auth.changedSince(ctx, began, "")
	if err != nil {
		return false, e.auth.storeFailed(ctx, "account", err)
	}
	return !changed, nil
}

// hasKey reports whether the key is still among the account's.
func hasKey(a *store.Account, key *store.Credential) bool {
	return slices.ContainsFunc(a.Credentials, func(c store.Credential) bool {
		return c.Hash == key.Hash && hmac.Equal(c.StoredKey, key.StoredKey)
	})
}

// checkAuthzid decides for every mechanism who may act as whom: everybody as themselves and nobody else. The
// authorization identity must be absent or the bare address of the account that logs in (RFC 6120 §6.3.8).
func (e *Exchange) checkAuthzid(authzid string) *refusal {
	if authzid == "" {
		return nil
	}
	j, err := jid.Parse(authzid)
	if err != nil || !j.IsBare() || e.name == "" || j.Local() != e.name || j.Domain() != e.channel.Domain {
		return refuse(InvalidAuthzid, "", reasonAuthzid)
	}
	return nil
}

// account returns the account of a prepared name, the zero one when there is none, or a refusal when the store cannot
// tell.
func (a *Authenticator) account(ctx context.Context, name string) (store.Account, *refusal) {
	found, err := a.directory.Account(ctx, name)
	switch {
	case err == nil:
		return found, nil
	case errors.Is(err, store.ErrNotFound):
		return store.Account{}, nil
	}
	return store.Account{}, a.storeFailed(ctx, "account", err)
}

// current returns what a login begins with: the account as account does and, when a device is named, what is known of
// that. What is held in memory is compared with what others have changed since it was read, which costs as much for a
// name without an account. The account's Basis is that of both.
func (a *Authenticator) current(ctx context.Context, name, device string) (found store.Account, s deviceState,
	r *refusal) {
	for again := false; ; again = true {
		if found, r = a.account(ctx, name); r != nil {
			return found, s, r
		}
		if device != "" {
			if s, r = a.findDevice(ctx, deviceKey{found.ID, device}); r != nil {
				return found, s, r
			}
			found.Basis = min(found.Basis, s.basis)
		}
		if a.config.Changes == nil || again { // should it have changed twice meanwhile, whoever lets it in finds out
			return found, s, nil
		}
		changed, now, err := a.changedSince(ctx, found, device)
		switch {
		case err != nil:
			return found, s, a.storeFailed(ctx, "account", err)
		case !changed:
			found.Basis = now
			return found, s, nil
		}
		a.directory.Invalidate(name)
		if device != "" {
			a.devices.forget(found.ID, device)
		}
	}
}

func (a *Authenticator) changedSince(ctx context.Context, of store.Account, device string) (bool, store.Basis, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return a.config.Changes.ChangedSince(ctx, of.ID, device, of.Basis)
}

// storeFailed is the refusal when a store cannot tell.
func (a *Authenticator) storeFailed(ctx context.Context, which string, err error) *refusal {
	if ctx.Err() != nil {
		return refuse(TemporaryAuthFailure, "", reasonInterrupted)
	}
	a.log.Error(which+" store failed", "event", "auth.store_failed", "err", err)
	return refuse(TemporaryAuthFailure, "", reasonStore)
}
