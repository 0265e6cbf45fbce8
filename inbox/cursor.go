package inbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/posthouse-im/posthouse/store"
)

// cursor is how far a client has come. As text it is base64url without padding of
//
//	version   1 byte, cursorVersion
//	database  8 bytes, which one it belongs to, and which epoch of that
//	fields    uvarints, in the order below
//	sum       12 bytes: HMAC-SHA-256 of all before it, truncated
//
// so that nobody can make one, and one account's is no other's.
type cursor struct {
	account store.AccountID
	// at is the position in the log up to which the client knows everything that it was to know of; epoch is the log's
	// for it.
	at    store.MessageID
	epoch uint64
	// roster, settings and profiles are the versions that the client has.
	roster, settings, profiles uint64
	// floor is the oldest position from which on the first sync told of all conversations; 0 when it told of all there
	// were.
	floor store.MessageID
	// left is how many conversations the first sync may still tell of, 0 when it is over; before is the position of the
	// one it told of last. When quiet is not 0 it goes on in the end of the list, from that number of the settings.
	left   uint64
	before store.MessageID
	quiet  uint64
}

const (
	cursorVersion = 2
	databaseSize  = 8
	sumSize       = 12
	numbers       = 10
	// maxCursor is the length of the longest one: each number has ten bytes at most.
	maxCursor = (1 + databaseSize + numbers*binary.MaxVarintLen64 + sumSize + 2) / 3 * 4
)

// seal makes and opens cursors. It never changes.
type seal struct {
	key      []byte
	database [databaseSize]byte
}

func newSeal(key []byte, epoch uint64) seal {
	s := seal{key: key}
	h := hmac.New(sha256.New, key)
	h.Write([]byte("database"))
	h.Write(binary.BigEndian.AppendUint64(nil, epoch))
	copy(s.database[:], h.Sum(nil))
	return s
}

func (s seal) sum(b []byte) []byte {
	h := hmac.New(sha256.New, s.key)
	h.Write([]byte("cursor"))
	h.Write(b)
	return h.Sum(nil)[:sumSize]
}

func (c *cursor) fields() [numbers]*uint64 {
	return [...]*uint64{
		(*uint64)(&c.account), (*uint64)(&c.at), &c.epoch, &c.roster, &c.settings, &c.profiles,
		(*uint64)(&c.floor), &c.left, (*uint64)(&c.before), &c.quiet,
	}
}

func (s seal) text(c *cursor) string {
	b := append([]byte{cursorVersion}, s.database[:]...)
	for _, f := range c.fields() {
		b = binary.AppendUvarint(b, *f)
	}
	return base64.RawURLEncoding.EncodeToString(append(b, s.sum(b)...))
}

// open reads a cursor of the account. One of another database is ErrStartOver, anything else that is not right
// ErrCursor.
func (s seal) open(text string, account store.AccountID) (c cursor, err error) {
	if len(text) > maxCursor {
		return c, fmt.Errorf("%w: it is too long", ErrCursor)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < 1+databaseSize+sumSize || b[0] != cursorVersion {
		return c, fmt.Errorf("%w: it does not look like one", ErrCursor)
	}
	if [databaseSize]byte(b[1:1+databaseSize]) != s.database {
		return c, fmt.Errorf("%w: it is of another database", ErrStartOver)
	}
	content, sum := b[:len(b)-sumSize], b[len(b)-sumSize:]
	if !hmac.Equal(sum, s.sum(content)) {
		return c, fmt.Errorf("%w: its checksum is wrong", ErrCursor)
	}
	content = content[1+databaseSize:]
	for _, f := range c.fields() {
		x, n := binary.Uvarint(content)
		if n <= 0 {
			return c, fmt.Errorf("%w: it is cut short", ErrCursor)
		}
		*f, content = x, content[n:]
	}
	if len(content) > 0 || c.account != account {
		return c, fmt.Errorf("%w: it is another's", ErrCursor)
	}
	return c, nil
}
