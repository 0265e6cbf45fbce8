//go:build !faultinject_early_ack && !faultinject_early_delivery

package archive

import (
	"context"

	"github.com/posthouse-im/posthouse/wire/stanza"
)

// inject returns how a batch is released once it is durable: releaseAll. Builds with the tags faultinject_early_ack and
// faultinject_early_delivery do something wrong here, for tests to find out.
func (a *Archive) inject(context.Context, []entry) func(ctx context.Context, entries []entry, refusal *stanza.Error) {
	return a.releaseAll
}
