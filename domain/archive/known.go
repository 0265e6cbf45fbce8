package archive

import (
	"context"
	"errors"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/store"
)

// Known reports whether the message of an envelope is one that was stored before, by its origin-id and content, and
// then fills the receipt with the first answer. It is for a message that would be refused now: whoever repeats what was
// accepted, because the answer was lost, must not be told that it was not. It reads the log.
func (a *Archive) Known(ctx context.Context, e *router.Envelope) bool {
	origin := originID(e.Stanza)
	if origin == "" {
		return false
	}
	author := store.Party{JID: e.Stanza.From.Bare(), Account: store.AccountID(e.Origin.Account)}
	first, err := a.log.Origin(ctx, author, origin)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return false
	case err != nil:
		a.logger.Error("it could not be found out whether a message was stored before",
			"account", store.AccountID(e.Origin.Account), "error", err)
		return false
	case first.ContentHash != contentHash(e.Stanza):
		return false
	}
	e.Receipt = router.Receipt{ID: uint64(first.ID), Seq: first.Seq, Time: first.ID.Time(), Duplicate: true}
	a.metrics.duplicate.Inc()
	return true
}
