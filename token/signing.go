package token

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/posthouse-im/posthouse/store"
)

// KeySetAge is how long somebody else may keep the published set. Whoever meets a key that is not in it asks again.
const KeySetAge = 5 * time.Minute

const (
	// signedWith is the one algorithm: what tokens are signed with and what is accepted (RFC 8037 §3.1).
	signedWith = jose.EdDSA
	// tokenType tells an access token from any other JWT (RFC 9068 §2.1).
	tokenType = "at+jwt"
	// reread is how often an unknown key's name may make us look into the store.
	reread = time.Second
	// unnoticed is how long a process may sign with a key that another one has retired.
	unnoticed = 2 * time.Minute
	// attempts at adding a key, each lost to another process that added one.
	attempts = 5
)

// keyring holds the domain's keys as the store had them when they were last read.
type keyring struct {
	// reading is held while the store is read, so that the older of two answers is not the one that stays.
	reading sync.Mutex
	// mu guards what follows; it is taken under reading.
	mu       sync.RWMutex
	public   map[string]ed25519.PublicKey
	signer   jose.Signer
	newest   store.SigningKey
	document []byte
	read     time.Time
}

// KeySet returns the public keys that tokens may be signed with, as a JSON Web Key Set (RFC 7517 §5). It may be kept
// for KeySetAge. The result must not be changed.
func (s *Service) KeySet() []byte {
	s.keys.mu.RLock()
	defer s.keys.mu.RUnlock()
	return s.keys.document
}

// Rotate reads the keys that other processes may have changed, replaces the newest when it is older than Config.Rotate
// or there is none, and forgets those whose tokens are all over.
func (s *Service) Rotate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	for range attempts {
		if err := s.readKeys(ctx); err != nil {
			return err
		}
		now := s.config.Now()
		newest := s.keys.current()
		if newest.ID != "" && now.Sub(newest.Created) < s.config.Rotate {
			over := now.Add(-s.config.Lifetime - skew - unnoticed)
			if err := s.config.Keys.RemoveSigningKeys(ctx, over); err != nil {
				return fmt.Errorf("forget old signing keys: %w", err)
			}
			return nil
		}
		if err := s.addKey(ctx, newest.ID); err != nil && !errors.Is(err, store.ErrExists) {
			return err
		}
	}
	return errors.New("add a signing key: other processes are always faster")
}

// Replace makes a new signing key at once. With forget the old ones are gone, and with them every access token that was
// signed before: what to do when the data folder, or a copy of it, was in wrong hands. Refresh tokens go on. Other
// processes, where Run runs, notice within two seconds.
func (s *Service) Replace(ctx context.Context, forget bool) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	for n := 1; ; n++ {
		if err := s.readKeys(ctx); err != nil {
			return err
		}
		err := s.addKey(ctx, s.keys.current().ID)
		if err == nil {
			break
		}
		if !errors.Is(err, store.ErrExists) || n == attempts {
			return err
		}
	}
	if forget {
		// whatever the clocks of others say
		if err := s.config.Keys.RemoveSigningKeys(ctx, s.config.Now().Add(24*time.Hour)); err != nil {
			return fmt.Errorf("forget old signing keys: %w", err)
		}
	}
	return s.readKeys(ctx)
}

// addKey makes a key that follows the one named by after.
func (s *Service) addKey(ctx context.Context, after string) error {
	seed, err := s.random(ed25519.SeedSize)
	if err != nil {
		return err
	}
	public, _ := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	id, err := keyID(public)
	if err != nil {
		return err
	}
	key := store.SigningKey{ID: id, Private: seed, Created: s.config.Now()}
	if err := s.config.Keys.AddSigningKey(ctx, key, after); err != nil {
		return fmt.Errorf("add a signing key: %w", err)
	}
	s.config.Log.Info("a new key signs tokens", "event", "token.key_added", "key", id, "after", after)
	return nil
}

// keyID names a key by its thumbprint (RFC 7638).
func keyID(public ed25519.PublicKey) (string, error) {
	sum, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("name a signing key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// readKeys takes over what the store has.
func (s *Service) readKeys(ctx context.Context) error {
	s.keys.reading.Lock()
	defer s.keys.reading.Unlock()
	return s.readKeysLocked(ctx)
}

func (s *Service) readKeysLocked(ctx context.Context) error {
	all, err := s.config.Keys.SigningKeys(ctx)
	if err != nil {
		return fmt.Errorf("read the signing keys: %w", err)
	}
	public := make(map[string]ed25519.PublicKey, len(all))
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range all {
		if len(k.Private) != ed25519.SeedSize {
			return fmt.Errorf("signing key %s: %w", k.ID, store.ErrDamaged)
		}
		p, _ := ed25519.NewKeyFromSeed(k.Private).Public().(ed25519.PublicKey)
		public[k.ID] = p
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: p, KeyID: k.ID, Algorithm: string(signedWith), Use: "sig"})
	}
	document, err := json.Marshal(set)
	if err != nil {
		return fmt.Errorf("write the key set: %w", err)
	}
	var newest store.SigningKey
	var signer jose.Signer
	if i := slices.IndexFunc(all, func(k store.SigningKey) bool { return k.Retired.IsZero() }); i >= 0 {
		newest = all[i]
		key := jose.JSONWebKey{Key: ed25519.NewKeyFromSeed(newest.Private), KeyID: newest.ID}
		if signer, err = jose.NewSigner(jose.SigningKey{Algorithm: signedWith, Key: key},
			(&jose.SignerOptions{}).WithType(tokenType)); err != nil {
			return fmt.Errorf("use signing key %s: %w", newest.ID, err)
		}
	}
	if s.keys.replace(public, signer, newest, document, s.config.Now()) {
		s.verified.Clear() // something was signed with a key that is not there any more
	}
	return nil
}

// replace takes new contents over, and reports whether a key is gone.
func (k *keyring) replace(public map[string]ed25519.PublicKey, signer jose.Signer, newest store.SigningKey,
	document []byte, now time.Time) (gone bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id := range k.public {
		gone = gone || public[id] == nil
	}
	k.public, k.signer, k.newest, k.document, k.read = public, signer, newest, document, now
	return gone
}

// current returns the key to sign with, or a zero one.
func (k *keyring) current() store.SigningKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.newest
}

func (k *keyring) find(id string) (public ed25519.PublicKey, read time.Time) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.public[id], k.read
}

// publicKey returns the key of that name, or nil. When it is not known, another process may have just made it.
func (s *Service) publicKey(ctx context.Context, id string) (ed25519.PublicKey, error) {
	stale := func(read time.Time) bool { age := s.config.Now().Sub(read); return age >= reread || age < 0 }
	key, read := s.keys.find(id)
	if key != nil || id == "" || !stale(read) {
		return key, nil
	}
	s.keys.reading.Lock()
	defer s.keys.reading.Unlock()
	if key, read = s.keys.find(id); key != nil || !stale(read) { // somebody else has asked meanwhile
		return key, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := s.readKeysLocked(ctx); err != nil {
		return nil, err
	}
	key, _ = s.keys.find(id)
	return key, nil
}

// sign returns the claims as a signed token in the compact form (RFC 7515 §7.1).
func (s *Service) sign(claims *claims) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("write a token: %w", err)
	}
	s.keys.mu.RLock()
	signer := s.keys.signer
	s.keys.mu.RUnlock()
	if signer == nil {
		return "", errors.New("sign a token: there is no key")
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return signed.CompactSerialize()
}
