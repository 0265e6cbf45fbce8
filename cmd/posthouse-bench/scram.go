package main

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"sync"
)

// keyCache remembers each user's salted password, as RFC 5802 §5.1 lets clients do. Logins can then be measured
// without the client's own key derivation, which would otherwise take most of the machine.
type keyCache struct {
	mu   sync.Mutex // guards keys
	keys map[string][]byte
}

// salted returns the salted password for a user's salt and iteration count.
func (k *keyCache) salted(newHash func() hash.Hash, size int, id, password string, salt []byte, iterations int) ([]byte, error) {
	key := id + "\x00" + string(salt) + strconv.Itoa(iterations)
	k.mu.Lock()
	out := k.keys[key]
	k.mu.Unlock()
	if out != nil {
		return out, nil
	}
	out, err := pbkdf2.Key(newHash, password, salt, iterations, size)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil {
		k.keys = map[string][]byte{}
	}
	k.keys[key] = out
	return out, nil
}

// scram is the client's side of RFC 5802 without channel binding.
type scram struct {
	newHash         func() hash.Hash
	size            int
	id, password    string
	nonce, bare     string
	keys            *keyCache
	serverSignature []byte
}

func newScram(mechanism, name, password string, keys *keyCache) (s *scram, first string, err error) {
	s = &scram{newHash: sha256.New, size: sha256.Size, id: mechanism + " " + name, password: password, keys: keys}
	if mechanism == "SCRAM-SHA-1" {
		s.newHash, s.size = sha1.New, sha1.Size
	}
	s.nonce = rand.Text()
	s.bare = "n=" + name + ",r=" + s.nonce
	return s, "n,," + s.bare, nil
}

// final answers the server's first message.
func (s *scram) final(challenge string) (string, error) {
	fields := map[byte]string{}
	for field := range strings.SplitSeq(challenge, ",") {
		if len(field) > 2 && field[1] == '=' {
			fields[field[0]] = field[2:]
		}
	}
	salt, err := base64.StdEncoding.DecodeString(fields['s'])
	if err != nil {
		return "", fmt.Errorf("salt: %w", err)
	}
	iterations, err := strconv.Atoi(fields['i'])
	if err != nil {
		return "", fmt.Errorf("iteration count: %w", err)
	}
	if !strings.HasPrefix(fields['r'], s.nonce) {
		return "", errors.New("the server changed the nonce")
	}
	salted, err := s.keys.salted(s.newHash, s.size, s.id, s.password, salt, iterations)
	if err != nil {
		return "", err
	}
	withoutProof := "c=biws,r=" + fields['r']
	message := []byte(s.bare + "," + challenge + "," + withoutProof)
	clientKey := s.mac(salted, []byte("Client Key"))
	stored := s.newHash()
	stored.Write(clientKey)
	proof := s.mac(stored.Sum(nil), message)
	for i := range proof {
		proof[i] ^= clientKey[i]
	}
	s.serverSignature = s.mac(s.mac(salted, []byte("Server Key")), message)
	return withoutProof + ",p=" + base64.StdEncoding.EncodeToString(proof), nil
}

// verify checks the server's proof.
func (s *scram) verify(final string) error {
	if want := "v=" + base64.StdEncoding.EncodeToString(s.serverSignature); final != want {
		return errors.New("the server did not prove that it knows the password")
	}
	return nil
}

func (s *scram) mac(key, data []byte) []byte {
	m := hmac.New(s.newHash, key)
	m.Write(data)
	return m.Sum(nil)
}
