package pebble

import (
	"crypto/sha256"
	"encoding/binary"
	"math"

	"github.com/posthouse-im/posthouse/store"
)

// The first byte of a key says what it holds. All numbers in keys are big-endian, so that keys sort as the numbers do.
//
//	message | id                                   → the message, see record.go
//	journal | id of the last message of a batch    → the positions of the batch's messages, see position.go
//	indexed                                        → through which id the indexes are written, 8 bytes
//	conversation | conversation | first's number   → a block of the conversation's order, see block.go
//	received | account | id of the first           → a block of messages to the account
//	sent | account | id of the first               → a block of messages from the account to somebody else
//	origin | account | digest                      → what was sent under an origin-id, see originEntry
//	retracted | conversation | number              → a message of which the content was taken out, see retract.go
//	parties | party | party                        → conversation, the lesser party first
//	cursor | account                               → delivery cursor
//	member | account | conversation                → the account's side of a conversation, see conversation.go
//	markers | conversation | account               → read markers, see markers.go
//	version                                        → schema version, uvarint
//
// A batch writes message, cursor, markers and retracted entries, those of conversations that begin, and one journal entry. The indexes – conversation, received, sent, origin –
// are not written message by message, which would cost more than all the rest, but for tens of thousands of messages at a time,
// sorted and packed; see pack.go. Until then the positions are kept in memory (recent.go), and the journal is what they are restored from.
//
// Messages sort before everything else because their keys only rise: a table that ends with messages and begins with
// anything lesser would overlap all the messages there ever were, and compactions would copy them again and again.
//
// What was received and what was sent are two indexes because a device that comes online looks for what was sent to it: a
// bot that has sent a million messages and received none must not read through them. Index entries live as long as
// their message. A conversation is named by the id of its first message.
const (
	keyMessage      = 0x01
	keyJournal      = 0x02
	keyIndexed      = 0x03
	keyConversation = 0x10
	keyReceived     = 0x11
	keySent         = 0x12
	keyOrigin       = 0x13
	keyRetracted    = 0x14
	keyParties      = 0x20
	keyCursor       = 0x21
	keyMember       = 0x22
	keyMarkers      = 0x23
	keyVersion      = 0x30
)

// schemaVersion is the newest layout of keys and values that this code writes and reads. Version 1 had no member entries.
const schemaVersion = 2

// Sizes of the keys of fixed length, in bytes.
const (
	idKeySize     = 1 + 8     // message, journal, cursor
	pairKeySize   = 1 + 8 + 8 // conversation, received, sent, retracted, member, markers
	originKeySize = 1 + 8 + 16
)

// idKey writes a message, journal or cursor key.
func idKey(dst []byte, prefix byte, id uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, prefix), id)
}

// pairKey writes a key of two numbers.
func pairKey(dst []byte, prefix byte, a, b uint64) []byte {
	return binary.BigEndian.AppendUint64(idKey(dst, prefix, a), b)
}

// bounds returns the range [lower, upper) of the index keys whose first number is a.
func bounds(prefix byte, a uint64) (lower, upper []byte) {
	lower = idKey(make([]byte, 0, idKeySize), prefix, a)
	if a == math.MaxUint64 {
		return lower, []byte{prefix + 1}
	}
	return lower, idKey(make([]byte, 0, idKeySize), prefix, a+1)
}

// secondNumber returns the second number of an index key.
func secondNumber(key []byte) uint64 { return binary.BigEndian.Uint64(key[9:pairKeySize]) }

// originKey identifies the sender's origin-id. An account's devices share one space of identities. A party of another domain
// has no account; its address is part of the digest, which is a cryptographic one so that nobody can make another's
// message look like a repetition.
func originKey(sender store.Party, originID string) (key [originKeySize]byte) {
	key[0] = keyOrigin
	binary.BigEndian.PutUint64(key[1:], uint64(sender.Account))
	var buf [256]byte
	text := buf[:0]
	if sender.Account == 0 {
		text = append(append(text, sender.JID.String()...), 0)
	}
	digest := sha256.Sum256(append(text, originID...))
	copy(key[9:], digest[:16])
	return key
}

// side is what a party is known by: its account or, without one, its address.
type side struct {
	account store.AccountID
	address string
}

func sideOf(p store.Party) side {
	if p.Account != 0 {
		return side{account: p.Account}
	}
	return side{address: p.JID.String()}
}

func (s side) less(t side) bool {
	if s.account != t.account {
		return s.account < t.account
	}
	return s.address < t.address
}

// pair is an unordered pair of parties: first is never greater than second.
type pair struct{ first, second side }

// pairOf returns the pair, and whether a is its second party.
func pairOf(a, b side) (p pair, swapped bool) {
	if b.less(a) {
		return pair{b, a}, true
	}
	return pair{a, b}, false
}

// partiesKey writes the key of a pair.
func partiesKey(dst []byte, p pair) []byte {
	dst = append(dst, keyParties)
	for _, s := range [2]side{p.first, p.second} {
		dst = binary.BigEndian.AppendUint64(dst, uint64(s.account))
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(s.address)))
		dst = append(dst, s.address...)
	}
	return dst
}
