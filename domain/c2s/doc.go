// Package c2s owns client connections: it negotiates streams (RFC 6120, RFC 7395), reads what clients say, keeps what waits
// for them, and carries their sessions from one connection to the next (XEP-0198). One state machine serves every codec
// and every kind of link; it is fed bytes by link.Conn and knows codecs only as stream.Decoder and stream.Codec.
//
// # Who owns what
//
// conn is one connection. It belongs to the goroutine that called Server.Serve, the reader, which is parked in link.Conn.Receive
// while the client is silent, and processes what comes in within that call.
//
// bound is one session: the queue of what waits for the client, what it has sent that is not stored yet, and its stream
// management. It outlives its connection when it can be resumed. It is the session's Outbox, so that anyone may send to it.
//
// A writer is a goroutine that is at work only while a session has something to write. There is at most one for a session,
// set to work by whoever queues first; it takes everything that has gathered in one write, until nothing is left, and then ends or,
// if few others do, waits for another session (writerPool). A reader does not end before its writer is done. While a client is
// not bound, its reader writes.
//
// The sweeper is the goroutine of Server.Run. It asks for acknowledgements that are due and ends what has waited too long. No idle
// connection has a timer: the time to log in is a read deadline of the link, absolute, set once.
//
// Short tasks, such as the end of a hibernating session, run on goroutines that Drain waits for.
//
// Locks are taken in this order, and never the other way: a user's mutex in domain/session, bound.mu, Server.mu. Nothing outside the package
// is called under bound.mu or Server.mu.
//
// # Queues and what happens when they are full
//
// What waits for a client (Config.QueueStanzas, QueueBytes): the connection is cut; a session with stream management
// hibernates with its queue, any other is told <resource-constraint/> and ends. What was not delivered is given to the
// Returner, never dropped. What a client has in flight (Config.MaxInFlight), and what it sends beyond its rate: it is
// not read from, so that TCP makes it wait. Answers that it does not read: it is not read from either.
//
// # What it never does
//
// It never passes bytes through, never answers for an address other than the client's own, never acknowledges a
// message before its envelope is done, and keeps no state that survives the process: after a restart no stream can be resumed,
// and clients catch up from the archive.
package c2s
