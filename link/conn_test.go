package link

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func TestEcho(t *testing.T) {
	l := startListener(t, Config{}, echo)
	c := dial(t, l)
	for range 3 {
		exchange(t, c, "<message/>")
	}
}

func TestConnDescribesItself(t *testing.T) {
	got := make(chan Conn, 1)
	l := startListener(t, Config{}, func(c Conn) {
		got <- c
		echo(c)
	})
	client := dial(t, l)
	c := <-got
	require.Equal(t, client.LocalAddr().String(), c.Remote().String())
	require.False(t, c.Framed())
	require.Nil(t, c.TLS())
	require.Nil(t, c.LocalCertificate())
}

// A peer that will send no more may still read.
func TestHalfClose(t *testing.T) {
	l := startListener(t, Config{}, func(c Conn) {
		all, err := collect(c)
		if err == io.EOF {
			_ = c.Send([][]byte{[]byte("got "), []byte(all)})
		}
	})
	c := dial(t, l)
	_, err := io.WriteString(c, "last words")
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	answer, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "got last words", string(answer))
}

func TestReceiveAfterEndOfFile(t *testing.T) {
	errs := make(chan error, 2)
	l := startListener(t, Config{}, func(c Conn) {
		for range 2 {
			errs <- c.Receive(func([]byte) {})
		}
	})
	require.NoError(t, dial(t, l).CloseWrite())
	require.Equal(t, io.EOF, <-errs)
	require.Equal(t, io.EOF, <-errs)
}

func TestReadDeadline(t *testing.T) {
	errs := make(chan error, 3)
	l := startListener(t, Config{}, func(c Conn) {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		errs <- c.Receive(func([]byte) {})
		errs <- c.Receive(func([]byte) {}) // over is over
		_ = c.SetReadDeadline(time.Time{})
		_ = c.Send([][]byte{[]byte("ready")})
		errs <- c.Receive(func([]byte) {})
	})
	c := dial(t, l)
	require.Equal(t, os.ErrDeadlineExceeded, <-errs)
	require.Equal(t, os.ErrDeadlineExceeded, <-errs)
	_, err := io.ReadFull(c, make([]byte, 5))
	require.NoError(t, err)
	_, err = io.WriteString(c, "x")
	require.NoError(t, err)
	require.NoError(t, <-errs)
}

// A deadline is no end, also for a connection on which bytes have just come without waiting.
func TestReadDeadlineOfABusyConnection(t *testing.T) {
	for name, connect := range transports(t) {
		t.Run(name, func(t *testing.T) {
			server, client := connect(t)
			if k, ok := client.(interface{ SetDeadline(time.Time) error }); ok {
				require.NoError(t, k.SetDeadline(time.Now().Add(10*time.Second)))
			}
			for range 3 {
				_, err := io.WriteString(client, "x")
				require.NoError(t, err)
				require.NoError(t, server.Receive(func([]byte) {}))
				server.(*conn).hot = true
				require.NoError(t, server.SetReadDeadline(time.Now().Add(time.Millisecond)))
				require.Equal(t, os.ErrDeadlineExceeded, server.Receive(func([]byte) {}))
				server.(*conn).hot = true
				require.Equal(t, os.ErrDeadlineExceeded, server.Receive(func([]byte) {}))
				require.NoError(t, server.SetReadDeadline(time.Time{}))
			}
		})
	}
}

// Close and Abort wake the goroutine in Receive, whoever calls them.
func TestCloseWakesReceive(t *testing.T) {
	for name, end := range map[string]func(Conn) error{
		"close": func(c Conn) error { return c.Close(0) },
		"abort": func(c Conn) error { return c.Abort() },
	} {
		t.Run(name, func(t *testing.T) {
			conns, errs := make(chan Conn, 1), make(chan error, 2)
			l := startListener(t, Config{}, func(c Conn) {
				errs <- c.Receive(func([]byte) { conns <- c })
				errs <- c.Receive(func([]byte) {})
			})
			client := dial(t, l)
			_, err := io.WriteString(client, "x")
			require.NoError(t, err)
			c := <-conns
			require.NoError(t, <-errs)
			require.NoError(t, end(c))
			require.Equal(t, net.ErrClosed, <-errs)
			require.Error(t, c.Send([][]byte{[]byte("late")}))
			require.Equal(t, net.ErrClosed, c.SetReadDeadline(time.Time{}))
			require.NoError(t, c.Close(0), "again")
			require.NoError(t, c.Abort(), "again")
			requireClosed(t, client)
		})
	}
}

