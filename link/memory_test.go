package link

import (
	"context"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPipe(t *testing.T) {
	c, client := Pipe()
	_, err := io.WriteString(client, "hello")
	require.NoError(t, err)
	var got string
	require.NoError(t, c.Receive(func(p []byte) { got = string(p) }))
	require.Equal(t, "hello", got)
	require.NoError(t, c.Send([][]byte{[]byte("an"), []byte("swer")}))
	require.NoError(t, c.Close(0))
	all, err := io.ReadAll(client)
	require.NoError(t, err)
	require.Equal(t, "answer", string(all))
	_, err = io.WriteString(client, "late")
	require.Error(t, err)
	require.Equal(t, net.ErrClosed, c.Receive(func([]byte) {}))
}

func TestPipeHalfClose(t *testing.T) {
	c, client := Pipe()
	_, err := io.WriteString(client, "last")
	require.NoError(t, err)
	require.NoError(t, client.(interface{ CloseWrite() error }).CloseWrite())
	all, err := collect(c)
	require.Equal(t, "last", all)
	require.Equal(t, io.EOF, err)
	require.NoError(t, c.Send([][]byte{[]byte("answer")}))
	require.NoError(t, c.Close(0))
	answer, err := io.ReadAll(client)
	require.NoError(t, err)
	require.Equal(t, "answer", string(answer))
}

func TestPipeClientGone(t *testing.T) {
	c, client := Pipe()
	require.NoError(t, client.Close())
	_, err := collect(c)
	require.Equal(t, io.EOF, err)
	require.Error(t, c.Send([][]byte{[]byte("x")}))
	require.NoError(t, c.Abort())
}

// Deadlines, timeouts and closing work on the clock of a bubble.
func TestPipeInSynctest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, client := Pipe()
		begun := time.Now()
		require.NoError(t, c.SetReadDeadline(begun.Add(time.Hour)))
		require.Equal(t, os.ErrDeadlineExceeded, c.Receive(func([]byte) {}))
		require.Equal(t, time.Hour, time.Since(begun))

		begun = time.Now()
		err := c.Send([][]byte{[]byte(strings.Repeat("x", memoryLimit+1))})
		require.Equal(t, os.ErrDeadlineExceeded, err)
		require.Equal(t, 30*time.Second, time.Since(begun))

		require.NoError(t, client.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err = io.ReadAll(client)
		require.Equal(t, os.ErrDeadlineExceeded, err)
		require.NoError(t, client.SetDeadline(time.Time{}))
		require.NoError(t, c.SetReadDeadline(time.Time{}))

		woken := make(chan error)
		go func() { woken <- c.Receive(func([]byte) {}) }()
		synctest.Wait()
		require.NoError(t, c.Close(0))
		require.Equal(t, net.ErrClosed, <-woken)
	})
}

func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cert := newCertificate(t)
		errs := make(chan error, 1)
		m := NewMemory(startTLSServer(serverTLS(cert), false, errs))
		client, err := m.Dial()
		require.NoError(t, err)
		_, err = io.WriteString(client, "starttls")
		require.NoError(t, err)
		_, err = io.ReadFull(client, make([]byte, len("proceed")))
		require.NoError(t, err)
		conf := clientTLS(cert)
		conf.Time = cert.Leaf.NotBefore.Add(time.Minute).Local
		k := tlsClient(t, client, conf)
		exchange(t, k, strings.Repeat("hello ", 10000))
		require.NoError(t, <-errs)
		require.NoError(t, k.Close())
		require.NoError(t, m.Shutdown(context.Background()))
		_, err = m.Dial()
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

func TestMemoryShutdownAborts(t *testing.T) {
	m := NewMemory(echo)
	client, err := m.Dial()
	require.NoError(t, err)
	exchange(t, client, "x")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, m.Shutdown(ctx), context.Canceled)
	requireClosed(t, client)
}
