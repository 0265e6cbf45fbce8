//go:build faultinject_early_ack

package archive

import (
	"context"
	"time"

	"github.com/posthouse-im/posthouse/wire/stanza"
)

// inject is a fault that is injected in builds with the tag faultinject_early_ack: messages are acknowledged before
// they are stored, as if storing could not fail. The durability tests end the process at a random moment, so the gap is
// made wide enough to be hit. The acknowledgement has no identity nor number yet.
func (a *Archive) inject(_ context.Context, entries []entry) func(ctx context.Context, entries []entry,
	refusal *stanza.Error) {
	for i := range entries {
		if e := entries[i].envelope; e != nil && e.Stored != nil {
			e.Stored(e)
			e.Stored = nil
		}
	}
	<-time.After(5 * time.Millisecond)
	return a.releaseAll
}
