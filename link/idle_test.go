package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// How the memory of an idle connection is measured: a process of its own serves, this one dials, every connection has
// exchanged a message and is silent, and what the server process has grown by is divided by their number.

const idleConns = 5000

// memoryUse is what a process says of itself.
type memoryUse struct{ RSS, Heap, Stack, Goroutines int64 }

func measureMemory() memoryUse {
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b, _ := os.ReadFile("/proc/self/statm")
	rss, _ := strconv.ParseInt(strings.Fields(string(b) + " 0 0")[1], 10, 64)
	return memoryUse{rss * int64(os.Getpagesize()), int64(m.HeapAlloc), int64(m.StackInuse),
		int64(runtime.NumGoroutine())}
}

// idleServer is the serving process: it prints its addresses, and for every line it reads what it uses.
func idleServer() {
	cert, err := makeCertificate()
	if err != nil {
		panic(err)
	}
	plain, direct, web := idleListeners(&cert)
	out := json.NewEncoder(os.Stdout)
	_ = out.Encode(map[string]string{
		"TCP": plain.Addr().String(), "TLS": direct.Addr().String(), "WebSocket": web[0].Addr().String(),
		"WebSocketTLS": web[1].Addr().String(),
	})
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		_ = out.Encode(measureMemory())
	}
}

// idleListeners starts one listener of each kind.
func idleListeners(cert *tls.Certificate) (plain, direct *Listener, web []*Listener) {
	conf := serverTLS(*cert)
	listen := func(mode Mode) *Listener {
		l, err := Listen(context.Background(),
			Config{Address: "127.0.0.1:0", Mode: mode, TLS: func() *tls.Config { return conf }})
		if err != nil {
			panic(err)
		}
		return l
	}
	handler := func(c Conn) { deepEcho(c) }
	plain, direct = listen(ModePlain), listen(ModeTLS)
	go func() { _ = plain.Serve(context.Background(), handler) }()
	go func() { _ = direct.Serve(context.Background(), handler) }()
	w, err := NewWebSocket(WebSocketConfig{}, handler)
	if err != nil {
		panic(err)
	}
	web = []*Listener{listen(ModePlain), listen(ModeTLS)}
	for _, l := range web {
		go func() { _ = http.Serve(l, w) }()
	}
	return plain, direct, web
}

// deepEcho is an echo whose work needs some stack, as parsing and routing do.
func deepEcho(c Conn) {
	for {
		err := c.Receive(func(p []byte) {
			deep(40)
			_ = c.Send([][]byte{p})
		})
		if err != nil {
			return
		}
	}
}

//go:noinline
func deep(n int) byte {
	var pad [128]byte
	if n > 0 {
		pad[n] = deep(n - 1)
	}
	return pad[n/2]
}

type idleProcess struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
	addr map[string]string
}

func startIdleProcess(b *testing.B) *idleProcess {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"=idle-server")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	p := &idleProcess{cmd: cmd, in: in, out: json.NewDecoder(out)}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	require.NoError(b, p.out.Decode(&p.addr))
	return p
}

func (p *idleProcess) measure(b *testing.B) (m memoryUse) {
	_, err := io.WriteString(p.in, "\n")
	require.NoError(b, err)
	require.NoError(b, p.out.Decode(&m))
	return m
}

