package c2s

import (
	"runtime"
	"sync"
)

// writerPool has few goroutines write to many clients, in the order in which the clients have got something to be
// written: what comes while a client waits for its turn is in the same write, and a stack that has grown to what
// writing needs is used again.
//
// A writer that has to wait for a client to read (MustWait) is not counted as long as it does, and another one takes
// its place, so that no client waits for another to read.
//
// The sessions that wait are bounded by the number of sessions: each is there at most once (bound.flushing).
type writerPool struct {
	most int // writers at work

	mu      sync.Mutex // guards the rest; nothing is locked or called under it
	wake    sync.Cond
	ready   fifo[*bound]
	running int // writers at work, without those that wait for a client
	waiting int // writers that wait for something to do
	ended   bool
}

// spread is how many sessions may wait for each writer at work before there is another one: a write takes some 15 µs,
// and waking a writer as much.
const spread = 4

func newWriterPool() *writerPool {
	p := &writerPool{most: max(2, runtime.GOMAXPROCS(0))}
	p.wake.L = &p.mu
	return p
}

// work has a writer write for b. It never blocks.
func (p *writerPool) work(b *bound) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready.push(b)
	p.start()
}

// start has another writer work if there is enough to do for it. p.mu is held.
func (p *writerPool) start() {
	if n := p.ready.len(); n == 0 || p.running >= p.most || p.running > 0 && n <= spread*p.running {
		return
	}
	p.running++
	if p.waiting > 0 {
		p.waiting--
		p.wake.Signal()
		return
	}
	go p.run() // ends with end, or when there are enough others
}

// run is a writer.
func (p *writerPool) run() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.ready.len() > 0 && p.running <= p.most:
			b := *p.ready.at(0)
			p.ready.pop(1)
			p.mu.Unlock()
			again := b.writeTurns(p, maxTurns)
			p.mu.Lock()
			if again {
				p.ready.push(b)
			}
		case p.ended || p.running+p.waiting > p.most:
			p.running--
			return
		default:
			p.running--
			p.waiting++
			p.wake.Wait()
		}
	}
}

// block says that a writer is about to wait for a client, and unblock that it does so no more.
func (p *writerPool) block() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running--
	p.start()
}

func (p *writerPool) unblock() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running++
}

// end ends the writers that wait. What still comes is written by writers that end after it.
func (p *writerPool) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.running += p.waiting
	p.waiting = 0
	p.wake.Broadcast()
}
