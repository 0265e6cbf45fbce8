// Package c2s owns client connections. It negotiates streams (RFC 6120, RFC 7395), reads stanzas from clients, queues
// stanzas for them, and moves their sessions from one connection to the next (XEP-0198). One state machine serves every
// codec and every kind of link. It receives bytes from link.Conn, and knows codecs only as stream.Decoder and
// stream.Codec.
//
// # Who owns what
//
// conn is one connection. It belongs to the goroutine that called Server.Serve, the reader. The reader is parked in
// link.Conn.Receive while the client is silent, and processes input within that call.
//
// bound is one session: the queue of stanzas for the client, the stanzas that it has sent and that are not stored yet,
// and its stream management. It outlives its connection if it can be resumed. It is the session's Outbox, so any
// goroutine may send to it.
//
// A writer is one of a few goroutines that write for all sessions, in the order in which these have something to write
// (writerPool). A session has at most one at a time. A writer takes everything that waits in one write, until the queue
// is empty. Before it waits for a client to read, another writer takes its place. A reader does not end before its
// writer has finished. While a client is not bound, its reader writes.
//
// The sweeper is the goroutine of Server.Run. It requests acknowledgements that are due, and ends what has waited too
// long. An idle connection has no timer: the time to log in is a read deadline of the link, absolute and set once.
//
// Short tasks, such as the end of a hibernating session, run on goroutines that Drain waits for.
//
// Locks are taken in this order, and never in another: a user's mutex in domain/session, bound.mu, Server.mu. Nothing
// outside the package is called under bound.mu or Server.mu.
//
// # Queues and their overflow policies
//
// Stanzas for a client (Config.QueueStanzas, QueueBytes): the connection is cut. A session with stream management
// hibernates with its queue. Any other session gets <resource-constraint/> and ends. What was not delivered is given to
// the Returner, and never dropped.
//
// Stanzas of a client in flight (Config.MaxInFlight), input beyond its rate, and answers that it does not read: the
// client is not read from, so that TCP makes it wait.
//
// # What it never does
//
// It never forwards received bytes unparsed, never answers for an address other than the client's own, and never
// acknowledges a message before its envelope is stored. It keeps no state that survives the process: after a restart no
// stream can be resumed, and clients fetch what they missed from the archive.
package c2s
