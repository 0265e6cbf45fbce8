//go:build faultinject_lost_batch

package pebble

import (
	"context"

	"github.com/posthouse-im/posthouse/store"
)

func inject(ids []store.MessageID, _ *store.DeliveryCursor) []store.MessageID { return ids }

// lose is a fault that is injected in builds with the tag faultinject_lost_batch: a batch that is not stored, because
// its context has ended, has moved the numbers of its conversations in memory.
func (l *Log) lose(ctx context.Context, b *store.Batch) {
	if ctx.Err() == nil {
		return
	}
	l.writer.reset()
	if l.tailsOf(b) == nil {
		_ = l.assignAll(b)
	}
}
