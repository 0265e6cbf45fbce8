package store

import (
	"context"
	"time"
)

// SigningKey is a key pair that the domain signs its tokens with.
type SigningKey struct {
	// ID is public: it names the key in tokens and in the published set.
	ID string
	// Private is an Ed25519 seed of 32 bytes.
	Private []byte
	Created time.Time
	// Retired is when it was replaced by a newer one, the zero time while it is in use. It is published for a while
	// after that.
	Retired time.Time
}

// SigningKeys keeps them. Several processes use one store: the newest key that is not retired is the one to sign with.
type SigningKeys interface {
	// SigningKeys returns all keys, newest first.
	SigningKeys(ctx context.Context) ([]SigningKey, error)
	// AddSigningKey stores a new key and retires all others, when the newest key is still the one named by after (""
	// when there was none); otherwise ErrExists, and the caller reads again.
	AddSigningKey(ctx context.Context, k SigningKey, after string) error
	// RemoveSigningKeys forgets those retired before t.
	RemoveSigningKeys(ctx context.Context, t time.Time) error
}

// ServiceKey lets another system use the API. Its secret is shown once, when it is made.
type ServiceKey struct {
	// ID is public and stands in the secret; 16 characters of [a-z2-7].
	ID string
	// Name is for people and unique among keys that are not revoked; 1 to 64 bytes.
	Name string
	// Hash is the SHA-256 of the whole secret.
	Hash []byte
	// Scopes are what it may do; see token.Scopes.
	Scopes  []string
	Created time.Time
	// Expires: from then on it is refused; the zero time means never.
	Expires time.Time
	// Used is when it was last used, to a minute; zero when it never was.
	Used time.Time
	// Revoked is when it was revoked, zero while it is good.
	Revoked time.Time
}

// ServiceKeyReader reads them.
type ServiceKeyReader interface {
	// ServiceKey returns the key of that ID, or ErrNotFound.
	ServiceKey(ctx context.Context, id string) (ServiceKey, error)
	// ListServiceKeys returns all of them, revoked ones included, by name.
	ListServiceKeys(ctx context.Context) ([]ServiceKey, error)
}

// ServiceKeys keeps them.
type ServiceKeys interface {
	ServiceKeyReader
	// AddServiceKey stores a new key; ErrExists when the name is taken.
	AddServiceKey(ctx context.Context, k ServiceKey) error
	// RevokeServiceKey revokes the key with that ID or, failing that, that name; ErrNotFound when there is none that is
	// good.
	RevokeServiceKey(ctx context.Context, idOrName string, at time.Time) (ServiceKey, error)
	// TouchServiceKey notes that it was used.
	TouchServiceKey(ctx context.Context, id string, at time.Time) error
}
