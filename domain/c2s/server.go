package c2s

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/link"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Server serves client connections. Its methods may be called from any goroutine.
type Server struct {
	config  Config
	rates   rates
	metrics *metrics
	epoch   time.Time // what now counts from
	// background outlives a connection's context: for what must be done when a session has ended. It ends with Drain.
	background context.Context
	endAll     context.CancelFunc
	draining   atomic.Bool
	writers    *writerPool
	timed      atomic.Int64 // connections that the sweeper has to look after

	mu           sync.Mutex // guards the rest; nothing is locked or called under it
	changed      sync.Cond  // on mu: a connection, a sleeping session or a task has gone
	conns        connList
	tasks        int // short goroutines of spawn that run
	streams      map[streamID]*bound
	asleep       map[*bound]struct{} // hibernating
	watched      []*bound            // with unacknowledged stanzas; see bound.look
	endedStreams map[streamID]endedStream
	endedOrder   []streamID // the keys of endedStreams, a ring; oldest is the index of its oldest
	oldest       int
}

// New returns a server. Run must be running for idle, unacknowledged and hibernating sessions to be dealt with.
func New(c Config) (*Server, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	s := &Server{
		config: c, rates: newRates(&c), metrics: newMetrics(c.Metrics), epoch: time.Now(),
		streams: map[streamID]*bound{}, asleep: map[*bound]struct{}{}, endedStreams: map[streamID]endedStream{},
	}
	s.changed.L = &s.mu
	s.background, s.endAll = context.WithCancel(context.Background())
	s.writers = newWriterPool()
	context.AfterFunc(s.background, s.writers.end)
	return s, nil
}

// now is the monotonic time in nanoseconds since the server was made, never 0.
func (s *Server) now() int64 { return int64(time.Since(s.epoch)) + 1 }

// Run is the sweeper: once a second it asks clients for acknowledgements that are due, ends sessions that nobody has
// resumed and connections that are silent for longer than is configured or was agreed. It returns when ctx is done.
func (s *Server) Run(ctx context.Context) {
	tick := time.NewTicker(sweepTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.sweep()
		}
	}
}

func (s *Server) sweep() {
	now := s.now()
	s.mu.Lock()
	watched := s.watched
	s.watched = nil
	var sleeping []*bound
	for b := range s.asleep {
		sleeping = append(sleeping, b)
	}
	s.mu.Unlock()
	kept := watched[:0]
	for _, b := range watched {
		if b.look(now) {
			kept = append(kept, b)
		}
	}
	clear(watched[len(kept):])
	var over []*bound
	for _, b := range sleeping {
		if b.expired(now) {
			over = append(over, b)
		}
	}
	s.mu.Lock()
	s.watched = append(kept, s.watched...)
	s.mu.Unlock()
	if len(over) > 0 {
		s.spawn(func() { // one after the other, so that a fallen network is not a flood of presence
			for _, b := range over {
				b.end()
			}
		})
	}
	if s.timed.Load() > 0 {
		s.sweepSilent(now)
	}
}

// Serve runs one connection on the caller's goroutine until it has ended, and closes the link. ctx is given to
// everything that is called for the connection; when it is done, waiting for others ends, but a parked connection only
// ends by Drain or when the link is closed.
func (s *Server) Serve(ctx context.Context, l link.Conn) {
	var c *conn
	link.Deep(l, func() {
		if c = s.newConn(ctx, l); !s.enter(c) {
			c.refuseDraining()
			c = nil
		}
	})
	if c == nil {
		return
	}
	defer s.leave(c)
	c.run(ctx)
}

