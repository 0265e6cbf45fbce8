package node

import (
	"context"
	"errors"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// chains are the acceptance chains: what every stanza passes, once, in this order, by who it comes from. Each stage
// says in its Why for what reason it stands where it stands. What the server itself says passes none.
func (a *assembly) chains() map[router.OriginKind][]router.Stage {
	resolve := router.Stage{
		Name: "resolve",
		Why: "after the address is final; before anything is stored, so that what cannot be delivered is refused and " +
			"nobody " +
			"is shown it",
		Run: func(ctx context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
			return a.router.Resolve(ctx, e)
		},
	}
	own := []router.Stage{ // of an account of this domain
		a.local.Address(),              // sender, recipient, and whether the stanza is well formed
		a.local.Strip(),                // what only servers may say is taken out before anybody can believe or store it
		a.local.Presence(),             // presence about the sender is dealt with here; directed presence goes on
		resolve,                        // the target is found, once, and what cannot be delivered is refused
		router.Policy(a.policies()...), // whether it may be sent
		a.archive.Stage(),              // messages wait here until they are durable
	}
	return map[router.OriginKind][]router.Stage{
		router.Client: own,
		router.API:    own,
	}
}

// policies are the rules of the stage policy, in this order. The first that refuses wins.
func (a *assembly) policies() []router.Rule {
	return []router.Rule{
		{
			Name:  "enabled",
			Why:   "a service key may send on behalf of accounts, but not of those that are disabled",
			Check: a.enabled,
		},
	}
}

// enabled refuses messages on behalf of an account that is disabled, or gone.
func (a *assembly) enabled(ctx context.Context, e *router.Envelope) *stanza.Error {
	o := e.Origin
	if o.Kind != router.API || o.Account == 0 || e.Stanza.Kind != stanza.Message {
		return nil // a client's stream ends with its account
	}
	account, err := a.auth.Directory().Account(ctx, o.Address.Local())
	switch {
	case errors.Is(err, store.ErrNotFound) || err == nil && (account.Disabled || uint64(account.ID) != o.Account):
		return stanza.Refuse(stanza.Forbidden, "The account is disabled.")
	case err != nil:
		a.Log.Error("an account could not be looked up", "error", err)
		return &stanza.Error{
			Type: stanza.Wait, Condition: stanza.InternalServerError,
			Text: "The message was not stored. Try again later.",
		}
	}
	return nil
}

// toRecipient and toAuthor are what is done for the two accounts that an accepted message concerns, in this order.
func (a *assembly) toRecipient() []router.Delivery {
	return []router.Delivery{
		{
			Name: "deliver",
			Why:  "the recipient's devices come first",
			Run:  func(ctx context.Context, e *router.Envelope) { a.router.Deliver(ctx, e) },
		},
		a.tell(func(e *router.Envelope) (account, stored uint64) { return e.Target.Account, e.Target.ID }),
	}
}

func (a *assembly) toAuthor() []router.Delivery {
	return []router.Delivery{
		a.local.Carbons(), // the author's other devices see what was stored, with its identity
		a.tell(func(e *router.Envelope) (account, stored uint64) { return e.Origin.Account, e.Receipt.ID }),
	}
}

// tell is the step that tells who waits for an account to change, such as a request for sync.
func (a *assembly) tell(whom func(*router.Envelope) (account, stored uint64)) router.Delivery {
	return router.Delivery{
		Name: "tell",
		Why:  "last: devices come first",
		Run: func(_ context.Context, e *router.Envelope) {
			if account, stored := whom(e); account != 0 && stored != 0 {
				a.changed(account)
			}
		},
	}
}
