//go:build faultinject_early_delivery

package archive

import (
	"context"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// inject is a fault that is injected in builds with the tag faultinject_early_delivery: messages are delivered before
// they are stored, and acknowledged afterwards.
func (a *Archive) inject(ctx context.Context, entries []entry) func(ctx context.Context, entries []entry,
	refusal *stanza.Error) {
	acknowledge := make([]func(*router.Envelope), len(entries))
	for i := range entries {
		if e := entries[i].envelope; e != nil {
			acknowledge[i], e.Stored = e.Stored, nil
			a.router.Resume(ctx, e)
		}
	}
	return func(_ context.Context, entries []entry, _ *stanza.Error) {
		for i := range entries {
			if acknowledge[i] != nil {
				acknowledge[i](entries[i].envelope)
			}
			if c := entries[i].change; c != nil {
				c.outcome.settle(false)
			}
		}
	}
}
