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
//	journal | last identity of a batch             → what the indexes need of the batch, see journal.go
//	indexed                                        → how far the indexes are written, see pack.go
//	conversation | conversation | first's number   → a block of the conversation's order, see block.go
//	received | account | id of the first           → a block of direct messages to the account
//	sent | account | id of the first               → a block of direct messages from the account to somebody else
//	origin | account | digest                      → what was sent under an origin-id, see originEntry
//	named | conversation | row                     → where messages with stanza ids are, see names.go
//	activity | account | ^id                       → the direct conversation whose last message in a part is id,
//	                                                 see activity.go
//	marker | conversation | account | kind         → a current marker, see markers.go
//	changed | account | id                         → a current marker that the account sees; account 0: all of them
//	roomChanged | conversation | id                → a current marker of a room
//	retracted | conversation | number              → a message of which the content was taken out, see retract.go
//	key | parties or room                          → conversation
//	opened | conversation                          → what the conversation is, see opening.go
//	member | conversation | account                → a member of a room, see member.go
//	in | account | kind | conversation             → a conversation of a kind that the account is or was in
//	large | account                                → the account has activity entries
//	rights | conversation                          → the number of a room's last entry on members or rights
//	cursor | account                               → delivery cursor
//	told | conversation | account                  → through which number others know of its MarkDelivered
//	epoch | last identity before it                → the epoch's random number, see epoch.go
//	version                                        → schema version, uvarint
//	pairing                                        → the database that the log belongs to, see identity.go
//
// A batch writes messages, retracted, member, in and rights entries, and one journal entry. The indexes – conversation
// to roomChanged – are not written message by message, which would cost more than all the rest, but for tens of
// thousands of messages at a time, sorted and packed; see pack.go. Until then what they need is kept in memory
// (recent.go), and the journal is what that is restored from. A conversation's entries are written when it is opened,
// cursors and told when deliveries are reported.
//
// Messages sort before everything else because their keys only rise: a table that ends with messages and begins with
// anything lesser would overlap all the messages there ever were, and compactions would copy them again and again.
//
// What was received and what was sent are two indexes because a device that comes online looks for what was sent to it:
// a bot that has sent a million messages and received none must not read through them. Index entries live as long as
// their message.
const (
	keyMessage      = 0x01
	keyJournal      = 0x02
	keyIndexed      = 0x03
	keyConversation = 0x10
	keyReceived     = 0x11
	keySent         = 0x12
	keyOrigin       = 0x13
	keyRetracted    = 0x14
	keyNamed        = 0x15
	keyActivity     = 0x16
	keyMarker       = 0x17
	keyChanged      = 0x18
	keyRoomChanged  = 0x19
	keyKey          = 0x20
	keyOpened       = 0x21
	keyMember       = 0x22
	keyIn           = 0x23
	keyRights       = 0x24
	keyCursor       = 0x25
	keyTold         = 0x26
	keyEpoch        = 0x27
	keyLarge        = 0x28
	keyVersion      = 0x30
	keyPairing      = 0x31
)

// schemaVersion is the layout of keys and values that this code writes and reads. Versions 1 and 2 are of programs that
// were never released.
const schemaVersion = 3

// SchemaVersion is the version of the layout of keys and values that this program writes and reads.
const SchemaVersion = schemaVersion

// Sizes of the keys of fixed length, in bytes.
const (
	idKeySize     = 1 + 8           // message, journal, opened, rights, large, cursor, epoch
	pairKeySize   = 1 + 8 + 8       // all others but key and those that follow
	markerKeySize = pairKeySize + 1 // and in
	originKeySize = 1 + 8 + 16
	namedKeySize  = 1 + 8 + 1 + 4
)

// idKey writes a key of one number.
func idKey(dst []byte, prefix byte, id uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, prefix), id)
}

// pairKey writes a key of two numbers.
func pairKey(dst []byte, prefix byte, a, b uint64) []byte {
	return binary.BigEndian.AppendUint64(idKey(dst, prefix, a), b)
}

// inKey writes the key of a conversation that an account is or was in.
func inKey(dst []byte, account store.AccountID, kind store.ConversationKind, id store.ConversationID) []byte {
	return binary.BigEndian.AppendUint64(append(idKey(dst, keyIn, uint64(account)), byte(kind)), uint64(id))
}

// bounds returns the range [lower, upper) of the keys whose first number is a.
func bounds(prefix byte, a uint64) (lower, upper []byte) {
	lower = idKey(make([]byte, 0, idKeySize), prefix, a)
	if a == math.MaxUint64 {
		return lower, []byte{prefix + 1}
	}
	return lower, idKey(make([]byte, 0, idKeySize), prefix, a+1)
}

// firstNumber and secondNumber return the numbers of a key.
func firstNumber(key []byte) uint64  { return binary.BigEndian.Uint64(key[1:idKeySize]) }
func secondNumber(key []byte) uint64 { return binary.BigEndian.Uint64(key[idKeySize:pairKeySize]) }

// originKey identifies the author's origin-id. An account's devices share one space of identities. A party of another
// domain has no account; its address is part of the digest, which is a cryptographic one so that nobody can make
// another's message look like a repetition.
func originKey(author store.Party, originID string) (key [originKeySize]byte) {
	key[0] = keyOrigin
	binary.BigEndian.PutUint64(key[1:], uint64(author.Account))
	var buf [256]byte
	text := buf[:0]
	if author.Account == 0 {
		text = append(append(text, author.JID.String()...), 0)
	}
	digest := sha256.Sum256(append(text, originID...))
	copy(key[9:], digest[:16])
	return key
}

// partyKey writes what a party is known by.
func partyKey(dst []byte, p store.Party) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.Account))
	if p.Account == 0 {
		address := p.JID.String()
		dst = append(binary.BigEndian.AppendUint16(dst, uint16(len(address))), address...)
	}
	return dst
}

// conversationKey writes the key that a conversation is found by.
func conversationKey(dst []byte, k *store.ConversationKey) []byte {
	dst = append(dst, keyKey, byte(k.Kind))
	if k.Kind == store.Room {
		return append(binary.BigEndian.AppendUint64(dst, k.Incarnation), k.Room.String()...)
	}
	return partyKey(partyKey(dst, k.A), k.B)
}
