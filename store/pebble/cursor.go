package pebble

import (
	"fmt"
	"sync"

	"github.com/posthouse-im/posthouse/store"
)

const (
	// cursorBytes bounds the memory for delivery cursors, so that a login does not read one. cursorSize is about what
	// one takes.
	cursorBytes = 4 << 20
	cursorSize  = 64
)

// cursors remembers delivery cursors that were used lately, those of which nothing was missed.
type cursors struct {
	// mu guards known. It is held while a cursor is read, so that none is remembered that was replaced meanwhile.
	mu    sync.Mutex
	known generations[store.AccountID, knownCursor]
}

// knownCursor is a cursor; on disk, it is not known here.
type knownCursor struct {
	through store.MessageID
	onDisk  bool
}

func newCursors() cursors {
	return cursors{known: newGenerations[store.AccountID](cursorBytes, func(knownCursor) int { return cursorSize })}
}

// put remembers what a cursor is now. mu is held.
func (c *cursors) put(cursor *store.DeliveryCursor) {
	c.known.age()
	c.known.put(cursor.Account, knownCursor{cursor.Through, len(cursor.Missed) > 0})
}

// changed notes cursors that have been written.
func (c *cursors) changed(written []store.DeliveryCursor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range written {
		c.put(&written[i])
	}
}

// cursor returns an account's delivery cursor.
func (l *Log) cursor(owner store.AccountID) (c store.DeliveryCursor, err error) {
	l.cursors.mu.Lock()
	defer l.cursors.mu.Unlock()
	c.Account = owner
	known, found := l.cursors.known.get(owner)
	if found && !known.onDisk {
		c.Through = known.through
		return c, nil
	}
	value, err := l.get(idKey(make([]byte, 0, idKeySize), keyCursor, uint64(owner)))
	if err == nil && value != nil {
		c, err = decodeCursor(owner, value)
	}
	if err != nil {
		return c, fmt.Errorf("read the delivery cursor of account %d: %w", owner, err)
	}
	l.cursors.put(&c)
	return c, nil
}
