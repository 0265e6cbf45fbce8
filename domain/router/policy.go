package router

import (
	"context"

	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Rule is one rule of the stage policy. It looks at the origin and the target of a stanza, and refuses it or not; it
// changes nothing.
type Rule struct {
	Name string
	// Why says what the rule is for.
	Why   string
	Check func(ctx context.Context, e *Envelope) *stanza.Error
}

// Policy is the stage that applies rules in order. The first that refuses wins.
func Policy(rules ...Rule) Stage {
	return Stage{
		Name: "policy",
		Why:  "after the target is known, which the rules are about; before anything is stored",
		Run: func(ctx context.Context, e *Envelope) (Verdict, *stanza.Error) {
			for i := range rules {
				if refusal := rules[i].Check(ctx, e); refusal != nil {
					return Finish, refusal
				}
			}
			return Continue, nil
		},
	}
}
