package store

import (
	"context"
	"log/slog"
	"strconv"
	"time"
)

// AccountID is an account's identity for ever: a random number below 2^63. It is never reused, so that what belongs to
// a deleted account cannot pass to a later one of the same name, and what a message log has of an account that a
// database does not know cannot pass to one that is made there. Zero is no account, such as an address of another
// domain.
//
// Where others read it, as in JSON, it is a string of decimal digits: a JSON number has 53 bits.
type AccountID uint64

// String returns the decimal digits.
func (id AccountID) String() string { return strconv.FormatUint(uint64(id), 10) }

// LogValue implements slog.LogValuer.
func (id AccountID) LogValue() slog.Value { return slog.StringValue(id.String()) }

// Account is somebody who can log in.
type Account struct {
	ID AccountID
	// Name is the prepared localpart (RFC 7622 §3.3).
	Name    string
	Created time.Time
	// Disabled accounts keep their data and cannot log in.
	Disabled bool
	// Admin accounts administer the domain by the API.
	Admin bool
	// Credentials holds salted, iterated keys, one for each SCRAM hash. Passwords are never stored.
	Credentials []Credential
	// Basis is what AccountReader.Account has read it at. It is not stored.
	Basis Basis
}

// Credential is what RFC 5802 §3 lets a server keep of a password.
type Credential struct {
	// Hash is "SHA-1" or "SHA-256".
	Hash       string
	Salt       []byte
	Iterations int
	StoredKey  []byte
	ServerKey  []byte
}

// AccountReader finds accounts.
type AccountReader interface {
	// Account returns the account of that prepared name, or ErrNotFound.
	Account(ctx context.Context, name string) (Account, error)
	// ListAccounts returns up to limit accounts whose names sort after the given one, by name, without credentials.
	ListAccounts(ctx context.Context, after string, limit int) ([]Account, error)
	// IterationCounts returns which counts of iterations credentials have, by hash and then by count, and how many.
	IterationCounts(ctx context.Context) ([]IterationCount, error)
}

// IterationCount is how many credentials of that hash have that many iterations.
type IterationCount struct {
	Hash                    string
	Iterations, Credentials int
}

// AccountWriter changes accounts.
type AccountWriter interface {
	// CreateAccount stores a new account and returns its identity; ErrExists when the name is taken or was
	// deleted less than a year ago. ID and Created are set by the store.
	CreateAccount(ctx context.Context, a Account) (AccountID, error)
	// CreateAccounts stores many in one transaction. It returns an identity for each, 0 where the name exists already.
	CreateAccounts(ctx context.Context, accounts []Account) ([]AccountID, error)
	// SetCredentials replaces all credentials of the account.
	SetCredentials(ctx context.Context, name string, c []Credential) error
	// RenewCredentials replaces all credentials of an account with others of the same password, which ends no login.
	// ErrOvertaken when the account was changed after the basis, or has other credentials than old by now.
	RenewCredentials(ctx context.Context, name string, basis Basis, old, renewed []Credential) error
	// SetDisabled disables or enables the account.
	SetDisabled(ctx context.Context, name string, disabled bool) error
	// SetAdmin makes the account an administrator of the domain, or no longer one.
	SetAdmin(ctx context.Context, name string, admin bool) error
	// DeleteAccount removes the account with its roster and preferences, and reserves its name for a year.
	DeleteAccount(ctx context.Context, name string) error
}

// Accounts is both halves.
type Accounts interface {
	AccountReader
	AccountWriter
}

// FormerAccounts finds accounts that are gone.
type FormerAccounts interface {
	// FormerAccount returns the identity of the last account of that prepared name that was deleted, or ErrNotFound.
	FormerAccount(ctx context.Context, name string) (AccountID, error)
}
