// Package store defines what is stored: record types and small interfaces, one file per noun.
//
// Implementations are in the folders below and pass the suite in store/storetest. Every call takes a context with a
// deadline. The package imports no driver and no SQL, and starts no goroutine.
package store

import (
	"errors"
	"fmt"
)

// The closed set of ways in which a store refuses. Anything else is a fault of the storage itself.
var (
	// ErrNotFound: there is no such record.
	ErrNotFound = errors.New("not found")
	// ErrExists: a record of that name is there already, or its name is reserved after a deletion.
	ErrExists = errors.New("exists already")
	// ErrLimit: the record would pass a configured limit.
	ErrLimit = errors.New("limit reached")
	// ErrDamaged: a stored record does not match its checksum; it is not served.
	ErrDamaged = errors.New("stored record is damaged")
	// ErrFull: the storage is below its reserve; reading goes on, writing does not.
	ErrFull = errors.New("storage is full")
	// ErrNotStored: nothing of what was given was stored, for a reason that may pass; it may be given again.
	ErrNotStored = errors.New("not stored")
)

// DamagedError names the messages of one answer that do not match their checksums (ErrDamaged).
type DamagedError struct {
	// IDs are the damaged messages in rising order; empty when it cannot be told which.
	IDs []MessageID
	// Cause says what was wrong with the first of them.
	Cause error
}

// Error names the messages by number, so that they can be looked for in a backup.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("%v: messages %d: %v", ErrDamaged, e.IDs, e.Cause)
}

// Is makes errors.Is(err, ErrDamaged) true.
func (e *DamagedError) Is(target error) bool { return target == ErrDamaged }

// Unwrap returns the cause.
func (e *DamagedError) Unwrap() error { return e.Cause }
