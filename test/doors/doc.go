// Package doors tests whole nodes through all their doors at once: the compact stream (by package client), XML (by a client that others wrote), and the
// HTTP API. What one says, the others must see with the same id, number and order, whatever breaks meanwhile.
package doors
