package local

import (
	"context"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Strip is the stage that removes from a client's message or presence what only servers may assert.
func (d *Domain) Strip() router.Stage {
	return router.Stage{
		Name: "strip",
		Why:  "before anything is stored, copied or sent on, so that whatever it says there was said by a server",
		Run: func(_ context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
			s := e.Stanza
			if s.Kind == stanza.IQ {
				return router.Continue, nil // its one child is the request itself
			}
			for i := range s.Payload {
				if !payload.MaySay(s, &s.Payload[i], d.domain) {
					s.Remove(func(el *stanza.Element) bool { return !payload.MaySay(s, el, d.domain) })
					// What is left is a piece of what came, and would keep all of it alive wherever it waits.
					e.Stanza = s.Clone()
					break
				}
			}
			return router.Continue, nil
		},
	}
}