func TestCloseInsideUse(t *testing.T) {
	errs := make(chan error, 2)
	l := startListener(t, Config{}, func(c Conn) {
		errs <- c.Receive(func([]byte) { _ = c.Close(0) })
		errs <- c.Receive(func([]byte) { panic("called after Close") })
	})
	c := dial(t, l)
	_, err := io.WriteString(c, "x")
	require.NoError(t, err)
	require.NoError(t, <-errs)
	require.Equal(t, net.ErrClosed, <-errs)
	requireClosed(t, c)
}

// A reset would destroy what the peer has not read yet, so the server goes on reading for a while after its closing
// error and footer.
func TestFooterArrivesThoughThePeerIsStillSending(t *testing.T) {
	const words = "<stream:error/></stream:stream>"
	said := make(chan struct{})
	l := startListener(t, Config{}, func(c Conn) {
		_ = c.Receive(func([]byte) {})
		_ = c.Send([][]byte{[]byte(words)})
		_ = c.Close(0)
		close(said)
	})
	c := dial(t, l)
	_, err := io.WriteString(c, "begin")
	require.NoError(t, err)
	<-said
	for range 50 {
		_, err = c.Write(make([]byte, 1000))
		require.NoError(t, err)
	}
	got := make([]byte, len(words))
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, words, string(got))
}

// A peer that does not read costs its own connection, after the write timeout, and nobody else's.
func TestSlowReaderIsBroken(t *testing.T) {
	reg := prometheus.NewRegistry()
	errs := make(chan error, 2)
	l := startListener(t, Config{WriteTimeout: 50 * time.Millisecond, Name: "slow", Registerer: reg}, func(c Conn) {
		big := make([]byte, 64<<10)
		for {
			if err := c.Send([][]byte{big}); err != nil {
				errs <- err
				errs <- c.Send([][]byte{[]byte("more")})
				return
			}
		}
	})
	dial(t, l)
	require.Equal(t, os.ErrDeadlineExceeded, <-errs)
	require.Error(t, <-errs, "what has been written in part cannot go on")
	require.EqualValues(t, 1, value(l.owner.metrics.writeTimeouts))
}

// Close does not wait for a Send that hangs longer than a second.
func TestCloseDuringSlowSend(t *testing.T) {
	conns, errs := make(chan Conn, 1), make(chan error, 1)
	l := startListener(t, Config{}, func(c Conn) {
		conns <- c
		for {
			if err := c.Send([][]byte{make([]byte, 64<<10)}); err != nil {
				errs <- err
				return
			}
		}
	})
	dial(t, l)
	c := <-conns
	begun := time.Now()
	_ = c.Close(0)
	require.Less(t, time.Since(begun), 5*time.Second)
	require.Error(t, <-errs)
}

// A slow write that comes through after all leaves no deadline behind.
func TestSendAfterSlowSend(t *testing.T) {
	const size, timeout = 8 << 20, time.Second
	sent := make(chan error, 2)
	l := startListener(t, Config{WriteTimeout: timeout}, func(c Conn) {
		sent <- c.Send([][]byte{make([]byte, size)})
		_ = c.SetReadDeadline(time.Now().Add(timeout + timeout/10))
		_ = c.Receive(func([]byte) {}) // nothing comes
		sent <- c.Send([][]byte{[]byte("second")})
	})
	c := dial(t, l)
	_, err := io.CopyN(io.Discard, c, size)
	require.NoError(t, err)
	require.NoError(t, <-sent)
	require.NoError(t, <-sent)
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "second", string(got))
}

