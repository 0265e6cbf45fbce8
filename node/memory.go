package node

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How the node gives memory back.
const (
	// memoryInterval is how often allocation is looked at.
	memoryInterval = time.Second
	// quietBytes allocated in an interval still count as quiet.
	quietBytes = 1 << 20
	// worthBytes is how much must have been allocated since the last time to make it worth while.
	worthBytes = 8 << 20
	// shrinkings is how many collections follow each other: each lets a stack that is mostly empty shrink by half.
	shrinkings = 3
)

// giveBack returns memory to the system once a time of much work is over. The collector's own pace leaves as much
// garbage as there is live memory, and after a wave of logins the stacks of parked connections are as large as they
// once had to be. While there is work it stays out of the way; a quiet node with many idle sessions pays once and is
// then as small as its sessions are.
func giveBack(ctx context.Context) error {
	tick := time.NewTicker(memoryInterval)
	defer tick.Stop()
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	allocated := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	last, done, left := allocated(), uint64(0), 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := allocated()
		quiet := now-last < quietBytes
		last = now
		if !quiet {
			continue
		}
		if now-done > worthBytes {
			done, left = now, shrinkings
		}
		if left > 0 {
			left--
			debug.FreeOSMemory()
		}
	}
}
