package link

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/limit"
)

// owner is what the connections of one listener share, and the list of those that have a handler.
type owner struct {
	// Fixed after construction.
	pools            *pools
	outgoing         sync.Pool // of *outgoing
	gate             *limit.Gate
	metrics          *metrics
	log              *slog.Logger
	writeTimeout     time.Duration
	handshakeTimeout time.Duration
	prepare          func(c *conn) bool // what comes before the handler; false: the connection is refused. nil: nothing
	handler          func(Conn)         // set before the first connection
	protocol         string             // of connections that agree on none; set before the first connection

	mu       sync.Mutex    // guards the fields below and prev and next of the connections in the list
	first    *conn         // head of the list
	count    int           // handlers running
	stopping bool          // no more handlers are started
	drained  chan struct{} // made when stopping; closed when the last handler has returned
}

func newOwner(m *metrics, c Config) *owner {
	defaults.Fill(&c)
	o := &owner{
		pools: newPools(true), gate: c.Gate, metrics: m, log: c.Log, writeTimeout: c.WriteTimeout,
		handshakeTimeout: c.HandshakeTimeout,
	}
	o.outgoing.New = func() any { return new(outgoing) }
	if o.gate == nil {
		o.gate = NewGate()
	}
	return o
}

// adopt lists c, whose handler is about to run. It reports false, without listing it, when the owner is stopping.
func (o *owner) adopt(c *conn) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopping {
		return false
	}
	c.served = true
	o.count++
	if c.next = o.first; c.next != nil {
		c.next.prev = c
	}
	o.first = c
	return true
}

func (o *owner) dismiss(c *conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		o.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
	if o.count--; o.count == 0 && o.stopping {
		close(o.drained)
	}
}

// serve runs the handler on c, which has been adopted, and ends c. A panic ends this one connection. Its frame, and
// those below, lie on the stack of every connection that is idle, and there is little room: some 1,100 bytes in all
// before the stack would double.
func (o *owner) serve(c *conn) {
	defer o.finish(c)
	if o.prepare == nil || o.prepare(c) {
		o.handler(c)
	}
}

// finish is deferred by serve.
func (o *owner) finish(c *conn) {
	if v := recover(); v != nil {
		o.panicked(c, v)
	}
	c.finish()
	o.dismiss(c)
}

func (o *owner) panicked(c *conn, v any) {
	o.metrics.panics.Inc()
	o.log.Error("connection handler panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	_ = c.Abort() // the panic is what matters
}

// stop lets no more handlers start.
func (o *owner) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopping {
		return
	}
	o.stopping = true
	o.drained = make(chan struct{})
	if o.count == 0 {
		close(o.drained)
	}
}

func (o *owner) isStopping() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stopping
}

// wait waits for the handlers. When ctx ends first it aborts the connections that are left, waits for their handlers to
// notice, and returns the cause.
func (o *owner) wait(ctx context.Context) error {
	o.stop()
	defer o.pools.close()
	select {
	case <-o.drained:
		return nil
	case <-ctx.Done():
	}
	o.abortAll()
	<-o.drained
	return context.Cause(ctx)
}

// abortAll aborts every connection.
func (o *owner) abortAll() {
	o.mu.Lock()
	all := make([]*conn, 0, o.count)
	for c := o.first; c != nil; c = c.next {
		all = append(all, c)
	}
	o.mu.Unlock()
	for _, c := range all {
		_ = c.Abort() // it may have ended by itself
	}
}
