package limit

import (
	"context"
	"sync"
	"time"
)

// Turns lets each of many keys, such as accounts, do so many expensive things at a time. Others of the same key wait
// for a moment. It holds nothing of a key that does nothing. Any goroutine may call it.
type Turns[K comparable] struct {
	inside, waiting int
	patience        time.Duration

	mu    sync.Mutex // guards what follows
	gates map[K]*turn
}

// turn is the gate of one key.
type turn struct {
	*Gate
	users int // inside or waiting; guarded by Turns.mu
}

// NewTurns returns one in which a key has so many at a time, and so many who wait for as long as patience.
func NewTurns[K comparable](inside, waiting int, patience time.Duration) *Turns[K] {
	return &Turns[K]{inside: inside, waiting: waiting, patience: patience, gates: map[K]*turn{}}
}

// Enter takes one of the key's turns, and waits for it. leave, when ok is true, must be called once.
func (t *Turns[K]) Enter(ctx context.Context, key K) (leave func(), ok bool) {
	t.mu.Lock()
	g := t.gates[key]
	if g == nil {
		g = &turn{Gate: NewGate(t.inside, t.waiting)}
		t.gates[key] = g
	}
	g.users++
	t.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, t.patience)
	defer cancel()
	if g.Enter(ctx) != nil {
		t.done(key, g)
		return nil, false
	}
	return func() {
		g.Leave()
		t.done(key, g)
	}, true
}

// done forgets a key that nobody uses.
func (t *Turns[K]) done(key K, g *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g.users--; g.users == 0 {
		delete(t.gates, key)
	}
}

// Keys returns how many keys are held.
func (t *Turns[K]) Keys() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.gates)
}
