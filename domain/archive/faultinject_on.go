//go:build faultinject_early_ack

package archive

import (
	"context"
	"time"
)

// acknowledgeEarly is a fault that is injected in builds with the tag faultinject_early_ack: messages are acknowledged and delivered before
// they are stored, as if storing could not fail. The durability tests must find it out. They end the process at a random moment, so
// the gap is made wide enough to be hit. Such a message has no identity nor number yet, and gets none.
func (a *Archive) acknowledgeEarly(ctx context.Context, entries []entry) bool {
	a.releaseAll(ctx, entries, false)
	time.Sleep(5 * time.Millisecond)
	return true
}
