//go:build faultinject_reorder

package router

import "slices"

// inject is a fault that is injected in builds with the tag faultinject_reorder: a worker does the jobs of a key in the
// wrong order.
func inject(jobs []job) { slices.Reverse(jobs) }
