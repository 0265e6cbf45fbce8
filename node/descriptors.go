package node

import (
	"fmt"
	"log/slog"
	"syscall"
)

// wantedDescriptors is below what a node of ordinary size needs: each connection is one descriptor.
const wantedDescriptors = 16384

// checkDescriptors warns when the process may hold few file descriptors. Go has raised the soft limit to the hard one
// already.
func checkDescriptors(log *slog.Logger, health *Health) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		log.Warn("cannot tell how many file descriptors there may be", "error", err)
		return
	}
	if text := descriptorWarning(limit.Max); text != "" {
		log.Warn(text, "limit", limit.Max)
		health.Note("descriptors", text)
	}
}

func descriptorWarning(limit uint64) string {
	if limit >= wantedDescriptors {
		return ""
	}
	return fmt.Sprintf(
		"this process may hold %d file descriptors, and so fewer connections than that: set LimitNOFILE=1048576 in "+
			"the systemd unit, or ulimit -Hn %d before the start",
		limit, 1048576)
}
