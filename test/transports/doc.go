// Package transports tests whole nodes over all transports at once: the compact stream (by package client), XML (by a
// client that others wrote), and the HTTP API. A message that is sent over one of them has the same id, number and
// order on the others, also when connections break meanwhile.
package transports
