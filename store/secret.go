package store

import "context"

// Secrets keeps the keys that a domain makes for itself and must not lose, each under a name.
type Secrets interface {
	// Secret returns the secret of that name. When there is none, it makes one of size random bytes, which is on disk
	// when it returns.
	Secret(ctx context.Context, name string, size int) ([]byte, error)
}