// All kinds of connections carry the same bytes in both directions at the same time, whatever their pieces.
func TestManyBytesBothWays(t *testing.T) {
	const total = 4 << 20
	for name, connect := range transports(t) {
		t.Run(name, func(t *testing.T) {
			server, client := connect(t)
			var wg sync.WaitGroup
			var gotServer, gotClient [32]byte
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(1, 2))
				sum := sha256.New()
				for left := total; left > 0; {
					var bufs [][]byte
					for range 1 + rnd.IntN(150) {
						b := make([]byte, rnd.IntN(min(left, 3000)+1))
						fill(b, total-left)
						left -= len(b)
						bufs = append(bufs, b)
						if left == 0 {
							break
						}
					}
					sum.Write(bytes.Join(bufs, nil))
					if err := server.Send(bufs); err != nil {
						t.Error(err)
						return
					}
				}
			})
			wg.Go(func() {
				sum := sha256.New()
				for n := 0; n < total; {
					if err := server.Receive(func(p []byte) { n += len(p); sum.Write(p) }); err != nil {
						t.Error(err)
						return
					}
				}
				gotServer = [32]byte(sum.Sum(nil))
			})
			wg.Go(func() {
				for n := 0; n < total; {
					b := make([]byte, min(total-n, 1+n%20000))
					fill(b, n)
					if _, err := client.Write(b); err != nil {
						t.Error(err)
						return
					}
					n += len(b)
				}
			})
			wg.Go(func() {
				sum := sha256.New()
				if _, err := io.CopyN(sum, client, total); err != nil {
					t.Error(err)
				}
				gotClient = [32]byte(sum.Sum(nil))
			})
			wg.Wait()
			all := make([]byte, total)
			fill(all, 0)
			require.Equal(t, sha256.Sum256(all), gotServer, "what the server received")
			require.Equal(t, sha256.Sum256(all), gotClient, "what the client received")
		})
	}
}

// fill writes the bytes that stand at offset at of an endless sequence.
func fill(b []byte, at int) {
	for i := range b {
		b[i] = byte((at + i) * 7 / 5)
	}
}

// transports are ways to make a connection that is not framed.
func transports(t *testing.T) map[string]func(t *testing.T) (Conn, io.ReadWriter) {
	cert := newCertificate(t)
	conf := serverTLS(cert)
	accept := func(t *testing.T, cfg Config) (*Listener, <-chan Conn) {
		conns := make(chan Conn, 1)
		release := make(chan struct{})
		l := startListener(t, cfg, func(c Conn) {
			conns <- c
			<-release
		})
		t.Cleanup(func() { close(release) })
		return l, conns
	}
	return map[string]func(t *testing.T) (Conn, io.ReadWriter){
		"tcp": func(t *testing.T) (Conn, io.ReadWriter) {
			l, conns := accept(t, Config{})
			c := dial(t, l)
			return <-conns, c
		},
		"tls": func(t *testing.T) (Conn, io.ReadWriter) {
			l, conns := accept(t, Config{Mode: ModeTLS, TLS: testTLS(conf)})
			c := tlsClient(t, dial(t, l), clientTLS(cert))
			return <-conns, c
		},
		"pipe": func(t *testing.T) (Conn, io.ReadWriter) {
			c, client := Pipe()
			t.Cleanup(func() { _ = c.Close(0) })
			return c, client
		},
	}
}

func TestPendingTellsOfPipelinedBytes(t *testing.T) {
	type answer struct{ none, some bool }
	got := make(chan answer, 1)
	again := make(chan struct{})
	l := startListener(t, Config{}, func(c Conn) {
		var a answer
		_ = c.Receive(func([]byte) { a.none, _ = c.(Peeker).Pending() })
		_ = c.Send([][]byte{[]byte("1")})
		<-again
		_ = c.Receive(func([]byte) {
			for !a.some { // the second segment is on its way
				a.some, _ = c.(Peeker).Pending()
			}
		})
		got <- a
	})
	c := dial(t, l)
	exchangeByte(t, c, "a")
	_, err := io.WriteString(c, "b")
	require.NoError(t, err)
	_, err = io.WriteString(c, strings.Repeat("c", bufferSize))
	require.NoError(t, err)
	close(again)
	require.Equal(t, answer{none: false, some: true}, <-got)
}

func exchangeByte(t *testing.T, c io.ReadWriter, send string) {
	t.Helper()
	_, err := io.WriteString(c, send)
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 1))
	require.NoError(t, err)
}

// A panic of use comes out of Receive with its place, and ends only its own connection (advisory 20).
func TestPanicEndsOneConnection(t *testing.T) {
	reg := prometheus.NewRegistry()
	l := startListener(t, Config{Name: "p", Registerer: reg}, func(c Conn) {
		for {
			if c.Receive(func(p []byte) {
				if string(p) == "bad" {
					blowUp()
				}
				_ = c.Send([][]byte{p})
			}) != nil {
				return
			}
		}
	})
	good, bad := dial(t, l), dial(t, l)
	exchange(t, good, "x")
	_, err := io.WriteString(bad, "bad")
	require.NoError(t, err)
	requireClosed(t, bad)
	exchange(t, good, "y")
	require.EqualValues(t, 1, value(l.owner.metrics.panics))
}

func blowUp() { panic(errors.New("boom")) }

