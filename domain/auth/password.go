package auth

import (
	"crypto/rand"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/scram"
)

const (
	// maxField bounds every string that an unauthenticated client can make us prepare or hash, in bytes.
	maxField = 1024
	// maxPassword is the longest password, in characters after preparation (XEP-0438 §5).
	maxPassword = 128
	// saltSize is XEP-0438's minimum.
	saltSize = 16
)

// preparePassword applies OpaqueString (RFC 8265 §4.2). ok is false for what is no password at all.
func preparePassword(password string) (prepared string, ok bool) {
	if len(password) > maxField || !utf8.ValidString(password) {
		return "", false
	}
	prepared, err := precis.OpaqueString.String(password)
	return prepared, err == nil && utf8.RuneCountInString(prepared) <= maxPassword
}

// checkNewPassword applies the policy for new passwords and returns the prepared one. The error is a Refusal.
func checkNewPassword(name, password string, shortest int, allowCommon bool) (string, error) {
	prepared, ok := preparePassword(password)
	length := utf8.RuneCountInString(prepared)
	switch {
	case password == "":
		return "", RefusedPasswordShort
	case length > maxPassword || len(password) > maxField:
		return "", RefusedPasswordLong
	case !ok:
		return "", RefusedPasswordMalformed
	case length < shortest:
		return "", RefusedPasswordShort
	case !allowCommon && isCommon(name, prepared):
		return "", RefusedPasswordCommon
	}
	return prepared, nil
}

// isCommon reports whether a password is the user's name or among the first that anybody guesses.
func isCommon(name, password string) bool {
	lower := strings.ToLower(password)
	if lower == name {
		return true
	}
	_, common := commonPasswords[lower]
	return common
}

// scramHashes are the hashes that keys are kept for, the strongest first.
var scramHashes = [...]*scram.Hash{scram.SHA256, scram.SHA1}

// MakeCredentials derives what SCRAM-SHA-256 and SCRAM-SHA-1 keep of a password (RFC 5802 §3), each with a salt of its
// own. It is slow by design: twice the iterations of HMAC. It applies no policy; iterations below 1 count as 1.
func MakeCredentials(password string, iterations int) ([]store.Credential, error) {
	prepared, ok := preparePassword(password)
	if !ok {
		return nil, RefusedPasswordMalformed
	}
	credentials := make([]store.Credential, 0, len(scramHashes))
	for _, h := range scramHashes {
		salt := make([]byte, saltSize)
		if _, err := rand.Read(salt); err != nil {
			return nil, fmt.Errorf("making a salt: %w", err)
		}
		c, err := derive(h, prepared, salt, max(iterations, 1))
		if err != nil {
			return nil, err
		}
		credentials = append(credentials, c)
	}
	return credentials, nil
}

// derive computes what is kept of a password.
func derive(h *scram.Hash, password string, salt []byte, iterations int) (store.Credential, error) {
	keys, err := h.Derive(password, salt, iterations)
	if err != nil {
		return store.Credential{}, err
	}
	return store.Credential{Hash: h.Name, Salt: salt, Iterations: iterations, StoredKey: keys.Stored,
		ServerKey: keys.Server}, nil
}

// commonPasswords are those of eight characters and more that lead the published lists of leaked passwords, and ours.
// Shorter ones fall to the minimum length.
var commonPasswords = words(`
	12345678 123456789 1234567890 12345678910 87654321 987654321 0987654321 11111111 00000000 88888888 66666666
	12341234 123123123 12344321 11223344 1q2w3e4r 1q2w3e4r5t 1qaz2wsx q1w2e3r4 qwertyui qwertyuiop qwerty123 qwerty1234
	qwerty12345 asdfghjk asdfghjkl zxcvbnm123 1qazxsw2 password password1 password12 password123 password1234 passw0rd p@ssw0rd
	p@ssword pa55word changeme changeme123 letmein1 letmein123 welcome1 welcome123 admin123 admin1234 administrator root1234
	iloveyou iloveyou1 princess sunshine football baseball superman batman123 trustno1 whatever starwars computer internet
	michelle jennifer charlie1 dragon123 monkey123 abc12345 abcd1234 abcdefgh a1234567 aa123456 aaaaaaaa testtest test1234
	secret123 default1 samsung1 google123 facebook posthouse posthouse1 jabber123 xmpp1234`)

func words(list string) map[string]struct{} {
	set := make(map[string]struct{})
	for word := range strings.FieldsSeq(list) {
		set[word] = struct{}{}
	}
	return set
}
