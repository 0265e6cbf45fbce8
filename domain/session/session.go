// Package session owns who is connected: the resources of each account of this domain, their priorities,
// presence and carbons, on this node or on a peer node.
//
// It starts no goroutines. Each user's entry has one mutex; nothing is called under it but Outbox.Send, which never blocks.
package session

import "github.com/posthouse-im/posthouse/wire/stream"

// Outbox is the sending half of a bound connection.
type Outbox interface {
	// Send queues a packet. It never blocks; a full queue ends the connection under the outbox's own written policy.
	Send(p *stream.Packet)
	// Close ends the stream with the given error after what is queued was written; nil for an orderly close.
	Close(e *stream.Error)
}