func TestPanicTellsItsPlace(t *testing.T) {
	got := make(chan any, 1)
	l := startListener(t, Config{}, func(c Conn) {
		defer func() { got <- recover() }()
		_ = c.Receive(func([]byte) { blowUp() })
	})
	_, err := io.WriteString(dial(t, l), "x")
	require.NoError(t, err)
	p, ok := (<-got).(*PanicError)
	require.True(t, ok)
	require.Contains(t, p.Error(), "boom")
	require.Contains(t, string(p.Stack), "blowUp")
	require.EqualError(t, errors.Unwrap(p), "boom")
}

func TestAdmit(t *testing.T) {
	var mu sync.Mutex
	open := 0
	released := make(chan struct{}, 1)
	reg := prometheus.NewRegistry()
	l := startListener(t, Config{Name: "a", Registerer: reg, Admit: func(a netip.AddrPort) (func(), bool) {
		mu.Lock()
		defer mu.Unlock()
		if a.Addr().String() != "127.0.0.1" || open == 1 {
			return nil, false
		}
		open++
		return func() {
			mu.Lock()
			open--
			mu.Unlock()
			released <- struct{}{}
		}, true
	}}, echo)
	first := dial(t, l)
	exchange(t, first, "x")
	second, err := net.Dial("tcp", l.Addr().String())
	if err == nil { // else the reset was faster
		require.NoError(t, second.SetDeadline(time.Now().Add(10*time.Second)))
		requireClosed(t, second)
		_ = second.Close()
	}
	require.EqualValues(t, 1, value(l.owner.metrics.refusals.WithLabelValues("throttle")))
	require.NoError(t, first.Close())
	<-released
	exchange(t, dial(t, l), "again")
}

func TestShutdownWaitsForHandlers(t *testing.T) {
	l, err := Listen(context.Background(), Config{Address: "127.0.0.1:0"})
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- l.Serve(context.Background(), echo) }()
	c := dial(t, l)
	exchange(t, c, "x")
	done := make(chan error, 1)
	go func() { done <- l.Shutdown(context.Background()) }()
	require.NoError(t, <-served, "Serve returns though a connection is open")
	_, err = net.Dial("tcp", l.Addr().String())
	require.Error(t, err, "nobody listens any more")
	exchange(t, c, "still served")
	select {
	case <-done:
		t.Fatal("Shutdown did not wait")
	default:
	}
	require.NoError(t, c.Close())
	require.NoError(t, <-done)
}

func TestShutdownAbortsWhatIsLeft(t *testing.T) {
	l, err := Listen(context.Background(), Config{Address: "127.0.0.1:0"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	ended := make(chan struct{})
	go func() { served <- l.Serve(ctx, func(c Conn) { echo(c); close(ended) }) }()
	c := dial(t, l)
	exchange(t, c, "x")
	cancel()
	require.NoError(t, <-served, "the end of the context stops accepting")
	exchange(t, c, "connections stay")
	now, stop := context.WithCancel(context.Background())
	stop()
	require.ErrorIs(t, l.Shutdown(now), context.Canceled)
	<-ended
	requireClosed(t, c)
}

func TestListenErrors(t *testing.T) {
	for name, cfg := range map[string]Config{
		"mode":             {Address: "127.0.0.1:0", Mode: "sideways"},
		"no certificates":  {Address: "127.0.0.1:0", Mode: ModeTLS},
		"address":          {Address: "nonsense"},
		"not ours to open": {Address: "192.0.2.1:0"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Listen(context.Background(), cfg)
			require.Error(t, err)
		})
	}
	reg := prometheus.NewRegistry()
	l, err := Listen(context.Background(), Config{Address: "127.0.0.1:0", Name: "same", Registerer: reg})
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	_, err = Listen(context.Background(), Config{Address: "127.0.0.1:0", Name: "same", Registerer: reg})
	require.Error(t, err)
}

func TestGaugeOfOpenConnections(t *testing.T) {
	ended := make(chan struct{})
	l := startListener(t, Config{Admit: func(netip.AddrPort) (func(), bool) { return func() { close(ended) }, true }},
		echo)
	c := dial(t, l)
	exchange(t, c, "x")
	require.EqualValues(t, 1, value(l.owner.metrics.open))
	require.NoError(t, c.Close())
	<-ended
	require.Eventually(t, func() bool { return value(l.owner.metrics.open) == 0 }, 5*time.Second, time.Millisecond)
	require.EqualValues(t, 1, value(l.owner.metrics.accepted))
}
