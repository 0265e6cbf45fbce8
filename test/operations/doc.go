// Package operations tests the tasks of an operator on a running node, and what the node reports. It tests whole nodes
// from outside.
package operations
