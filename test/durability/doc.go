// Package durability tests what an acknowledgement is worth: it runs whole nodes as processes, puts load on them, ends them in
// the worst ways, and looks in both parties' history for everything that was acknowledged.
//
// The checks themselves are checked: with a node that acknowledges too early, and with one that does not flush, they must find losses.
package durability
