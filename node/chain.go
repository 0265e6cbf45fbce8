package node

import (
	"github.com/posthouse-im/posthouse/domain/router"
)

// chain is the acceptance chain: what every stanza of a client passes, once, in this order. Each stage says in its Why
// for what reason it stands where it stands.
func (a *assembly) chain() []router.Stage {
	return []router.Stage{
		a.local.Address(),  // whose it is, to whom, and whether it is well formed
		a.local.Strip(),    // what only servers may say is taken out before anybody can believe or store it
		a.local.Presence(), // presence about the sender is dealt with here; directed presence goes on
		a.archive.Stage(),  // messages wait here until they are durable
		a.local.Carbons(),  // the sender's other devices see what was stored, with its identity
	}
}
