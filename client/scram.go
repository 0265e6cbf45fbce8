package client

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// Iterations of SCRAM that a server may ask for: fewer make a stolen exchange cheap to guess from, more only burn our time.
const (
	fewestIterations = 4096
	mostIterations   = 1_000_000
)

// KeyCache remembers what SCRAM derives from passwords, as RFC 5802 §5.1 lets clients do, so that logging in again costs nothing. The zero
// value is ready. It may be used by many goroutines; it holds no passwords, but whoever has a key can log in with it.
type KeyCache struct {
	mu   sync.Mutex // guards keys
	keys map[string][]byte
}

// mostKeys bounds a KeyCache; a full one is emptied.
const mostKeys = 1 << 16

// salted returns SaltedPassword of RFC 5802 §3.
func (k *KeyCache) salted(user, password string, salt []byte, iterations int) ([]byte, error) {
	derive := func() ([]byte, error) { return pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size) }
	if k == nil {
		return derive()
	}
	// The password takes part, so that a changed one does not find the old key.
	sum := sha256.Sum256([]byte(password))
	name := strings.Join([]string{user, string(salt), strconv.Itoa(iterations), string(sum[:])}, "\x00")
	k.mu.Lock()
	key := k.keys[name]
	k.mu.Unlock()
	if key != nil {
		return key, nil
	}
	key, err := derive()
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil || len(k.keys) >= mostKeys {
		k.keys = map[string][]byte{}
	}
	k.keys[name] = key
	return key, nil
}

// scram is the client's side of SCRAM-SHA-256, with and without channel binding (RFC 5802, RFC 7677).
type scram struct {
	user, password string
	keys           *KeyCache
	header         string // GS2, RFC 5802 §7
	binding        []byte
	nonce, bare    string
	signature      []byte // what the server must prove
}

// newScram begins an exchange. binding is the data of tls-exporter (RFC 9266), nil for none; could tells that there would be such data, but that the
// server does not offer to bind.
func newScram(user, password string, keys *KeyCache, binding []byte, could bool) *scram {
	s := &scram{user: user, password: password, keys: keys, header: "n,,", binding: binding, nonce: rand.Text()}
	switch {
	case binding != nil:
		s.header = "p=tls-exporter,,"
	case could: // RFC 5802 §6: so a server that does offer it notices that somebody took the offer away
		s.header = "y,,"
	}
	return s
}

// first returns the client-first-message.
func (s *scram) first() []byte {
	s.bare = "n=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(s.user) + ",r=" + s.nonce
	return []byte(s.header + s.bare)
}

// final answers the server-first-message.
func (s *scram) final(challenge []byte) ([]byte, error) {
	fields := map[byte]string{}
	for field := range strings.SplitSeq(string(challenge), ",") {
		if len(field) > 1 && field[1] == '=' {
			fields[field[0]] = field[2:]
		}
	}
	salt, err := base64.StdEncoding.DecodeString(fields['s'])
	if err != nil {
		return nil, fmt.Errorf("the server's salt: %w", err)
	}
	iterations, err := strconv.Atoi(fields['i'])
	if err != nil || iterations < fewestIterations || iterations > mostIterations {
		return nil, fmt.Errorf("the server wants %.20q iterations", fields['i'])
	}
	if nonce := fields['r']; !strings.HasPrefix(nonce, s.nonce) || len(nonce) == len(s.nonce) {
		return nil, errors.New("the server changed the nonce")
	}
	salted, err := s.keys.salted(s.user, s.password, salt, iterations)
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	bare := "c=" + base64.StdEncoding.EncodeToString(append([]byte(s.header), s.binding...)) + ",r=" + fields['r']
	message := []byte(s.bare + "," + string(challenge) + "," + bare)
	clientKey := mac(salted, "Client Key")
	stored := sha256.Sum256(clientKey)
	proof := mac(stored[:], string(message))
	for i := range proof {
		proof[i] ^= clientKey[i]
	}
	s.signature = mac(mac(salted, "Server Key"), string(message))
	return []byte(bare + ",p=" + base64.StdEncoding.EncodeToString(proof)), nil
}

// verify checks the server-final-message: the server must know the password too.
func (s *scram) verify(final []byte) error {
	encoded, ok := strings.CutPrefix(string(final), "v=")
	got, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || s.signature == nil || !hmac.Equal(got, s.signature) {
		return errors.New("the server did not prove that it knows the password")
	}
	return nil
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}
