package archive

import (
	"context"
	"errors"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
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
	id, _, seq, err := a.log.Origin(ctx, author, origin)
	if err == nil {
		var m store.Message
		if m, err = a.log.Message(ctx, id); err == nil {
			first, bad := xmlstream.Unmarshal(m.Stanza)
			if bad != nil || contentHash(first) != contentHash(e.Stanza) {
				return false
			}
			e.Receipt = router.Receipt{ID: uint64(id), Seq: seq, Time: id.Time(), Duplicate: true}
			a.metrics.duplicate.Inc()
			return true
		}
	}
	if !errors.Is(err, store.ErrNotFound) {
		a.logger.Error("it could not be found out whether a message was stored before", "account", e.Origin.Account,
			"error", err)
	}
	return false
}
