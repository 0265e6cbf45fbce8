package client

import (
	"crypto/sha256"
	"strconv"
	"strings"
	"sync"

	"github.com/posthouse-im/posthouse/wire/scram"
)

// KeyCache remembers what SCRAM derives from passwords, as RFC 5802 §5.1 lets clients do, so that logging in again
// costs nothing. The zero value is ready, and nil remembers nothing. It may be used by many goroutines; it holds no
// passwords, but whoever has a key can log in with it.
type KeyCache struct {
	mu   sync.Mutex // guards keys
	keys map[string]scram.Keys
}

// mostKeys bounds a KeyCache; a full one is emptied.
const mostKeys = 1 << 16

// Derive returns the keys of a user, and derives them the first time: see scram.Client.
func (k *KeyCache) Derive(h *scram.Hash, user, password string, salt []byte, iterations int) (scram.Keys, error) {
	if k == nil {
		return h.Derive(password, salt, iterations)
	}
	// The password takes part, so that a changed one does not find the old key.
	sum := sha256.Sum256([]byte(password))
	name := strings.Join([]string{h.Name, user, string(salt), strconv.Itoa(iterations), string(sum[:])}, "\x00")
	k.mu.Lock()
	keys, ok := k.keys[name]
	k.mu.Unlock()
	if ok {
		return keys, nil
	}
	keys, err := h.Derive(password, salt, iterations)
	if err != nil {
		return keys, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil || len(k.keys) >= mostKeys {
		k.keys = map[string]scram.Keys{}
	}
	k.keys[name] = keys
	return keys, nil
}
