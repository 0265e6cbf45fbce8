package auth

// SASLCondition is why an authentication failed, in the words of RFC 6120 §6.5. The set is closed.
type SASLCondition string

// The conditions, with what they mean here.
const (
	// Aborted: the client gave up (RFC 6120 §6.5.1). c2s answers <abort/> with it; this package never returns it.
	Aborted SASLCondition = "aborted"
	// AccountDisabled: the proof was right and the account may not log in.
	AccountDisabled SASLCondition = "account-disabled"
	// CredentialsExpired: the login token is right, and was replaced or its time is over.
	CredentialsExpired SASLCondition = "credentials-expired"
	// EncryptionRequired: the mechanism is to be had, but not on a link in the clear.
	EncryptionRequired SASLCondition = "encryption-required"
	// IncorrectEncoding: not base64, see Decode.
	IncorrectEncoding SASLCondition = "incorrect-encoding"
	// InvalidAuthzid: the client wants to act as somebody else, or asked in a malformed way.
	InvalidAuthzid SASLCondition = "invalid-authzid"
	// InvalidMechanism: not offered on this link.
	InvalidMechanism SASLCondition = "invalid-mechanism"
	// MalformedRequest: a message against the mechanism's grammar, or out of turn.
	MalformedRequest SASLCondition = "malformed-request"
	// MechanismTooWeak is not in use: what is too weak is not offered.
	MechanismTooWeak SASLCondition = "mechanism-too-weak"
	// NotAuthorized: wrong proof or unknown user, which are not told apart; also a channel binding that is wrong.
	NotAuthorized SASLCondition = "not-authorized"
	// TemporaryAuthFailure: the store failed, the server is busy, or there were too many failures.
	TemporaryAuthFailure SASLCondition = "temporary-auth-failure"
)

// Failure is a refused authentication, ready to be told to the client.
type Failure struct {
	Condition SASLCondition
	// Text is in English, for people and developers; "" for none. For SCRAM it may be a server-error-value of RFC 5802
	// §7. It never tells an unknown user from a wrong password.
	Text string
	// Exhausted: the address has used up its tries. The stream should end with policy-violation.
	Exhausted bool
}

// Error makes a Failure usable as an error, for callers outside SASL.
func (f *Failure) Error() string {
	if f.Text == "" {
		return "authentication failed: " + string(f.Condition)
	}
	return "authentication failed: " + string(f.Condition) + ": " + f.Text
}

// reason is why a login failed as the operator sees it, in the log and in metrics. It is finer than what the client is
// told.
type reason string

const (
	reasonMalformed reason = "malformed"
	reasonMechanism reason = "mechanism"
	reasonAuthzid   reason = "authzid"
	reasonBinding   reason = "channel-binding"
	// no proof was looked at: a client that knows other types, not somebody who guesses
	reasonBindingType reason = "channel-binding-type"
	reasonUnknown     reason = "unknown-account"
	reasonProof       reason = "wrong-proof"
	reasonDisabled    reason = "disabled"
	reasonExpired     reason = "expired-token"
	reasonReplayed    reason = "replayed-token"
	reasonThrottled   reason = "throttled"
	reasonBusy        reason = "busy"
	reasonStore       reason = "store"
	reasonInterrupted reason = "interrupted"
)

// reasons are all of them, for the metric's labels.
var reasons = []reason{
	reasonMalformed, reasonMechanism, reasonAuthzid, reasonBinding, reasonBindingType, reasonUnknown, reasonProof,
	reasonDisabled,
	reasonExpired, reasonReplayed, reasonThrottled, reasonBusy, reasonStore, reasonInterrupted,
}

// refusal is a failure with the operator's reason.
type refusal struct {
	Failure
	reason reason
}

func refuse(c SASLCondition, text string, r reason) *refusal {
	return &refusal{Failure: Failure{Condition: c, Text: text}, reason: r}
}

// Refusal is why an account cannot be made or changed. The set is closed; anything else is an error of the store.
type Refusal string

// The refusals.
const (
	RefusedNameMalformed     Refusal = "the name is not a localpart (RFC 7622 §3.3)"
	RefusedNameReserved      Refusal = "the name is reserved"
	RefusedNameConfusable    Refusal = "the name mixes scripts or looks like another one"
	RefusedNameTaken         Refusal = "the name is taken"
	RefusedPasswordMalformed Refusal = "the password has characters that are not allowed"
	RefusedPasswordShort     Refusal = "the password is too short"
	RefusedPasswordLong      Refusal = "the password is too long"
	RefusedPasswordCommon    Refusal = "the password is among the first that anybody guesses"
	RefusedNoAccount         Refusal = "there is no such account"
	RefusedBusy              Refusal = "the server is busy; try again"
)

// Error returns the refusal as a sentence for people.
func (r Refusal) Error() string { return string(r) }
