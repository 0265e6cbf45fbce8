package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// AuditEntry is one thing that an administrator, or another system with a key, has done. It is written before the thing
// takes effect.
type AuditEntry struct {
	// Number is 1, 2, 3, … without holes.
	Number uint64
	// At is when, to the millisecond. The zero time asks the store to look at its clock.
	At time.Time
	// Actor is who: "romeo@localhost", "key:NAME", or "command line (USER)".
	Actor string
	// Action is a stable word such as "account.disable"; Target what it was done to; Detail the rest, as JSON, "" for
	// none. Never a secret.
	Action, Target, Detail string
	// Remote is the address of the peer, "" on the command line.
	Remote string
	// Hash is SHA-256 over the hash of the entry before and all fields of this one; see AuditHash.
	Hash []byte
}

// AuditReader reads the log of what was administered.
type AuditReader interface {
	// AuditEntries returns up to limit entries with lower numbers than before, newest first; 0 means from the newest
	// on.
	AuditEntries(ctx context.Context, before uint64, limit int) ([]AuditEntry, error)
	// VerifyAudit follows the chain from the first entry to the last, and returns the last: a zero one when there is
	// none. The error names the first entry that does not fit (ErrDamaged).
	VerifyAudit(ctx context.Context) (AuditEntry, error)
}

// Audit keeps the log of what was administered. Entries are never changed nor removed.
type Audit interface {
	AuditReader
	// AppendAudit numbers, chains and stores an entry, which is on disk when it returns. Number, At and Hash are
	// results.
	AppendAudit(ctx context.Context, e AuditEntry) (AuditEntry, error)
}

// AuditHash returns the hash of an entry that follows the one with the hash prev, nil for the first: SHA-256 over prev,
// the number, the time in Unix milliseconds, actor, action, target, detail and remote, each of them with its length in
// front. Lengths and numbers have 8 bytes, the most significant first.
func AuditHash(prev []byte, e AuditEntry) []byte {
	h := sha256.New()
	number := binary.BigEndian.AppendUint64(nil, e.Number)
	at := binary.BigEndian.AppendUint64(nil, uint64(e.At.UnixMilli()))
	for _, field := range [][]byte{prev, number, at, []byte(e.Actor), []byte(e.Action), []byte(e.Target),
		[]byte(e.Detail), []byte(e.Remote)} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(field))))
		h.Write(field)
	}
	return h.Sum(nil)
}
