//go:build !linux

package archive

import "context"

// newPause returns a pause for one run of the committer.
func newPause(ctx context.Context) pause { return newTimerPause(ctx) }
