package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type messageResult struct {
	Pairs     int         `json:"pairs"`
	Offered   float64     `json:"offered_per_second,omitempty"`
	Sent      int64       `json:"sent"`
	Acked     int64       `json:"acknowledged"`
	Received  int64       `json:"received"`
	PerSecond float64     `json:"per_second"`
	CPU       float64     `json:"server_cpu_us_per_message"`
	Seconds   float64     `json:"seconds"`
	Delivery  percentiles `json:"delivery"`
	Ack       percentiles `json:"acknowledgement"`
	Missing   int64       `json:"missing_after_drain"`
	Disorder  int64       `json:"out_of_order"`
	Wire      wireBytes   `json:"wire_bytes_per_message"`
}

// wireBytes are what a message takes on each of the two connections, acknowledgements included, without what TLS adds.
type wireBytes struct {
	SenderToServer   float64 `json:"sender_to_server"`
	ServerToSender   float64 `json:"server_to_sender"`
	ServerToReceiver float64 `json:"server_to_receiver"`
	ReceiverToServer float64 `json:"receiver_to_server"`
	Total            float64 `json:"total"`
}

// flow is the state of one message run, shared by all its pairs.
type flow struct {
	o                    *options
	begin                time.Time
	measuring            atomic.Bool
	stop                 chan struct{} // closed when sending ends
	sent, acked          atomic.Int64
	disorder             atomic.Int64
	recvMeasured         atomic.Int64
	delivery, ack        histogram
	failed               atomic.Pointer[string]
	readers, senders     sync.WaitGroup
	padding              string
	clients              []connection
	sentTotal, recvTotal atomic.Int64
}

// pair is one sender and its receiver.
type pair struct {
	f        *flow
	index    int
	from, to connection

	mu       sync.Mutex // guards the fields below
	changed  *sync.Cond // acked moved, or the run failed
	sent     uint32
	acked    uint32
	sentAt   []time.Duration // ring by number: when message n was due
	lastSeen int64           // last number that the receiver saw; touched by the receiver's reader only
	ended    bool
}

// ringSize bounds how many unacknowledged messages a sender's ring of times can tell apart.
const ringSize = 1 << 12

