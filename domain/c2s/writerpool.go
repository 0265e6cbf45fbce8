package c2s

import (
	"runtime"
	"sync/atomic"
)

// writerPool holds the goroutines that write to clients. One that has nothing more to do waits for the next client instead of ending, because its
// stack has grown to what writing needs: growing it anew for each write was a twentieth of all that the server did.
type writerPool struct {
	jobs chan *bound // unbuffered: who is given something is there to take it
	idle atomic.Int32
	most int32 // how many may wait
	done <-chan struct{}
}

func newWriterPool(done <-chan struct{}) *writerPool {
	return &writerPool{jobs: make(chan *bound), most: int32(8 * runtime.GOMAXPROCS(0)), done: done}
}

// work has a goroutine write for b. It never blocks.
func (c *writerPool) work(b *bound) {
	select {
	case c.jobs <- b:
	default:
		go c.run(b) // ends when enough others wait, or with the server
	}
}

func (c *writerPool) run(b *bound) {
	for b != nil {
		b.flush()
		b = c.next()
	}
}

// next waits for the next client to write to. nil means that the goroutine ends.
func (c *writerPool) next() *bound {
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
