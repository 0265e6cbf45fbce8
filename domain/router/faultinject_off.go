//go:build !faultinject_reorder

package router

// inject does nothing: jobs are done in the order in which they were pushed. See faultinject_reorder.go.
func inject([]job) {}
