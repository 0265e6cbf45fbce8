package link

import (
	"crypto/tls"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// cpuTime is what this process has computed so far, in nanoseconds.
func cpuTime() float64 {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return float64(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkEcho is one message there and back, client and server in this process. cpu-ns/op counts both.
func BenchmarkEcho(b *testing.B) {
	text := strings.Repeat("x", 300)
	run := func(b *testing.B, rw io.ReadWriter, send []byte, answer int) {
		got := make([]byte, answer)
		begun, n := cpuTime(), 0
		for b.Loop() {
			n++
			if _, err := rw.Write(send); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(rw, got); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric((cpuTime()-begun)/float64(n), "cpu-ns/op")
	}
	b.Run("TCP", func(b *testing.B) {
		c := dial(b, startListener(b, Config{}, echo))
		require.NoError(b, c.SetDeadline(time.Time{}))
		run(b, c, []byte(text), len(text))
	})
	b.Run("TLS", func(b *testing.B) {
		cert := newCertificate(b)
		conf := serverTLS(cert)
		c := dial(b, startListener(b, Config{Mode: ModeTLS, TLS: func() *tls.Config { return conf }}, echo))
		require.NoError(b, c.SetDeadline(time.Time{}))
		run(b, tlsClient(b, c, clientTLS(cert)), []byte(text), len(text))
	})
	b.Run("WebSocket", func(b *testing.B) {
		c := webSocket(b, WebSocketConfig{}, echo)
		require.NoError(b, c.SetDeadline(time.Time{}))
		run(b, c, clientFrame(0x81, text), len(text)+4)
		require.NoError(b, c.Close())
	})
}
