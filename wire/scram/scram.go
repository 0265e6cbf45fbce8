// Package scram has the computations of SCRAM that client and server share (RFC 5802, RFC 7677), and the client's side
// of an exchange.
//
// The server's side, which also involves storage and throttles, is in domain/auth. The package has no I/O and no
// goroutines.
package scram

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"hash"
	"strings"
)

// Hash is a hash function that SCRAM is used with.
type Hash struct {
	// Name is "SHA-1" or "SHA-256", and Size that of its sums in bytes.
	Name string
	Size int

	make func() hash.Hash
}

// The hash functions of RFC 5802 and RFC 7677.
var (
	SHA1   = &Hash{Name: "SHA-1", Size: sha1.Size, make: sha1.New}
	SHA256 = &Hash{Name: "SHA-256", Size: sha256.Size, make: sha256.New}
)

// HashOf returns the hash function of a mechanism, such as SCRAM-SHA-256-PLUS; nil when it is not one of SCRAM.
func HashOf(mechanism string) *Hash {
	switch strings.TrimSuffix(mechanism, "-PLUS") {
	case "SCRAM-SHA-1":
		return SHA1
	case "SCRAM-SHA-256":
		return SHA256
	}
	return nil
}

// Sum returns the hash of data.
func (h *Hash) Sum(data []byte) []byte {
	d := h.make()
	d.Write(data)
	return d.Sum(nil)
}

// HMAC returns the HMAC of data.
func (h *Hash) HMAC(key, data []byte) []byte {
	m := hmac.New(h.make, key)
	m.Write(data)
	return m.Sum(nil)
}

// Keys are what is derived from a password (RFC 5802 §3). A server keeps Stored and Server; whoever has Client can log
// in.
type Keys struct{ Client, Stored, Server []byte }

// Derive computes the keys, which is slow by design. The password is prepared already; iterations is 1 or more.
func (h *Hash) Derive(password string, salt []byte, iterations int) (Keys, error) {
	salted, err := pbkdf2.Key(h.make, password, salt, iterations, h.Size)
	if err != nil {
		return Keys{}, fmt.Errorf("deriving a key: %w", err)
	}
	client := h.HMAC(salted, []byte("Client Key"))
	return Keys{Client: client, Stored: h.Sum(client), Server: h.HMAC(salted, []byte("Server Key"))}, nil
}

// Proof returns the client's proof for an AuthMessage.
func (h *Hash) Proof(k Keys, message []byte) []byte {
	proof := h.HMAC(k.Stored, message)
	subtle.XORBytes(proof, proof, k.Client)
	return proof
}

// Proves reports whether a proof for an AuthMessage is that of the client whose stored key it is.
func (h *Hash) Proves(stored, message, proof []byte) bool {
	client := h.HMAC(stored, message)
	if len(proof) != len(client) {
		return false
	}
	subtle.XORBytes(client, client, proof)
	return subtle.ConstantTimeCompare(h.Sum(client), stored) == 1
}
