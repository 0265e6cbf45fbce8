package auth

import (
	"context"
	"sync"
)

// HoldHashing takes every slot at which keys are derived, until release is closed.
func HoldHashing(a *Authenticator, slots int, release <-chan struct{}) *sync.WaitGroup {
	var held sync.WaitGroup
	for range slots {
		if err := a.hashing.Enter(context.Background()); err != nil {
			panic(err)
		}
		held.Go(func() {
			<-release
			a.hashing.Leave()
		})
	}
	return &held
}

// FailureEntries returns how many addresses and addresses with names the throttle holds.
func FailureEntries(a *Authenticator) (n int) {
	for i := range a.failures.shards {
		s := &a.failures.shards[i]
		s.mu.Lock()
		n += len(s.entries)
		s.mu.Unlock()
	}
	return n
}

// DirectorySizes returns how many names, unknown names and records a directory holds.
func DirectorySizes(d *Directory) (known, unknown, records int) {
	return d.known.Size(), d.unknown.Size(), d.records.Size()
}

// ConnectionHosts returns how many addresses a throttle of connections holds.
func ConnectionHosts(c *Connections) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.hosts)
}
