package token

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/store"
)

const (
	// keyPrefix lets scanners for leaked secrets find them.
	keyPrefix = "phk_"
	// A service key is phk_, 16 characters that name it, an underscore, and 256 random bits as 43 characters.
	keyIDLength, keySecretLength = 16, 43
	// usedEvery is how exactly it is noted when a key was last used.
	usedEvery = time.Minute
)

// What NewServiceKey refuses.
var (
	// ErrKeyName: the name is empty, too long, or cannot be shown on a line.
	ErrKeyName = errors.New("the name has 1 to 64 bytes, and no control characters")
	// ErrKeyScopes: there are none, or one that a service key cannot have.
	ErrKeyScopes = errors.New("a service key has one or more of the scopes for it")
	// ErrKeyExpired: it would have expired before it was made.
	ErrKeyExpired = errors.New("the key would have expired already")
)

var keyIDAlphabet = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewServiceKey makes a key for another system. The secret is shown once; the store has its hash. expires may be zero,
// for never. The error is one of the above, store.ErrExists when the name is taken, or the store's.
func (s *Service) NewServiceKey(ctx context.Context, name string, scopes []Scope, expires time.Time) (secret string,
	key store.ServiceKey, err error) {
	now := s.config.Now()
	if name == "" || len(name) > 64 || !utf8.ValidString(name) ||
		strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", key, ErrKeyName
	}
	if !expires.IsZero() && !now.Before(expires) {
		return "", key, ErrKeyExpired
	}
	for _, scope := range scopes {
		if !slices.Contains(ServiceScopes, scope) {
			return "", key, fmt.Errorf("%w: %q is not one", ErrKeyScopes, string(scope))
		}
		if !slices.Contains(key.Scopes, string(scope)) {
			key.Scopes = append(key.Scopes, string(scope))
		}
	}
	if len(scopes) == 0 {
		return "", key, ErrKeyScopes
	}
	id, err := s.random(keyIDLength * 5 / 8)
	if err != nil {
		return "", key, err
	}
	bits, err := s.random(32)
	if err != nil {
		return "", key, err
	}
	key.ID, key.Name, key.Created, key.Expires = strings.ToLower(keyIDAlphabet.EncodeToString(id)), name, now, expires
	secret = keyPrefix + key.ID + "_" + base64.RawURLEncoding.EncodeToString(bits)
	sum := sha256.Sum256([]byte(secret))
	key.Hash = sum[:]
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := s.config.Services.AddServiceKey(ctx, key); err != nil {
		return "", key, fmt.Errorf("add service key %q: %w", name, err)
	}
	return secret, key, nil
}

// VerifyKey checks a service key. The errors are those of Verify.
func (s *Service) VerifyKey(ctx context.Context, secret string) (*Principal, error) {
	p, err := s.verifyKey(ctx, secret)
	s.metrics.count(kindKey, err)
	return p, err
}

func (s *Service) verifyKey(ctx context.Context, secret string) (*Principal, error) {
	rest, ok := strings.CutPrefix(secret, keyPrefix)
	if !ok || len(rest) != keyIDLength+1+keySecretLength || rest[keyIDLength] != '_' {
		return nil, ErrInvalid
	}
	now := s.config.Now()
	key, err := s.serviceKey(ctx, rest[:keyIDLength])
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrInvalid
	}
	if err != nil {
		return nil, fmt.Errorf("check a service key: %w", err)
	}
	sum := sha256.Sum256([]byte(secret))
	switch {
	case subtle.ConstantTimeCompare(sum[:], key.Hash) != 1:
		return nil, ErrInvalid
	case !key.Revoked.IsZero():
		return nil, ErrRevoked
	case !key.Expires.IsZero() && !now.Before(key.Expires):
		return nil, ErrExpired
	}
	s.touch(ctx, &key, now)
	p := &Principal{Key: key.ID, KeyName: key.Name, Issued: key.Created, Expires: key.Expires}
	for _, scope := range key.Scopes {
		if slices.Contains(ServiceScopes, Scope(scope)) { // not what a later version has stored
			p.Scopes = append(p.Scopes, Scope(scope))
		}
	}
	return p, nil
}

// serviceKey asks the store for a key, at most once in a while.
func (s *Service) serviceKey(ctx context.Context, id string) (store.ServiceKey, error) {
	if key, ok := s.services.Get(id); ok {
		return key, nil
	}
	id = strings.Clone(id) // it is a part of what somebody sent
	return s.services.Load(ctx, id, func(ctx context.Context) (store.ServiceKey, time.Duration, error) {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		key, err := s.config.Services.ServiceKey(ctx, id)
		return key, fresh, err
	})
}

// touch notes that a key was used, once a minute. That it cannot be noted keeps nobody from using it.
func (s *Service) touch(ctx context.Context, key *store.ServiceKey, now time.Time) {
	minute := now.Truncate(usedEvery)
	if !key.Used.Before(minute) || !s.noted.due(key.ID, minute) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, fresh)
	defer cancel()
	if err := s.config.Services.TouchServiceKey(ctx, key.ID, minute); err != nil {
		s.config.Log.Warn("cannot note that a service key was used", "key", key.ID, "error", err)
	}
}

// uses remembers when the use of a key was last noted. It has an entry for each key that was shown with its secret.
type uses struct {
	// mu guards at.
	mu sync.Mutex
	at map[string]time.Time
}

// due reports, to one caller, that the use in that minute is to be noted.
func (u *uses) due(id string, minute time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.at[id].Before(minute) {
		return false
	}
	if u.at == nil {
		u.at = make(map[string]time.Time)
	}
	u.at[id] = minute
	return true
}
