package archive

import (
	"cmp"
	"errors"
	"slices"

	"github.com/posthouse-im/posthouse/store"
)

// salvage completes an answer of the log: a damaged message is listed without its content, so that paging goes past it,
// and the others are served. An error remains when it cannot be told what is damaged.
func salvage(found []store.Message, err error, tell func(*store.Message, error)) ([]store.Message, error) {
	var damage *store.DamagedError
	if !errors.As(err, &damage) || len(damage.IDs) == 0 {
		return found, err
	}
	for _, id := range damage.IDs {
		m := store.Message{ID: id}
		tell(&m, damage.Cause)
		found = append(found, m)
	}
	slices.SortFunc(found, func(a, b store.Message) int { return cmp.Compare(a.ID, b.ID) })
	return found, nil
}

// unreadable tells of a stored message that cannot be read back. It never stops anything: the others are sound.
func (a *Archive) unreadable(m *store.Message, err error) {
	a.metrics.damaged.Inc()
	a.logger.Error("a stored message cannot be read back", "message", uint64(m.ID), "error", err)
}