func runMessage(ctx context.Context, o *options) (any, error) {
	if err := o.prepare(ctx, 2*o.pairs); err != nil {
		return nil, err
	}
	f := &flow{o: o, stop: make(chan struct{}), clients: make([]connection, 2*o.pairs),
		padding: strings.Repeat("x", o.size)}
	defer func() {
		for _, c := range f.clients {
			if c != nil {
				c.close()
			}
		}
		f.readers.Wait()
	}()
	keys := newKeys()
	err := o.each(ctx, "connecting", 2*o.pairs, func(ctx context.Context, i int) error {
		c, err := dial(ctx, o, o.user(i))
		if err != nil {
			return err
		}
		f.clients[i] = c
		if err := c.login(ctx, keys); err != nil {
			return err
		}
		if err := c.presence(); err != nil {
			return err
		}
		if i%2 == 0 && o.ack || i%2 == 1 && o.receiverSM {
			return c.manage()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	f.begin = time.Now()
	pairs := make([]*pair, o.pairs)
	for i := range pairs {
		p := &pair{f: f, index: i, from: f.clients[2*i], to: f.clients[2*i+1], sentAt: make([]time.Duration, ringSize)}
		p.changed = sync.NewCond(&p.mu)
		pairs[i] = p
		f.readers.Add(2)
		go p.from.drain(&f.readers, p.heard)
		go p.to.drain(&f.readers, p.receiver())
	}
	for i, p := range pairs {
		f.senders.Go(func() { p.send(i) })
	}
	return f.measure(ctx, pairs)
}

// measure lets the run warm up, takes the figures, and waits for what is still under way.
func (f *flow) measure(ctx context.Context, pairs []*pair) (any, error) {
	stopTick := f.o.tick(func() {
		f.o.progressf("messages: %d sent, %d received", f.sentTotal.Load(), f.recvTotal.Load())
	})
	defer stopTick()
	end := func() {
		close(f.stop)
		for _, p := range pairs {
			p.mu.Lock()
			p.ended = true
			p.changed.Broadcast()
			p.mu.Unlock()
		}
		f.senders.Wait()
	}
	if err := f.sleep(ctx, f.o.warmup); err != nil {
		end()
		return nil, err
	}
	before, err := f.o.serverUsage()
	if err != nil {
		end()
		return nil, err
	}
	traffic := f.wire()
	f.measuring.Store(true)
	begin := time.Now()
	err = f.sleep(ctx, f.o.duration)
	f.measuring.Store(false)
	seconds := time.Since(begin).Seconds()
	after, usageErr := f.o.serverUsage()
	traffic = f.wire().since(traffic, f.recvMeasured.Load())
	end()
	if err := errors.Join(err, usageErr); err != nil {
		return nil, err
	}
	f.drain(ctx)
	r := messageResult{
		Pairs: f.o.pairs, Offered: f.o.rate, Sent: f.sent.Load(), Acked: f.acked.Load(),
		Received:  f.recvMeasured.Load(),
		PerSecond: float64(f.recvMeasured.Load()) / seconds, Seconds: seconds,
		CPU:      (after.cpu - before.cpu).Seconds() * 1e6 / float64(max(1, f.recvMeasured.Load())),
		Delivery: f.delivery.percentiles(), Ack: f.ack.percentiles(),
		Missing: f.sentTotal.Load() - f.recvTotal.Load(), Disorder: f.disorder.Load(), Wire: traffic,
	}
	if s := f.failed.Load(); s != nil {
		return nil, errors.New(*s)
	}
	return r, nil
}

// wire sums what has gone over all connections so far.
func (f *flow) wire() (w wireBytes) {
	for i, c := range f.clients {
		in, out := c.wire()
		if i%2 == 0 {
			w.SenderToServer += float64(out)
			w.ServerToSender += float64(in)
		} else {
			w.ReceiverToServer += float64(out)
			w.ServerToReceiver += float64(in)
		}
	}
	return w
}

// since returns what w is more than before, for each of n messages.
func (w wireBytes) since(before wireBytes, n int64) wireBytes {
	each := float64(max(1, n))
	out := wireBytes{
		SenderToServer:   (w.SenderToServer - before.SenderToServer) / each,
		ServerToSender:   (w.ServerToSender - before.ServerToSender) / each,
		ServerToReceiver: (w.ServerToReceiver - before.ServerToReceiver) / each,
		ReceiverToServer: (w.ReceiverToServer - before.ReceiverToServer) / each,
	}
	out.Total = out.SenderToServer + out.ServerToSender + out.ServerToReceiver + out.ReceiverToServer
	return out
}

// drain waits until everything sent was received, for ten seconds at most.
func (f *flow) drain(ctx context.Context) {
	limit := time.Now().Add(10 * time.Second)
	for f.recvTotal.Load() < f.sentTotal.Load() && time.Now().Before(limit) && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
}

func (f *flow) sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	if s := f.failed.Load(); s != nil {
		return errors.New(*s)
	}
	return nil
}

func (f *flow) fail(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	f.failed.CompareAndSwap(nil, &s)
}

// send writes messages until the run ends: as many as the window allows, or those that are due at the given rate.
// Each burst is one write, and ends with one request for acknowledgement.
func (p *pair) send(index int) {
	o := p.f.o
	var interval time.Duration
	due := time.Since(p.f.begin)
	if o.rate > 0 {
		interval = time.Duration(float64(o.pairs) / o.rate * float64(time.Second))
		due += interval * time.Duration(index) / time.Duration(o.pairs)
	}
	recipient := bareOf(p.to.address())
	var burst []byte
	for {
		n := p.room()
		if n == 0 {
			return
		}
		if interval > 0 {
			if !p.f.waitUntil(due) {
				return
			}
			n = min(n, max(1, 1+int((time.Since(p.f.begin)-due)/interval)))
		}
		burst = burst[:0]
		for range n {
			at := time.Since(p.f.begin)
			if interval > 0 {
				at, due = due, due+interval // latency counts from when it was due, so that waiting is not left out
			}
			burst = p.compose(burst, recipient, at)
		}
		if o.ack {
			burst = p.from.appendAsk(burst)
		}
		if err := p.from.writeBytes(burst); err != nil {
			p.f.fail("sending: %v", err)
			return
		}
	}
}

// room waits for space in the window and returns how much there is; 0 when the run is over.
func (p *pair) room() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	window := uint32(min(p.f.o.window, ringSize))
	for p.sent-p.acked >= window && !p.ended {
		p.changed.Wait()
	}
	if p.ended {
		return 0
	}
	return int(window - (p.sent - p.acked))
}

// compose appends one message whose body begins with its number and the time it was due.
func (p *pair) compose(b []byte, to string, at time.Duration) []byte {
	p.mu.Lock()
	p.sent++
	n := p.sent
	p.sentAt[n%ringSize] = at
	p.mu.Unlock()
	var num [64]byte
	head := strconv.AppendUint(num[:0], uint64(n), 10)
	digits := len(head)
	head = append(head, ' ')
	head = strconv.AppendInt(head, int64(at), 10)
	head = append(head, ' ')
	origin := ""
	if p.f.o.originID {
		origin = p.f.o.user(2*p.index) + "-" + strconv.FormatInt(p.f.begin.UnixNano(), 36) + "-" + string(head[:digits])
	}
	b = p.from.appendMessage(b, to, head[:digits], head, p.f.padding[:max(0, len(p.f.padding)-len(head))], origin)
	p.f.sentTotal.Add(1)
	if p.f.measuring.Load() {
		p.f.sent.Add(1)
	}
	return b
}

// heard handles what the sender's connection receives: acknowledgements and refusals.
func (p *pair) heard(s said) {
	switch s.kind {
	case saidEnd:
		p.f.fail("a sender's connection broke")
		p.mu.Lock()
		p.ended = true
		p.changed.Broadcast()
		p.mu.Unlock()
	case saidAck:
		p.ackTo(s.h)
	case saidAsk:
		p.from.writeBytes(p.from.appendAck(nil, 0))
	case saidRefusal:
		p.f.fail("a message was refused: %.300s", s.body)
	}
}

func (p *pair) ackTo(h uint32) {
	now := time.Since(p.f.begin)
	p.mu.Lock()
	for p.acked != h && p.acked != p.sent {
		p.acked++
		if p.f.measuring.Load() {
			p.f.ack.add(now - p.sentAt[p.acked%ringSize])
			p.f.acked.Add(1)
		}
	}
	p.changed.Broadcast()
	p.mu.Unlock()
}

// receiver returns the handler of the receiving connection. Without stream management on the sender,
// a message counts as acknowledged when it arrives.
func (p *pair) receiver() func(said) {
	handled := uint32(0)
	return func(s said) {
		switch s.kind {
		case saidEnd:
			p.f.fail("a receiver's connection broke")
		case saidMessage:
			handled++
			p.arrived(s.body)
		case saidStanza, saidRefusal:
			handled++
		case saidAsk:
			p.to.writeBytes(p.to.appendAck(nil, handled))
		}
	}
}

func (p *pair) arrived(body []byte) {
	now := time.Since(p.f.begin)
	number, rest, ok := bytes.Cut(body, []byte(" "))
	stamp, _, ok2 := bytes.Cut(rest, []byte(" "))
	n, err := strconv.ParseInt(string(number), 10, 64)
	at, err2 := strconv.ParseInt(string(stamp), 10, 64)
	if !ok || !ok2 || err != nil || err2 != nil {
		return // not one of this run's messages
	}
	if n != p.lastSeen+1 {
		p.f.disorder.Add(1)
	}
	p.lastSeen = n
	p.f.recvTotal.Add(1)
	if p.f.measuring.Load() {
		p.f.recvMeasured.Add(1)
		p.f.delivery.add(now - time.Duration(at))
	}
	if !p.f.o.ack {
		p.ackTo(uint32(n))
	}
}

// waitUntil sleeps until that time of the run; false when the run is over.
func (f *flow) waitUntil(at time.Duration) bool {
	d := at - time.Since(f.begin)
	if d <= 0 {
		select {
		case <-f.stop:
			return false
		default:
			return true
		}
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-f.stop:
		return false
	}
}

func bareOf(full string) string {
	bare, _, _ := strings.Cut(full, "/")
	return bare
}
