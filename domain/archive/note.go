package archive

import (
	"context"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/store"
)

// Note is the step of delivery that notes a stored message as one that no device of its recipient has.
func (a *Archive) Note() router.Delivery {
	return router.Delivery{
		Name: "note",
		Why:  "before any device gets the message, so that a report of its delivery finds it known",
		Run: func(_ context.Context, e *router.Envelope) {
			if e.Receipt.ID != 0 && e.Target.Account != 0 {
				a.cursors.note(store.AccountID(e.Target.Account), store.MessageID(e.Receipt.ID))
			}
		},
	}
}
