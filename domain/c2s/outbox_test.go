package c2s_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/c2s"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/link"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

var balcony = jidOf("juliet@localhost/balcony")

// counting is a link that counts its writes.
type counting struct {
	link.Conn
	writes atomic.Int64
	hold   sync.Mutex // held by a test that wants writes to take long
}

func (c *counting) Send(bufs [][]byte) error {
	c.writes.Add(1)
	c.hold.Lock()
	defer c.hold.Unlock()
	return c.Conn.Send(bufs)
}

// Many packets in a row go out in few writes, in order.
func TestWritesAreCoalesced(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		near, far := link.Pipe()
		l := &counting{Conn: near}
		e.serve(l)
		c := &client{t: t, conn: far}
		c.send(header)
		c.expect("</stream:features>")
		c.send("<auth xmlns='" + nsSASL + "' mechanism='PLAIN'>" + plain("juliet") + "</auth>")
		c.expect("<success")
		c.send(header)
		c.expect("</stream:features>")
		c.bind("balcony")
		synctest.Wait()
		before := l.writes.Load()
		l.hold.Lock()                                     // however fast the writer is
		e.sessions.Visit(balcony, func(u *session.User) { // as the committer does: many in a row
			for s := range u.All {
				for i := range 200 {
					u.Send(s, packet(fmt.Sprint(i), uint64(i+1)))
				}
			}
		})
		l.hold.Unlock()
		bodies := each(c.quiet(), "<body>", "</body>")
		require.Len(t, bodies, 200)
		for i, b := range bodies {
			require.Equal(t, fmt.Sprint(i), b)
		}
		require.LessOrEqual(t, l.writes.Load()-before, int64(20))
	})
}

// A3, P24: who does not read is cut off when so much waits for it; nothing is lost, and others do not notice.
func TestSlowReader(t *testing.T) {
	for name, row := range map[string]struct {
		managed bool
		size    int
	}{
		"many":                          {false, 10},
		"large":                         {false, 100_000},
		"many, with stream management":  {true, 10},
		"large, with stream management": {true, 100_000},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, nil, func(t *testing.T, e *env) {
				juliet := e.bind("juliet", "balcony")
				id := ""
				if row.managed {
					id = juliet.enable()
				}
				pad := strings.Repeat("x", row.size)
				sent, held := 0, 0
				for sent < 5000 && e.sessions.Send(balcony, packet(fmt.Sprintf("%d %s", sent, pad), uint64(sent+1))) {
					sent++
					if sent%100 == 0 || row.size > 1000 {
						elapse(200 * time.Millisecond)
					}
				}
				require.Less(t, sent, 5000)
				synctest.Wait()
				elapse(time.Minute)
				synctest.Wait()
				require.Zero(t, e.sessionCount())
				marks, back := e.done.marks(), e.done.bodies()
				held = len(back)
				require.Equal(t, sent, len(marks)+held)
				require.LessOrEqual(t, held, 2100)
				if row.managed {
					require.Empty(t, marks)
					juliet = e.login("juliet")
					require.Contains(t, juliet.resume(id, 0), "item-not-found")
				}
				for i, b := range back {
					require.True(t, strings.HasPrefix(b, fmt.Sprintf("%d ", sent-held+i)), "in order")
				}
			})
		})
	}
}

// A82, P24: a client with stream management that reads and never acknowledges is cut off, hibernates, and loses
// nothing.
func TestNeverAcknowledging(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		juliet := e.bind("juliet", "balcony")
		id := juliet.enable()
		var read bytes.Buffer
		var reading sync.WaitGroup
		reading.Go(func() { _, _ = io.Copy(&read, juliet.conn) })
		sent := 0
		for ; sent < 1100; sent++ {
			require.True(t, e.sessions.Send(balcony, packet(fmt.Sprint(sent), uint64(sent+1))))
			elapse(10 * time.Millisecond)
		}
		reading.Wait() // the connection was cut
		require.Equal(t, 1, e.sessionCount(), "the session hibernates")
		got := len(each(read.String(), "<body>", "</body>"))
		require.GreaterOrEqual(t, got, 1000)
		juliet = e.login("juliet")
		require.Contains(t, juliet.resume(id, got), "<resumed")
		juliet.expect("<body>1099</body>")
		require.Empty(t, e.done.bodies())
	})
}

// A burst that a client takes in is no reason to cut it off.
func TestBurstIsTaken(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		juliet := e.bind("juliet", "balcony")
		var reading sync.WaitGroup
		var read bytes.Buffer
		reading.Go(func() { _, _ = io.Copy(&read, juliet.conn) })
		for i := range 3900 {
			require.True(t, e.sessions.Send(balcony, packet(fmt.Sprint(i), uint64(i+1))))
		}
		synctest.Wait()
		require.Len(t, e.done.marks(), 3900)
		require.Equal(t, 1, e.sessionCount())
		juliet.conn.Close()
		reading.Wait()
	})
}

