package pebble

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/store"
)

// epoch is a time in which the log was open. It is noted with the first batch, so that a log that is only read stays as
// it is.
type epoch struct {
	// before is the last identity that was given out before it.
	before store.MessageID
	random uint64
}

func newEpoch(before store.MessageID) *epoch {
	var random [8]byte
	_, _ = rand.Read(random[:]) // it never fails
	return &epoch{before, binary.BigEndian.Uint64(random[:]) | 1}
}

// readEpochs reads those that there were.
func (l *Log) readEpochs() error {
	it, err := l.db.NewIter(&engine.IterOptions{LowerBound: []byte{keyEpoch}, UpperBound: []byte{keyEpoch + 1}})
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if len(it.Value()) != 8 {
			return fmt.Errorf("epoch: %w: %w", store.ErrDamaged, errShort)
		}
		l.recents.epochs = append(
			l.recents.epochs, epoch{store.MessageID(firstNumber(it.Key())), binary.BigEndian.Uint64(it.Value())},
		)
	}
	return it.Error()
}

// epoch returns the random number of the epoch in which a position was given out, 0 for none.
func (r *recents) epoch(id store.MessageID) uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, e := range slices.Backward(r.epochs) {
		if e.before < id {
			return e.random
		}
	}
	return 0
}

// Epoch implements store.MessageReader.
func (l *Log) Epoch(ctx context.Context, id store.MessageID) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if uint64(id) > l.visible.Load() {
		return 0, fmt.Errorf("position %d: %w", id, store.ErrNotFound)
	}
	return l.recents.epoch(id), nil
}

// Holds implements store.MessageReader.
func (l *Log) Holds(ctx context.Context, id store.MessageID, epoch uint64) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	return id == 0 || uint64(id) <= l.visible.Load() && l.recents.epoch(id) == epoch, nil
}
