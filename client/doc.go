// Package client talks to a Posthouse server for apps, bots and tests: over the compact stream (docs/protocol/compact.md), which is kept open and tells what
// happens as it happens, and over the HTTP API (docs/api.md), which needs no connection. Both speak of the same accounts, conversations,
// ids and numbers.
//
// # The stream
//
// Dial returns a Client, which logs in, comes back when the connection breaks, and resumes its stream exactly (XEP-0198). Send returns when the server has the
// message on disk, however many connections that took; it never makes two of one. Messages are handed to Config.Message in the order of each
// conversation, without holes: the server numbers them 1, 2, 3, … and what is missing is fetched.
//
// # Who owns what
//
// A Client has one goroutine that owns the connection, logs in and reads; one that writes, for as long as a connection lasts; and one that calls the handlers, in order. All end with
// Close. Three queues lie between them and the caller, all bounded:
//
//   - what waits to be written or confirmed (Config.Outbox): Send and its siblings wait for room, or for the end of their context;
//   - what waits for the handlers (Config.Inbox): a message that finds it full is dropped and fetched again later, by its number; presence and transient
//     signals that find it full are lost, and counted in Stats. So a handler may wait for Send or Request, and nothing ever stops the
//     connection from being read;
//   - answers to requests: a buffer of one for each.
//
// A Conn is what lies below: one compact stream on one connection, for those that count bytes, such as the load generator.
//
// The package keeps nothing on disk: where an app had got to (Client.Cursor) and its token (Config.Keep) are given to the app to keep.
package client
