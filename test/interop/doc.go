// Package interop tests a whole node with XMPP clients of other projects: slixmpp over STARTTLS, profanity and
// go-sendxmpp over direct TLS, and xmpp.js over WebSocket; and with a client of the compact stream in TypeScript, which
// was written from docs/protocol/compact.md alone. The programs in test/clients receive their commands line by line.
package interop
