// Package durability tests that acknowledged messages are durable. It runs whole nodes as processes, puts load on them,
// kills them or cuts their power, and looks in both parties' history for every message that was acknowledged.
//
// The checks are tested too: they must find losses with a node that acknowledges too early, and with one that does not
// flush.
package durability