// A hibernating session holds so much and ends when more comes.
func TestHibernatingQueueIsBounded(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		juliet := e.bind("juliet", "balcony")
		juliet.enable()
		juliet.conn.Close()
		synctest.Wait()
		sent := 0
		for e.sessions.Send(balcony, packet(fmt.Sprint(sent), uint64(sent+1))) {
			sent++
			synctest.Wait()
		}
		synctest.Wait()
		require.Equal(t, 2001, sent)
		require.Len(t, e.done.bodies(), 2001)
	})
}

// A single stanza that is larger than the bound is not too much.
func TestLargeStanzaIsDelivered(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		juliet := e.bind("juliet", "balcony")
		large := strings.Repeat("x", 3<<20)
		e.sessions.Send(balcony, packet(large, 1))
		juliet.expect("</message>")
	})
}

// A client that does not read its answers is not read from.
func TestUnreadAnswersStopReading(t *testing.T) {
	run(t, func(c *c2s.Config) { c.QueueStanzas = 100 }, func(t *testing.T, e *env) {
		c := e.bind("romeo", "phone")
		asked := 0
		for ; asked < 10_000; asked++ {
			_ = c.conn.SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := fmt.Fprintf(c.conn, "<iq type='get' id='%d' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>",
				asked); err != nil {
				break
			}
		}
		require.Less(t, asked, 5000, "the client could not go on")
		// When it reads, all that was taken from it is answered.
		c.expect(fmt.Sprintf("id='%d'", asked-1), ">")
	})
}

// capturing remembers the outboxes of those who bind.
type capturing struct {
	*session.Manager
	outbox session.Outbox
}

func (m *capturing) Bind(b session.Binding) (*session.Session, *stanza.Error) {
	m.outbox = b.Outbox
	return m.Manager.Bind(b)
}

// WaitRoom paces who sends many in a row, such as a replay, whatever their number; hibernation makes it wait, the end
// fails.
func TestWaitRoom(t *testing.T) {
	sessions := &capturing{}
	change := func(c *c2s.Config) {
		sessions.Manager = c.Sessions.(*session.Manager)
		c.Sessions, c.QueueStanzas = sessions, 50
	}
	run(t, change, func(t *testing.T, e *env) {
		juliet := e.bind("juliet", "balcony")
		id := juliet.enable()
		pacer := sessions.outbox
		var paced sync.WaitGroup
		var last error
		paced.Go(func() {
			for i := 0; last == nil; i++ {
				if last = pacer.WaitRoom(context.Background()); last == nil {
					e.sessions.Send(balcony, packet(fmt.Sprint(i), uint64(i+1)))
				}
			}
		})
		got := 0
		for got < 500 { // a client that acknowledges when it is asked
			text := juliet.quiet()
			got += len(each(text, "<body>", "</body>"))
			juliet.sendf("<a xmlns='urn:xmpp:sm:3' h='%d'/>", got)
		}
		juliet.conn.Close()
		synctest.Wait()
		require.Equal(t, 1, e.sessionCount())
		juliet = e.login("juliet")
		require.Contains(t, juliet.resume(id, got), "<resumed")
		juliet.expect(fmt.Sprintf("<body>%d</body>", got))
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.ErrorIs(t, pacer.WaitRoom(ctx), context.DeadlineExceeded) // it does not acknowledge
		juliet.send("</stream:stream>")
		paced.Wait()
		require.Error(t, last)
	})
}

// Drain tells everybody, over some time, and gives back what was not delivered.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, nil)
		e.t = t
		unauthenticated := e.unauthenticated()
		var bound []*client
		for i := range 8 {
			bound = append(bound, e.bind("romeo", fmt.Sprint(i)))
		}
		asleep := e.bind("juliet", "balcony")
		asleep.enable()
		asleep.conn.Close()
		synctest.Wait()
		e.sessions.Send(balcony, packet("waiting", 7))
		managed := bound[3]
		managed.enable()
		e.archive.hold(true)
		managed.message("juliet@localhost", "last")
		synctest.Wait()

		start := time.Now()
		drained := make(chan error)
		go func() { drained <- e.server.Drain(context.Background()) }()
		synctest.Wait()
		late := e.dial()
		late.fails("system-shutdown")
		e.archive.release(1)
		for _, c := range append(bound, unauthenticated) {
			got := c.fails("system-shutdown")
			require.Equal(t, c == managed, strings.Contains(got, "<a xmlns='urn:xmpp:sm:3' h='1'/>"),
				"what was stored is acknowledged")
		}
		require.NoError(t, <-drained)
		require.Less(t, time.Since(start), time.Second)
		require.Zero(t, e.sessionCount())
		require.Equal(t, []string{"waiting"}, e.done.bodies())
		e.stop()
		e.served.Wait()
	})
}

