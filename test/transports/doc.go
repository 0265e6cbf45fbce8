// Package transports tests whole nodes over all transports at once: the compact stream (package client), XML (a client
// of another project), and the HTTP API. A message that is sent over one of them has the same id, number and order on
// the others, also when connections break meanwhile.
package transports
