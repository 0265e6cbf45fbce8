package interop

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// cable is a way to the node that can be cut: it relays bytes, so that a client of any kind loses its connection without
// having said goodbye. It has one goroutine that accepts and two for each connection; they end with the test.
type cable struct {
	target   string
	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex // guards what follows
	ends  []*net.TCPConn
	whole chan struct{} // closed while the cable is whole
	gone  bool          // the test is over
}

// lay lays a cable to an address of the node.
func lay(t *testing.T, target string) *cable {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cable{target: target, listener: listener, whole: make(chan struct{})}
	close(c.whole)
	c.running.Go(c.accept)
	t.Cleanup(func() {
		listener.Close()
		c.cut()
		c.mu.Lock()
		c.gone = true
		close(c.whole)
		c.mu.Unlock()
		c.running.Wait()
	})
	return c
}

func (c *cable) address() string { return c.listener.Addr().String() }

// cut resets all connections. New ones are let in, but nothing goes through before mend.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, end := range c.ends {
		end.SetLinger(0)
		end.Close()
	}
	c.ends, c.whole = nil, make(chan struct{})
}

// mend lets the connections through that were made since the cable was cut, and new ones.
func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.whole)
}

func (c *cable) accept() {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.running.Go(func() { c.relay(conn.(*net.TCPConn)) })
	}
}

func (c *cable) relay(near *net.TCPConn) {
	defer near.Close()
	c.mu.Lock()
	whole := c.whole
	c.mu.Unlock()
	<-whole
	conn, err := net.Dial("tcp", c.target)
	if err != nil {
		return
	}
	far := conn.(*net.TCPConn)
	defer far.Close()
	c.mu.Lock()
	gone := c.gone
	c.ends = append(c.ends, near, far)
	c.mu.Unlock()
	if gone {
		return
	}
	c.running.Go(func() {
		io.Copy(far, near)
		far.CloseWrite()
	})
	io.Copy(near, far)
	near.CloseWrite()
}
