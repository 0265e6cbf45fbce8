//go:build !faultinject_below_cursor && !faultinject_lost_batch

package pebble

import (
	"context"

	"github.com/posthouse-im/posthouse/store"
)

// inject returns what was reported. Builds with the tag faultinject_below_cursor do something wrong here, for tests to
// find out.
func inject(ids []store.MessageID, _ *store.DeliveryCursor) []store.MessageID { return ids }

// lose does nothing. Builds with the tag faultinject_lost_batch do something wrong here, for tests to find out.
func (l *Log) lose(context.Context, *store.Batch) {}
