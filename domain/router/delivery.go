package router

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// delivery queues what is to be done after messages were stored, and does it. Work is queued by key, which stands for
// an account of this domain or for a foreign address. A worker takes a key, not a job: what concerns one key is done in
// the order in which it was pushed, by one worker at a time, and no key waits for another one.
//
// Bounds: jobs and bytes for each key, and bytes in all. Overflow policy: who is about to hand a message to the archive
// reserves a slot for each of its jobs, and waits for it. A push comes after the commit and fills a slot that was
// reserved, so it neither blocks nor drops.
//
// Of keys for which nothing is reserved only a thousand stay in memory. Workers that have nothing to do wait for work;
// there are normal of them at most. More are started when some are stuck in a job, and those end when they have nothing
// to do.
type delivery struct {
	// Fixed.
	bounds deliveryBounds
	do     func(ctx context.Context, j *job) // does one job; it does not panic
	normal int                               // workers that are not stuck
	waits  prometheus.Observer
	ctx    context.Context // of all jobs; ends when close stops waiting for them
	cancel context.CancelFunc

	bytes   atomic.Int64 // of all slots that are taken
	awaited atomic.Bool  // room is not nil
	shards  [deliveryShards]deliveryShard

	mu      sync.Mutex // guards the rest; taken after a shard's, never before
	wake    sync.Cond  // on mu: there is something for a worker that waits
	ready   readyList
	workers map[*worker]struct{}
	running int // workers that neither wait nor are stuck
	waiting int // workers that wait and were not woken
	ticking bool
	tick    *time.Timer
	samples uint32
	closed  bool
	room    chan struct{} // closed when bytes came down; nil when nobody waits
	ended   chan struct{} // closed when there is no worker any more; nil when nobody waits
}

// deliveryBounds are the bounds of delivery.
type deliveryBounds struct {
	jobs, bytes int   // of one key
	total       int64 // bytes of all keys
}

const (
	deliveryShards = 64
	// spread is how many keys may be ready for each worker before another one is woken: that costs more than a few jobs
	// do.
	spread = 16
	// stuckAfter is how long a worker may be at one job before another worker takes its place.
	stuckAfter = 5 * time.Millisecond
	// stuckWorkers is how many workers may be stuck at once. Beyond it keys wait.
	stuckWorkers = 1024
	// patience is how long a sender waits for slots. It is what bounds how long somebody is not read from whose
	// message goes where nothing gets on.
	patience = 10 * time.Second
	// slotCost is what a slot costs beside the message.
	slotCost = 256
	// keepQueues is how many queues of a shard stay in memory when they are empty.
	keepQueues = 16
	// keepJobs is the longest list of jobs whose memory is used again.
	keepJobs = 64
	// sampleEvery is how many keys become ready for each of which the wait is measured.
	sampleEvery = 32
)

// part says which job of an envelope it is.
type part uint8

const (
	// forRecipient: it goes to whom it is addressed.
	forRecipient part = iota
	// forAuthor: the author's other devices get a copy.
	forAuthor
	// bounced: the author is told that it was refused.
	bounced
)

// job is one piece of work for a key.
type job struct {
	envelope *Envelope
	part     part
	bytes    int32 // of its slot
}

// keyQueue is the queue of one key.
type keyQueue struct {
	key   uint64
	shard *deliveryShard

	// Guarded by shard.mu.
	jobs  []job         // pushed and not taken by a worker
	slots int           // reserved, until their jobs are done
	bytes int           // of the slots
	busy  bool          // it is in ready, or a worker has it
	room  chan struct{} // closed when a slot is given back; nil when nobody waits

	since time.Time // when it became ready; zero when that is not measured. Handed over with the key.
}

// deliveryShard is a part of the table of queues.
type deliveryShard struct {
	mu     sync.Mutex // guards the rest and what is in the queues
	queues map[uint64]*keyQueue
}

// worker is a goroutine that does jobs.
type worker struct {
	begun atomic.Uint64 // jobs that it has begun
	jobs  []job         // memory for the next queue's; its own

	// Guarded by delivery.mu.
	seen  uint64 // begun at the last tick
	waits bool   // it waits for work, or was woken and has not looked yet
	stuck bool   // it does not count as running
}

