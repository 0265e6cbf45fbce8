// Package operations tests what an operator does to a running node, and what the node tells an operator: whole nodes,
// from outside.
package operations
