package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/cache"
	"github.com/posthouse-im/posthouse/limit"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/scram"
)

// plain checks the one message of PLAIN (RFC 4616 §2): authzid NUL authcid NUL passwd.
func (e *Exchange) plain(ctx context.Context, message []byte) *refusal {
	authzid, name, password, ok := parsePlain(message)
	if !ok {
		return refuse(MalformedRequest, "", reasonMalformed)
	}
	e.setName(name)
	if r := e.checkAuthzid(authzid); r != nil {
		return r
	}
	return e.checkPassword(ctx, password)
}

func parsePlain(message []byte) (authzid, name, password string, ok bool) {
	parts := bytes.Split(message, []byte{0})
	if len(message) > maxMessage || len(parts) != 3 || len(parts[1]) == 0 || len(parts[2]) == 0 ||
		!utf8.Valid(message) {
		return "", "", "", false
	}
	for _, part := range parts {
		if len(part) > maxField {
			return "", "", "", false
		}
	}
	return string(parts[0]), string(parts[1]), string(parts[2]), true
}

// checkPassword compares a password with the account's keys. A name without an account costs the same.
func (e *Exchange) checkPassword(ctx context.Context, password string) *refusal {
	a := e.auth
	if r := e.checkThrottle(); r != nil {
		return r
	}
	prepared, ok := preparePassword(password)
	if !ok {
		return refuse(NotAuthorized, "", reasonProof)
	}
	account, _, r := a.current(ctx, e.name, "")
	if r != nil {
		return r
	}
	e.account, e.basis = account, account.Basis
	hash, key := strongest(account.Credentials)
	if key == nil {
		hash = scram.SHA256
		fake := a.fakeCredential(ctx, hash, e.claimed)
		key = &fake
	} else {
		e.key = key
		if a.memo.knows(account.ID, key, prepared) {
			return e.admit(ctx)
		}
	}
	right, r := e.derives(ctx, hash, key, prepared)
	switch {
	case r != nil:
		return r
	case e.key == nil:
		return refuse(NotAuthorized, "", reasonUnknown)
	case !right:
		return refuse(NotAuthorized, "", reasonProof)
	}
	a.memo.learn(account.ID, key, prepared)
	if r := e.admit(ctx); r != nil {
		return r
	}
	a.renewKeys(ctx, e.account, prepared)
	return nil
}

// derives pays for PBKDF2, when it is this login's turn.
func (e *Exchange) derives(ctx context.Context, hash *scram.Hash, key *store.Credential, password string) (bool,
	*refusal) {
	err := e.auth.hashing.Enter(ctx)
	if errors.Is(err, limit.ErrBusy) {
		return false, refuse(TemporaryAuthFailure, "", reasonBusy)
	}
	if err != nil {
		return false, refuse(TemporaryAuthFailure, "", reasonInterrupted)
	}
	defer e.auth.hashing.Leave()
	// Again, because many can have waited together; now no more go on than there are processors.
	if r := e.checkThrottle(); r != nil {
		return false, r
	}
	rounds := max(key.Iterations, 1)
	e.auth.metrics.rounds.Add(float64(rounds))
	derived, err := derive(hash, password, key.Salt, rounds)
	if err != nil {
		e.auth.log.Error("deriving a key failed", "event", "auth.derive_failed", "err", err)
		return false, refuse(TemporaryAuthFailure, "", reasonStore)
	}
	return subtle.ConstantTimeCompare(derived.StoredKey, key.StoredKey) == 1, nil
}

// strongest returns the account's best keys, nil when it has none.
func strongest(credentials []store.Credential) (*scram.Hash, *store.Credential) {
	for _, h := range scramHashes {
		for i := range credentials {
			if credentials[i].Hash == h.Name {
				return h, &credentials[i]
			}
		}
	}
	return nil, nil
}

// plainMemo remembers passwords that were right lately, so that a client with PLAIN does not cost 100,000 HMACs at
// every login. What it holds of a password is an HMAC-SHA-256 with a key that is random for each process and never
// leaves it, over the account's identity, its stored key and the password:
//   - it is of no use without the key, so nothing of it may be written anywhere, and nothing is;
//   - a changed password or a recreated account has another stored key or identity, and finds nothing;
//   - whoever reads the process's memory could try passwords at the speed of one HMAC instead of 100,000, for accounts
//     that used PLAIN within the time to live. They could as well read those passwords when they come in.
//
// A password that is not remembered takes the slow way like every other, so that timing tells only what success tells.
// The nil memo remembers nothing.
type plainMemo struct {
	key  []byte
	ttl  time.Duration
	macs *cache.Cache[store.AccountID, [sha256.Size]byte]
}

func newPlainMemo(size int, ttl time.Duration, now func() time.Time) (*plainMemo, error) {
	key := make([]byte, sha256.Size)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	macs := cache.New(cache.Config[store.AccountID, [sha256.Size]byte]{Limit: size, Now: now})
	return &plainMemo{key: key, ttl: ttl, macs: macs}, nil
}

func (m *plainMemo) mac(id store.AccountID, key *store.Credential, password string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, m.key)
	var head [12]byte // fixed lengths first, so that no two inputs run together
	binary.BigEndian.PutUint64(head[:], uint64(id))
	binary.BigEndian.PutUint32(head[8:], uint32(len(key.StoredKey)))
	h.Write(head[:])
	h.Write(key.StoredKey)
	h.Write([]byte(password))
	h.Sum(sum[:0])
	return sum
}

func (m *plainMemo) knows(id store.AccountID, key *store.Credential, password string) bool {
	if m == nil {
		return false
	}
	known, ok := m.macs.Get(id)
	if !ok {
		return false
	}
	sum := m.mac(id, key, password)
	return hmac.Equal(known[:], sum[:])
}

func (m *plainMemo) learn(id store.AccountID, key *store.Credential, password string) {
	if m == nil || key == nil || id == 0 {
		return
	}
	m.macs.Set(id, m.mac(id, key, password), m.ttl)
}

// sweep gives back the memory of what is too old to be used.
func (m *plainMemo) sweep() {
	if m != nil {
		m.macs.Sweep()
	}
}

// maxWaitingHashes bounds those who wait for a processor to derive a key on.
const maxWaitingHashes = 100