func newDelivery(b deliveryBounds, waits prometheus.Observer, do func(context.Context, *job)) *delivery {
	d := &delivery{
		bounds: b, waits: waits, do: do, normal: max(4, 2*runtime.GOMAXPROCS(0)), workers: map[*worker]struct{}{},
	}
	d.wake.L = &d.mu
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// shardOf returns which shard a key belongs to.
func shardOf(key uint64) int { return int(key * 0x9E3779B97F4A7C15 >> (64 - 6)) }

// reserve takes a slot of so many bytes at each of two keys, or one slot when they are the same, and waits until
// there is room for both at once: who waits holds nothing. ok is false when there was none for as long as patience, or
// ctx or the delivery ended first.
func (d *delivery) reserve(ctx context.Context, a, b uint64, bytes int) (qa, qb *keyQueue, ok bool) {
	qa, qb, room := d.try(a, b, bytes)
	if room == nil {
		return qa, qb, true
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		select {
		case <-room:
		case <-ctx.Done():
			return nil, nil, false
		case <-d.ctx.Done():
			return nil, nil, false
		}
		if qa, qb, room = d.try(a, b, bytes); room == nil {
			return qa, qb, true
		}
	}
}

// try takes both slots or none. In the second case room is closed when it is worth while to try again.
func (d *delivery) try(a, b uint64, bytes int) (qa, qb *keyQueue, room <-chan struct{}) {
	first, second := min(shardOf(a), shardOf(b)), max(shardOf(a), shardOf(b))
	d.shards[first].mu.Lock()
	defer d.shards[first].mu.Unlock()
	if first != second {
		d.shards[second].mu.Lock()
		defer d.shards[second].mu.Unlock()
	}
	qa = d.shards[shardOf(a)].queue(a)
	all := int64(bytes)
	if qb = qa; a != b {
		qb = d.shards[shardOf(b)].queue(b)
		all *= 2
	}
	switch {
	case qa.full(&d.bounds, bytes):
		room = qa.awaitRoom()
	case qb.full(&d.bounds, bytes):
		room = qb.awaitRoom()
	default:
		room = d.add(all)
	}
	if room != nil {
		qa.forget()
		qb.forget()
		return nil, nil, room
	}
	qa.take(bytes)
	if qb != qa {
		qb.take(bytes)
	}
	return qa, qb, nil
}

// add counts bytes that are reserved, unless that were too many; then it returns what is closed when there are fewer.
// What is larger than the bound goes when nothing else is there.
func (d *delivery) add(bytes int64) (room <-chan struct{}) {
	for {
		have := d.bytes.Load()
		if have > 0 && have+bytes > d.bounds.total {
			break
		}
		if d.bytes.CompareAndSwap(have, have+bytes) {
			return nil
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.awaited.Store(true) // before the look at bytes: who takes some away looks here afterwards
	if d.room == nil {
		d.room = make(chan struct{})
	}
	room = d.room
	if have := d.bytes.Load(); have == 0 || have+bytes <= d.bounds.total {
		d.freed()
	}
	return room
}

// sub counts bytes that are not reserved any more.
func (d *delivery) sub(bytes int64) {
	d.bytes.Add(-bytes)
	if d.awaited.Load() {
		d.mu.Lock()
		d.freed()
		d.mu.Unlock()
	}
}

// freed wakes those who wait for bytes to come down. d.mu is held.
func (d *delivery) freed() {
	if d.room != nil {
		close(d.room)
		d.room = nil
	}
	d.awaited.Store(false)
}

// push queues a job in a slot that was reserved for it at q. It neither blocks nor fails.
func (d *delivery) push(q *keyQueue, j job) {
	q.shard.mu.Lock()
	q.jobs = append(q.jobs, j)
	first := !q.busy
	q.busy = true
	q.shard.mu.Unlock()
	if first {
		d.mu.Lock()
		d.enqueue(q)
		d.mu.Unlock()
	}
}

// release gives back a slot that was reserved at q and is not needed.
func (d *delivery) release(q *keyQueue, bytes int32) {
	q.shard.mu.Lock()
	q.free(1, int(bytes))
	q.forget()
	q.shard.mu.Unlock()
	d.sub(int64(bytes))
}

// enqueue makes a key ready, and has a worker look after it. d.mu is held.
func (d *delivery) enqueue(q *keyQueue) {
	d.ready.push(q)
	q.since = time.Time{}
	if d.samples++; d.samples%sampleEvery == 0 {
		q.since = time.Now()
	}
	if d.running == 0 || d.ready.len() > spread*d.running && d.running < d.normal {
		d.start()
	}
}

// start wakes a worker that waits, or makes one. d.mu is held.
func (d *delivery) start() {
	switch {
	case d.waiting > 0:
		d.waiting--
		d.wake.Signal()
	case len(d.workers) < d.normal+stuckWorkers:
		w := &worker{seen: math.MaxUint64}
		d.workers[w] = struct{}{}
		go d.work(w) // ends with close, or when there are enough others
	default:
		return // the keys wait until somebody gets on
	}
	d.running++
	if !d.ticking {
		d.ticking = true
		if d.tick == nil {
			d.tick = time.AfterFunc(stuckAfter, d.look)
		} else {
			d.tick.Reset(stuckAfter)
		}
	}
}

// work is a worker.
func (d *delivery) work(w *worker) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.leave(w)
	for {
		if w.stuck { // it gets on
			w.stuck = false
			d.running++
		}
		switch {
		case d.ready.len() > 0 && d.running <= d.normal:
			q := d.ready.pop()
			d.mu.Unlock()
			again := d.serve(w, q)
			d.mu.Lock()
			if again {
				d.enqueue(q)
			}
		case d.closed || d.running+d.waiting > d.normal:
			return
		default:
			d.running--
			d.waiting++
			w.waits = true
			d.wake.Wait()
			w.waits = false
		}
	}
}

// leave takes a worker out of the table. d.mu is held.
func (d *delivery) leave(w *worker) {
	d.running--
	delete(d.workers, w)
	if d.ended != nil && len(d.workers) == 0 {
		close(d.ended)
		d.ended = nil
	}
}

// serve does all jobs that wait at q, and reports whether more have come meanwhile.
func (d *delivery) serve(w *worker, q *keyQueue) (again bool) {
	if !q.since.IsZero() {
		d.waits.Observe(time.Since(q.since).Seconds())
	}
	s := q.shard
	s.mu.Lock()
	jobs := q.jobs
	q.jobs, w.jobs = w.jobs, nil
	s.mu.Unlock()
	inject(jobs) // nothing, except in a build that injects a fault for tests to find
	bytes := 0
	for i := range jobs {
		w.begun.Add(1)
		bytes += int(jobs[i].bytes)
		d.do(d.ctx, &jobs[i])
	}
	n := len(jobs)
	clear(jobs)
	if cap(jobs) <= keepJobs {
		w.jobs = jobs[:0]
	}
	s.mu.Lock()
	q.free(n, bytes)
	again = len(q.jobs) > 0
	q.busy = again
	q.forget()
	s.mu.Unlock()
	d.sub(int64(bytes))
	return again
}

// look sees whether workers are stuck, and puts others in their place.
func (d *delivery) look() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for w := range d.workers {
		begun := w.begun.Load()
		if !w.waits && !w.stuck && begun == w.seen {
			w.stuck = true
			d.running--
		}
		w.seen = begun
	}
	for n := d.ready.len(); n > 0 && d.running < d.normal && n > spread*d.running; n -= spread {
		d.start()
	}
	if d.ticking = d.running > 0 || d.ready.len() > 0; d.ticking && d.ctx.Err() == nil {
		d.tick.Reset(stuckAfter)
	}
}

// close waits until everything that was pushed is done, or ctx ends, which ends the context of the jobs, and ends the
// workers. Nothing may be pushed any more; slots that were reserved for nothing do not matter. A worker that does not
// come back from a job is left behind.
func (d *delivery) close(ctx context.Context) (err error) {
	defer d.cancel()
	ended := make(chan struct{})
	d.mu.Lock()
	d.closed = true
	d.running, d.waiting = d.running+d.waiting, 0
	d.wake.Broadcast()
	if d.ended = ended; len(d.workers) == 0 {
		close(ended)
	}
	d.mu.Unlock()
	select {
	case <-ended:
	case <-ctx.Done():
		err = fmt.Errorf("deliver what was stored: %w", ctx.Err())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tick != nil {
		d.tick.Stop()
	}
	return err
}

// depth returns how many slots are taken. It looks through all keys.
func (d *delivery) depth() (slots int) {
	for i := range d.shards {
		s := &d.shards[i]
		s.mu.Lock()
		for _, q := range s.queues {
			slots += q.slots
		}
		s.mu.Unlock()
	}
	return slots
}

// queue returns the queue of a key, which is made when there is none. s.mu is held.
func (s *deliveryShard) queue(key uint64) *keyQueue {
	if q := s.queues[key]; q != nil {
		return q
	}
	if s.queues == nil {
		s.queues = map[uint64]*keyQueue{}
	}
	q := &keyQueue{shard: s}
	q.key = key
	s.queues[key] = q
	return q
}

// full reports whether there is no room for so many bytes. One message always has room. shard.mu is held.
func (q *keyQueue) full(b *deliveryBounds, bytes int) bool {
	return q.slots > 0 && (q.slots >= b.jobs || q.bytes+bytes > b.bytes)
}

// take takes a slot. shard.mu is held.
func (q *keyQueue) take(bytes int) {
	q.slots++
	q.bytes += bytes
}

// awaitRoom returns what is closed when a slot is given back. shard.mu is held.
func (q *keyQueue) awaitRoom() <-chan struct{} {
	if q.room == nil {
		q.room = make(chan struct{})
	}
	return q.room
}

// free gives slots back. shard.mu is held.
func (q *keyQueue) free(slots, bytes int) {
	q.slots -= slots
	q.bytes -= bytes
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}

// forget takes the queue out of the table when nothing is reserved there, but for a few: the next message is often for
// the same account. shard.mu is held.
func (q *keyQueue) forget() {
	s := q.shard
	if q.slots == 0 && !q.busy && len(s.queues) > keepQueues && s.queues[q.key] == q {
		delete(s.queues, q.key)
	}
}

// readyList is the keys that no worker has taken, in order.
type readyList struct {
	queues []*keyQueue
	head   int
}

func (l *readyList) len() int { return len(l.queues) - l.head }

func (l *readyList) push(q *keyQueue) {
	if l.head > 0 && len(l.queues) == cap(l.queues) && l.head >= len(l.queues)/2 {
		n := copy(l.queues, l.queues[l.head:])
		clear(l.queues[n:])
		l.queues, l.head = l.queues[:n], 0
	}
	l.queues = append(l.queues, q)
}

func (l *readyList) pop() (q *keyQueue) {
	q, l.queues[l.head] = l.queues[l.head], nil
	l.head++
	if l.head == len(l.queues) {
		l.queues, l.head = l.queues[:0], 0
	}
	return q
}
