package doors

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// cable is a way to a node that can break: it relays bytes, and ends a connection without a word after so many bytes from the server. It has one goroutine
// that accepts and two for each connection; they end with the test.
type cable struct {
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	target string
	ends   map[*net.TCPConn]struct{}
	armed  bool
	left   int // bytes that the server may still say, when armed
	breaks int
	gone   bool
}

// lay lays a cable to an address of the node.
func lay(t *testing.T, target string) *cable {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cable{target: target, listener: listener, ends: map[*net.TCPConn]struct{}{}}
	c.running.Go(c.accept)
	t.Cleanup(func() {
		listener.Close()
		c.mu.Lock()
		c.gone = true
		c.mu.Unlock()
		c.cut()
		c.running.Wait()
	})
	return c
}

func (c *cable) address() string { return c.listener.Addr().String() }

// arm makes the cable break when the server has said so many bytes more: whoever is cut off has been heard, and does not hear the answer.
func (c *cable) arm(bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed, c.left = true, bytes
}

// broken returns how often an armed cable has broken.
func (c *cable) broken() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.breaks
}

// lead lets new connections lead to another address.
func (c *cable) lead(target string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.target = target
}

// cut ends all connections at once.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for end := range c.ends {
		end.SetLinger(0)
		end.Close()
	}
	c.ends = map[*net.TCPConn]struct{}{}
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

// pass returns how many of n bytes of the server go through, and whether the cable breaks behind them.
func (c *cable) pass(n int) (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.armed {
		return n, false
	}
	if n <= c.left {
		c.left -= n
		return n, false
	}
	c.armed = false
	c.breaks++
	return c.left, true
}

func (c *cable) relay(near *net.TCPConn) {
	defer near.Close()
	c.mu.Lock()
	target := c.target
	c.mu.Unlock()
	conn, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	far := conn.(*net.TCPConn)
	defer far.Close()
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return
	}
	c.ends[near], c.ends[far] = struct{}{}, struct{}{}
	c.mu.Unlock()
	c.running.Go(func() {
		io.Copy(far, near)
		far.CloseWrite()
	})
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.ends, near)
		delete(c.ends, far)
	}()
	buf := make([]byte, 4096)
	for {
		n, err := far.Read(buf)
		k, breaks := c.pass(n)
		if _, werr := near.Write(buf[:k]); werr != nil || err != nil {
			return
		}
		if breaks {
			near.CloseWrite()
			return
		}
	}
}
