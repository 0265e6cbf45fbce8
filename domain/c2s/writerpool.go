package c2s

import (
	"runtime"
	"sync/atomic"
)

// crew is the goroutines that write. One that has nothing more to do waits for the next client instead of ending, because its
// stack has grown to what writing needs: growing it anew for each write was a twentieth of all that the server did.
type crew struct {
	jobs chan *bound // unbuffered: who is given something is there to take it
	idle atomic.Int32
	most int32 // how many may wait
	done <-chan struct{}
}

func newCrew(done <-chan struct{}) *crew {
	return &crew{jobs: make(chan *bound), most: int32(8 * runtime.GOMAXPROCS(0)), done: done}
}

// work has somebody write for b. It never blocks.
func (c *crew) work(b *bound) {
	select {
	case c.jobs <- b:
	default:
		go c.run(b) // ends when enough others wait, or with the server
	}
}

func (c *crew) run(b *bound) {
	for b != nil {
		b.flush()
		b = c.next()
	}
}

// next waits for somebody to write for. nil means that it is over.
func (c *crew) next() *bound {
	defer c.idle.Add(-1)
	if c.idle.Add(1) > c.most {
		return nil
	}
	select {
	case b := <-c.jobs:
		return b
	case <-c.done:
		return nil
	}
}