// dialIdle opens one connection of a kind, exchanges a message on it and returns what is to be closed.
func dialIdle(kind, addr string) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	var rw io.ReadWriter = c
	if strings.HasSuffix(kind, "TLS") {
		rw = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	const text = "<message to='juliet@example.com'><body>hello</body></message>"
	send, want := []byte(text), []byte(text)
	if strings.HasPrefix(kind, "WebSocket") {
		if err := requestWebSocket(rw); err != nil {
			return nil, err
		}
		send, want = clientFrame(0x81, text), append([]byte{0x81, byte(len(text))}, text...)
	}
	if _, err := rw.Write(send); err != nil {
		return nil, err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(rw, got); err != nil {
		return nil, err
	}
	if string(got) != string(want) {
		return nil, fmt.Errorf("echo is %q", got)
	}
	return c, nil
}

// requestWebSocket does the client's part of the handshake.
func requestWebSocket(rw io.ReadWriter) error {
	_, err := io.WriteString(rw, "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: "+
		"xmpp\r\n\r\n")
	if err != nil {
		return err
	}
	var head []byte
	b := make([]byte, 1)
	for !strings.HasSuffix(string(head), "\r\n\r\n") {
		if _, err := io.ReadFull(rw, b); err != nil {
			return err
		}
		head = append(head, b[0])
	}
	if !strings.HasPrefix(string(head), "HTTP/1.1 101 ") {
		return fmt.Errorf("answer is %q", head)
	}
	return nil
}

// clientFrame is a masked frame whose first byte is given.
func clientFrame(first byte, payload string) []byte {
	mask := [4]byte{1, 2, 3, 4}
	f := []byte{first}
	switch n := len(payload); {
	case n < 126:
		f = append(f, 0x80|byte(n))
	case n < 1<<16:
		f = append(f, 0x80|126, byte(n>>8), byte(n))
	default:
		f = append(f, 0x80|127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	f = append(f, mask[:]...)
	for i := range len(payload) {
		f = append(f, payload[i]^mask[i&3])
	}
	return f
}

// BenchmarkIdleMemory reports bytes a connection: resident, heap and stack, and goroutines.
func BenchmarkIdleMemory(b *testing.B) {
	for _, kind := range []string{"TCP", "TLS", "WebSocket", "WebSocketTLS"} {
		b.Run(kind, func(b *testing.B) {
			for b.Loop() {
				measureIdle(b, kind)
			}
		})
	}
}

func measureIdle(b *testing.B, kind string) {
	p := startIdleProcess(b)
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	grow := func(n int) {
		for range n {
			c, err := dialIdle(kind, p.addr[kind])
			require.NoError(b, err)
			open = append(open, c)
		}
	}
	grow(50) // what is made once, is made by these
	before := p.measure(b)
	grow(idleConns)
	p.measure(b)
	after := p.measure(b) // the second time the stacks have been shrunk
	each := func(a, z int64) float64 { return float64(z-a) / idleConns }
	b.ReportMetric(each(before.RSS, after.RSS), "RSS-B/conn")
	b.ReportMetric(each(before.Heap, after.Heap), "heap-B/conn")
	b.ReportMetric(each(before.Stack, after.Stack), "stack-B/conn")
	b.ReportMetric(each(before.Goroutines, after.Goroutines), "goroutines/conn")
	b.ReportMetric(0, "ns/op")
}

// TestIdleHoldsNoBuffers guards what BenchmarkIdleMemory measures: a parked connection has one goroutine with its first
// stack and no buffer.
func TestIdleHoldsNoBuffers(t *testing.T) {
	const n = 400
	back := make(chan struct{}, n)
	l := startListener(t, Config{}, func(c Conn) {
		for c.Receive(func(p []byte) { deep(40); _ = c.Send([][]byte{p}); back <- struct{}{} }) == nil {
		}
	})
	before := measureMemory()
	var open []net.Conn
	for range n {
		open = append(open, dial(t, l))
	}
	for _, c := range open {
		exchange(t, c, "hello")
		<-back
	}
	after := measureMemory()
	if !raceDetector {
		require.Less(t, (after.Stack-before.Stack)/n, int64(3<<10), "the stack of a parked goroutine has grown")
	}
	require.InDelta(t, n, after.Goroutines-before.Goroutines, 2*idleStacks, "goroutines")
	require.Less(t, (after.Heap-before.Heap)/n, int64(4<<10), "a parked connection holds a buffer")
	for _, c := range open {
		_ = c.Close()
	}
}

// TestIdleTLSKeepsItsFirstStack guards the same for a connection that has computed a handshake.
func TestIdleTLSKeepsItsFirstStack(t *testing.T) {
	if raceDetector {
		return // see there
	}
	const n = 200
	cert := newCertificate(t)
	conf := serverTLS(cert)
	l := startListener(t, Config{Mode: ModeTLS, TLS: testTLS(conf)}, deepEcho)
	exchange(t, tlsClient(t, dial(t, l), clientTLS(cert)), "what is made once")
	before := measureMemory()
	for range n {
		exchange(t, tlsClient(t, dial(t, l), clientTLS(cert)), "hello")
	}
	require.Less(t, (measureMemory().Stack-before.Stack)/n, int64(3<<10), "the stack of a parked goroutine has grown")
}
