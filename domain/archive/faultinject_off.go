//go:build !faultinject_early_ack

package archive

import "context"

// acknowledgeEarly does nothing: messages go on when they are durable. See faultinject_on.go.
func (a *Archive) acknowledgeEarly(context.Context, []entry) bool { return false }