// A thousand clients are not all sent away in the same moment.
func TestDrainIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, func(c *c2s.Config) { c.DrainTime = 2 * time.Second })
		e.t = t
		start := time.Now()
		perTenth := make([]atomic.Int64, 30)
		var all sync.WaitGroup
		for range 1000 {
			c := e.unauthenticated()
			all.Go(func() {
				c.fails("system-shutdown")
				perTenth[time.Since(start)/(100*time.Millisecond)].Add(1)
			})
		}
		require.NoError(t, e.server.Drain(context.Background()))
		require.InDelta(t, 2*time.Second, time.Since(start), float64(300*time.Millisecond))
		all.Wait()
		for i := range perTenth {
			require.LessOrEqual(t, perTenth[i].Load(), int64(100))
		}
		e.stop()
		e.served.Wait()
	})
}

// Drain cuts what does not end in time.
func TestDrainCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, func(c *c2s.Config) { c.CloseTimeout = time.Hour })
		e.t = t
		c := e.bind("romeo", "phone")
		c.enable()
		e.archive.hold(true)
		c.message("juliet@localhost", "never stored")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		require.ErrorIs(t, e.server.Drain(ctx), context.DeadlineExceeded)
		require.Zero(t, e.sessionCount())
		e.archive.release(1) // too late, and harmless
		e.stop()
		e.served.Wait()
	})
}

// stuck is a Returner whose store does not answer.
type stuck struct{}

func (stuck) Return(ctx context.Context, _ *session.Session, _ []*stream.Packet) { <-ctx.Done() }

// Drain does not wait for a store that is stuck.
func TestDrainCutsReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, func(c *c2s.Config) { c.Returner = stuck{} })
		e.t = t
		juliet := e.bind("juliet", "balcony")
		juliet.enable()
		juliet.conn.Close()
		synctest.Wait()
		e.sessions.Send(balcony, packet("waiting", 7))
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		start := time.Now()
		require.Error(t, e.server.Drain(ctx))
		require.Equal(t, 3*time.Second, time.Since(start))
		e.stop()
		e.served.Wait()
	})
}

// The counters say what happened.
func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	run(t, func(c *c2s.Config) { c.Metrics = registry }, func(t *testing.T, e *env) {
		c := e.bind("romeo", "phone")
		id := c.enable()
		c.message("juliet@localhost/balcony", "x")
		synctest.Wait()
		value := func(name string, labels ...string) float64 { return metric(t, registry, name, labels...) }
		require.Equal(t, 1.0, value("posthouse_c2s_sessions", "tcp"))
		require.Equal(t, 1.0, value("posthouse_c2s_logins_total", "ok"))
		require.Equal(t, 1.0, value("posthouse_c2s_stanzas_total", "in", "message"))
		require.Equal(t, 1.0, value("posthouse_c2s_stanzas_total", "out", "message")) // the bounce
		require.Equal(t, 1.0, value("posthouse_c2s_ack_seconds"))
		c.conn.Close()
		synctest.Wait()
		require.Equal(t, 0.0, value("posthouse_c2s_sessions", "tcp"))
		require.Equal(t, 1.0, value("posthouse_c2s_sessions", "hibernating"))
		c = e.login("romeo")
		c.resume(id, 1)
		synctest.Wait() // the answer is out before it is counted
		require.Equal(t, 1.0, value("posthouse_c2s_resumes_total", "resumed"))
		require.Equal(t, 0.0, value("posthouse_c2s_sessions", "hibernating"))
		c.send("</stream:stream>")
		c.rest()
		synctest.Wait()
		require.Equal(t, 1.0, value("posthouse_c2s_ended_total", "client"))
		require.Equal(t, 0.0, value("posthouse_c2s_connections"))
	})
}

// metric returns a counter's or gauge's value, or a histogram's count, by its label values.
func metric(t *testing.T, g prometheus.Gatherer, name string, labels ...string) float64 {
	families, err := g.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	next:
		for _, m := range f.GetMetric() {
			for i, l := range m.GetLabel() {
				if l.GetValue() != labels[i] {
					continue next
				}
			}
			switch {
			case m.GetCounter() != nil:
				return m.GetCounter().GetValue()
			case m.GetGauge() != nil:
				return m.GetGauge().GetValue()
			default:
				return float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	require.Fail(t, "no such metric", "%s %v", name, labels)
	return 0
}
