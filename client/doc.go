// Package client is a client of a Posthouse server for apps, bots and tests. It uses the compact stream
// (docs/protocol/compact.md), which stays open and receives events as they happen, and the HTTP API (docs/api.md),
// which needs no open connection. Both work with the same accounts, conversations, ids and numbers.
//
// # The stream
//
// Dial returns a Client. It logs in, reconnects when the connection breaks, and resumes its stream exactly (XEP-0198).
// Send returns when the server has stored the message on disk, over however many connections; the message is stored
// once. Messages are passed to Config.Message in the order of each conversation and without gaps: the server numbers
// them 1, 2, 3, …, and the client fetches missing ones.
//
// # Who owns what
//
// A Client has three goroutines. One owns the connection, logs in and reads. One writes, for as long as a connection
// lasts. One calls the handlers, in order. All of them end with Close. Three bounded queues connect them with the
// caller:
//
//   - What waits to be written or confirmed (Config.Outbox). When it is full, Send and the other sending methods wait
//     for room, or for the end of their context.
//   - What waits for the handlers (Config.Inbox). When it is full, a message is dropped and fetched again later by its
//     number; presence and transient signals are lost, and counted in Stats. So a handler may wait for Send or Request,
//     and the connection is always read.
//   - Answers to requests: a buffer of one for each request.
//
// A Conn is the layer below: one compact stream on one connection. It is for programs that count bytes, such as the
// load generator.
//
// The package keeps nothing on disk. The app stores its position (Client.Cursor) and its token (Config.Keep).
package client
