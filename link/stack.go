package link

import (
	"fmt"
	"iter"
	"runtime/debug"
	"sync/atomic"
)

// idleStacks bounds the coroutines that a pool keeps while they have nothing to do. More run at the same time when
// more connections are being worked on; those above the bound end when they are done.
const idleStacks = 32

// stacks lends coroutines. A goroutine's stack grows with the deepest call and is hardly ever given back while the
// goroutine lives (the collector only halves a stack of which less than a quarter is in use, and counts about 800 bytes
// of reserve as used), so a connection that has once parsed a stanza would keep 4 KiB for ever instead of 2. Switching
// to a coroutine costs some 65 ns, a fifth of a channel hand-over, since the scheduler is not asked.
//
// Borrowing must itself not need much stack, so it neither allocates nor waits for a mutex, and coroutines are made
// elsewhere. close ends the coroutines that are idle; those at work end when they are given back.
type stacks struct {
	last   atomic.Pointer[stack] // the one given back last: its memory is in the cache
	idle   chan *stack           // more of them
	closed atomic.Bool
}

func newStacks() *stacks { return &stacks{idle: make(chan *stack, idleStacks)} }

// worker is what a coroutine can be lent to.
type worker interface{ process() }

// task makes a worker of a function.
type task func()

func (t task) process() { t() }

// stack is one coroutine. It is owned by the goroutine in run between get and put.
type stack struct {
	next   func() (struct{}, bool)
	stop   func()
	work   worker
	failed *PanicError
}

// PanicError is what Receive panics with when use has panicked: it carries the stack on which that happened, which the
// panic's own traceback cannot show.
type PanicError struct {
	Value any    // what use panicked with
	Stack []byte // traceback of the place
}

// Error returns the value and the traceback.
func (e *PanicError) Error() string { return fmt.Sprintf("%v\n\n%s", e.Value, e.Stack) }

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// run calls w.process on a borrowed stack and waits for it. Without a pool (nil) it calls it right here.
func (s *stacks) run(w worker) {
	if s == nil {
		w.process()
		return
	}
	k := s.get()
	k.work = w
	// When the work ends its goroutine (as testing.T.FailNow does), next ends this one as well and the coroutine, which
	// is over, is not put back.
	k.next()
	k.work = nil
	p := k.failed
	k.failed = nil
	s.put(k)
	if p != nil {
		panic(p)
	}
}

// Deep calls f on a borrowed stack where l has any to lend. It is for what a handler does before it first waits and
// after it has waited for the last time: done on the connection's own goroutine, it would leave a stack of 4 KiB under
// every idle connection.
func Deep(l Conn, f func()) {
	if c, ok := l.(*conn); ok {
		c.owner.pools.stacks.run(task(f))
		return
	}
	f()
}

func (s *stacks) get() *stack {
	if k := s.last.Swap(nil); k != nil {
		return k
	}
	select {
	case k := <-s.idle:
		return k
	default:
	}
	made := make(chan *stack)
	go s.grow(made)
	return <-made
}

// grow makes a coroutine. It runs on a goroutine that ends with it.
func (s *stacks) grow(made chan<- *stack) {
	k := new(stack)
	k.next, k.stop = iter.Pull(k.loop)
	made <- k
}

func (s *stacks) put(k *stack) {
	switch {
	case s.closed.Load():
		k.stop()
		return
	case s.last.CompareAndSwap(nil, k):
	default:
		select {
		case s.idle <- k:
		default:
			k.stop()
			return
		}
	}
	if s.closed.Load() {
		s.close() // it may have looked before k was there
	}
}

// close ends what is idle; what is given back later ends then.
func (s *stacks) close() {
	s.closed.Store(true)
	if k := s.last.Swap(nil); k != nil {
		k.stop()
	}
	for {
		select {
		case k := <-s.idle:
			k.stop()
		default:
			return
		}
	}
}

// loop is the coroutine: one piece of work for each call of next, until stop.
func (k *stack) loop(yield func(struct{}) bool) {
	for {
		k.call()
		if !yield(struct{}{}) {
			return
		}
	}
}

func (k *stack) call() {
	defer func() {
		if v := recover(); v != nil {
			k.failed = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	k.work.process()
}
