//go:build faultinject_early_delivery

package archive

import (
	"context"

	"github.com/posthouse-im/posthouse/domain/router"
)

// inject is a fault that is injected in builds with the tag faultinject_early_delivery: messages are delivered before they are stored, and
// acknowledged afterwards.
func (a *Archive) inject(ctx context.Context, entries []entry) func(ctx context.Context, entries []entry, full bool) {
	acknowledge := make([]func(*router.Envelope), len(entries))
	for i := range entries {
		if e := entries[i].envelope; e != nil {
			acknowledge[i], e.Stored = e.Stored, nil
			a.router.Resume(ctx, e)
		}
	}
	return func(_ context.Context, entries []entry, _ bool) {
		for i := range entries {
			if acknowledge[i] != nil {
				acknowledge[i](entries[i].envelope)
			}
			if entries[i].committed != nil {
				entries[i].committed()
			}
		}
	}
}
