//go:build faultinject_below_cursor

package pebble

import (
	"context"
	"slices"

	"github.com/posthouse-im/posthouse/store"
)

// inject is a fault that is injected in builds with the tag faultinject_below_cursor: a report of what lies below the
// cursor is ignored, as if it had been delivered because something later was.
func inject(ids []store.MessageID, c *store.DeliveryCursor) []store.MessageID {
	return slices.DeleteFunc(slices.Clone(ids), func(id store.MessageID) bool { return id <= c.Through })
}

func (l *Log) lose(context.Context, *store.Batch) {}