// Drain ends everything: new connections are refused, every client is told <system-shutdown/> over Config.DrainTime,
// hibernating sessions end, and what was not delivered is given back. It returns when all is over; when ctx is done
// before that, the remaining connections are cut, waited for and ctx's error returned.
func (s *Server) Drain(ctx context.Context) error {
	s.draining.Store(true)
	conns, sleeping := s.everyone()
	for _, b := range sleeping {
		b.shut(nil, endedByShutdown, true)
	}
	s.tellShutdown(ctx, conns)
	defer s.endAll()
	stop := context.AfterFunc(ctx, func() {
		s.endAll()
		conns, _ := s.everyone()
		for _, c := range conns {
			c.abort()
			if b := c.holds.Load(); b != nil {
				b.giveUp()
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.conns.len > 0 || len(s.asleep) > 0 || s.tasks > 0 {
		s.changed.Wait()
	}
	return ctx.Err()
}

// drainRate is how many connections a second are told at least, so that few do not take long.
const drainRate = 500

// tellShutdown tells all connections, spread over the drain time.
func (s *Server) tellShutdown(ctx context.Context, conns []*conn) {
	const step = 100 * time.Millisecond
	over := min(s.config.DrainTime, time.Duration(len(conns))*time.Second/drainRate)
	per := len(conns)
	if over > step {
		per = (len(conns)*int(step) + int(over) - 1) / int(over)
	}
	tick := time.NewTicker(step)
	defer tick.Stop()
	for i, c := range conns {
		if i > 0 && i%per == 0 {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
		c.kick(s.shutdownNotice(len(conns)), endedByShutdown)
	}
}

func (s *Server) everyone() (conns []*conn, sleeping []*bound) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns.all {
		conns = append(conns, c)
	}
	for b := range s.asleep {
		sleeping = append(sleeping, b)
	}
	return conns, sleeping
}

// Disconnect ends all sessions of an account but one, which may be nil, and returns how many there were.
func (s *Server) Disconnect(account uint64, but *session.Session, e *stream.Error) int {
	return s.disconnect(e, func(b *bound) bool { return b.session.Account() == account && b.session != but })
}

// DisconnectDevice ends the sessions of one device of an account, and returns how many there were.
func (s *Server) DisconnectDevice(account uint64, device string, e *stream.Error) int {
	return s.disconnect(e, func(b *bound) bool {
		return b.session.Account() == account &&
			b.session.Device() == device
	})
}

func (s *Server) disconnect(e *stream.Error, which func(b *bound) bool) (n int) {
	conns, found := s.everyone()
	for _, c := range conns {
		if b := c.holds.Load(); b != nil {
			found = append(found, b)
		}
	}
	for _, b := range found {
		if which(b) {
			b.shut(e, endedByAdmin, false)
			n++
		}
	}
	return n
}

// spawn runs something short on a goroutine that Drain waits for.
func (s *Server) spawn(f func()) {
	s.mu.Lock()
	s.tasks++
	s.mu.Unlock()
	go func() {
		defer func() {
			if p := recover(); p != nil {
				s.panicked("task", p)
			}
			s.mu.Lock()
			s.tasks--
			s.changed.Broadcast()
			s.mu.Unlock()
		}()
		f()
	}()
}

func (s *Server) enter(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return false
	}
	s.conns.add(c)
	s.metrics.open.Inc()
	return true
}

func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns.remove(c)
	if c.timed {
		s.timed.Add(-1)
	}
	s.metrics.open.Dec()
	s.changed.Broadcast()
}

// register makes a stream known to those who want to resume it.
func (s *Server) register(b *bound) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[b.sm.id] = b
}

// stream finds what a client wants to resume: its own session, or what is remembered of it. foreign: it is another
// account's.
func (s *Server) stream(id streamID, account uint64) (b *bound, past *endedStream, foreign bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b = s.streams[id]; b != nil {
		if b.session.Account() == account {
			return b, nil, false
		}
		return nil, nil, true
	}
	if t, ok := s.endedStreams[id]; ok && t.account == account {
		return nil, &t, false
	}
	return nil, nil, false
}

// retire forgets a session's stream, but for what it has handled, when that is known.
func (s *Server) retire(b *bound, handled uint32, exact bool) {
	if b.sm == nil || b.sm.max == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, b.sm.id)
	if !exact {
		return
	}
	if len(s.endedOrder) < maxEndedStreams {
		s.endedOrder = append(s.endedOrder, b.sm.id)
	} else {
		delete(s.endedStreams, s.endedOrder[s.oldest])
		s.endedOrder[s.oldest] = b.sm.id
		s.oldest = (s.oldest + 1) % maxEndedStreams
	}
	s.endedStreams[b.sm.id] = endedStream{account: b.session.Account(), handled: handled}
}

// watch has the sweeper look after a session with unacknowledged stanzas.
func (s *Server) watch(b *bound) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watched = append(s.watched, b)
}

// sleep keeps a hibernating session. It reports false when the server is being drained, and the session must end.
func (s *Server) sleep(b *bound) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() { // Drain sets it before it looks at who is asleep
		return false
	}
	s.asleep[b] = struct{}{}
	return true
}

// awake reports whether b was asleep.
func (s *Server) awake(b *bound) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, was := s.asleep[b]
	delete(s.asleep, b)
	s.changed.Broadcast()
	return was
}

func (s *Server) panicked(where string, v any) {
	buf := make([]byte, 8<<10)
	buf = buf[:runtime.Stack(buf, false)]
	if p, ok := v.(*link.PanicError); ok { // it happened on a stack that the link lent
		v, buf = p.Value, p.Stack
	}
	s.config.Log.Error("a panic ended a client's session", "where", where, "panic", fmt.Sprintf("%.200v", v), "stack",
		string(buf))
}

// connList is a doubly linked list of connections: it costs each of them two words.
type connList struct {
	first *conn
	len   int
}

func (l *connList) add(c *conn) {
	c.next, c.prev = l.first, nil
	if l.first != nil {
		l.first.prev = c
	}
	l.first = c
	l.len++
}

func (l *connList) remove(c *conn) {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		l.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.next, c.prev = nil, nil
	l.len--
}

// all is a range function; the list must not change meanwhile.
func (l *connList) all(yield func(*conn) bool) {
	for c := l.first; c != nil; c = c.next {
		if !yield(c) {
			return
		}
	}
}
