package c2s_test

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/posthouse-im/posthouse/domain/c2s"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/link"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// benchLogin logs a client in without a test of its own.
func benchLogin(b testing.TB, e *env, user, resource string) net.Conn {
	near, far := link.Pipe()
	e.serve(near)
	nego := header + "<auth xmlns='" + nsSASL + "' mechanism='PLAIN'>" + plain(user) + "</auth>" + header +
		"<iq type='set' id='b'><bind xmlns='" + nsBind + "'><resource>" + resource + "</resource></bind></iq>"
	_, err := io.WriteString(far, nego)
	require.NoError(b, err)
	readUntil(b, far, "</jid></bind></iq>")
	return far
}

func readUntil(b testing.TB, conn net.Conn, end string) {
	var got strings.Builder
	p := make([]byte, 4096)
	for !strings.Contains(got.String(), end) {
		n, err := conn.Read(p)
		got.Write(p[:n])
		require.NoError(b, err, got.String())
	}
}

// drainMessages reads n messages and makes room in the window for each.
func drainMessages(conn net.Conn, n int, window <-chan struct{}) {
	p := make([]byte, 64<<10)
	const end = "</message>"
	at := 0
	for n > 0 {
		k, err := conn.Read(p)
		if err != nil {
			return
		}
		for _, c := range p[:k] {
			switch {
			case c == end[at]:
				if at++; at == len(end) {
					n--
					at = 0
					<-window
				}
			case c == '<':
				at = 1
			default:
				at = 0
			}
		}
	}
}

// BenchmarkMessage is one message through the read loop, the chain and the queue of another client, to a link in
// memory.
func BenchmarkMessage(b *testing.B) {
	for _, managed := range []bool{false, true} {
		b.Run(fmt.Sprintf("managed=%t", managed), func(b *testing.B) {
			e := newEnv(b, nil)
			e.archive.quick = true
			defer e.close()
			romeo, juliet := benchLogin(b, e, "romeo", "phone"), benchLogin(b, e, "juliet", "balcony")
			defer romeo.Close()
			defer juliet.Close()
			tail := ""
			if managed {
				_, err := io.WriteString(romeo, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
				require.NoError(b, err)
				readUntil(b, romeo, "<enabled")
				go func() { _, _ = io.Copy(io.Discard, romeo) }()
				tail = ackRequest
			}
			message := []byte("<message to='juliet@localhost/balcony' type='chat' id='ab12'><body>" +
				strings.Repeat("x", 60) + "</body></message>" + tail)
			b.ReportAllocs()
			b.ResetTimer()
			before := cpu()
			var reading sync.WaitGroup
			window := make(chan struct{}, 2000)
			reading.Go(func() { drainMessages(juliet, b.N, window) })
			for range b.N {
				window <- struct{}{}
				_, _ = romeo.Write(message)
			}
			reading.Wait()
			b.StopTimer()
			b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op") // of the server and of both clients
		})
	}
}

// cpu is the processor time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLogin is the whole negotiation with PLAIN, in one write, to a link in memory.
func BenchmarkLogin(b *testing.B) {
	e := newEnv(b, func(c *c2s.Config) {})
	defer e.close()
	b.ReportAllocs()
	for i := range b.N {
		conn := benchLogin(b, e, "romeo", fmt.Sprint(i%5))
		_, _ = io.WriteString(conn, "</stream:stream>")
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}
}

// nowhere is a link over which a client logs in and then is silent: it is there to weigh what is held for an idle
// client.
type nowhere struct {
	link.Conn
	first  string
	parked *sync.WaitGroup
	done   chan struct{}
}

func (n *nowhere) Receive(use func([]byte)) error {
	if n.first != "" {
		p := n.first
		n.first = ""
		use([]byte(p))
		return nil
	}
	n.parked.Done()
	<-n.done
	return net.ErrClosed
}

func (n *nowhere) Send([][]byte) error             { return nil }
func (n *nowhere) SetReadDeadline(time.Time) error { return nil }
func (n *nowhere) Close(int) error                 { return nil }
func (n *nowhere) Abort() error                    { return nil }

// What c2s, the decoder and the session hold for an idle client that has stream management. Its goroutine and link are
// not counted.
func TestMemoryOfAnIdleClient(t *testing.T) {
	if raceEnabled {
		return // the race detector has its own ideas of size
	}
	inXML := weigh(t, "", header+"<auth xmlns='"+nsSASL+"' mechanism='PLAIN'>"+plain("romeo")+"</auth>"+header+
		"<iq type='set' id='b'><bind xmlns='"+nsBind+"'/></iq><enable xmlns='urn:xmpp:sm:3' resume='true'/><presence/>")
	t.Logf("%d bytes of heap for an idle client", inXML)
	require.LessOrEqual(t, inXML, uint64(2000))

	var codec pbstream.Codec
	add := func(to []byte, e stanza.Element) []byte { return codec.AppendElement(to, &e) }
	open := codec.AppendOpen(nil, stream.Header{To: "localhost", Version: "1.0"})
	text := add(open, stanza.New(nsSASL, "auth", "mechanism", "PLAIN").WithText(plain("romeo")))
	text = codec.AppendStanza(append(text, open...), &stanza.Stanza{
		Kind: stanza.IQ, Type: stanza.TypeSet, ID: "b", Payload: []stanza.Element{stanza.New(nsBind, "bind")},
	})
	text = codec.AppendStanza(add(text, stanza.New("urn:xmpp:sm:3", "enable", "resume", "true")),
		&stanza.Stanza{Kind: stanza.Presence})
	compact := weigh(t, link.ProtocolCompact, string(text))
	t.Logf("%d bytes of heap for an idle client of the compact stream", compact)
	require.LessOrEqual(t, compact, inXML+16,
		"a compact client is no heavier; 16 bytes for what differs from run to run")
}

// weigh returns what is held for each of many clients that send text and are silent after that.
func weigh(t *testing.T, protocol, text string) uint64 {
	const count = 5000
	e := newEnv(t, func(c *c2s.Config) {
		c.Sessions, c.DrainTime = session.New(session.Config{MaxResources: 2 * count}), time.Millisecond
	})
	near, far := link.Pipe()
	defer far.Close()
	done := make(chan struct{})
	var parked sync.WaitGroup
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	links := make([]*nowhere, count)
	for i := range links {
		links[i] = &nowhere{Conn: named{near, protocol}, first: text, parked: &parked, done: done}
	}
	parked.Add(100)
	for _, l := range links[:100] {
		e.serve(l)
	}
	parked.Wait()
	before := heap()
	parked.Add(count - 100)
	for _, l := range links[100:] {
		e.serve(l)
	}
	parked.Wait()
	each := (heap() - before) / (count - 100)
	n := 0
	e.config.Sessions.(*session.Manager).Visit(jidOf("romeo@localhost"), func(u *session.User) {
		for range u.All {
			n++
		}
	})
	require.Equal(t, count, n, "all of them are logged in")
	close(done)
	e.close()
	return each
}
