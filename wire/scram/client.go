package scram

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Iterations that a server may ask for: fewer make a stolen exchange cheap to guess from, more only burn our time.
const (
	fewestIterations = 4096
	mostIterations   = 1_000_000
)

// Client is the client's side of one exchange. Hash, User and Password are required.
type Client struct {
	Hash           *Hash
	User, Password string
	// Binding is the data of tls-exporter (RFC 9266) for a -PLUS mechanism, nil for others. Could tells that there
	// would be such data, but that the server does not offer to bind.
	Binding []byte
	Could   bool
	// Derive finds the keys of a user; nil derives them with Hash.Derive.
	Derive func(h *Hash, user, password string, salt []byte, iterations int) (Keys, error)
	// Nonce is random when it is "".
	Nonce string

	bare, header string // client-first-message-bare and gs2-header (RFC 5802 §7)
	signature    []byte // what the server must prove
}

// First returns the client-first-message.
func (c *Client) First() []byte {
	if c.Nonce == "" {
		c.Nonce = rand.Text()
	}
	c.header = "n,,"
	switch {
	case c.Binding != nil:
		c.header = "p=tls-exporter,,"
	case c.Could: // RFC 5802 §6: so a server that does offer it notices that somebody took the offer away
		c.header = "y,,"
	}
	c.bare = "n=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(c.User) + ",r=" + c.Nonce
	return []byte(c.header + c.bare)
}

// Fields takes a message of a server apart.
func Fields(message []byte) map[byte]string {
	fields := make(map[byte]string)
	for field := range strings.SplitSeq(string(message), ",") {
		if len(field) > 1 && field[1] == '=' {
			fields[field[0]] = field[2:]
		}
	}
	return fields
}

// Final answers the server-first-message.
func (c *Client) Final(challenge []byte) ([]byte, error) {
	fields := Fields(challenge)
	salt, err := base64.StdEncoding.DecodeString(fields['s'])
	if err != nil {
		return nil, fmt.Errorf("the server's salt: %w", err)
	}
	iterations, err := strconv.Atoi(fields['i'])
	if err != nil || iterations < fewestIterations || iterations > mostIterations {
		return nil, fmt.Errorf("the server wants %.20q iterations", fields['i'])
	}
	if nonce := fields['r']; !strings.HasPrefix(nonce, c.Nonce) || len(nonce) == len(c.Nonce) {
		return nil, errors.New("the server changed the nonce")
	}
	derive := c.Derive
	if derive == nil {
		derive = func(h *Hash, _, password string, salt []byte, iterations int) (Keys, error) {
			return h.Derive(password, salt, iterations)
		}
	}
	keys, err := derive(c.Hash, c.User, c.Password, salt, iterations)
	if err != nil {
		return nil, err
	}
	bare := "c=" + base64.StdEncoding.EncodeToString(append([]byte(c.header), c.Binding...)) + ",r=" + fields['r']
	message := []byte(c.bare + "," + string(challenge) + "," + bare)
	c.signature = c.Hash.HMAC(keys.Server, message)
	return []byte(bare + ",p=" + base64.StdEncoding.EncodeToString(c.Hash.Proof(keys, message))), nil
}

// Verify checks the server-final-message: the server must know the password too.
func (c *Client) Verify(final []byte) error {
	encoded, ok := strings.CutPrefix(string(final), "v=")
	got, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || c.signature == nil || !hmac.Equal(got, c.signature) {
		return errors.New("the server did not prove that it knows the password")
	}
	return nil
}
