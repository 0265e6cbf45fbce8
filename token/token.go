// Package token issues and verifies what clients send instead of a password: short-lived signed access tokens (JWT,
// RFC 7519, signed with Ed25519, RFC 8037), refresh tokens that belong to a device, the published key set (RFC 7517),
// and service keys for other systems.
//
// It owns the rotation of signing keys, and caches of verified tokens. It starts no goroutine. It knows neither HTTP
// nor streams.
package token

import (
	"errors"
	"slices"
	"time"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// The closed set of ways in which something shown is refused. None says more to whoever showed it.
var (
	// ErrInvalid: it was never a token of this domain, or its signature does not fit.
	ErrInvalid = errors.New("the token is not valid")
	// ErrExpired: its time is over.
	ErrExpired = errors.New("the token has expired")
	// ErrRevoked: its device was signed out, its account disabled, or its key revoked.
	ErrRevoked = errors.New("the token was revoked")
)

// Scope is something that the holder of a token or key may do.
type Scope string

// The scopes. A token of a person has ScopeUser, and ScopeAdmin beside it when the person is an administrator; a
// service key has any of the others, and never ScopeUser.
const (
	// ScopeUser: everything that the account itself may do.
	ScopeUser Scope = "user"
	// ScopeSend: send messages as the system, an address of the domain without a name.
	ScopeSend Scope = "message.send"
	// ScopeSendAs: send messages on behalf of any account.
	ScopeSendAs Scope = "message.send_as"
	// ScopeDirectory: read names and profiles, and who is online.
	ScopeDirectory Scope = "directory.read"
	// ScopeIntrospect: ask whether a token is good (RFC 7662).
	ScopeIntrospect Scope = "token.introspect"
	// ScopeAdmin: administer users, sessions, keys, and read the audit log.
	ScopeAdmin Scope = "admin"
)

// ServiceScopes are those that a service key may have.
var ServiceScopes = []Scope{ScopeSend, ScopeSendAs, ScopeDirectory, ScopeIntrospect, ScopeAdmin}

// Principal is who shows a token or key.
type Principal struct {
	// Account and JID are the person's; zero for a service key.
	Account store.AccountID
	JID     jid.JID
	// Device is the person's device; "" for a service key.
	Device string
	// Key and KeyName are the service key's; "" for a person.
	Key, KeyName string
	Scopes       []Scope
	// TokenID names the access token (jti); "" for a service key.
	TokenID string
	Issued  time.Time
	Expires time.Time
	// Basis is what account and device were read at; 0 for a service key.
	Basis store.Basis
}

// May reports whether the scope is among the principal's.
func (p *Principal) May(s Scope) bool { return slices.Contains(p.Scopes, s) }

// Pair is what a device gets.
type Pair struct {
	// Access is shown with every request, as a Bearer token (RFC 6750); good until Expires.
	Access  string
	Expires time.Time
	// Refresh is shown once, to get the next pair; good until RefreshExpires.
	Refresh        string
	RefreshExpires time.Time
	Device         string
}
