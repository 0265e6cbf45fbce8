package router

import "runtime"

// stack returns the running goroutine's stack, cut to a size that a log line can carry.
func stack() string {
	buf := make([]byte, 8<<10)
	return string(buf[:runtime.Stack(buf, false)])
}
